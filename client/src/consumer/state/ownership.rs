//! Owns what a group does to the state: partitions come under a fencing epoch, stop flowing while they are drained, and go;
//! and what it must know of the application: whether it waits, and whether something of a partition is in its hands. All
//! other partitions go on undisturbed by every one of these steps. Never knows the coordinator.

use super::{Assigned, Gate, State, fresh};
use crate::error::{Error, Result};
use crate::record::{OffsetAndMetadata, TopicPartition};

impl Assigned {
    /// Whether its position means something: it is known, and the application has been told of the partition.
    pub(super) fn has_place(&self) -> bool {
        !self.placeless && self.gate != Gate::Held
    }

    /// What is committed of it, with the ownership under which the application has reached it.
    pub(super) fn to_commit(&self, finished: bool) -> (TopicPartition, OffsetAndMetadata) {
        // What is finished is always of the present ownership: a reset starts it anew.
        let (offset, leader_epoch) =
            if finished { self.finished } else { (self.position, self.epoch) };
        let fencing_epoch = if finished { self.fencing_epoch } else { self.hand_epoch };
        (self.at.clone(), OffsetAndMetadata { offset, leader_epoch, metadata: None, fencing_epoch })
    }
}

impl State {
    /// Begins a partition under a new ownership, held until it is released. One that is there already is a reset: what was
    /// fetched of it is dropped, and whether it is paused stays.
    pub(in crate::consumer) fn take_on(
        &mut self,
        (at, topic_id): (TopicPartition, [u8; 16]),
        fencing_epoch: i64,
        offset: i64,
    ) {
        let run = self.begin_run();
        let mut slot = fresh(at, topic_id, run, offset);
        (slot.fencing_epoch, slot.hand_epoch) = (Some(fencing_epoch), Some(fencing_epoch));
        slot.gate = Gate::Held;
        let Some(index) = self.slots.iter().position(|old| old.at == slot.at) else {
            self.slots.push(slot);
            return;
        };
        slot.paused = self.slots[index].paused;
        if self.handed.contains(&index) {
            slot.hand_epoch = self.slots[index].hand_epoch;
        }
        let mut old = std::mem::replace(&mut self.slots[index], slot);
        self.discard(&mut old);
    }

    /// Lets a partition flow that was held.
    pub(in crate::consumer) fn release(&mut self, at: &TopicPartition, fencing_epoch: i64) {
        let held = |slot: &&mut Assigned| {
            slot.gate == Gate::Held && slot.fencing_epoch == Some(fencing_epoch)
        };
        if let Some(slot) = self.slot(at).ok().filter(held) {
            slot.gate = Gate::Open;
        }
    }

    /// Hands out nothing more of a partition; what was fetched ahead is dropped.
    pub(in crate::consumer) fn drain(&mut self, at: &TopicPartition) {
        let run = self.begin_run();
        let Some(index) = self.slots.iter().position(|slot| slot.at == *at) else { return };
        let slot = &mut self.slots[index];
        // A frame still on its way is of the old run: it must not move the position past what is dropped here.
        (slot.gate, slot.run) = (Gate::Draining, run);
        (slot.fetch_from, slot.fetch_epoch) = (slot.position, slot.epoch);
        let mut slots = std::mem::take(&mut self.slots);
        self.discard(&mut slots[index]);
        self.slots = slots;
    }

    /// Whether the application may still be at work on records of the partition.
    pub(in crate::consumer) fn has_in_hand(&self, at: &TopicPartition) -> bool {
        let index = self.slots.iter().position(|slot| slot.at == *at);
        index.is_some_and(|index| self.handed.contains(&index))
    }

    /// Forgets a partition; returns where it stood.
    pub(in crate::consumer) fn let_go(&mut self, at: &TopicPartition) -> Option<OffsetAndMetadata> {
        let index = self.slots.iter().position(|slot| slot.at == *at)?;
        let mut gone = self.slots.remove(index);
        self.discard(&mut gone);
        self.handed.retain(|handed| *handed != index);
        self.handed.iter_mut().filter(|handed| **handed > index).for_each(|handed| *handed -= 1);
        if self.current > index {
            self.current -= 1;
        }
        let (_, mut position) = gone.to_commit(false);
        position.fencing_epoch = gone.fencing_epoch;
        gone.has_place().then_some(position)
    }

    /// Nothing will come any more; the application is told why at every call.
    pub(in crate::consumer) fn end(&mut self, why: Option<Error>) {
        self.ended = why;
    }

    /// A partition cannot be started; the application is told, and may seek.
    pub(in crate::consumer) fn cannot_start(&mut self, at: &TopicPartition, error: Error) {
        if let Ok(slot) = self.slot(at) {
            (slot.stopped, slot.placeless) = (true, true);
        }
        self.failures.push_back(error);
    }

    /// The ownership for a commit of the caller's own choice.
    pub(in crate::consumer) fn epoch_in_hand(
        &mut self,
        at: &TopicPartition,
    ) -> Result<Option<i64>> {
        self.slot(at).map(|slot| slot.hand_epoch)
    }

    /// A receiver has come for records. `true`: membership wants to know.
    pub(in crate::consumer) fn begin_waiting(&mut self) -> bool {
        self.asks += 1;
        self.waiting += 1;
        std::mem::take(&mut self.watched)
    }

    pub(in crate::consumer) fn end_waiting(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Asks to be rung for when the application comes back for more.
    pub(in crate::consumer) fn watch(&mut self) {
        self.watched = true;
    }

    /// How often the application has come back, and whether it waits for records now.
    pub(in crate::consumer) fn progress(&self) -> (i64, bool) {
        (self.asks, self.waiting > 0)
    }
}

#[cfg(test)]
#[path = "tests/ownership.rs"]
mod tests;
