//! Owns what members have now and may keep: their claims. Never decides whether they keep it.

use std::collections::BTreeMap;

use waymark_proto::ids::TopicPartition;

use super::classes::Classes;
use super::{Input, MemberId};

/// The partitions of one topic that one member has and still subscribes.
pub(super) struct Claim {
    pub(super) topic: usize,
    pub(super) member: usize,
    /// Ascending; never empty.
    pub(super) partitions: Vec<i32>,
    /// How many of them it keeps.
    pub(super) kept: usize,
}

/// By pool, the claims on its topics, in the order of topics and members.
pub(super) fn by_pool(input: &Input<'_>, classes: &Classes<'_>) -> Vec<Vec<Claim>> {
    let mut claimed: BTreeMap<(usize, usize), Vec<i32>> = BTreeMap::new();
    for (at, owner) in input.owners {
        if let Some(claim) = legal(at, owner, classes) {
            claimed.entry(claim).or_default().push(at.partition.0);
        }
    }
    let mut by_pool: Vec<Vec<Claim>> = classes.pools.iter().map(|_| Vec::new()).collect();
    for ((topic, member), partitions) in claimed {
        if let Some(pool) = classes.pool_of[topic] {
            by_pool[pool].push(Claim { topic, member, partitions, kept: 0 });
        }
    }
    by_pool
}

/// Topic and member, if there is such a partition and such a member, and it subscribes the topic.
fn legal(at: &TopicPartition, owner: &MemberId, classes: &Classes<'_>) -> Option<(usize, usize)> {
    let topic = classes.topics.binary_search(&at.topic).ok()?;
    let member = classes.members.binary_search(&owner).ok()?;
    let exists = (0..classes.partitions[topic]).contains(&at.partition.0);
    let subscribers = &classes.pools[classes.pool_of[topic]?].cohorts;
    let subscribes = subscribers.binary_search(&classes.cohort_of[member]?).is_ok();
    (exists && subscribes).then_some((topic, member))
}
