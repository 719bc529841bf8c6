//! Owns the floors below which groups have committed all of a partition as read (S20): retention leaves the rest to the
//! groups that the topic names. A floor only rises, unless a reset lowers it first, so that a delay only keeps too much.
//! Never decides what goes: the leader does, and says which floor it saw.

use waymark_proto::ids::TopicPartition;

use super::partition::Partition;
use super::reply::Refusal;

/// A group's floor in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The group.
    pub group: String,
    /// The partition.
    pub at: TopicPartition,
    /// The first offset that the group has not committed as read.
    pub floor: i64,
    /// The term in which the teller coordinates the group: who was deposed must not raise what its successor has lowered.
    pub term: u64,
}

/// Up to where a group has committed, as far as a partition was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::state) struct Floor {
    pub(in crate::state) offset: i64,
    /// The newest coordinator's term that spoke for the group here; never falls.
    pub(in crate::state) term: u64,
}

impl Partition {
    /// Raises a group's floor, or lowers it; the other direction changes nothing. Returns whether anything changed.
    pub(super) fn set_floor(&mut self, hold: &Hold, lower: bool) -> Result<bool, Refusal> {
        if !self.settings.hold_groups.contains(&hold.group) {
            let why = format!("retention does not wait for group {:?} here", hold.group);
            // Nothing stands in the way of a reset; a floor that is not kept must be sent again.
            return if lower { Ok(false) } else { Err(Refusal::Invalid(why)) };
        }
        // A place beyond the end holds what is appended from now on. Without a floor all is held: nothing is lower.
        let told = hold.floor.clamp(0, self.next_offset);
        let now = self.floors.get(&hold.group).copied().unwrap_or_default();
        if hold.term < now.term && !crate::mutants::planted!("deposed-raises-floor") {
            return Err(Refusal::Invalid("another node coordinates the group by now".to_owned()));
        }
        let offset = if lower { now.offset.min(told) } else { now.offset.max(told) };
        let floor = Floor { offset, term: hold.term.max(now.term) };
        if floor == now {
            return Ok(false);
        }
        self.floors.insert(hold.group.clone(), floor);
        Ok(true)
    }

    /// The least floor of the groups that the settings name: where what retention leaves alone begins. A group that never
    /// told holds all. `None`: no group holds anything.
    pub(super) fn hold_floor(&self) -> Option<i64> {
        let floor = |group: &String| self.floors.get(group).map_or(0, |it| it.offset);
        let least = self.settings.hold_groups.iter().map(floor).min()?;
        Some(least.max(self.log_start))
    }

    /// Whether no floor is below the one that retention saw; without one seen, nothing depends on it.
    pub(super) fn still_held_from(&self, floor_seen: Option<i64>) -> bool {
        floor_seen.is_none_or(|seen| self.hold_floor().is_none_or(|floor| floor >= seen))
    }

