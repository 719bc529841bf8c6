//! The view from above: looks at every replica of every node in each step of a run and judges what no client can see. Owns
//! the rules R1 to R9, under G1, G2, G7 and G8; each look costs what has changed since the last one. Never touches a node.
//!
//! What a node believes to be durable is compared twice: with what its journal says, and the journal's words with the
//! simulated disk, at once. And after each start: nothing is gone that anybody had been told.

use std::collections::BTreeMap;

use waymark_node::consensus::LogStand;
use waymark_node::storage::raft_record::{LogId, Vote};
use waymark_proto::ids::{ReplicaId, ShardId};

use crate::acks::{Ack, AckedDisks};
use crate::oracle::Violation;
use crate::states::States;
use crate::subject::Sight;

/// A rule and its sentence.
pub const RULES: [(&str, &str); 9] = [
    ("R1", "who leads in a term leads it in one life: no log id is given twice"),
    ("R2", "what is applied at an index is the same entry on every replica, for ever"),
    ("R3", "logs that share an entry share the one before it"),
    ("R4", "who comes to lead has everything that was committed in earlier terms"),
    (
        "R5",
        "no vote and no entry that a replica was believed to have on disk is gone after a restart",
    ),
    ("R6", "what is believed to be durable is on the disk, in every step"),
    ("R7", "what waits for a disk, and the files that are open on it, stay within their bounds"),
    ("R8", "replicas that have applied the same entries have the same state"),
    ("R9", "an ack counts no replica that does not have its entry on disk"),
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
    /// What was last compared with the beliefs of then: as long as both are the same, so is the verdict.
    compared: Option<Compared>,
}

/// All that a comparison of a replica with what was believed of it depends on.
#[derive(Debug, PartialEq)]
struct Compared {
    stand: LogStand,
    vote: Option<Vote>,
    held: Option<(LogId, Leading)>,
    /// What any replica has applied where it is to hold something: also a cut may turn out to be a loss.
    committed: Option<LogId>,
}

/// What was committed at an index.
#[derive(Debug, Clone, Copy)]
struct Applied {
    id: LogId,
    /// The leadership that the first replica to apply it followed: it was committed under that one or before.
    under: Leading,
}

/// What is wrong with some node as a whole.
#[derive(Debug, Default)]
pub struct Wrongs {
    /// It holds for durable what is not on its disk.
    pub durable: Option<String>,
    /// Something has outgrown its bound.
    pub bound: Option<String>,
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
    states: States,
    acked: AckedDisks,
    found: Vec<Violation>,
    diverged: Vec<Violation>,
}

impl View {
    /// Looks once: at every replica that runs, at what leaders have just called done, and at what else is wrong with a node.
    pub fn look(&mut self, sights: &[Sight], acks: &[Ack], wrong: Wrongs) {
        for sight in sights {
            self.see(sight);
        }
        // Once every replica was looked at: whom a leader believes in may have started just now.
        for sight in sights {
            self.note_beliefs(sight);
        }
        // The first says enough: a state that differs once differs for long.
        if self.diverged.is_empty() {
            let found = self.states.look(sights).into_iter();
            self.diverged.extend(found.map(|evidence| Violation { id: "R8", evidence }));
        }
        let overstated = self.acked.look(acks, sights);
        let found = [("R6", wrong.durable), ("R7", wrong.bound), ("R9", overstated)].into_iter();
        found.for_each(|(id, evidence)| evidence.into_iter().for_each(|it| self.find(id, it)));
    }

    /// What is wrong; empty while nothing is.
    #[must_use]
    pub fn found(&self) -> &[Violation] {
        &self.found
    }

    /// States that differ, R8. That alone ends no run: what clients are told of it is the better story.
    #[must_use]
    pub fn diverged(&self) -> &[Violation] {
        &self.diverged
    }

    fn find(&mut self, id: &'static str, evidence: String) {
        self.found.push(Violation { id, evidence });
    }

