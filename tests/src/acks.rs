//! Whether an ack says no more than is true: the rule R9. Owns what leaders have just said of entries that they called done,
//! and the comparison with the disks. Never touches a node.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Event;
use tracing::field::{Field, Visit};
use waymark_node::storage::raft_record::LogId;
use waymark_proto::ids::{NodeId, ReplicaId, ShardId};

use crate::subject::Sight;

/// What a leader said of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Of which shard.
    pub shard: ShardId,
    /// The entry.
    pub at: LogId,
    /// So many replicas have it on disk.
    pub replicas: u32,
}

/// What leaders have said since somebody last took it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Acks(Arc<Mutex<Vec<Ack>>>);

impl Acks {
    /// Notes an event of the node that tells of one.
    ///
    /// # Panics
    /// When it is told in other words than the node's.
    pub fn note(&self, event: &Event<'_>) {
        let mut read = Fields::default();
        event.record(&mut read);
        let ack = read.ack().expect("an ack is told in numbers of its own size");
        self.lock().push(ack);
    }

    /// Takes them.
    #[must_use]
    pub fn take(&self) -> Vec<Ack> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ack>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Fields {
    shard: u64,
    term: u64,
    node: u64,
    incarnation: u64,
    index: u64,
    replicas: u64,
}

impl Fields {
    fn ack(&self) -> Option<Ack> {
        let small = |number: u64| u32::try_from(number).ok();
        let node = NodeId(small(self.node)?);
        let leader = ReplicaId { node, incarnation: small(self.incarnation)? };
        let at = LogId { term: self.term, leader, index: self.index };
        Some(Ack { shard: ShardId(small(self.shard)?), at, replicas: small(self.replicas)? })
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "shard" => self.shard = value,
            "term" => self.term = value,
            "node" => self.node = value,
            "incarnation" => self.incarnation = value,
            "index" => self.index = value,
            "replicas" => self.replicas = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// Compares what is said with what is, step by step.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Where replicas of a shard were seen so far, by node.
    homes: BTreeSet<(ShardId, u32)>,
}

impl Counted {
    /// Evidence of an ack that counts replicas which do not have its entry.
    pub(crate) fn look(&mut self, acks: &[Ack], sights: &[Sight]) -> Option<String> {
        self.homes.extend(sights.iter().map(|sight| (sight.shard, sight.node)));
        acks.iter().find_map(|ack| {
            let may_have = self.may_have(ack, sights);
            let Ack { shard, at, replicas } = ack;
            let says_too_much = *replicas as usize > may_have;
            says_too_much.then(|| {
                format!("shard {shard}: {at:?} is said to be on {replicas} disks, and is on {may_have} at most")
            })
        })
    }

    /// Replicas that have its entry on disk, or are not there to be asked: one that has just died may have said so before.
    fn may_have(&self, ack: &Ack, sights: &[Sight]) -> usize {
        let of_shard = || sights.iter().filter(|sight| sight.shard == ack.shard);
        // Who holds what its own disk has lied about is not to blame for it.
        let has = |sight: &&Sight| !sight.honest_disk || (sight.on_disk)(ack.at);
        let runs: BTreeSet<u32> = of_shard().map(|sight| sight.node).collect();
        let away = |(shard, node): &&(ShardId, u32)| *shard == ack.shard && !runs.contains(node);
        of_shard().filter(has).count() + self.homes.iter().filter(away).count()
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Metadata, Subscriber, span};
    use waymark_node::consensus::acked::TARGET;

    use super::*;
    use crate::sketch::{SHARD, entry, log, sight};

    fn ack(replicas: u32) -> Ack {
        Ack { shard: SHARD, at: entry(1, 1, 2), replicas }
    }

    fn without(sight: Sight) -> Sight {
        Sight { on_disk: Box::new(|_| false), ..sight }
    }

    #[test]
    fn an_ack_that_counts_a_replica_without_the_entry_is_found() {
        let all = |last: fn(Sight) -> Sight| {
            let sight = |node| sight(node, &log(&[1, 1, 1]), 3);
            [sight(1), sight(2), last(sight(3))]
        };
        let look = |replicas, sights: &[Sight]| Counted::default().look(&[ack(replicas)], sights);
        assert_eq!(look(3, &all(|it| it)), None);
        assert_eq!(look(2, &all(without)), None);
        assert!(look(3, &all(without)).unwrap().contains("on 3 disks, and is on 2 at most"));
        assert_eq!(look(3, &all(|it| Sight { honest_disk: false, ..without(it) })), None);
    }

    #[test]
    fn a_replica_that_has_just_died_may_have_had_it() {
        let sight = |node| sight(node, &log(&[1, 1, 1]), 3);
        let mut counted = Counted::default();
        assert_eq!(counted.look(&[], &[sight(1), sight(2), sight(3)]), None);
        assert_eq!(counted.look(&[ack(3)], &[sight(1), sight(2)]), None);
        assert!(counted.look(&[ack(3)], &[sight(1), without(sight(2))]).is_some());
    }

    struct Listens(Acks);

    impl Subscriber for Listens {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == TARGET
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            self.0.note(event);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn an_ack_is_read_as_the_node_tells_it() {
        let acks = Acks::default();
        tracing::subscriber::with_default(Listens(acks.clone()), || {
            waymark_node::consensus::acked::acked(SHARD, entry(4, 2, 7), 3);
        });
        let expected = Ack { shard: SHARD, at: entry(4, 2, 7), replicas: 3 };
        assert_eq!((acks.take(), acks.take()), (vec![expected], Vec::new()));
    }
}
