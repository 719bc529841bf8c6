//! Owns what a consumer knows of its partitions: positions, what was fetched and not handed out yet, what is paused. The
//! application and the driver both change it, under one lock that is held for moments. A position moves only when a record
//! is handed out. Never performs a call.

mod ownership;
mod shared;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

pub(super) use self::shared::SharedState;
use super::decode::Decoder;
use crate::codec::last_leader_epoch;
use crate::error::{Error, Result};
use crate::record::{ConsumerRecord, OffsetAndMetadata, TopicPartition};

/// One uninterrupted reading of a partition; a seek begins another. Never used again: what was fetched before is told apart.
pub(super) type Run = u64;

/// Fetched bytes that wait for the application.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) batches: Bytes,
    /// Where reading goes on after it.
    pub(super) next_offset: i64,
    /// The stream to which its bytes are credit.
    pub(super) stream: (i32, u64),
    /// Bytes of credit that it still holds.
    pub(super) credit: usize,
}

/// Whether records of a partition may be fetched and handed out, as the group has it. Open for manual assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// The application has not been told of the partition yet.
    Held,
    Open,
    /// Being given up: nothing more is handed out.
    Draining,
}

/// One assigned partition.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) at: TopicPartition,
    pub(super) topic_id: [u8; 16],
    pub(super) run: Run,
    /// The next offset to hand out.
    pub(super) position: i64,
    /// Leader epoch of the record before it.
    pub(super) epoch: Option<i32>,
    /// What was handed out before the application's latest call for more.
    finished: (i64, Option<i32>),
    /// The next offset to fetch; at or beyond the position.
    pub(super) fetch_from: i64,
    /// Leader epoch of the record before that one: newer than the position's, where a new leader's records wait.
    fetch_epoch: Option<i32>,
    pub(super) paused: bool,
    /// Reading has failed; the application knows, and must seek.
    pub(super) stopped: bool,
    /// The highest watermark seen.
    pub(super) high_watermark: Option<i64>,
    /// The group's ownership under which it is read; `None` for manual assignment.
    pub(super) fencing_epoch: Option<i64>,
    /// The ownership that what the application has in hand came with: older than the above after a reset, until the
    /// application asks for more.
    hand_epoch: Option<i64>,
    pub(super) gate: Gate,
    /// Nobody knows where it begins: there is nothing to commit until the application seeks.
    placeless: bool,
    /// What was finished when it was last given to a commit after records.
    saved: i64,
    chunks: VecDeque<Chunk>,
    open: Option<(Decoder, Chunk)>,
}

impl Assigned {
    fn has_data(&self) -> bool {
        !self.paused && self.gate == Gate::Open && self.is_buffering()
    }

    fn is_buffering(&self) -> bool {
        self.open.is_some() || !self.chunks.is_empty()
    }
}

/// What the driver has to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) run: Run,
    pub(super) at: TopicPartition,
    pub(super) topic_id: [u8; 16],
    pub(super) offset: i64,
    pub(super) epoch: Option<i32>,
    pub(super) paused: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct State {
    slots: Vec<Assigned>,
    next_run: Run,
    /// The slot that is being handed out; stays until its data is used up, so that batches are not interleaved.
    current: usize,
    /// Slots whose `finished` lags behind the position.
    handed: Vec<usize>,
    failures: VecDeque<Error>,
    /// Why nothing will ever come again; told at every call.
    ended: Option<Error>,
    /// Receivers that wait for records now.
    waiting: usize,
    /// How often the application has come back for more.
    asks: i64,
    /// Records handed out since it last came back.
    in_hand: u64,
    /// The end of a fetched piece was handed out since a commit was last considered.
    piece_ended: bool,
    /// Membership wants to know when the application comes back.
    watched: bool,
    /// Credit to give back, by stream; the driver takes it.
    returned: BTreeMap<(i32, u64), i64>,
    check_crcs: bool,
}

impl State {
    pub(super) fn new(check_crcs: bool) -> Self {
        Self { check_crcs, ..Self::default() }
    }

    /// Replaces the assignment; partitions that stay go on undisturbed.
    pub(super) fn assign(&mut self, partitions: Vec<(TopicPartition, [u8; 16], Option<i64>)>) {
        let mut old = std::mem::take(&mut self.slots);
        self.acknowledge(&mut old);
        (self.current, self.handed) = (0, Vec::new());
        for (at, topic_id, start) in partitions {
            let kept = old.iter().position(|slot| slot.at == at && slot.topic_id == topic_id);
            match (kept, start) {
                (Some(index), None) => self.slots.push(old.swap_remove(index)),
                (_, start) => {
                    let run = self.begin_run();
                    self.slots.push(fresh(at, topic_id, run, start.unwrap_or(0)));
                }
            }
        }
        old.iter_mut().for_each(|slot| self.discard(slot));
    }

