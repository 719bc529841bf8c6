//! G4: a committed offset never moves back unless somebody asked for it; an unknown commit may count or not. Where several
//! processes commit for a group and partition, or the only one asks for less than before, it may: those are judged by G4d
//! alone. Whoever begins a partition anew begins no earlier than at what was committed.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::{Resets, counted};
use crate::calls::{Answer, Call, Outcome, Span, spans};
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
            Event::CommittedSeen { group, partition, offset } => {
                let floor = least.entry((*group, *partition)).or_default();
                if offset < floor {
                    evidence.push(went_back((*group, *partition), *floor, *offset));
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
    evidence.extend(of_calls(events));
    evidence
}

fn went_back((group, partition): (u32, u32), from: u64, to: u64) -> String {
    format!("group {group} partition {partition} went back from {from} to {to}")
}

/// What clients without membership committed and were told.
fn of_calls(events: &[Event]) -> Vec<String> {
    let mut groups: BTreeMap<(u32, u32), Vec<Span>> = BTreeMap::new();
    for span in spans(events) {
        if let Call::Commit { group, partition, .. } | Call::Committed { group, partition } =
            span.what
        {
            groups.entry((group, partition)).or_default().push(span);
        }
    }
    let mut evidence = Vec::new();
    for (at, calls) in groups {
        let committers: BTreeSet<u32> = commits(&calls).map(|(client, _)| client).collect();
        // Where somebody asks for less, or several ask, only the order of all calls tells what may be seen: G4d judges that.
        let asked_back = !commits(&calls).map(|(_, offset)| offset).is_sorted();
        if committers.len() > 1 || asked_back {
            continue;
        }
        let mut known: Vec<(usize, u64)> = calls.iter().filter_map(shown).collect();
        known.sort_unstable();
        for call in &calls {
            let Some(seen) = call.offset() else { continue };
            let before = known.iter().take_while(|(told, _)| *told < call.from);
            let floor = before.map(|(_, offset)| *offset).max().unwrap_or(0);
            if seen < floor {
                evidence.push(went_back(at, floor, seen));
            }
        }
    }
    evidence
}

/// Who committed what, in the order in which they asked for it.
fn commits(calls: &[Span]) -> impl Iterator<Item = (u32, u64)> {
    calls.iter().filter_map(|it| match it.what {
        Call::Commit { offset, .. } => Some((it.client, offset)),
        _ => None,
    })
}

/// Where it was told, and what the offset then was at least.
fn shown(call: &Span) -> Option<(usize, u64)> {
    match (&call.what, call.outcome) {
        (Call::Commit { offset, .. }, Outcome::Ok(_)) => Some((call.to, *offset)),
        (_, Outcome::Ok(Answer::Offset(offset))) => Some((call.to, offset)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64, what: Call, outcome: Outcome) -> [Event; 2] {
        let invoked = Event::Invoked { call: number, client: 1, what };
        [invoked, Event::Ended { call: number, outcome }]
    }

    fn commit(offset: u64, outcome: Outcome) -> [Event; 2] {
        call(offset, Call::Commit { group: 1, partition: 0, offset }, outcome)
    }

    fn committed(offset: u64) -> [Event; 2] {
        commit(offset, Outcome::Ok(Answer::Done))
    }

    fn seen(offset: u64) -> [Event; 2] {
        let what = Call::Committed { group: 1, partition: 0 };
        call(100 + offset, what, Outcome::Ok(Answer::Offset(offset)))
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
        let unknown = commit(9, Outcome::Unknown);
        assert_eq!(check(&[committed(5), unknown.clone(), seen(5)].concat()).len(), 0);
        assert_eq!(check(&[committed(5), unknown, seen(9)].concat()).len(), 0);
    }

    #[test]
    fn an_offset_that_moved_back_is_found() {
        assert_eq!(check(&[committed(5), seen(4)].concat()).len(), 1);
        assert_eq!(check(&[seen(9), seen(5)].concat()).len(), 1);
    }

    #[test]
    fn an_offset_moves_back_where_its_only_committer_asks_for_it() {
        let back = commit(3, Outcome::Unknown);
        assert_eq!(check(&[committed(5), back, seen(3)].concat()).len(), 0);
    }

    #[test]
    fn an_owner_that_begins_before_what_was_committed_is_found() {
        let record = |offset| GroupEvent::HandedOut { member: 2, partition: 0, offset, fence: 2 };
        assert_eq!(check(&handed_over(&[record(9)])).len(), 0);
        assert_eq!(check(&handed_over(&[record(8)])).len(), 1);
    }

    #[test]
    fn after_a_reset_it_may_be_anywhere() {
        let asked = GroupEvent::ResetAsked { partition: 0, to: 2, undo: false };
        let done = GroupEvent::ResetDone { partition: 0, to: 2, generation: 2 };
        let record = GroupEvent::HandedOut { member: 1, partition: 0, offset: 2, fence: 2 };
        let mut events = handed_over(&[asked, done, record]);
        events.push(Event::CommittedSeen { group: GROUP, partition: 0, offset: 3 });
        assert_eq!(check(&events).len(), 0);
    }
}
