//! Owns one replica's view of the journal: what Raft asks of its log. It never writes to a file; it changes memory and
//! queues the frame under one hold of the lock.

use std::sync::Arc;

use bytes::Bytes;
use waymark_proto::ids::ReplicaKey;

use super::frame::{Fact, HEAD};
use super::partial::ANYTHING;
use super::queue::{Queued, State};
use super::state::{Hole, ReplicaLog};
use super::{FlushCallback, Handle, JournalError, doubt_of, read};
use crate::mutants;
use crate::storage::raft_record::{LogEntry, LogId, Vote};

/// Payloads smaller than this are copied, so that a few of them never keep a whole receive buffer alive.
const COPY_BELOW: usize = 64 * 1024;

/// One replica's Raft log. A clone is the same log.
#[derive(Debug, Clone)]
pub struct ShardLog {
    handle: Arc<Handle>,
    key: ReplicaKey,
}

impl ShardLog {
    pub(super) fn new(handle: Arc<Handle>, key: ReplicaKey) -> Self {
        Self { handle, key }
    }

    fn look<T>(&self, at: impl FnOnce(&ReplicaLog) -> Option<T>) -> Option<T> {
        self.handle.shared.lock().logs.replicas.get(&self.key).and_then(at)
    }

    /// The last entry purged.
    #[must_use]
    pub fn last_purged(&self) -> Option<LogId> {
        self.look(|log| log.purged)
    }

    /// The last entry, or the purge mark when there is none after it.
    #[must_use]
    pub fn last(&self) -> Option<LogId> {
        self.look(ReplicaLog::last)
    }

