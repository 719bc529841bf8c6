//! Whether replicas of a shard that have applied the same entries have come to the same state: the rule R8. Owns the
//! comparison and when it is made: now and then while a run goes on, and of every replica at its end. Never touches a node.
//!
//! What a state has yet to write to its tables differs from replica to replica, and is no part of what is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waymark_node::storage::raft_record::LogId;
use waymark_proto::ids::ShardId;

use crate::cluster::{Broken, Cluster};
use crate::oracle::Violation;
use crate::subject::{Sight, Subject};
use crate::workload::SETTLE;

/// Of a shard that moves, states are compared once in so many looks: to copy one costs more than all other judges of a step.
const LOOKS_BETWEEN: u64 = 1_000;
/// Characters of two states that are shown where they differ.
const SHOWN: usize = 160;
/// … and before that.
const SHOWN_BEFORE: usize = 60;

/// What was compared so far.
#[derive(Debug, Default)]
pub(crate) struct States {
    looks: u64,
    /// When, in looks, and at which entry.
    last: BTreeMap<ShardId, (u64, LogId)>,
}

impl States {
    /// Compares those that stand at the same entry, of shards whose turn it is.
    pub(crate) fn look(&mut self, sights: &[Sight]) -> Vec<String> {
        self.looks += 1;
        let mut evidence = Vec::new();
        for sight in sights {
            let Some(at) = sight.stand.applied else { continue };
            let known = self.last.get(&sight.shard);
            if known.is_some_and(|(when, seen)| self.looks < when + LOOKS_BETWEEN || *seen == at) {
                continue;
            }
            let same = |it: &&Sight| it.shard == sight.shard && it.stand.applied == Some(at);
            let level: Vec<&Sight> = sights.iter().filter(same).collect();
            if level.len() > 1 {
                self.last.insert(sight.shard, (self.looks, at));
                evidence.extend(difference(&level));
            }
        }
        evidence
    }
}

/// Waits until every shard had all its replicas at one entry, and compares them there.
pub(crate) fn compare_all(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
) -> Result<Vec<Violation>, Broken> {
    let (nodes, copies) = (cluster.nodes().count(), subject.replicas() as usize);
    // Every node has a replica of the catalog.
    let copies = |shard| if shard == ShardId::CATALOG { nodes } else { copies };
    let mut last = Last::default();
    if cluster.run_until(SETTLE, || last.look(&subject.sights(), copies))? {
        let violation = |evidence| Violation { id: "R8", evidence };
        return Ok(last.evidence.into_iter().map(violation).collect());
    }
    Err(Broken(format!("{SETTLE:?} after all was read, replicas do not stand at the same entry")))
}

/// The comparison at the end of a run.
#[derive(Debug, Default)]
struct Last {
    compared: BTreeSet<ShardId>,
    evidence: Vec<String>,
}

impl Last {
    /// Whether every shard was compared.
    fn look(&mut self, sights: &[Sight], copies: impl Fn(ShardId) -> usize) -> bool {
        let mut shards: BTreeMap<ShardId, Vec<&Sight>> = BTreeMap::new();
        for sight in sights {
            shards.entry(sight.shard).or_default().push(sight);
        }
        for (shard, replicas) in &shards {
            let at = replicas[0].stand.applied;
            let is_level = at.is_some() && replicas.iter().all(|it| it.stand.applied == at);
            if is_level && replicas.len() == copies(*shard) && self.compared.insert(*shard) {
                self.evidence.extend(difference(replicas));
            }
        }
        !shards.is_empty() && shards.keys().all(|shard| self.compared.contains(shard))
    }
}

/// What tells the first of these replicas from another, if their states differ.
fn difference(level: &[&Sight]) -> Option<String> {
    let (first, others) = level.split_first()?;
    let state = (first.state)();
    others.iter().find_map(|other| {
        let differs = (other.state)();
        (differs != state).then(|| {
            let (one, another) = where_they_differ(&format!("{state:?}"), &format!("{differs:?}"));
            format!(
                "shard {}: at {:?} the state of replica {} has {one}, and that of {} has {another}",
                first.shard, first.stand.applied, first.replica, other.replica
            )
        })
    })
}

/// Some of both, from shortly before the first character that differs.
fn where_they_differ(one: &str, other: &str) -> (String, String) {
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    let part = |text: &str| {
        text.chars().skip(same.saturating_sub(SHOWN_BEFORE)).take(SHOWN).collect::<String>()
    };
    (part(one), part(other))
}

#[cfg(test)]
mod tests {
    use waymark_node::state::{EntryAt, ShardState};

    use super::*;
    use crate::sketch::{self, SHARD, entry, replica};

    /// A replica that has seen so many leaders and says that it has applied everything up to an index.
    fn sight(node: u32, leaders: u64, index: u64) -> Sight {
        let mut state = ShardState::new(SHARD);
        for term in 0..leaders {
            state.observe(EntryAt { index: term, term, leader: replica(1) });
        }
        state.drain_rows();
        let mut sight = sketch::sight(node, &[], 0);
        sight.stand.applied = Some(entry(1, 1, index));
        Sight { state: Box::new(move || state.clone()), ..sight }
    }

    #[test]
    fn a_state_that_differs_at_the_same_entry_is_found_now_and_at_the_end() {
        let good = [sight(1, 2, 7), sight(2, 2, 7), sight(3, 2, 7)];
        assert_eq!(States::default().look(&good), [""; 0]);
        let mut last = Last::default();
        assert!(last.look(&good, |_| 3));
        assert_eq!(last.evidence, [""; 0]);
        let bad = [sight(1, 2, 7), sight(2, 2, 7), sight(3, 1, 7)];
        assert_eq!(States::default().look(&bad).len(), 1);
        let mut last = Last::default();
        assert!(last.look(&bad, |_| 3));
        assert_eq!(last.evidence.len(), 1);
        assert!(last.evidence[0].contains("seen: 2"), "{:?}", last.evidence);
    }

    #[test]
    fn states_at_different_entries_are_not_compared_and_a_run_does_not_end_with_them() {
        let apart = [sight(1, 2, 7), sight(2, 1, 6), sight(3, 1, 5)];
        assert_eq!(States::default().look(&apart), [""; 0]);
        assert!(!Last::default().look(&apart, |_| 3));
        let two = [sight(1, 2, 7), sight(2, 2, 7)];
        assert!(!Last::default().look(&two, |_| 3), "the third is not there");
        assert!(!Last::default().look(&[], |_| 3));
    }

    #[test]
    fn a_shard_is_compared_again_only_when_its_turn_comes() {
        let mut states = States::default();
        states.look(&[sight(1, 2, 7), sight(2, 2, 7)]);
        let later = || [sight(1, 2, 8), sight(2, 1, 8)];
        assert_eq!(states.look(&later()), [""; 0]);
        states.looks = LOOKS_BETWEEN;
        assert_eq!(states.look(&later()).len(), 1);
    }
}