    /// Groups that are no longer named hold nothing, and begin anew should they be named again.
    pub(super) fn drop_floors(&mut self) {
        let named = &self.settings.hold_groups;
        self.floors.retain(|group, _| named.contains(group));
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::batch;
    use super::super::command::{PartitionSettings, ProduceItem};
    use super::super::partition::AppendAt;
    use super::super::tests::arbitrary::without_bugs;
    use super::super::topic_config::TopicConfig;
    use super::*;

    fn settings(groups: &[&str]) -> PartitionSettings {
        let hold_groups = groups.iter().map(|group| (*group).to_owned()).collect();
        TopicConfig { hold_groups, ..TopicConfig::default() }.settings(1)
    }

    /// A partition of twenty records.
    fn partition(groups: &[&str]) -> Partition {
        let mut partition = Partition::new(settings(groups), 0);
        let at = AppendAt { index: 1, term: 1, append_time_ms: 0, leaders_seen: 0 };
        let item = ProduceItem {
            at: TopicPartition::default(),
            expected_base_offset: None,
            batch: batch(None, 20, 100),
        };
        partition.append(&item, &at).unwrap();
        partition
    }

    fn hold(group: &str, floor: i64) -> Hold {
        Hold { group: group.to_owned(), at: TopicPartition::default(), floor, term: 1 }
    }

    #[test]
    fn a_named_group_holds_all_until_it_tells_otherwise() {
        let _alone = without_bugs();
        let mut partition = partition(&["a", "b"]);
        assert_eq!(partition.hold_floor(), Some(0));
        assert_eq!(partition.set_floor(&hold("a", 7), false), Ok(true));
        assert_eq!(partition.hold_floor(), Some(0), "b has told nothing");
        assert_eq!(partition.set_floor(&hold("b", 9), false), Ok(true));
        assert_eq!(partition.hold_floor(), Some(7));
        partition.advance_log_start(8).unwrap();
        assert_eq!(partition.hold_floor(), Some(8), "what is gone is not held");
    }

    #[test]
    fn a_floor_rises_and_is_lowered_only_on_purpose() {
        let _alone = without_bugs();
        let mut partition = partition(&["a"]);
        partition.set_floor(&hold("a", 3), true).unwrap();
        assert_eq!(partition.hold_floor(), Some(0), "there is nothing lower");
        assert_eq!(partition.hold_floor(), Some(0));
        assert_eq!(partition.set_floor(&hold("a", 9), false), Ok(true));
        assert_eq!(partition.set_floor(&hold("a", 4), false), Ok(false), "a late commit");
        assert_eq!(partition.set_floor(&hold("a", 12), true), Ok(false));
        assert_eq!(partition.hold_floor(), Some(9));
        assert_eq!(partition.set_floor(&hold("a", 4), true), Ok(true));
        assert_eq!(partition.hold_floor(), Some(4));
    }

    #[test]
    fn a_deposed_coordinator_cannot_raise_what_its_successor_has_lowered() {
        let _alone = without_bugs();
        let mut partition = partition(&["a"]);
        let of_term = |floor, term| Hold { term, ..hold("a", floor) };
        assert_eq!(partition.set_floor(&of_term(9, 2), false), Ok(true));
        assert_eq!(partition.set_floor(&of_term(4, 3), true), Ok(true), "for a reset");
        assert!(partition.set_floor(&of_term(12, 2), false).is_err(), "sent before, arrived after");
        assert_eq!(partition.hold_floor(), Some(4));
        assert_eq!(partition.set_floor(&of_term(4, 4), false), Ok(true), "only its term is news");
        assert!(partition.set_floor(&of_term(12, 3), false).is_err());
        assert_eq!(partition.set_floor(&of_term(12, 4), false), Ok(true));
        assert_eq!(partition.hold_floor(), Some(12));
    }

    #[test]
    fn a_floor_beyond_the_end_holds_what_comes_next() {
        let _alone = without_bugs();
        let mut partition = partition(&["a"]);
        partition.set_floor(&hold("a", 1_000), false).unwrap();
        assert_eq!(partition.hold_floor(), Some(20));
    }

    #[test]
    fn a_group_that_is_not_named_holds_nothing_and_its_floor_is_forgotten() {
        let _alone = without_bugs();
        let mut partition = partition(&["a"]);
        assert!(partition.set_floor(&hold("b", 5), false).is_err());
        assert_eq!(partition.set_floor(&hold("b", 5), true), Ok(false));
        partition.set_floor(&hold("a", 5), false).unwrap();
        for (named, floor) in [(vec![], None), (vec!["a"], Some(0))] {
            partition.settings = settings(&named);
            partition.drop_floors();
            assert_eq!(partition.hold_floor(), floor);
        }
    }

    #[test]
    fn retention_that_saw_a_higher_floor_removes_nothing() {
        let _alone = without_bugs();
        let mut partition = partition(&["a"]);
        partition.set_floor(&hold("a", 12), false).unwrap();
        partition.set_floor(&hold("a", 4), true).unwrap();
        assert!(!partition.still_held_from(Some(12)), "a reset lowered it meanwhile");
        assert!(!partition.still_held_from(Some(i64::MAX)), "it was not held then");
        assert!(partition.still_held_from(Some(4)));
        assert!(partition.still_held_from(None), "an operator's word counts");
    }

    #[test]
    fn letting_a_deposed_coordinator_raise_a_floor_is_caught() {
        let _bug = crate::mutants::plant("deposed-raises-floor");
        let mut partition = partition(&["a"]);
        partition.set_floor(&Hold { term: 3, ..hold("a", 4) }, false).unwrap();
        partition.set_floor(&Hold { term: 2, ..hold("a", 12) }, false).unwrap();
        assert_eq!(partition.hold_floor(), Some(12), "a sentence above says 4");
    }
}
