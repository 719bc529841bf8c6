//! Owns what happened to a group, as facts: the newest ones, in order, each with its time and its cause. They are what
//! `group explain` reads, and being state they survive a change of coordinator. Never draws a conclusion.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use waymark_proto::ids::TopicPartition;

use super::group::Actor;

/// Events of one group that are kept; the oldest go.
pub const MAX_EVENTS: usize = 256;
/// Partitions that one event names; how many more there were stands in its detail.
pub const MAX_NAMED: usize = 64;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The leader's clock, Unix ms.
    pub time_ms: i64,
    /// The generation after it.
    pub generation: i32,
    /// What.
    pub kind: EventKind,
    /// Who did it.
    pub actor: Arc<Actor>,
    /// Whom it concerns; empty: the group.
    pub member: String,
    /// The seat of that member; empty: none.
    pub instance: String,
    /// Who had the partitions before.
    pub from: String,
    /// Which partitions, at most [`MAX_NAMED`].
    pub partitions: Vec<TopicPartition>,
    /// How long it took, ms.
    pub took_ms: Option<i64>,
    /// Words for people.
    pub detail: String,
}

/// What can happen to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The group began.
    Created,
    /// A member joined.
    Joined,
    /// It left for good.
    Left,
    /// It left to return.
    Away,
    /// A new process took its seat.
    Returned,
    /// It was expelled.
    Expelled(ExpelCause),
    /// It reads other topics now.
    Subscribed,
    /// Topics appeared, grew or went.
    Topics,
    /// Partitions are shared out in another way.
    AssignorChanged,
    /// Partitions were asked back.
    RevokeAsked,
    /// Partitions changed hands; no member: nobody reads them now.
    Assigned,
    /// An owner did not give partitions up in time and was fenced.
    DrainOverdue,
    /// Positions were moved.
    Reset,
    /// Positions were put back.
    Undone,
    /// Positions were deleted.
    Deleted,
    /// Positions will expire.
    ExpiryAnnounced,
    /// Positions have expired.
    Expired,
    /// Another node coordinates the group.
    CoordinatorChanged,
}

/// Why a member was expelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpelCause {
    /// Connected, and silent.
    Heartbeat,
    /// At work on the same records for too long.
    Progress,
    /// Its connection broke, and it did not come back.
    Crash,
    /// An operator said so.
    Operator,
    /// It left to return, and did not.
    DidNotReturn,
}

impl Event {
    /// An event of the whole group.
    #[must_use]
    pub fn new(kind: EventKind, time_ms: i64, actor: &Arc<Actor>) -> Self {
        Self {
            time_ms,
            generation: 0,
            kind,
            actor: Arc::clone(actor),
            member: String::new(),
            instance: String::new(),
            from: String::new(),
            partitions: Vec::new(),
            took_ms: None,
            detail: String::new(),
        }
    }

    /// … that concerns a member.
    #[must_use]
    pub fn of(mut self, member: &str, instance: Option<&str>) -> Self {
        member.clone_into(&mut self.member);
        instance.unwrap_or_default().clone_into(&mut self.instance);
        self
    }

    /// … about partitions.
    #[must_use]
    pub fn about(mut self, partitions: &[TopicPartition]) -> Self {
        self.partitions = partitions.iter().take(MAX_NAMED).copied().collect();
        if partitions.len() > MAX_NAMED {
            self.detail = format!("{} partitions in all", partitions.len());
        }
        self
    }
}

/// The newest events of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events {
    /// Oldest first; the last one has the number `next - 1`.
    kept: VecDeque<Event>,
    /// The number of the next event.
    next: u64,
    /// Rows to write or to remove.
    pub(in crate::state) dirty: BTreeSet<u64>,
}

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        self.dirty.insert(self.next);
        self.kept.push_back(event);
        self.next += 1;
        while self.kept.len() > MAX_EVENTS {
            self.dirty.insert(self.first());
            self.kept.pop_front();
        }
    }

    fn first(&self) -> u64 {
        self.next - self.kept.len() as u64
    }

    /// Events with their numbers, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Event)> {
        (self.first()..).take(self.kept.len()).collect::<Vec<_>>().into_iter().zip(&self.kept)
    }

    /// One event.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Event> {
        let place = number.checked_sub(self.first())?;
        self.kept.get(usize::try_from(place).ok()?)
    }

    /// Puts an event back from its row; rows come in order. Whether the number can be the next one.
    pub(in crate::state) fn restore(&mut self, number: u64, event: Event) -> bool {
        let follows = self.kept.is_empty() || number == self.next;
        self.next = number + 1;
        self.kept.push_back(event);
        follows
    }

    /// The number that the next event gets.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// Says of the events from a number on in which generation they happened.
    pub(super) fn stamp(&mut self, from: u64, generation: i32) {
        let old = usize::try_from(from.saturating_sub(self.first())).unwrap_or(usize::MAX);
        self.kept.iter_mut().skip(old).for_each(|event| event.generation = generation);
    }

    /// The group is gone, and its rows with it.
    pub(super) fn forget(&mut self) {
        self.dirty.extend(self.first()..self.next);
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_events_are_kept_and_the_rows_of_others_go() {
        let mut events = Events::default();
        let actor = Arc::new(Actor::default());
        for time in 0..(MAX_EVENTS as i64 + 10) {
            events.push(Event::new(EventKind::Topics, time, &actor));
        }
        assert_eq!(events.iter().count(), MAX_EVENTS);
        assert_eq!(events.iter().next().map(|(number, it)| (number, it.time_ms)), Some((10, 10)));
        assert!(events.dirty.contains(&9) && events.get(9).is_none());
        assert_eq!(events.get(265).map(|it| it.time_ms), Some(265));
    }
}
