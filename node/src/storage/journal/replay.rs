//! Owns the meaning of frames in their order: turns the flushes that recovery accepts into logs, and the last flush into
//! the frames that write it again (S2, S3). What a lost flush means for a log belongs to `partial`. It never reads a file.

use std::collections::BTreeMap;

use bytes::Bytes;
use waymark_proto::ids::ReplicaKey;

use super::flush::Flush;
use super::frame::{Doubt, Fact, Frame};
use super::lost::Lost;
use super::partial::{ANYTHING, Partial, Spot};
use super::state::{Logs, NODE, NOWHERE, Place};
use crate::storage::raft_record::{EntryKind, LogEntry, LogId};

/// All logs while they are replayed.
#[derive(Debug, Default)]
pub(super) struct Replay {
    logs: BTreeMap<ReplicaKey, Partial>,
    /// Losses met so far.
    losses: u32,
    /// More flushes than one were lost, and not all of them are known: a replica that comes up only later may have had
    /// something in them.
    forgets: bool,
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
        if frame.key == NODE {
            // An earlier recovery's finding, after which what comes is new.
            if let Fact::Doubt(doubt) = frame.fact {
                self.forgets = false;
                self.logs.entry(NODE).or_default().doubt(doubt, (place.file, self.losses));
            }
            return Ok(());
        }
        let losses = self.losses;
        let forgotten = self.forgets;
        let log = self.logs.entry(frame.key).or_insert_with(|| {
            let mut log = Partial::default();
            if forgotten {
                log.lose(ANYTHING, true, losses);
            }
            log
        });
        match &frame.fact {
            Fact::Entry(entry) => {
                log.entry(entry, frame.carried, (place, losses)).map_err(|what| {
                    let ReplicaKey { shard, incarnation } = frame.key;
                    format!("shard {shard} incarnation {incarnation}: {what}")
                })?
            }
            Fact::Vote(vote) => log.vote(*vote, place.file),
            Fact::Truncate(to) => log.truncate(*to),
            Fact::Purge(upto) => log.purge(*upto, place.file),
            Fact::Doubt(doubt) => log.doubt(*doubt, (place.file, losses)),
            Fact::Forget => {}
        }
        Ok(())
    }

    /// Takes in that flushes were lost before the next one, which is `None` where the loss ends the journal. A vote of a
    /// single lost flush is repeated in the next one (S3).
    pub(super) fn lose(&mut self, lost: &Lost, next: Option<&Flush>) {
        self.losses += 1;
        let (losses, vote) = (self.losses, !lost.single || next.is_none());
        let known = self.logs.keys().filter(|key| **key != NODE);
        let named = match &lost.touched {
            Some(touched) => touched.clone(),
            None => {
                let next = next.map(keys_of).unwrap_or_default();
                let all = known.copied().chain(next).chain(vote.then_some(NODE));
                all.map(|key| (key, ANYTHING)).collect()
            }
        };
        for (key, range) in named {
            if key == NODE {
                self.forgets = true;
            } else {
                self.logs.entry(key).or_default().lose(range, vote, losses);
            }
        }
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
        for (key, mut partial) in self.logs {
            let spots = partial.spots().map_err(|what| {
                let ReplicaKey { shard, incarnation } = key;
                format!("shard {shard} incarnation {incarnation} {what}")
            })?;
            let mut missing = false;
            for (index, spot) in spots {
                match spot {
                    Spot::Found(it) => logs.restore(key, it.id, it.kind, (it.place, it.len)),
                    Spot::Missing => {
                        missing = true;
                        logs.restore_missing(key, index);
                    }
                }
            }
            let log = logs.replicas.entry(key).or_default();
            log.vote = partial.vote;
            log.durable_vote = partial.vote;
            log.vote_file = partial.vote_file;
            log.purged = partial.purged;
            log.purged_file = partial.purged_file;
            log.doubt = partial.doubts(missing);
            log.doubt_file = if log.doubt.is_some() { partial.doubt_file } else { NOWHERE };
        }
        if self.forgets {
            let keys = logs.replicas.keys().filter(|key| **key != NODE);
            let Some(most) = keys.map(|key| key.incarnation).max() else {
                return Err("nothing of any replica is readable".to_owned());
            };
            let doubt = Doubt { vote: true, end: Some(most.into()) };
            logs.replicas.entry(NODE).or_default().doubt = Some(doubt);
        }
        Ok(logs)
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
        Fact::Entry(_) | Fact::Vote(_) | Fact::Purge(_) | Fact::Forget | Fact::Doubt(_) => None,
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

/// Frames that carry the marks which stand in a file: votes, purge marks and doubts of all replicas.
pub(super) fn marks_in(logs: &Logs, file: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (key, log) in logs.holders(file) {
        let vote = log.vote.filter(|_| log.vote_file == file).map(Fact::Vote);
        let purged = log.purged.filter(|_| log.purged_file == file).map(Fact::Purge);
        let doubt = log.doubt.filter(|_| log.doubt_file == file).map(Fact::Doubt);
        let marks = [vote, purged, doubt].into_iter().flatten();
        frames.extend(marks.map(|fact| Frame { key, carried: true, fact }));
    }
    frames
}

/// Frames that say what damage left in doubt.
pub(super) fn doubts(logs: &Logs) -> Vec<Frame> {
    let doubts = logs.replicas.iter().filter_map(|(key, log)| Some((*key, log.doubt?)));
    doubts.map(|(key, doubt)| Frame { key, carried: true, fact: Fact::Doubt(doubt) }).collect()
}

/// Notes that a flush is durable: where its entries, votes and marks stand from now on. Frames from number `firsts` on only
/// repeat those of the flush before, whose file stays the one that must not go.
pub(super) fn settle(
    logs: &mut Logs,
    (frames, firsts): (&[Frame], usize),
    starts: &[u32],
    flush_at: Place,
) {
    for (frame, start) in frames.iter().take(firsts).zip(starts) {
        let place = Place { file: flush_at.file, at: flush_at.at + start };
        if let Fact::Entry(entry) = &frame.fact {
            logs.settle(frame.key, entry.id, place);
            continue;
        }
        let Some(log) = logs.replicas.get_mut(&frame.key) else { continue };
        match &frame.fact {
            Fact::Vote(vote) => {
                if log.durable_vote.is_none_or(|known| known.rank() < vote.rank()) {
                    log.durable_vote = Some(*vote);
                }
                if log.vote.is_some_and(|known| known.rank() <= vote.rank()) {
                    log.vote_file = place.file;
                }
            }
            Fact::Purge(upto) if log.purged == Some(*upto) => log.purged_file = place.file,
            Fact::Doubt(doubt) if log.doubt == Some(*doubt) => log.doubt_file = place.file,
            _ => {}
        }
    }
    debug_assert_ne!(flush_at.file, NOWHERE);
}

/// A carried entry.
pub(super) fn carried_entry(key: ReplicaKey, id: LogId, kind: EntryKind, payload: Bytes) -> Frame {
    Frame { key, carried: true, fact: Fact::Entry(LogEntry { id, kind, payload }) }
}
