//! Owns the meaning of frames in their order: turns the flushes that recovery accepts into logs, and the last flush into
//! the frames that write it again (S2, S3). It never reads a file.

use std::collections::BTreeMap;

use bytes::Bytes;
use waymark_proto::ids::ReplicaKey;

use super::flush::Flush;
use super::frame::{Fact, Frame};
use super::state::{Logs, NOWHERE, Place};
use crate::mutants;
use crate::storage::raft_record::{EntryKind, LogEntry, LogId, Vote};

/// An entry as replay has met it last.
#[derive(Debug)]
struct Found {
    id: LogId,
    kind: EntryKind,
    len: u32,
    place: Place,
}

/// A log while it is replayed. Entries may come in any order: carried ones come after entries that follow them.
#[derive(Debug, Default)]
struct Partial {
    vote: Option<Vote>,
    vote_file: u64,
    purged: Option<LogId>,
    purged_file: u64,
    entries: BTreeMap<u64, Found>,
}

/// All logs while they are replayed.
#[derive(Debug, Default)]
pub(super) struct Replay {
    logs: BTreeMap<ReplicaKey, Partial>,
}

impl Replay {
    /// Takes in one flush that starts at `at` of its file.
    ///
    /// # Errors
    /// What is wrong, when the frames contradict those before them.
    pub(super) fn apply(&mut self, flush: &Flush, at: u64) -> Result<(), String> {
        let file = flush.header.file;
        for (start, frame) in &flush.frames {
            let at = u32::try_from(at + u64::from(*start))
                .map_err(|_| "a frame beyond 4 GiB".to_owned())?;
            self.frame(frame, Place { file, at })?;
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame, place: Place) -> Result<(), String> {
        if frame.fact == Fact::Forget {
            self.logs.remove(&frame.key);
            return Ok(());
        }
        let log = self.logs.entry(frame.key).or_default();
        match &frame.fact {
            Fact::Entry(entry) => log.entry(entry, frame.carried, place).map_err(|what| {
                let ReplicaKey { shard, incarnation } = frame.key;
                format!("shard {shard} incarnation {incarnation}: {what}")
            })?,
            Fact::Vote(vote) => log.vote(*vote, place.file),
            Fact::Truncate(last) => {
                let from = last.map_or(0, |last| last.index.saturating_add(1));
                log.entries.split_off(&from);
            }
            Fact::Purge(upto) => log.purge(*upto, place.file),
            Fact::Forget => {}
        }
        Ok(())
    }

    /// The frames that write the last flush again, so that it may be lost: what is still true of it, truncations first.
    pub(super) fn repeat(&self, last: &Flush, at: u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        for key in keys_of(last) {
            let own = || last.frames.iter().filter(move |(_, frame)| frame.key == key);
            let Some(log) = self.logs.get(&key) else {
                frames.push(Frame { key, carried: true, fact: Fact::Forget });
                continue;
            };
            if let Some(to) = own().filter_map(|(_, frame)| truncates_to(frame)).min_by_key(floor) {
                frames.push(Frame { key, carried: false, fact: Fact::Truncate(to) });
            }
            for (start, frame) in own() {
                let Fact::Entry(entry) = &frame.fact else { continue };
                let place = log.entries.get(&entry.id.index).map(|found| found.place);
                let here = Place { file: last.header.file, at: low_bits(at) + start };
                if place == Some(here) {
                    frames.push(Frame { key, carried: true, fact: frame.fact.clone() });
                }
            }
            let marks = [log.purged.map(Fact::Purge), log.vote.map(Fact::Vote)];
            let marks = marks.into_iter().flatten();
            frames.extend(marks.map(|fact| Frame { key, carried: true, fact }));
        }
        frames
    }

    /// The logs, once all flushes are in.
    ///
    /// # Errors
    /// What is wrong, when a log has a hole.
    pub(super) fn finish(self, cache_bytes: usize) -> Result<Logs, String> {
        let mut logs = Logs::new(cache_bytes);
        for (key, partial) in self.logs {
            let mut expected = partial.purged.map(|purged| purged.index + 1);
            for (index, found) in &partial.entries {
                if expected.is_some_and(|expected| expected != *index) {
                    let ReplicaKey { shard, incarnation } = key;
                    return Err(format!(
                        "shard {shard} incarnation {incarnation} lacks entries before index {index}"
                    ));
                }
                logs.restore(key, found.id, found.kind, (found.place, found.len));
                expected = Some(index + 1);
            }
            let log = logs.replicas.entry(key).or_default();
            log.vote = partial.vote;
            log.durable_vote = partial.vote;
            log.vote_file = partial.vote_file;
            log.purged = partial.purged;
            log.purged_file = partial.purged_file;
        }
        Ok(logs)
    }
}

impl Partial {
    fn entry(&mut self, entry: &LogEntry, carried: bool, place: Place) -> Result<(), String> {
        let LogId { index, .. } = entry.id;
        if self.purged.is_some_and(|purged| index <= purged.index) {
            return Ok(());
        }
        if let Some(known) = self.entries.get(&index)
            && known.id != entry.id
        {
            return Err(format!("two entries of index {index} without a truncation between them"));
        }
        let last = self.entries.keys().next_back();
        if !carried && last.is_some_and(|last| index <= *last) {
            return Err(format!("entry {index} was appended behind entry {}", last.unwrap_or(&0)));
        }
        let len = u32::try_from(entry.payload.len()).map_err(|_| "an entry above 4 GiB")?;
        let found = Found { id: entry.id, kind: entry.kind, len, place };
        self.entries.insert(index, found);
        Ok(())
    }

