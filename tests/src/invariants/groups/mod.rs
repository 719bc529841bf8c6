//! What several promises about groups look for in a history: where records are settled, which commits were told to count,
//! and what resets make of that. Judges nothing itself.

use std::collections::BTreeMap;

use crate::group_history::{GroupEvent, generation_of};
use crate::history::Event;

pub(super) mod exact_handoff;
pub(super) mod expulsion;
pub(super) mod ledger;
pub(super) mod nothing_missed;
pub(super) mod one_owner;
pub(super) mod reset_target;

/// Events of the group, with their places in the history.
fn of_group(events: &[Event]) -> impl Iterator<Item = (usize, &GroupEvent)> {
    events.iter().enumerate().filter_map(|(place, event)| match event {
        Event::Group(event) => Some((place, event)),
        _ => None,
    })
}

/// One reset of one partition.
#[derive(Debug, Clone, Copy)]
struct Reset {
    asked: usize,
    to: u64,
    undo: bool,
    /// `None`: nobody knows whether it is done.
    done: Option<Done>,
}

/// What was told of a reset that is done.
#[derive(Debug, Clone, Copy)]
struct Done {
    place: usize,
    generation: u64,
    to: u64,
}

/// Every reset, by partition, in order.
#[derive(Debug, Default)]
pub(super) struct Resets(BTreeMap<u32, Vec<Reset>>);

impl Resets {
    pub(super) fn of(events: &[Event]) -> Self {
        let mut resets = Self::default();
        for (place, event) in of_group(events) {
            match event {
                GroupEvent::ResetAsked { partition, to, undo } => {
                    let reset = Reset { asked: place, to: *to, undo: *undo, done: None };
                    resets.0.entry(*partition).or_default().push(reset);
                }
                GroupEvent::ResetDone { partition, to, generation } => {
                    let last = resets.0.get_mut(partition).and_then(|all| all.last_mut());
                    let last = last.filter(|last| last.done.is_none());
                    if let Some(last) = last {
                        let generation = u64::from(*generation);
                        last.done = Some(Done { place, generation, to: *to });
                    }
                }
                _ => {}
            }
        }
        resets
    }

    fn latest(&self, partition: u32, place: usize) -> Option<&Reset> {
        let before = self.0.get(&partition)?.iter().rev();
        before.into_iter().find(|reset| reset.asked <= place)
    }

    /// Whether what was reached under an ownership, and told at this place, is certainly of after every reset before.
    pub(super) fn stands(&self, partition: u32, fence: u64, place: usize) -> bool {
        self.latest(partition, place).is_none_or(|reset| {
            let done = reset.done.filter(|done| done.place <= place);
            done.is_some_and(|done| generation_of(fence) >= done.generation)
        })
    }

    /// Whether one was asked for before.
    fn any_before(&self, partition: u32, place: usize) -> bool {
        self.latest(partition, place).is_some()
    }
}

/// A commit that a member was told to count, at the place where it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// Where it set out.
    pub(super) sent: usize,
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) fence: u64,
}

/// Commits that members were told to count, by the place where they were told. One that was told after a reset says
/// nothing, unless its ownership is of after it: the client keeps quiet about commits that a reset has voided.
pub(super) fn counted(events: &[Event], resets: &Resets) -> BTreeMap<usize, Counted> {
    let mut sent = BTreeMap::new();
    let mut counted = BTreeMap::new();
    for (place, event) in of_group(events) {
        match event {
            GroupEvent::Commit { commit, partition, offset, fence } => {
                let (partition, offset, fence) = (*partition, *offset, *fence);
                sent.insert(*commit, Counted { sent: place, partition, offset, fence });
            }
            GroupEvent::Committed { commit } => {
                let known = sent.get(commit).copied();
                let stands = |it: &Counted| resets.stands(it.partition, it.fence, place);
                counted.extend(known.filter(stands).map(|it| (place, it)));
            }
            _ => {}
        }
    }
    counted
}
