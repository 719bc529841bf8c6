//! The cursors of one fetch stream, as a state machine without time or input: who is read next, what may be sent, and which
//! control message has been applied. Owns credit and fairness. Never reads a batch.
//!
//! A cursor is in one of four states: waiting for its turn (in the queue, once), taken (being read), parked (at the high
//! watermark, until it is woken) or paused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;

use super::logs::ReadAt;
use super::refusal::{invalid, refuse, too_large};
use crate::mutants;

/// Where to read and under which conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// The partition.
    pub(super) at: TopicPartition,
    /// The next offset to read.
    pub(super) offset: i64,
    /// The leader epoch that the caller believes in.
    pub(super) leader_epoch: Option<i32>,
    /// The epoch of the last batch that the caller read.
    pub(super) last_fetched_epoch: Option<i32>,
    /// Most bytes of one read; `None`: no limit of its own.
    pub(super) max_bytes: Option<usize>,
}

impl Position {
    /// A read of at most `max_bytes` here.
    pub(super) fn read(&self, max_bytes: usize) -> ReadAt {
        ReadAt {
            at: self.at,
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            last_fetched_epoch: self.last_fetched_epoch,
            max_bytes,
        }
    }
}

/// A control message after the checks at the door.
#[derive(Debug, Clone, Default)]
pub(super) struct Control {
    pub(super) remove: Vec<i32>,
    pub(super) add: Vec<(i32, Result<Position, Failure>)>,
    pub(super) pause: Vec<i32>,
    pub(super) resume: Vec<i32>,
    /// Bytes granted on top, never negative.
    pub(super) credit: i64,
    /// The client's number of this message.
    pub(super) sequence: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Taken,
    Parked,
}

#[derive(Debug)]
struct Cursor {
    position: Position,
    state: State,
    paused: bool,
    /// Woken while it was taken: its turn comes again although it had caught up.
    woken: bool,
    /// It was read once, so its client knows where the partition stands.
    told: bool,
}

/// A cursor whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) cursor: i32,
    pub(super) position: Position,
    /// Bytes that may be read; the first batch is whole whatever its size.
    pub(super) budget: usize,
    /// Not its first turn: an empty read is no news.
    pub(super) told: bool,
}

/// All cursors of a stream.
#[derive(Debug)]
pub(super) struct Cursors {
    open: BTreeMap<i32, Cursor>,
    /// Turns, in order; each cursor at most once, and only if it is open, not paused and `Queued`.
    queue: VecDeque<i32>,
    /// Bytes that may be sent; below zero after an overdraw by one batch.
    credit: i64,
    applied: i64,
    max_cursors: usize,
}

impl Cursors {
    pub(super) fn new(max_cursors: usize) -> Self {
        Self { open: BTreeMap::new(), queue: VecDeque::new(), credit: 0, applied: 0, max_cursors }
    }

    /// Applies a control message, field by field. Returns the cursors that it could not open.
    pub(super) fn apply(&mut self, control: Control) -> Vec<(i32, Failure)> {
        self.remove(&control.remove);
        let mut refused = Vec::new();
        for (cursor, position) in control.add {
            if let Err(failure) = position.and_then(|position| self.add(cursor, position)) {
                refused.push((cursor, failure));
            }
        }
        for cursor in control.pause {
            self.pause(cursor);
        }
        for cursor in control.resume {
            self.resume(cursor);
        }
        self.credit = self.credit.saturating_add(control.credit);
        self.applied = self.applied.max(control.sequence);
        refused
    }

    /// The number of the last control message that was applied.
    pub(super) fn applied(&self) -> i64 {
        self.applied
    }

    /// The next turn, if anyone waits for one and there is credit.
    pub(super) fn take(&mut self) -> Option<Turn> {
        if self.credit <= 0 && !mutants::planted!("fetch-ignores-credit") {
            return None;
        }
        let cursor = self.queue.pop_front()?;
        let open = self.open.get_mut(&cursor)?;
        open.state = State::Taken;
        open.woken = false;
        let credit = usize::try_from(self.credit).unwrap_or(0);
        let budget = open.position.max_bytes.map_or(credit, |own| own.min(credit));
        Some(Turn { cursor, position: open.position.clone(), budget, told: open.told })
    }

    /// Whether a cursor waits for its turn and could have it.
    pub(super) fn has_turn(&self) -> bool {
        self.credit > 0 && !self.queue.is_empty()
    }