    fn vote(&mut self, vote: Vote, file: u64) {
        let greater = self.vote.is_none_or(|known| known.rank() <= vote.rank());
        if greater || mutants::active("last-vote-wins") {
            self.vote = Some(vote);
            self.vote_file = file;
        }
    }

    fn purge(&mut self, upto: LogId, file: u64) {
        if self.purged.is_some_and(|known| known.index > upto.index) {
            return;
        }
        self.purged = Some(upto);
        self.purged_file = file;
        self.entries = self.entries.split_off(&upto.index.saturating_add(1));
    }
}

fn keys_of(flush: &Flush) -> Vec<ReplicaKey> {
    let mut keys: Vec<_> = flush.frames.iter().map(|(_, frame)| frame.key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn truncates_to(frame: &Frame) -> Option<Option<LogId>> {
    match &frame.fact {
        Fact::Truncate(to) => Some(*to),
        Fact::Entry(_) | Fact::Vote(_) | Fact::Purge(_) | Fact::Forget => None,
    }
}

/// Of several truncations the deepest decides.
fn floor(to: &Option<LogId>) -> u64 {
    to.map_or(0, |last| last.index.saturating_add(1))
}

/// A position within a file; `apply` has refused flushes beyond 4 GiB.
fn low_bits(at: u64) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Frames that carry the marks which stand in a file: votes and purge marks of all replicas.
pub(super) fn marks_in(logs: &Logs, file: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (key, log) in logs.holders(file) {
        let vote = log.vote.filter(|_| log.vote_file == file).map(Fact::Vote);
        let purged = log.purged.filter(|_| log.purged_file == file).map(Fact::Purge);
        let marks = [vote, purged].into_iter().flatten();
        frames.extend(marks.map(|fact| Frame { key, carried: true, fact }));
    }
    frames
}

/// Notes that a flush is durable: where its entries, votes and marks stand from now on.
pub(super) fn settle(logs: &mut Logs, frames: &[Frame], starts: &[u32], flush_at: Place) {
    for (frame, start) in frames.iter().zip(starts) {
        let place = Place { file: flush_at.file, at: flush_at.at + start };
        match &frame.fact {
            Fact::Entry(entry) => logs.settle(frame.key, entry.id, place),
            Fact::Vote(vote) => {
                if let Some(log) = logs.replicas.get_mut(&frame.key) {
                    if log.durable_vote.is_none_or(|known| known.rank() < vote.rank()) {
                        log.durable_vote = Some(*vote);
                    }
                    if log.vote.is_some_and(|known| known.rank() <= vote.rank()) {
                        log.vote_file = place.file;
                    }
                }
            }
            Fact::Purge(upto) => {
                if let Some(log) = logs.replicas.get_mut(&frame.key)
                    && log.purged == Some(*upto)
                {
                    log.purged_file = place.file;
                }
            }
            Fact::Truncate(_) | Fact::Forget => {}
        }
    }
    debug_assert_ne!(flush_at.file, NOWHERE);
}

/// A carried entry.
pub(super) fn carried_entry(key: ReplicaKey, id: LogId, kind: EntryKind, payload: Bytes) -> Frame {
    Frame { key, carried: true, fact: Fact::Entry(LogEntry { id, kind, payload }) }
}
