//! Owns the recycling of the oldest file (S3): when it is worth it, what has to be carried, and from when on recovery no
//! longer needs the file. It never writes; the flusher takes what it hands over into the next flush.
//!
//! A file is free again in three steps, each durable before the next: everything wanted in it stands in newer files; a
//! header says that recovery starts at a newer file; the file is given back.

use bytes::Bytes;
use waymark_proto::ids::ReplicaKey;

use super::frame::{Fact, Frame, HEAD};
use super::queue::{Shared, State};
use super::read::read_frame;
use super::replay::{carried_entry, marks_in};
use super::state::Place;
use crate::mutants;
use crate::reached::reached;
use crate::storage::raft_record::{EntryKind, LogId};

/// A file of which at most this part is still wanted is recycled at once: carrying it is nearly free.
const CHEAP_PART: u64 = 8;
/// Shorter chains are not worth carrying for.
const SHORT_CHAIN: u64 = 3;
/// Files of credit that a long time without recycling may gather.
const MOST_CREDIT: u64 = 4;

/// An entry to be carried, its payload at hand.
#[derive(Debug)]
struct Ready {
    key: ReplicaKey,
    id: LogId,
    kind: EntryKind,
    payload: Bytes,
}

/// The recycling under way. Only the flusher's task uses it.
#[derive(Debug, Default)]
pub(super) struct Carrier {
    /// The file being emptied.
    target: Option<u64>,
    ready: Vec<Ready>,
    /// Nothing wanted stands in files below this one, durably.
    clear_below: u64,
    /// Nothing wanted will stand in files below the first number once as many frames as the second are durable: memory
    /// runs ahead of the queue, and what a queued truncation or purge removes is wanted until that frame is durable.
    clear_soon: Option<(u64, u64)>,
    /// A file with an entry that cannot be read, and the bytes wanted in it then: it stays until fewer are.
    stuck: Option<(u64, u64)>,
    /// Bytes that may be carried only to make the chain shorter: as many as were written for the first time. Without this
    /// bound an idle journal could carry the same entries round and round.
    credit: u64,
}

impl Carrier {
    /// Whether another flush is needed even if nobody asks for one.
    pub(super) fn is_busy(&self) -> bool {
        self.target.is_some()
    }

    /// The next flush makes so many frames durable.
    pub(super) fn confirm(&mut self, durable: u64) {
        if let Some((below, _)) = self.clear_soon.take_if(|(_, frames)| *frames <= durable) {
            self.clear_below = self.clear_below.max(below);
        }
    }

    /// Fresh bytes were written.
    pub(super) fn earn(&mut self, fresh: u64, file_bytes: u64) {
        self.credit = (self.credit + fresh).min(MOST_CREDIT * file_bytes);
    }

    /// Whether the next flush would let recovery start at a newer file.
    pub(super) fn raises_oldest(&self, oldest_live: u64) -> bool {
        self.clear_below > oldest_live
    }

    /// The oldest file that recovery needs, once the next flush, in file `current`, is durable.
    pub(super) fn oldest_live(&self, oldest_live: u64, current: u64) -> u64 {
        self.clear_below.clamp(oldest_live, current.max(oldest_live))
    }

    /// Brings some of the target's entries into memory.
    pub(super) async fn load(&mut self, shared: &Shared, budget: usize) {
        let Some(target) = self.target.filter(|_| self.ready.is_empty()) else { return };
        let (wanted, file) = {
            let state = shared.lock();
            let Some(file) = state.files.get(&target).cloned() else { return };
            let mut left = budget;
            let mut wanted = Vec::new();
            for (key, log) in state.logs.holders(target) {
                for (id, kind, place, len) in log.entries_in(target, &mut left) {
                    let cached = log.row(id.index).and_then(|row| row.payload.clone());
                    wanted.push((key, id, kind, (place, len), cached));
                }
            }
            (wanted, file)
        };
        for (key, id, kind, (Place { at, .. }, len), cached) in wanted {
            let payload = match cached {
                Some(payload) => payload,
                None => match read_frame(&file, at.into(), HEAD + len as usize).await {
                    Ok(Some(Frame { fact: Fact::Entry(entry), .. })) if entry.id == id => {
                        entry.payload
                    }
                    Ok(_) | Err(_) => {
                        tracing::error!(path = file.path, offset = at, shard = %key.shard, index = id.index,
                            "an entry that should be carried cannot be read, its file stays");
                        let mut state = shared.lock();
                        state.unreadable.insert((key, id.index));
                        self.stuck = Some((target, state.logs.live_in(target)));
                        drop(state);
                        self.target = None;
                        self.ready.clear();
                        return;
                    }
                },
            };
            self.ready.push(Ready { key, id, kind, payload });
        }
    }

    /// The frames to carry in the next flush: marks of the target and entries loaded before, as far as they still stand
    /// there. The first entry goes whatever its size, or a large one would never be carried.
    pub(super) fn carry(&mut self, state: &State, room: usize) -> Vec<Frame> {
        let Some(target) = self.target else { return Vec::new() };
        if mutants::planted!("carry-nothing") {
            self.ready.clear();
            self.clear_below = self.clear_below.max(target + 1);
            return Vec::new();
        }
        let mut frames = marks_in(&state.logs, target);
        let mut used = 0;
        let fits = self.ready.iter().take_while(|ready| {
            let len = HEAD + ready.payload.len();
            let fits = used == 0 || used + len <= room;
            used += len;
            fits
        });
        let count = fits.count();
        for Ready { key, id, kind, payload } in self.ready.drain(..count) {
            let row = state.logs.replicas.get(&key).filter(|log| log.id_at(id.index) == Some(id));
            let place = row.and_then(|log| log.row(id.index)?.place);
            if place.is_some_and(|place| place.file == target) {
                reached!("entry-carried");
                frames.push(carried_entry(key, id, kind, payload));
            }
        }
        frames
    }

    /// After a flush: is the target clear, and which file is next? Runs under the lock, with all places settled.
    pub(super) fn choose(&mut self, state: &State, file_bytes: u64) {
        let Some((&newest, _)) = state.files.last_key_value() else { return };
        let clear_below = state.logs.oldest_file().map_or(newest, |oldest| oldest.min(newest));
        if clear_below > self.clear_below && self.clear_soon.is_none() {
            self.clear_soon = Some((clear_below, state.queued_frames));
        }
        let soon = self.clear_soon.map_or(0, |(below, _)| below);
        let oldest = state.files.keys().next().copied().filter(|oldest| *oldest < newest);
        // A target that is clear but not yet given back needs one more flush.
        self.target = oldest.filter(|oldest| {
            *oldest < self.clear_below.max(soon) || self.is_worth_it(*oldest, state, file_bytes)
        });
        if self.target.is_none() {
            self.ready.clear();
        }
    }

    fn is_worth_it(&mut self, oldest: u64, state: &State, file_bytes: u64) -> bool {
        let wanted = state.logs.live_in(oldest);
        if self.stuck.is_some_and(|(file, then)| file == oldest && wanted >= then) {
            return false;
        }
        // A target once chosen is finished: what was carried so far would have been for nothing.
        if self.target == Some(oldest) || wanted <= file_bytes / CHEAP_PART {
            return true;
        }
        let files = state.files.len() as u64;
        let half_empty = state.logs.live_bytes() * 2 <= files * file_bytes;
        let pays = files > SHORT_CHAIN && half_empty && wanted <= self.credit;
        if pays {
            self.credit -= wanted;
        }
        pays
    }
}