    /// Nothing can be sent until more is granted.
    pub(super) fn is_spent(&self) -> bool {
        self.credit <= 0
    }

    /// A taken cursor was read up to `next_offset`. `false`: it was removed meanwhile, so nothing of it may be sent.
    pub(super) fn served(
        &mut self,
        cursor: i32,
        bytes: usize,
        next_offset: i64,
        caught_up: bool,
    ) -> bool {
        let Some(open) = self.open.get_mut(&cursor) else { return false };
        if next_offset > open.position.offset {
            open.position.offset = next_offset;
            // What it reads on from is of this log, under the leader epoch that each read is checked against.
            open.position.last_fetched_epoch = None;
        }
        open.told = true;
        self.credit = self.credit.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        if caught_up && !open.woken {
            open.state = State::Parked;
        } else {
            self.enqueue(cursor);
        }
        true
    }

    /// A taken cursor was not read after all: it keeps its place at the head.
    pub(super) fn put_back(&mut self, cursor: i32) {
        let Some(open) = self.open.get_mut(&cursor) else { return };
        open.state = State::Queued;
        if !open.paused {
            self.queue.push_front(cursor);
        }
    }

    /// Something happened at the cursor's partition.
    pub(super) fn wake(&mut self, cursor: i32) {
        let Some(open) = self.open.get_mut(&cursor) else { return };
        match open.state {
            State::Parked => self.enqueue(cursor),
            State::Taken => open.woken = true,
            State::Queued => {}
        }
    }

    /// A failure ends its cursor. `false`: it was removed before.
    pub(super) fn end(&mut self, cursor: i32) -> bool {
        self.queue.retain(|queued| *queued != cursor);
        self.open.remove(&cursor).is_some()
    }

    /// Whether the cursor is open.
    #[cfg(test)]
    pub(super) fn is_open(&self, cursor: i32) -> bool {
        self.open.contains_key(&cursor)
    }

    /// Open cursors that have caught up, from the one after `last` on and around.
    pub(super) fn parked_after(&self, last: i32) -> impl Iterator<Item = (i32, &Position)> {
        let behind = self.open.range(last.saturating_add(1)..);
        let before = self.open.range(..=last);
        behind
            .chain(before)
            .filter(|(_, cursor)| cursor.state == State::Parked)
            .map(|(cursor, open)| (*cursor, &open.position))
    }

    fn add(&mut self, cursor: i32, position: Position) -> Result<(), Failure> {
        if self.open.contains_key(&cursor) {
            self.end(cursor);
            return Err(invalid("add.cursor", "a number that was never used on this stream"));
        }
        if self.open.len() >= self.max_cursors {
            return Err(too_large(
                "cursors of a stream",
                i64::try_from(self.max_cursors).unwrap_or(i64::MAX),
            ));
        }
        if cursor < 0 {
            return Err(refuse(FailureCode::InvalidArgument, "add.cursor is negative"));
        }
        let open =
            Cursor { position, state: State::Queued, paused: false, woken: false, told: false };
        self.open.insert(cursor, open);
        self.queue.push_back(cursor);
        Ok(())
    }

    fn remove(&mut self, cursors: &[i32]) {
        let gone: BTreeSet<i32> =
            cursors.iter().copied().filter(|cursor| self.open.remove(cursor).is_some()).collect();
        if !gone.is_empty() {
            self.queue.retain(|queued| !gone.contains(queued));
        }
    }

    fn pause(&mut self, cursor: i32) {
        let Some(open) = self.open.get_mut(&cursor) else { return };
        if !std::mem::replace(&mut open.paused, true) && open.state == State::Queued {
            self.queue.retain(|queued| *queued != cursor);
        }
    }

    fn resume(&mut self, cursor: i32) {
        let Some(open) = self.open.get_mut(&cursor) else { return };
        if std::mem::replace(&mut open.paused, false) && open.state == State::Queued {
            self.queue.push_back(cursor);
        }
    }

    /// To the end of the queue, unless it is paused: then its place comes with `resume`.
    fn enqueue(&mut self, cursor: i32) {
        let Some(open) = self.open.get_mut(&cursor) else { return };
        open.state = State::Queued;
        if !open.paused {
            self.queue.push_back(cursor);
        }
    }
}

#[cfg(test)]
mod tests;