    fn see(&mut self, sight: &Sight) {
        let mut known = self.replicas.remove(&(sight.shard, sight.replica)).unwrap_or_default();
        if known.life != sight.life {
            (known.life, known.applied, known.last, known.compared) =
                (sight.life, None, None, None);
        }
        if !sight.honest_disk {
            // Whatever anybody believes of it, its disk has promised more than it holds.
            (known.vote, known.held, known.compared) = (None, None, None);
        }
        let applied = self.applied.get(&sight.shard);
        let there = known.held.and_then(|(held, _)| applied?.get(&held.index));
        let committed = there.map(|applied| applied.id);
        let same = |it: &Compared| {
            it.stand == sight.stand
                && (it.vote, it.held, it.committed) == (known.vote, known.held, committed)
        };
        if !known.compared.as_ref().is_some_and(same) {
            if sight.honest_disk {
                self.compare_with_beliefs(sight, &known);
            }
            self.see_entries(sight, &mut known);
            self.see_applied(sight, &mut known);
            self.see_leader(sight);
            let (stand, vote, held) = (sight.stand.clone(), known.vote, known.held);
            known.compared = Some(Compared { stand, vote, held, committed });
        }
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
            // Before a checkpoint is installed, openraft cuts off what the log has beyond its own commit mark. The checkpoint
            // ends with an entry that others committed without this replica, and those have everything before it.
            let overtaken = may_be_cut && self.is_overtaken(shard, held, by);
            if (stand.last < Some(held) && !may_be_cut) || (is_committed && !has && !overtaken) {
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

    /// Whether something behind an entry was committed under a later leadership than that under which it was held.
    fn is_overtaken(&self, shard: ShardId, held: LogId, by: Leading) -> bool {
        let newest = self.applied.get(&shard).and_then(|all| all.last_key_value());
        newest.is_some_and(|(index, applied)| *index > held.index && applied.under > by)
    }

    /// What a replica, and a leader of its followers, believes from now on.
    fn note_beliefs(&mut self, sight: &Sight) {
        let stand = &sight.stand;
        if let Some(known) = self.replicas.get_mut(&(sight.shard, sight.replica))
            && sight.honest_disk
        {
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
        // Who has forgotten its vote may be elected by it again, with all that it had: a lost lie, not a broken rule.
        let Some(leading) = leading(sight).filter(|_| sight.honest_disk) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sketch::{SHARD, entry, log, replica, sight, vote};

    fn follows(mut sight: Sight, vote: Vote) -> Sight {
        sight.stand.leads = vote.voted_for == sight.replica;
        (sight.stand.vote, sight.stand.durable_vote) = (Some(vote), Some(vote));
        sight.stand.believed_vote = vote;
        sight
    }

    fn found(looks: &[Vec<Sight>]) -> Vec<&'static str> {
        let mut view = View::default();
        looks.iter().for_each(|sights| view.look(sights, &[], Wrongs::default()));
        view.found().iter().map(|it| it.id).collect()
    }

    #[test]
    fn replicas_that_agree_are_no_evidence() {
        let looks = |applied| (1..=3).map(|node| sight(node, &log(&[1, 1, 1]), applied)).collect();
        assert_eq!(found(&[looks(1), looks(3)]), [""; 0]);
    }

    #[test]
    fn a_leader_that_leads_its_term_again_in_another_life_is_found() {
        let again = Sight { life: 2, ..sight(1, &log(&[1]), 1) };
        assert_eq!(found(&[vec![sight(1, &log(&[1]), 1)], vec![again]]), ["R1"]);
    }

    #[test]
    fn another_entry_applied_at_the_same_index_is_found() {
        let (one, other) = (log(&[1, 1, 1]), log(&[1, 1, 2]));
        assert_eq!(found(&[vec![sight(2, &one, 3), sight(3, &other, 2)]]), [""; 0]);
        assert_eq!(found(&[vec![sight(2, &one, 3), sight(3, &other, 3)]]), ["R2"]);
    }

    #[test]
    fn logs_that_differ_before_an_entry_that_they_share_are_found() {
        let (one, other) = (log(&[1, 1, 3]), log(&[1, 2, 3]));
        assert_eq!(found(&[vec![sight(2, &one, 1), sight(3, &other, 1)]]), ["R3"]);
    }

    #[test]
    fn a_leader_without_what_was_committed_before_is_found() {
        let committed = || vec![sight(3, &log(&[1, 1, 1]), 3)];
        let leader = |terms| vec![follows(sight(2, &log(terms), 1), vote(2, 2))];
        assert_eq!(found(&[committed(), leader(&[1, 1, 1, 2])]), [""; 0]);
        assert_eq!(found(&[committed(), leader(&[1, 1])]), ["R4"]);
        let later = vec![follows(sight(3, &log(&[1, 1, 3]), 3), vote(3, 3))];
        assert_eq!(found(&[later, leader(&[1, 1])]), [""; 0], "an old one need not have it");
    }

    #[test]
    fn a_vote_that_is_gone_after_a_restart_is_found() {
        let voted = || vec![follows(sight(2, &log(&[1]), 1), vote(4, 3))];
        let again = |vote| vec![Sight { life: 2, ..follows(sight(2, &log(&[1]), 1), vote) }];
        assert_eq!(found(&[voted(), again(vote(4, 3))]), [""; 0]);
        assert_eq!(found(&[voted(), again(vote(3, 1))]), ["R5"]);
    }

    #[test]
    fn an_entry_that_is_gone_though_the_leader_was_told_of_it_is_found() {
        let told = || {
            let mut leader = sight(1, &log(&[1, 1, 1]), 1);
            leader.stand.believed = vec![(replica(2), entry(1, 1, 2))];
            vec![leader, sight(2, &log(&[1, 1, 1]), 1)]
        };
        let again = |it: Sight| vec![Sight { life: 2, ..it }];
        assert_eq!(found(&[told(), again(sight(2, &log(&[1, 1, 1]), 1))]), [""; 0]);
        assert_eq!(found(&[told(), again(sight(2, &log(&[1, 1]), 1))]), ["R5"]);
        let cut = follows(sight(2, &log(&[1, 1]), 1), vote(2, 3));
        assert_eq!(found(&[told(), again(cut)]), [""; 0], "a later leader may cut it off");
    }

    #[test]
    fn a_cut_that_turns_out_to_have_taken_what_was_committed_is_found() {
        let mut leader = sight(1, &log(&[1, 1, 1]), 1);
        leader.stand.believed = vec![(replica(2), entry(1, 1, 2))];
        let told = vec![leader, sight(2, &log(&[1, 1, 1]), 1)];
        let cut = || follows(sight(2, &log(&[1, 1]), 1), vote(2, 3));
        let other = sight(3, &log(&[1, 1, 1]), 3);
        assert_eq!(found(&[told, vec![cut()], vec![cut(), other], vec![cut()]]), ["R5"]);
    }

    #[test]
    fn what_is_believed_to_be_durable_and_is_not_is_found() {
        let mut early = sight(2, &log(&[1]), 1);
        early.stand.durable_vote = Some(vote(0, 2));
        assert_eq!(found(&[vec![early]]), ["R6"]);
        let mut early = sight(1, &log(&[1, 1]), 1);
        early.stand.believed = vec![(replica(1), entry(1, 1, 1))];
        early.on_disk = Box::new(|_| false);
        assert_eq!(found(&[vec![early]]), ["R6"]);
    }

    #[test]
    fn what_outgrows_its_bound_is_found() {
        let mut view = View::default();
        let bound = Some("node 1: too much".to_owned());
        view.look(&[], &[], Wrongs { bound, ..Wrongs::default() });
        assert_eq!(view.found().iter().map(|it| it.id).collect::<Vec<_>>(), ["R7"]);
    }

    #[test]
    fn an_ack_that_says_too_much_is_found() {
        let mut view = View::default();
        let ack = Ack { shard: SHARD, at: entry(1, 1, 0), replicas: 2 };
        view.look(&[sight(1, &log(&[1]), 1)], &[ack], Wrongs::default());
        assert_eq!(view.found().iter().map(|it| it.id).collect::<Vec<_>>(), ["R9"]);
    }
}
