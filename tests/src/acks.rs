//! Whether an ack says no more than is true: the rule R9. Owns what leaders have just said of entries that they called done,
//! and the comparison with what each journal holds for durable, which R6 compares with the disks. Never touches a node.

use std::collections::BTreeMap;
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
        let ack = read.ack().expect("an ack is told with all its numbers, each of its own size");
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
struct Fields(BTreeMap<&'static str, u64>);

impl Fields {
    fn ack(&self) -> Option<Ack> {
        let large = |name| self.0.get(name).copied();
        let small = |name| u32::try_from(large(name)?).ok();
        let leader = ReplicaId { node: NodeId(small("node")?), incarnation: small("incarnation")? };
        let at = LogId { term: large("term")?, leader, index: large("index")? };
        Some(Ack { shard: ShardId(small("shard")?), at, replicas: small("replicas")? })
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// Compares what is said with what is, step by step.
#[derive(Debug, Default)]
pub(crate) struct AckedDisks {
    /// The last entry of each shard that any replica was seen to have so far.
    ends: BTreeMap<ShardId, u64>,
    /// Where replicas were seen so far, by node; of those that do not run, the last entry that they may have.
    homes: BTreeMap<(ShardId, u32), Option<u64>>,
}

impl AckedDisks {
    /// Evidence of an ack that counts replicas which do not have its entry.
    pub(crate) fn look(&mut self, acks: &[Ack], sights: &[Sight]) -> Option<String> {
        self.note_who_runs(sights);
        acks.iter().find_map(|ack| {
            let may_have = self.may_have(ack, sights);
            let Ack { shard, at, replicas } = ack;
            let says_too_much = *replicas as usize > may_have;
            says_too_much.then(|| {
                format!("shard {shard}: {at:?} is said to be on {replicas} disks, and is on {may_have} at most")
            })
        })
    }

    /// Who has just died may have what its leader had by then, and nothing that came later.
    fn note_who_runs(&mut self, sights: &[Sight]) {
        for sight in sights {
            let last = sight.stand.last.map_or(0, |last| last.index);
            let end = self.ends.entry(sight.shard).or_default();
            *end = last.max(*end);
        }
        for ((shard, _), may_have) in &mut self.homes {
            may_have.get_or_insert(self.ends[shard]);
        }
        self.homes.extend(sights.iter().map(|sight| ((sight.shard, sight.node), None)));
    }

    /// Replicas that have its entry on disk, or are not there to be asked and may have said so before they died.
    fn may_have(&self, ack: &Ack, sights: &[Sight]) -> usize {
        let of_shard = || sights.iter().filter(|sight| sight.shard == ack.shard);
        // Who holds what its own disk has lied about is not to blame for it.
        let has = |sight: &&Sight| !sight.honest_disk || (sight.on_disk)(ack.at);
        let homes = self.homes.range((ack.shard, 0)..=(ack.shard, u32::MAX));
        let away = homes.filter(|(_, may_have)| may_have.is_some_and(|last| last >= ack.at.index));
        of_shard().filter(has).count() + away.count()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;
    use waymark_node::consensus::acked::acked;

    use super::*;
    use crate::log_lines::Unexpected;
    use crate::sketch::{SHARD, entry, log, sight};
    use crate::tally::Tally;
    use crate::trace_hash::TraceHash;

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
        let look =
            |replicas, sights: &[Sight]| AckedDisks::default().look(&[ack(replicas)], sights);
        assert_eq!(look(3, &all(|it| it)), None);
        assert_eq!(look(2, &all(without)), None);
        assert!(look(3, &all(without)).unwrap().contains("on 3 disks, and is on 2 at most"));
        assert_eq!(look(3, &all(|it| Sight { honest_disk: false, ..without(it) })), None);
    }

    #[test]
    fn a_replica_that_has_just_died_may_have_had_it() {
        let sight = |node| sight(node, &log(&[1, 1, 1]), 3);
        let mut disks = AckedDisks::default();
        assert_eq!(disks.look(&[], &[sight(1), sight(2), sight(3)]), None);
        assert_eq!(disks.look(&[ack(3)], &[sight(1), sight(2)]), None);
        assert!(disks.look(&[ack(3)], &[sight(1), without(sight(2))]).is_some());
        let later = Ack { at: entry(1, 1, 3), ..ack(3) };
        let longer = |node| self::sight(node, &log(&[1, 1, 1, 1]), 4);
        assert!(disks.look(&[later], &[longer(1), longer(2)]).is_some(), "it was dead by then");
        assert_eq!(disks.look(&[later], &[longer(1), longer(2), longer(3)]), None);
        assert_eq!(disks.look(&[later], &[longer(1), longer(2)]), None);
    }

    #[test]
    fn an_ack_is_heard_as_the_node_tells_it_and_is_no_part_of_the_hash() {
        let hash = TraceHash::new(Level::INFO, None, &Tally::default(), Unexpected::default());
        let hash = hash.unwrap();
        tracing::subscriber::with_default(hash.clone(), || acked(SHARD, entry(4, 2, 7), 3));
        let expected = Ack { shard: SHARD, at: entry(4, 2, 7), replicas: 3 };
        assert_eq!((hash.acks().take(), hash.acks().take()), (vec![expected], Vec::new()));
        assert_eq!(hash.fingerprint().events, 0);
    }
}