    fn acknowledge(&mut self, slots: &mut [Assigned]) {
        for index in std::mem::take(&mut self.handed) {
            if let Some(slot) = slots.get_mut(index) {
                slot.finished = (slot.position, slot.epoch);
                slot.hand_epoch = slot.fencing_epoch;
            }
        }
    }

    fn begin_run(&mut self) -> Run {
        self.next_run += 1;
        self.next_run
    }

    /// Drops what was fetched and gives its credit back.
    fn discard(&mut self, slot: &mut Assigned) {
        let open = slot.open.take().map(|(_, chunk)| chunk);
        for chunk in slot.chunks.drain(..).chain(open) {
            self.give_back(chunk.stream, chunk.credit);
        }
    }

    /// Credit for bytes that are no longer held.
    pub(super) fn give_back(&mut self, stream: (i32, u64), bytes: usize) {
        *self.returned.entry(stream).or_default() += i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    pub(super) fn returned(&self, stream: (i32, u64)) -> i64 {
        self.returned.get(&stream).copied().unwrap_or(0)
    }

    /// Takes the credit of streams for which at least `least` has gathered.
    pub(super) fn take_returned(&mut self, stream: (i32, u64), least: i64) -> i64 {
        if self.returned(stream) < least { 0 } else { self.returned.remove(&stream).unwrap_or(0) }
    }

    pub(super) fn forget_stream(&mut self, stream: (i32, u64)) {
        self.returned.remove(&stream);
    }

    pub(super) fn slot(&mut self, at: &TopicPartition) -> Result<&mut Assigned> {
        let found = self.slots.iter_mut().find(|slot| slot.at == *at);
        found.ok_or_else(|| Error::NotAssigned(at.clone()))
    }

    pub(super) fn slots(&self) -> &[Assigned] {
        &self.slots
    }

    /// Goes on from another offset; what was fetched is dropped.
    pub(super) fn seek(&mut self, at: &TopicPartition, offset: i64) -> Result<()> {
        let run = self.begin_run();
        let index = self.slots.iter().position(|slot| slot.at == *at);
        let index = index.ok_or_else(|| Error::NotAssigned(at.clone()))?;
        let slot = &self.slots[index];
        let mut sought = fresh(at.clone(), slot.topic_id, run, offset);
        (sought.paused, sought.gate) = (slot.paused, slot.gate);
        (sought.fencing_epoch, sought.hand_epoch) = (slot.fencing_epoch, slot.hand_epoch);
        // What was wrong with the place before is mended by this one.
        self.failures.retain(|error| !matches!(error, Error::NoOffset { at: of, .. } if of == at));
        let mut old = std::mem::replace(&mut self.slots[index], sought);
        self.discard(&mut old);
        Ok(())
    }

    /// Stops or resumes handing out. What a paused partition holds gives its credit back, or it would starve the others.
    pub(super) fn set_paused(&mut self, at: &TopicPartition, paused: bool) -> Result<()> {
        let slot = self.slot(at)?;
        slot.paused = paused;
        let mut freed = Vec::new();
        if paused {
            let open = slot.open.as_mut().map(|(_, chunk)| chunk);
            for chunk in slot.chunks.iter_mut().chain(open) {
                freed.push((chunk.stream, std::mem::take(&mut chunk.credit)));
            }
        }
        freed.into_iter().for_each(|(stream, bytes)| self.give_back(stream, bytes));
        Ok(())
    }

    /// What the driver should be fetching now.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let active = self.slots.iter().filter(|slot| !slot.stopped && slot.gate == Gate::Open);
        active
            .map(|slot| Wanted {
                run: slot.run,
                at: slot.at.clone(),
                topic_id: slot.topic_id,
                offset: slot.fetch_from,
                epoch: slot.fetch_epoch,
                paused: slot.paused,
            })
            .collect()
    }