    /// The greatest vote.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        self.look(|log| log.vote)
    }

    /// The greatest vote that the journal holds as durable.
    #[must_use]
    pub fn durable_vote(&self) -> Option<Vote> {
        self.look(|log| log.durable_vote)
    }

    /// Whether the journal holds an entry as durable, or has purged it.
    #[must_use]
    pub fn is_durable(&self, id: LogId) -> bool {
        let held = |log: &ReplicaLog| match log.row(id.index) {
            Some(row) => log.id_at(id.index) == Some(id) && row.place.is_some(),
            None => log.purged.is_some_and(|purged| purged.index >= id.index),
        };
        self.look(|log| Some(held(log))).unwrap_or(false)
    }

    /// The id of the entry at an index (the purge mark's own index included).
    #[must_use]
    pub fn id_at(&self, index: u64) -> Option<LogId> {
        self.look(|log| log.id_at(index))
    }

    /// Up to where the log reached before damage took its end; `None` also when nothing tells.
    #[must_use]
    pub fn lost_end(&self) -> Option<u64> {
        let (_, anywhere) = ANYTHING;
        self.look(|log| log.doubt?.end.filter(|end| *end != anywhere))
    }

    /// Journal bytes that this log keeps alive (entries not purged).
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.look(|log| Some(log.kept_bytes())).unwrap_or(0)
    }

    /// Readable when this returns, durable when `done` is called. An empty log takes any first index; after a purge mark
    /// comes the index behind it.
    ///
    /// The queue is not bounded here, because this cannot wait: whoever admits entries looks at
    /// [`Journal::queued_bytes`](super::Journal::queued_bytes).
    ///
    /// # Errors
    /// When the entries do not follow the log's end, one exceeds a quarter of a file, or the journal has failed; then
    /// `done` was not called and never is.
    pub fn append(
        &self,
        mut entries: Vec<LogEntry>,
        done: FlushCallback,
    ) -> Result<(), JournalError> {
        let limit = self.handle.entry_limit;
        for entry in &mut entries {
            let len = entry.payload.len();
            if len + HEAD > limit {
                return Err(JournalError::TooLarge {
                    key: self.key,
                    index: entry.id.index,
                    len,
                    limit,
                });
            }
            if len < COPY_BELOW {
                entry.payload = Bytes::copy_from_slice(&entry.payload);
            }
        }
        self.write(|state| {
            self.check_follows(state, &entries)?;
            for entry in entries {
                state.logs.push(self.key, &entry);
                state.push(self.key, Fact::Entry(entry));
            }
            state.queue.push_back(Queued::Done(done));
            state.logs.evict();
            Ok(())
        })
    }

    fn check_follows(&self, state: &State, entries: &[LogEntry]) -> Result<(), JournalError> {
        let log = state.logs.replicas.get(&self.key);
        let mut next = log.and_then(ReplicaLog::next_index);
        for entry in entries {
            let got = entry.id.index;
            if let Some(expected) = next.filter(|expected| *expected != got) {
                return Err(JournalError::NotContiguous { key: self.key, expected, got });
            }
            next = Some(got + 1);
        }
        Ok(())
    }

    /// Durable on return. Votes only grow: a lesser one than the greatest is written and changes nothing.
    ///
    /// # Errors
    /// When the journal has failed.
    pub async fn save_vote(&self, vote: Vote) -> Result<(), JournalError> {
        let queue = |state: &mut State| {
            state.check_open(Some(self.key))?;
            let log = state.logs.replicas.entry(self.key).or_default();
            let known = log.vote.filter(|known| known.rank() >= vote.rank());
            let greatest = known.unwrap_or(vote);
            log.vote = Some(greatest);
            // Never a lesser one, so that any vote found behind a lost flush is at least as great as those lost with it.
            state.push(self.key, Fact::Vote(greatest));
            Ok(())
        };
        if mutants::planted!("vote-not-synced") {
            return self.write(queue);
        }
        self.handle.shared.wait_for(queue).await
    }

    /// Removes everything after `last` (everything when `None`); an explicit frame, ordered by the queue (S3).
    ///
    /// # Errors
    /// When the journal has failed.
    pub fn truncate_after(&self, last: Option<LogId>) -> Result<(), JournalError> {
        self.write(|state| {
            if state.logs.truncate_after(self.key, last.map(|last| last.index)) {
                state.push(self.key, Fact::Truncate(last));
            }
            Ok(())
        })
    }

    /// Forgets everything up to `upto`, which may lie beyond the log's end.
    ///
    /// # Errors
    /// When the journal has failed.
    pub fn purge(&self, upto: LogId) -> Result<(), JournalError> {
        self.write(|state| {
            let log = state.logs.replicas.entry(self.key).or_default();
            if log.purged.is_some_and(|known| known.index >= upto.index) {
                return Ok(());
            }
            log.purged = Some(upto);
            state.logs.purge_to(self.key, upto.index);
            state.push(self.key, Fact::Purge(upto));
            Ok(())
        })
    }

    /// Why this replica must not run under its id again; `None` for any other.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        doubt_of(&self.handle.shared.lock().logs, self.key)
    }

    /// Entries that damage took from the middle of the log, lowest first. Until they are mended, reads of them fail.
    #[must_use]
    pub fn holes(&self) -> Vec<Hole> {
        self.look(|log| Some(log.holes())).unwrap_or_default()
    }

    /// For a peer: entries `from..to` as far as they are here, at most `max_bytes` of payload or one entry, and this log's
    /// own entry at another index, all as of one moment.
    ///
    /// # Errors
    /// On a damaged entry.
    pub async fn read_for_peer(
        &self,
        (from, to): (u64, u64),
        max_bytes: usize,
        anchor: u64,
    ) -> Result<(Option<LogId>, Vec<LogEntry>), JournalError> {
        let limits = (max_bytes, Some(anchor));
        read::read_under(&self.handle.shared, self.key, (from, to), limits).await
    }

    /// Nobody has what is missing up to here any more: the replica must be replaced. Durable on return.
    ///
    /// # Errors
    /// When the journal has failed.
    pub async fn give_up(&self, upto: u64) -> Result<(), JournalError> {
        let given_up = self.handle.shared.wait_for(|state| {
            state.check_open(Some(self.key))?;
            let log = state.logs.replicas.entry(self.key).or_default();
            let mut doubt = log.doubt.unwrap_or_default();
            doubt.end = doubt.end.max(Some(upto));
            log.doubt = Some(doubt);
            state.push_carried(self.key, Fact::Doubt(doubt));
            Ok(())
        });
        given_up.await
    }

    /// Puts entries where they are missing, or where these very ones are unreadable; never changes what a log says (S11).
    /// Durable on return.
    ///
    /// # Errors
    /// When an entry has no place here, or the journal has failed.
    pub async fn mend(&self, entries: Vec<LogEntry>) -> Result<(), JournalError> {
        let numbers = &self.handle.shared.numbers;
        let count = entries.len() as u64;
        let mended = self.handle.shared.wait_for(|state| {
            state.check_open(Some(self.key))?;
            for mut entry in entries {
                if entry.payload.len() < COPY_BELOW {
                    entry.payload = Bytes::copy_from_slice(&entry.payload);
                }
                if !state.logs.mend(self.key, &entry) {
                    return Err(JournalError::Missing { key: self.key, from: entry.id.index });
                }
                state.push_carried(self.key, Fact::Entry(entry));
            }
            state.logs.evict();
            state.logs.settle_doubt(self.key);
            Ok(())
        });
        mended.await?;
        numbers.mended.add(count);
        Ok(())
    }

    /// A durable checkpoint covers everything up to here: what damage took at or below it is not needed (S11 a). Says
    /// whether the log is fit to run, or to be mended, after that.
    ///
    /// # Errors
    /// When the journal has failed.
    pub async fn covered_by(&self, checkpoint: LogId) -> Result<bool, JournalError> {
        let mut fit = true;
        let covered = self.handle.shared.wait_for(|state| {
            state.check_open(Some(self.key))?;
            let Some(log) = state.logs.replicas.get_mut(&self.key) else {
                fit = doubt_of(&state.logs, self.key).is_none();
                return Ok(());
            };
            let Some(doubt) = log.doubt else { return Ok(()) };
            let end = doubt.end;
            let covered =
                end.is_none_or(|end| end <= checkpoint.index && log.goes_on_after(checkpoint));
            fit = covered && !doubt.vote;
            if !fit {
                return Ok(());
            }
            let hole_covered = log.holes().first().is_some_and(|it| it.first <= checkpoint.index);
            if let Some(doubt) = &mut log.doubt {
                doubt.end = None;
            }
            if end.is_some() || hole_covered {
                let upto = log.purged.filter(|known| known.index > checkpoint.index);
                let upto = upto.unwrap_or(checkpoint);
                log.purged = Some(upto);
                state.logs.purge_to(self.key, upto.index);
                state.push(self.key, Fact::Purge(upto));
            }
            state.logs.settle_doubt(self.key);
            Ok(())
        });
        covered.await?;
        Ok(fit)
    }

    /// Changes memory and queue together, then wakes the flusher.
    fn write(
        &self,
        change: impl FnOnce(&mut State) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let shared = &self.handle.shared;
        {
            let mut state = shared.lock();
            state.check_open(Some(self.key))?;
            change(&mut state)?;
        }
        shared.wake.notify_one();
        Ok(())
    }

    /// Entries `from..to` as far as they exist, at least one (when there is one) and then at most `max_bytes` of payload.
    /// From the tail cache, or from disk where the cache no longer holds them.
    ///
    /// # Errors
    /// On an inner hole or a damaged entry; a range that was purged or not yet written is only shorter.
    pub async fn read(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, JournalError> {
        read::read(&self.handle.shared, self.key, (from, to), max_bytes).await
    }
}
