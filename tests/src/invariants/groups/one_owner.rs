//! G5: a member can commit a partition only while it owns it, and a partition has one owner at a time. So nothing that was
//! sent under an ownership counts once a later one has been seen; and no record is handed out under an ownership after
//! another member was told that the partition is its own. A member that is cut off stops by itself when its session ends.
//!
//! Only a reset takes effect before an owner that is on the way out can know: what another member was first told of after
//! one is left out there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Resets, counted, of_group};
use crate::group_history::GroupEvent;
use crate::history::Event;

/// The latest ownership that anybody was told of.
#[derive(Debug, Clone, Copy)]
struct Latest {
    fence: u64,
    member: u32,
    /// Where it was first seen.
    place: usize,
}

pub(in crate::invariants) fn check(events: &[Event]) -> Vec<String> {
    let resets = Resets::of(events);
    let counted = counted(events, &resets);
    let mut latest: BTreeMap<u32, Latest> = BTreeMap::new();
    // What each commit could have known when it set out.
    let mut known: BTreeMap<usize, u64> = BTreeMap::new();
    let mut silent: BTreeSet<u32> = BTreeSet::new();
    let mut evidence = Vec::new();
    for (place, event) in of_group(events) {
        match event {
            GroupEvent::Owned { member, partition, fence }
            | GroupEvent::HandedOut { member, partition, fence, .. } => {
                let (member, fence) = (*member, *fence);
                let is_record = matches!(event, GroupEvent::HandedOut { .. });
                if is_record && silent.contains(&member) {
                    evidence.push(format!(
                        "member {member}, cut off for longer than its session, handed out partition {partition}"
                    ));
                }
                let now = Latest { fence, member, place };
                let last = latest.entry(*partition).or_insert(now);
                if fence > last.fence {
                    *last = now;
                } else if fence < last.fence
                    && is_record
                    && (member == last.member || !resets.any_before(*partition, last.place))
                {
                    evidence.push(format!(
                        "partition {partition}: member {member} under {fence:#x}, when it was member {}'s under {:#x}",
                        last.member, last.fence
                    ));
                } else if fence == last.fence && member != last.member {
                    evidence.push(format!(
                        "partition {partition}: members {member} and {} under {fence:#x}",
                        last.member
                    ));
                }
            }
            GroupEvent::Commit { partition, .. } => {
                known.extend(latest.get(partition).map(|last| (place, last.fence)));
            }
            GroupEvent::Committed { .. } => {
                if let Some(commit) = counted.get(&place)
                    && let Some(later) = known.get(&commit.sent)
                    && commit.fence < *later
                {
                    evidence.push(format!(
                        "partition {}: a commit under {:#x} counts, sent when {later:#x} was known",
                        commit.partition, commit.fence
                    ));
                }
            }
            GroupEvent::Overdue { member } => drop(silent.insert(*member)),
            GroupEvent::Healed { member } => drop(silent.remove(member)),
            _ => {}
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(member: u32, fence: u64) -> Event {
        GroupEvent::Owned { member, partition: 0, fence }.into()
    }

    fn handed_out(member: u32, fence: u64) -> Event {
        GroupEvent::HandedOut { member, partition: 0, offset: 3, fence }.into()
    }

    fn commit(fence: u64) -> [Event; 2] {
        let commit = GroupEvent::Commit { commit: 1, partition: 0, offset: 4, fence };
        [commit.into(), GroupEvent::Committed { commit: 1 }.into()]
    }

    #[test]
    fn a_commit_on_its_way_may_count_when_the_partition_moves() {
        let [sent, told] = commit(1);
        assert_eq!(check(&[owned(1, 1), sent, owned(2, 2), told]).len(), 0);
    }

    #[test]
    fn a_commit_of_an_earlier_owner_that_counts_is_found() {
        let [sent, told] = commit(1);
        assert_eq!(check(&[owned(1, 1), owned(2, 2), sent, told]).len(), 1);
    }

    #[test]
    fn a_record_of_an_earlier_owner_is_found() {
        assert_eq!(check(&[handed_out(1, 1), owned(2, 2), handed_out(1, 1)]).len(), 1);
        assert_eq!(check(&[owned(1, 1), handed_out(2, 1)]).len(), 1);
    }

    #[test]
    fn a_member_that_goes_on_without_its_session_is_found() {
        let overdue = GroupEvent::Overdue { member: 1 }.into();
        let healed: Event = GroupEvent::Healed { member: 1 }.into();
        assert_eq!(check(&[owned(1, 1), overdue, handed_out(1, 1)]).len(), 1);
        let overdue = GroupEvent::Overdue { member: 1 }.into();
        assert_eq!(check(&[owned(1, 1), overdue, healed, handed_out(1, 3)]).len(), 0);
    }
}