    /// Takes in fetched bytes; returns `false` if the run is over.
    pub(super) fn fetched(&mut self, run: Run, chunk: Chunk, high_watermark: i64) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.run == run) else {
            self.give_back(chunk.stream, chunk.credit);
            return false;
        };
        slot.fetch_from = slot.fetch_from.max(chunk.next_offset);
        slot.fetch_epoch = last_leader_epoch(&chunk.batches).or(slot.fetch_epoch);
        slot.high_watermark = slot.high_watermark.max(Some(high_watermark));
        if !chunk.batches.is_empty() || slot.is_buffering() {
            slot.chunks.push_back(chunk);
        } else {
            slot.position = slot.position.max(chunk.next_offset);
        }
        true
    }

    /// Reading a partition has failed for good; the application is told in its turn.
    pub(super) fn failed(&mut self, run: Run, error: Error) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.run == run) {
            slot.stopped = true;
            self.failures.push_back(error);
        }
    }

    /// The run's partition and offset, if it still is read.
    pub(super) fn run(&self, run: Run) -> Option<&Assigned> {
        self.slots.iter().find(|slot| slot.run == run)
    }

    /// What was handed out so far is finished: the application asks for more. Returns how many records that were.
    pub(super) fn finish_handed(&mut self) -> u64 {
        let mut slots = std::mem::take(&mut self.slots);
        self.acknowledge(&mut slots);
        self.slots = slots;
        std::mem::take(&mut self.in_hand)
    }

    /// Positions to commit: `finished` only what the application is done with, else all that it was given.
    pub(super) fn positions(&self, finished: bool) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let placed = self.slots.iter().filter(|slot| slot.has_place());
        placed.map(|slot| slot.to_commit(finished)).collect()
    }

    /// Finished positions that this has not returned before.
    pub(super) fn take_finished(&mut self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let changed = self.slots.iter_mut().filter(|s| s.has_place() && s.saved != s.finished.0);
        changed
            .map(|slot| {
                slot.saved = slot.finished.0;
                slot.to_commit(true)
            })
            .collect()
    }

    /// Whether the end of a fetched piece was passed since this was last asked.
    pub(super) fn take_piece_ended(&mut self) -> bool {
        std::mem::take(&mut self.piece_ended)
    }

    /// Hands out up to `most` records, or the next failure if there is nothing before it.
    pub(super) fn hand_out(&mut self, most: usize, into: &mut Vec<ConsumerRecord>) -> Result<()> {
        while into.len() < most {
            let Some(index) = self.next_slot() else { break };
            self.current = index;
            if let Err(error) = self.hand_out_of(index, most, into) {
                self.slots[index].stopped = true;
                let mut broken = std::mem::take(&mut self.slots);
                self.discard(&mut broken[index]);
                self.slots = broken;
                self.failures.push_back(error);
            }
        }
        match self.failures.pop_front() {
            Some(error) if into.is_empty() => Err(error),
            Some(error) => {
                self.failures.push_front(error);
                Ok(())
            }
            None => match &self.ended {
                Some(error) if into.is_empty() => Err(error.clone()),
                _ => Ok(()),
            },
        }
    }

    /// The slot to go on with: the current one while it has data, then the next in turn.
    fn next_slot(&self) -> Option<usize> {
        let count = self.slots.len();
        (0..count).map(|step| (self.current + step) % count).find(|i| self.slots[*i].has_data())
    }

    fn hand_out_of(
        &mut self,
        index: usize,
        most: usize,
        into: &mut Vec<ConsumerRecord>,
    ) -> Result<()> {
        let check = self.check_crcs;
        let slot = &mut self.slots[index];
        if slot.open.is_none()
            && let Some(chunk) = slot.chunks.pop_front()
        {
            let decoder = Decoder::new(slot.at.clone(), chunk.batches.clone(), check);
            slot.open = Some((decoder, chunk));
        }
        let Some((decoder, chunk)) = &mut slot.open else { return Ok(()) };
        let (before, already) = (slot.position, into.len());
        while into.len() < most {
            let Some(mut record) = decoder.next_from(slot.position)? else {
                slot.position = slot.position.max(chunk.next_offset);
                let (stream, bytes) = (chunk.stream, chunk.credit);
                slot.open = None;
                self.piece_ended = true;
                self.give_back(stream, bytes);
                break;
            };
            slot.position = record.offset + 1;
            slot.epoch = record.leader_epoch.or(slot.epoch);
            record.fencing_epoch = slot.fencing_epoch;
            slot.hand_epoch = slot.fencing_epoch;
            into.push(record);
        }
        self.in_hand += u64::try_from(into.len() - already).unwrap_or(u64::MAX);
        if self.slots[index].position != before && !self.handed.contains(&index) {
            self.handed.push(index);
        }
        Ok(())
    }
}

fn fresh(at: TopicPartition, topic_id: [u8; 16], run: Run, offset: i64) -> Assigned {
    Assigned {
        at,
        topic_id,
        run,
        position: offset,
        epoch: None,
        finished: (offset, None),
        fetch_from: offset,
        fetch_epoch: None,
        paused: false,
        stopped: false,
        high_watermark: None,
        fencing_epoch: None,
        hand_epoch: None,
        gate: Gate::Open,
        placeless: false,
        saved: offset,
        chunks: VecDeque::new(),
        open: None,
    }
}

#[cfg(test)]
#[path = "tests/state.rs"]
mod tests;
