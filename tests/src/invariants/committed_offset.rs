//! G4: a committed offset never moves back unless somebody asked for it. Besides resets, commits of a group and partition
//! rise in the histories that it judges; an unknown commit may count or not. Whoever begins a partition anew begins no
//! earlier than at what was committed.

use std::collections::BTreeMap;

use super::groups::{Resets, counted};
use crate::group::GROUP;
use crate::group_history::GroupEvent;
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let resets = Resets::of(events);
    let counted = counted(events, &resets);
    let mut least: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    // The latest ownership under which records were handed out.
    let mut latest: BTreeMap<u32, u64> = BTreeMap::new();
    let mut evidence = Vec::new();
    for (place, event) in events.iter().enumerate() {
        match event {
            Event::CommitOk { group, partition, offset }
            | Event::CommittedSeen { group, partition, offset } => {
                let floor = least.entry((*group, *partition)).or_default();
                if offset < floor {
                    evidence.push(format!(
                        "group {group} partition {partition} went back from {floor} to {offset}"
                    ));
                }
                *floor = (*floor).max(*offset);
            }
            Event::Group(GroupEvent::Committed { .. }) => {
                if let Some(commit) = counted.get(&place) {
                    let floor = least.entry((GROUP, commit.partition)).or_default();
                    *floor = (*floor).max(commit.offset);
                }
            }
            Event::Group(GroupEvent::ResetAsked { partition, .. }) => {
                least.remove(&(GROUP, *partition));
            }
            Event::Group(GroupEvent::HandedOut { partition, offset, fence, .. }) => {
                let floor = least.get(&(GROUP, *partition)).copied().unwrap_or(0);
                let before = latest.insert(*partition, *fence);
                if before.is_some_and(|before| before < *fence)
                    && offset < &floor
                    && resets.stands(*partition, *fence, place)
                {
                    evidence.push(format!(
                        "group {GROUP} partition {partition} began anew at {offset}, committed was {floor}"
                    ));
                }
            }
            _ => {}
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: u64) -> Event {
        Event::CommitOk { group: 1, partition: 0, offset }
    }

    fn seen(offset: u64) -> Event {
        Event::CommittedSeen { group: 1, partition: 0, offset }
    }

    /// A member reads up to 8 and commits that; then another ownership begins.
    fn handed_over(then: &[GroupEvent]) -> Vec<Event> {
        let record = GroupEvent::HandedOut { member: 1, partition: 0, offset: 8, fence: 1 };
        let commit = GroupEvent::Commit { commit: 1, partition: 0, offset: 9, fence: 1 };
        let history = [record, commit, GroupEvent::Committed { commit: 1 }];
        history.into_iter().chain(then.iter().cloned()).map(Event::from).collect()
    }

    #[test]
    fn an_unknown_commit_may_count_or_not() {
        let unknown = Event::CommitUnknown { group: 1, partition: 0, offset: 9 };
        assert_eq!(check(&[committed(5), unknown.clone(), seen(5)]).len(), 0);
        assert_eq!(check(&[committed(5), unknown, seen(9)]).len(), 0);
    }

    #[test]
    fn an_offset_that_moved_back_is_found() {
        assert_eq!(check(&[committed(5), seen(4)]).len(), 1);
        assert_eq!(check(&[seen(9), seen(5)]).len(), 1);
    }

    #[test]
    fn an_owner_that_begins_before_what_was_committed_is_found() {
        let record = |offset| GroupEvent::HandedOut { member: 2, partition: 0, offset, fence: 2 };
        assert_eq!(check(&handed_over(&[record(9)])).len(), 0);
        assert_eq!(check(&handed_over(&[record(8)])).len(), 1);
    }

    #[test]
    fn after_a_reset_it_may_be_anywhere() {
        let asked = GroupEvent::ResetAsked { partition: 0, to: 2 };
        let done = GroupEvent::ResetDone { partition: 0, to: 2, generation: 2 };
        let record = GroupEvent::HandedOut { member: 1, partition: 0, offset: 2, fence: 2 };
        let mut events = handed_over(&[asked, done, record]);
        events.push(Event::CommittedSeen { group: GROUP, partition: 0, offset: 3 });
        assert_eq!(check(&events).len(), 0);
    }
}
