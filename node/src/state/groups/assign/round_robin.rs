//! Owns Kafka's round robin assignor: all partitions in a row, dealt to members in a ring; who does not subscribe the
//! topic is passed over. Never looks at who has what now.

use std::collections::BTreeMap;

use waymark_proto::ids::{PartitionId, TopicPartition};

use super::subscribers::{members_in_order, topics_in_order};
use super::{Input, MemberId};

pub(super) fn assign(input: &Input<'_>) -> BTreeMap<TopicPartition, MemberId> {
    let members = members_in_order(input);
    let mut assigned = BTreeMap::new();
    let mut turn = 0;
    for topic in topics_in_order(input, &members) {
        let ring = &topic.subscribers;
        for partition in (0..topic.partitions).map(PartitionId) {
            let at_or_after_turn = ring.partition_point(|place| *place < turn);
            let Some(place) = ring.get(at_or_after_turn).or(ring.first()) else { break };
            let at = TopicPartition { topic: topic.id, partition };
            assigned.insert(at, MemberId::clone(members[*place].0));
            turn = place + 1;
        }
    }
    assigned
}
