//! The view from above: looks at every replica of every node in each step of a run and judges what no client can see. Owns
//! the rules R1 to R6, under G1, G2 and G7; each look costs what has changed since the last one. Never touches a node.
//!
//! What a node believes to be durable is compared twice: with what its journal says, and the journal's words with the
//! simulated disk, at once. And after each start: nothing is gone that anybody had been told.

use std::collections::BTreeMap;

use waymark_node::storage::raft_record::{LogId, Vote};
use waymark_proto::ids::{ReplicaId, ShardId};

use crate::oracle::Violation;
use crate::subject::{Sight, Subject};

/// A rule and its sentence.
pub const RULES: [(&str, &str); 6] = [
    ("R1", "who leads in a term leads it in one life: no log id is given twice"),
    ("R2", "what is applied at an index is the same entry on every replica, for ever"),
    ("R3", "logs that share an entry share the one before it"),
    ("R4", "who comes to lead has everything that was committed in earlier terms"),
    (
        "R5",
        "no vote and no entry that a replica was believed to have on disk is gone after a restart",
    ),
    ("R6", "what is believed to be durable is on the disk, in every step"),
];
/// Of a log that is seen for the first time, or jumps, only the newest entries are compared.
const MOST_AT_ONCE: u64 = 256;

/// A leadership, ordered as votes are.
type Leading = (u64, ReplicaId);

/// What was seen of a replica so far.
#[derive(Debug, Default)]
struct Known {
    life: u32,
    applied: Option<u64>,
    last: Option<LogId>,
    /// The greatest vote that it believed to have on disk.
    vote: Option<Vote>,
    /// The greatest entry that somebody believed it to have on disk, and under which leadership.
    held: Option<(LogId, Leading)>,
}

/// What was committed at an index.
#[derive(Debug, Clone, Copy)]
struct Applied {
    id: LogId,
    /// The leadership that the first replica to apply it followed: it was committed under that one or before.
    under: Leading,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct View {
    replicas: BTreeMap<(ShardId, ReplicaId), Known>,
    applied: BTreeMap<ShardId, BTreeMap<u64, Applied>>,
    /// What stands before an entry, by shard.
    before: BTreeMap<(ShardId, LogId), LogId>,
    /// The life in which a replica led a term.
    leaders: BTreeMap<(ShardId, Leading), u32>,
    found: Vec<Violation>,
}

impl View {
    /// Looks once.
    pub fn look(&mut self, subject: &dyn Subject) {
        let sights = subject.sights();
        for sight in &sights {
            self.see(sight);
        }
        // Once every replica was looked at: whom a leader believes in may have started just now.
        for sight in &sights {
            self.note_beliefs(sight);
        }
        if let Some(evidence) = subject.wrongly_held_for_durable() {
            self.find("R6", evidence);
        }
    }

    /// What is wrong; empty while nothing is.
    #[must_use]
    pub fn found(&self) -> &[Violation] {
        &self.found
    }

    fn find(&mut self, id: &'static str, evidence: String) {
        self.found.push(Violation { id, evidence });
    }

    fn see(&mut self, sight: &Sight) {
        let mut known = self.replicas.remove(&(sight.shard, sight.replica)).unwrap_or_default();
        if known.life != sight.life {
            (known.life, known.applied, known.last) = (sight.life, None, None);
        }
        if sight.honest_disk {
            self.compare_with_beliefs(sight, &known);
        }
        self.see_entries(sight, &mut known);
        self.see_applied(sight, &mut known);
        self.see_leader(sight);
        self.replicas.insert((sight.shard, sight.replica), known);
    }

    /// R5, and the half of R6 that is within the node.
    fn compare_with_beliefs(&mut self, sight: &Sight, known: &Known) {
        let stand = &sight.stand;
        let (shard, replica) = (sight.shard, sight.replica);
        let rank = |vote: Option<Vote>| vote.map(|vote| vote.rank());
        if rank(stand.vote) < rank(known.vote) {
            let evidence = format!(
                "shard {shard}: replica {replica} had {:?} on disk, and has {:?}",
                known.vote, stand.vote
            );
            self.find("R5", evidence);
        }
        if let Some((held, by)) = known.held {
            let follows = stand.vote.map(|vote| (vote.term, vote.voted_for));
            // A later leader may have cut off what was not committed.
            let may_be_cut = follows > Some(by);
            let committed = self.applied.get(&shard).and_then(|all| all.get(&held.index));
            let is_committed = committed.is_some_and(|committed| committed.id == held);
            let has = stand.purged.is_some_and(|purged| purged.index >= held.index)
                || (sight.entry)(held.index) == Some(held);
            if (stand.last < Some(held) && !may_be_cut) || (is_committed && !has) {
                let evidence = format!(
                    "shard {shard}: replica {replica} had {held:?} on disk, and its log ends with {:?}",
                    stand.last
                );
                self.find("R5", evidence);
            }
        }
        let believed = Some(stand.believed_vote).filter(|vote| vote.term > 0);
        if rank(believed) > rank(stand.durable_vote) {
            let evidence = format!(
                "shard {shard}: replica {replica} believes {believed:?} to be durable, which is {:?}",
                stand.durable_vote
            );
            self.find("R6", evidence);
        }
        let own = stand.believed.iter().find(|(id, _)| *id == replica).map(|(_, held)| *held);
        if let Some(own) = own.filter(|own| !(sight.on_disk)(*own)) {
            let evidence = format!(
                "shard {shard}: replica {replica} believes {own:?} to be durable, which it is not"
            );
            self.find("R6", evidence);
        }
    }

