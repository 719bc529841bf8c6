//! Owns which topics were deleted lately: a command of an earlier step that arrives after the deletion must not bring
//! partitions back that nobody would ever close again. Bounded: a command is late by seconds, not by thousands of deletions.

use std::collections::{BTreeMap, BTreeSet};

use waymark_proto::ids::TopicId;

/// Deletions that a shard remembers.
const MOST: usize = 10_000;

/// Topics that were deleted, the latest of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    /// With the Raft index of the deletion.
    pub(super) topics: BTreeMap<TopicId, u64>,
    /// Follows from `topics`: an entry deletes one topic.
    order: BTreeMap<u64, TopicId>,
    /// Topics whose row changed since the last drain.
    pub(super) dirty: BTreeSet<TopicId>,
}

impl Deleted {
    pub(super) fn contains(&self, topic: TopicId) -> bool {
        self.topics.contains_key(&topic)
    }

    /// A repeat keeps its first place.
    pub(super) fn note(&mut self, topic: TopicId, index: u64) {
        if self.contains(topic) {
            return;
        }
        self.load(topic, index);
        self.dirty.insert(topic);
        if self.topics.len() > MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.topics.remove(&oldest);
            self.dirty.insert(oldest);
        }
    }

    /// A deletion that a row tells of.
    pub(super) fn load(&mut self, topic: TopicId, index: u64) {
        self.topics.insert(topic, index);
        self.order.insert(index, topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: u64) -> TopicId {
        TopicId(u128::from(number).to_be_bytes())
    }

    #[test]
    fn the_latest_deletions_are_remembered_and_no_more() {
        let mut deleted = Deleted::default();
        let most = u64::try_from(MOST).unwrap();
        for number in 0..most + 5 {
            deleted.note(topic(number), number);
        }
        assert_eq!(deleted.topics.len(), MOST);
        assert!(!deleted.contains(topic(4)) && deleted.contains(topic(5)));
        assert!(deleted.dirty.contains(&topic(4)), "its row goes");
    }

    #[test]
    fn a_repeated_deletion_keeps_its_place() {
        let mut deleted = Deleted::default();
        deleted.note(topic(1), 10);
        let once = deleted.clone();
        deleted.note(topic(1), 20);
        assert_eq!(deleted, once);
    }
}
