//! Owns the Raft log as openraft wants it, over the node's journal. Reads are capped in bytes and never leave a hole;
//! order and durability are the journal's. Never decides what may be purged.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};
use tokio::time::{Instant, sleep};

use super::log_mend::Mender;
use super::membership::{decode_membership, encode_membership};
use super::types::{
    C, Entry, LogId, Payload, Vote, from_raft_log_id, from_raft_vote, to_raft_log_id, to_raft_vote,
};
use crate::mutants;
use crate::reached::reached;
use crate::storage::journal::{JournalError, ShardLog};
use crate::storage::raft_record::{EntryKind, LogEntry};

/// A failed read is tried again this often: an error that reaches openraft stops the replica, a leader included.
const READ_ATTEMPTS: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(20);
/// Each pause is longer than the one before, up to so many times the first.
const MOST_PAUSES: u32 = 10;
/// … and for so long while the disk refuses it, which may pass.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// One replica's log. A clone is the same log.
#[derive(Debug, Clone)]
pub struct RaftLog {
    log: ShardLog,
    /// Most payload bytes of one read for replication or apply; one entry always fits.
    read_bytes: usize,
    /// Who can get an entry that is unreadable here.
    mender: Option<Mender>,
}

impl RaftLog {
    /// The log over a replica's part of the journal.
    #[must_use]
    pub fn new(log: ShardLog, read_bytes: usize) -> Self {
        Self { log, read_bytes: read_bytes.max(1), mender: None }
    }

    /// A log whose unreadable entries are fetched from peers before a read returns (S11).
    #[must_use]
    pub(super) fn mended_by(self, mender: Mender) -> Self {
        Self { mender: Some(mender), ..self }
    }

    /// At least one entry of `from..to` if there is one; they follow each other.
    async fn page(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let (mut attempt, mut passed) = (1, false);
        let until = Instant::now() + DISK_PATIENCE;
        let records = loop {
            let error = match self.log.read(from, to, self.read_bytes).await {
                Ok(records) => break records,
                Err(error) => error,
            };
            let may_pass = match &error {
                JournalError::Io { .. } if !mutants::planted!("log-read-gives-up") => {
                    Instant::now() < until
                }
                _ => attempt < READ_ATTEMPTS,
            };
            if may_pass {
                tracing::warn!(from, to, %error, "log read failed, trying again");
                sleep(READ_PAUSE * attempt.min(MOST_PAUSES)).await;
                attempt += 1;
                continue;
            }
            let renewed = match &self.mender {
                Some(mender) => mender.renew(from, to).await,
                None => None,
            };
            // All readable now: the trouble passed, which is believed once.
            if renewed.is_none_or(|count| count == 0 && passed) {
                return Err(io::Error::other(error));
            }
            passed |= renewed == Some(0);
            attempt = 1;
        };
        let gap = records.windows(2).find(|pair| pair[0].id.index + 1 != pair[1].id.index);
        if let Some(pair) = gap {
            let index = pair[0].id.index;
            return Err(io::Error::other(format!("the log has a hole after index {index}")));
        }
        records.into_iter().map(entry_from).collect()
    }

    /// Entries of a range, page by page; what was purged or is not there yet is only missing at the ends.
    fn pages(&self, from: u64, to: u64) -> impl Stream<Item = io::Result<Entry>> + Send + use<> {
        let pages =
            stream::try_unfold((self.clone(), from, true), move |(log, next, first)| async move {
                if next >= to {
                    return Ok(None);
                }
                let page = log.page(next, to).await?;
                let (Some(head), Some(last)) = (page.first(), page.last()) else { return Ok(None) };
                let (head, end) = (head.log_id.index, last.log_id.index + 1);
                if !first && head != next {
                    return Err(io::Error::other(format!("the log has a hole at index {next}")));
                }
                Ok(Some((stream::iter(page.into_iter().map(Ok)), (log, end, false))))
            });
        pages.try_flatten()
    }

    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => self.log.last().map_or(0, |last| last.index + 1),
        };
        (from, to)
    }
}

impl RaftLogReader<C> for RaftLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = self.bounds(&range);
        self.pages(from, to).try_collect().await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = self.bounds(&range);
        self.pages(from, to).boxed()
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let page = self.page(start, end).await?;
        match page.first() {
            // openraft checks this in debug builds only, and a hole would be replicated for ever.
            Some(first) if first.log_id.index != start => {
                Err(io::Error::other(format!("the log has a hole at index {start}")))
            }
            _ => Ok(page),
        }
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.vote().map(to_raft_vote))
    }
}

impl RaftLogStorage<C> for RaftLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, io::Error> {
        let last_purged_log_id = self.log.last_purged().map(to_raft_log_id);
        let last_log_id = self.log.last().map(to_raft_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.save_vote(from_raft_vote(*vote)).await.map_err(io::Error::other)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = <C as RaftTypeConfig>::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(entry_to).collect();
        let done = Box::new(move |outcome| callback.io_completed(outcome));
        self.log.append(entries, done).map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        reached!("truncation");
        if mutants::planted!("truncation-forgotten") {
            return Ok(());
        }
        self.log.truncate_after(last.map(from_raft_log_id)).map_err(io::Error::other)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let upto = from_raft_log_id(upto);
        let upto = if mutants::planted!("purge-past-checkpoint") {
            self.log.last().unwrap_or(upto)
        } else {
            upto
        };
        self.log.purge(upto).map_err(io::Error::other)
    }
}

fn entry_to(entry: Entry) -> LogEntry {
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, bytes::Bytes::new()),
        EntryPayload::Normal(command) => (EntryKind::Command, command.0),
        EntryPayload::Membership(it) => (EntryKind::Membership, encode_membership(&it)),
    };
    LogEntry { id: from_raft_log_id(entry.log_id), kind, payload }
}

fn entry_from(record: LogEntry) -> io::Result<Entry> {
    let payload = match record.kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Command => EntryPayload::Normal(Payload(record.payload)),
        EntryKind::Membership => {
            EntryPayload::Membership(decode_membership(&record.payload).map_err(io::Error::other)?)
        }
    };
    Ok(Entry { log_id: to_raft_log_id(record.id), payload })
}