    /// What a replica, and a leader of its followers, believes from now on.
    fn note_beliefs(&mut self, sight: &Sight) {
        let stand = &sight.stand;
        if let Some(known) = self.replicas.get_mut(&(sight.shard, sight.replica)) {
            let believed = Some(stand.believed_vote).filter(|vote| vote.term > 0);
            if believed.map(|it| it.rank()) > known.vote.map(|it| it.rank()) {
                known.vote = believed;
            }
        }
        let Some(by) = leading(sight) else { return };
        for (replica, held) in &stand.believed {
            let known = self.replicas.entry((sight.shard, *replica)).or_default();
            if known.held.is_none_or(|(before, _)| before < *held) {
                known.held = Some((*held, by));
            }
        }
    }

    /// R3.
    fn see_entries(&mut self, sight: &Sight, known: &mut Known) {
        let Some(last) = sight.stand.last.filter(|last| known.last != Some(*last)) else { return };
        let goes_on = known.last.filter(|seen| (sight.entry)(seen.index) == Some(*seen));
        let first = goes_on.map_or(0, |seen| seen.index + 1);
        let first = first.max((last.index + 1).saturating_sub(MOST_AT_ONCE)).max(1);
        let mut before = (sight.entry)(first - 1);
        for index in first..=last.index {
            let entry = (sight.entry)(index);
            if let (Some(before), Some(entry)) = (before, entry) {
                let first = *self.before.entry((sight.shard, entry)).or_insert(before);
                if first != before {
                    let evidence = format!(
                        "shard {}: {entry:?} follows {first:?}, and {before:?} on replica {}",
                        sight.shard, sight.replica
                    );
                    self.find("R3", evidence);
                }
            }
            before = entry;
        }
        known.last = Some(last);
    }

    /// R2.
    fn see_applied(&mut self, sight: &Sight, known: &mut Known) {
        let Some(applied) = sight.stand.applied else { return };
        if known.applied == Some(applied.index) {
            return;
        }
        // A replica that is opened again begins at its checkpoint.
        let goes_on = known.applied.filter(|seen| *seen < applied.index);
        let first = goes_on.map_or(applied.index, |seen| seen + 1);
        let first = first.max((applied.index + 1).saturating_sub(MOST_AT_ONCE));
        let vote = sight.stand.vote;
        let under = vote.map_or((applied.term, applied.leader), |it| (it.term, it.voted_for));
        for index in first..=applied.index {
            let entry = if index == applied.index { Some(applied) } else { (sight.entry)(index) };
            let Some(id) = entry else { continue };
            let all = self.applied.entry(sight.shard).or_default();
            let first = all.entry(index).or_insert(Applied { id, under });
            if first.id != id {
                let evidence = format!(
                    "shard {}: {:?} was applied at index {index}, and {id:?} on replica {}",
                    sight.shard, first.id, sight.replica
                );
                self.find("R2", evidence);
            }
        }
        known.applied = Some(applied.index);
    }

    /// R1 and R4.
    fn see_leader(&mut self, sight: &Sight) {
        let Some(leading) = leading(sight) else { return };
        let before = self.leaders.insert((sight.shard, leading), sight.life);
        if let Some(life) = before {
            if life != sight.life {
                let evidence = format!(
                    "shard {}: replica {} leads term {} in life {}, as it did in life {life}",
                    sight.shard, sight.replica, leading.0, sight.life
                );
                self.find("R1", evidence);
            }
            return;
        }
        let all = self.applied.get(&sight.shard);
        // Logs that share an entry share all before it: the last one that it must have says enough.
        let must = all.and_then(|all| all.iter().rev().find(|(_, it)| it.under < leading));
        let Some((index, must)) = must.map(|(index, it)| (*index, it.id)) else { return };
        let purged = sight.stand.purged.is_some_and(|purged| purged.index >= index);
        if !purged && (sight.entry)(index) != Some(must) {
            let evidence = format!(
                "shard {}: replica {} leads term {} without {must:?}, which was committed before",
                sight.shard, sight.replica, leading.0
            );
            self.find("R4", evidence);
        }
    }
}

/// The leadership that a replica holds.
fn leading(sight: &Sight) -> Option<Leading> {
    let vote = sight.stand.vote.filter(|vote| sight.stand.leads && vote.voted_for == sight.replica);
    vote.map(|vote| (vote.term, vote.voted_for))
}
