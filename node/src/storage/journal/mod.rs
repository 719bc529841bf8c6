//! STUB: interface only.

use std::io;
use std::sync::Arc;

use waymark_proto::ids::ReplicaKey;

use super::disk::Disk;
use super::raft_record::{LogEntry, LogId, Vote};

/// Called exactly once when the entries handed over with it are durable, or never will be.
pub type FlushCallback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Sizes and limits of the journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Bytes of each preallocated file.
    pub file_bytes: u64,
    /// Bytes of the tail cache, for all shards of the node.
    pub cache_bytes: usize,
    /// Most bytes of one flush.
    pub flush_bytes: usize,
    /// Idle time after which an empty closing flush is written (S2).
    pub closing_flush_after: std::time::Duration,
}

/// Why a journal cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refused.
    #[error("journal {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The disk's own words.
        source: io::Error,
    },
    /// Damage: not a torn tail (S2).
    #[error("journal {path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// Append with a gap or over an existing index.
    #[error("shard {key:?}: entry {got} does not follow {expected}")]
    NotContiguous {
        /// Whose log.
        key: ReplicaKey,
        /// The index that must come next.
        expected: u64,
        /// The index that came.
        got: u64,
    },
    /// Entries asked for are gone or were never there.
    #[error("shard {key:?}: entries from {from} are not in the journal")]
    Missing {
        /// Whose log.
        key: ReplicaKey,
        /// First index asked for.
        from: u64,
    },
    /// A flush failed: nothing more is accepted by this process (S4).
    #[error("the journal has failed: {0}")]
    Failed(String),
}

/// The node's one durable stream of Raft entries and votes.
#[derive(Debug, Clone)]
pub struct Journal(());

impl Journal {
    /// Recovers (S1, S2) and starts the flusher.
    ///
    /// # Errors
    /// When the disk refuses, or a flush that others follow is damaged.
    pub async fn open(disk: Arc<dyn Disk>, options: JournalOptions) -> Result<Self, JournalError> {
        let _ = (disk, options);
        todo!()
    }
    /// The log of one local replica; created empty at its first write.
    #[must_use]
    pub fn shard(&self, key: ReplicaKey) -> ShardLog {
        let _ = key;
        todo!()
    }
    /// Returns once everything queued before the call is durable.
    ///
    /// # Errors
    /// When the journal has failed.
    pub async fn barrier(&self) -> Result<(), JournalError> {
        todo!()
    }
    /// Resolves when a flush has failed; the process must stop (S4).
    pub async fn failed(&self) -> JournalError {
        todo!()
    }
    /// Keys of all replicas that the journal knows anything of, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<ReplicaKey> {
        todo!()
    }
    /// Forgets a replica for ever.
    pub fn forget(&self, key: ReplicaKey) {
        let _ = key;
        todo!()
    }
    /// The replicas to checkpoint next so that old files can be recycled: those that hold the oldest file back (S3, S6).
    #[must_use]
    pub fn oldest_holders(&self) -> Vec<ReplicaKey> {
        todo!()
    }
    /// Stops after everything queued is durable, with an empty closing flush.
    pub async fn shutdown(&self) {
        todo!()
    }
}

/// One replica's Raft log. A clone is the same log.
#[derive(Debug, Clone)]
pub struct ShardLog(());

impl ShardLog {
    /// The last entry purged.
    #[must_use]
    pub fn last_purged(&self) -> Option<LogId> {
        todo!()
    }
    /// The last entry, or the purge mark when there is none after it.
    #[must_use]
    pub fn last(&self) -> Option<LogId> {
        todo!()
    }
    /// The greatest vote.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        todo!()
    }
    /// The id of the entry at an index (the purge mark's own index included).
    #[must_use]
    pub fn id_at(&self, index: u64) -> Option<LogId> {
        let _ = index;
        todo!()
    }
    /// Journal bytes that this log keeps alive (entries not purged).
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        todo!()
    }
    /// Readable when this returns, durable when `done` is called. An empty log takes any first index.
    ///
    /// # Errors
    /// When the entries do not follow the log's end, or the journal has failed; then `done` was not called and never is.
    pub fn append(&self, entries: Vec<LogEntry>, done: FlushCallback) -> Result<(), JournalError> {
        let _ = (entries, done);
        todo!()
    }
    /// Durable on return.
    ///
    /// # Errors
    /// When the journal has failed.
    pub async fn save_vote(&self, vote: Vote) -> Result<(), JournalError> {
        let _ = vote;
        todo!()
    }
    /// Removes everything after `last` (everything when `None`); an explicit frame, ordered by the queue (S3).
    ///
    /// # Errors
    /// When the journal has failed.
    pub fn truncate_after(&self, last: Option<LogId>) -> Result<(), JournalError> {
        let _ = last;
        todo!()
    }
    /// Forgets everything up to `upto`, which may lie beyond the log's end.
    ///
    /// # Errors
    /// When the journal has failed.
    pub fn purge(&self, upto: LogId) -> Result<(), JournalError> {
        let _ = upto;
        todo!()
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
        let _ = (from, to, max_bytes);
        todo!()
    }
}
