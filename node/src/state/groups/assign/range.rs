//! Owns Kafka's range assignor (without racks): each topic for itself, contiguous ranges whose sizes differ by at most
//! one, the longer ones for the first members. Never looks at who has what now.

use std::collections::BTreeMap;

use waymark_proto::ids::{PartitionId, TopicPartition};

use super::subscribers::{members_in_order, topics_in_order};
use super::{Input, MemberId};
use crate::mutants;

pub(super) fn assign(input: &Input<'_>) -> BTreeMap<TopicPartition, MemberId> {
    let members = members_in_order(input);
    let mut assigned = BTreeMap::new();
    for topic in topics_in_order(input, &members) {
        let sharers = i32::try_from(topic.subscribers.len()).unwrap_or(i32::MAX);
        let each = topic.partitions / sharers;
        let mut longer = topic.partitions % sharers;
        if mutants::planted!("range-drops-the-rest") {
            longer = 0;
        }
        let mut next = 0;
        for place in topic.subscribers {
            let end = next + each + i32::from(longer > 0);
            longer -= 1;
            for partition in (next..end).map(PartitionId) {
                let at = TopicPartition { topic: topic.id, partition };
                assigned.insert(at, MemberId::clone(members[place].0));
            }
            next = end;
        }
    }
    assigned
}
