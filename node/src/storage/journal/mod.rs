//! The journal: the node's one durable stream of Raft entries, votes, truncations and purge marks of all its shards
//! (S1–S4). Owns what durable means for Raft; it never interprets a payload and never decides what may be purged.
//!
//! ```text
//! ShardLog ── memory and queue under one lock ──► flusher ── one write, one sync ──► file 7 │ file 8 │ spare
//!    ▲                                              │
//!    └── cache, or disk with the frame's checksum   └── then: places, callbacks, recycling of the oldest file
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `frame`, `header`, `flush` | bytes |
//! | `state`, `queue` | memory, under the one lock |
//! | `flusher`, `recycle`, `files` | writing, carrying forward, the pool of files |
//! | `walk`, `chain`, `lost`, `recovery` | what a restart believes, over damage |
//! | `replay`, `partial` | what that makes of each log, and what damage leaves in doubt (S11) |
//! | `expected` | which journal a restart may take for its own |
//! | `read`, `shard_log` | what callers see |
//! | `numbers` | what the journal counts of itself |
//!
//! Damage to the last flush that nothing follows cannot be told from a torn write and is cut like one (S2); the empty
//! flush written after an idle moment keeps that window short.

mod chain;
mod error;
mod expected;
mod files;
mod flush;
mod flusher;
mod frame;
#[cfg(test)]
mod fuzz;
mod header;
mod lost;
mod numbers;
mod partial;
mod queue;
mod read;
mod recovery;
mod recycle;
mod replay;
mod shard_log;
mod state;
#[cfg(test)]
mod tests;
mod walk;

use std::cmp::Ordering;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use waymark_proto::ids::ReplicaKey;

pub use self::error::JournalError;
pub use self::expected::Expected;
use self::flusher::Flusher;
use self::frame::HEAD;
pub use self::lost::Damage;
use self::lost::Lost;
pub use self::numbers::JournalNumbers;
use self::queue::Shared;
pub use self::shard_log::ShardLog;
pub use self::state::Hole;
use self::state::{Logs, NODE};
use super::disk::{BLOCK, Disk};

/// The journal's folder.
const DIR: &str = "journal";

/// Called exactly once when the entries handed over with it are durable, or never will be.
pub type FlushCallback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Sizes and limits of the journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Bytes of each preallocated file; rounded up to whole blocks, at least 64 KiB, below 4 GiB. An entry may take a
    /// quarter of it.
    pub file_bytes: u64,
    /// Bytes of the tail cache, for all shards of the node. Entries not yet durable are kept beyond it.
    pub cache_bytes: usize,
    /// Most bytes of one flush, unless a single entry is larger; at most a quarter of a file.
    pub flush_bytes: usize,
    /// Idle time after which an empty closing flush is written (S2).
    pub closing_flush_after: Duration,
    /// A number drawn at random by the caller: the journal's id if it is born now, ignored otherwise.
    pub new_journal_id: u64,
    /// What is known of it already; anything else is refused before a byte is written.
    pub expected: Expected,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            cache_bytes: 128 << 20,
            flush_bytes: 1 << 20,
            closing_flush_after: Duration::from_millis(20),
            new_journal_id: 1,
            expected: Expected::default(),
        }
    }
}

impl JournalOptions {
    fn within_bounds(mut self) -> Self {
        let most = (1 << 32) - (1 << 20);
        self.file_bytes = self.file_bytes.next_multiple_of(BLOCK as u64).clamp(64 << 10, most);
        let quarter = usize::try_from(self.file_bytes / 4).unwrap_or(usize::MAX);
        self.flush_bytes = self.flush_bytes.clamp(BLOCK, quarter);
        self
    }
}

/// Why a replica must not run; of one that the journal does not know, because all that it knew may be lost.
fn doubt_of(logs: &Logs, key: ReplicaKey) -> Option<String> {
    let Some(log) = logs.replicas.get(&key) else {
        let forgot_up_to = logs.replicas.get(&NODE)?.doubt?.end?;
        let forgotten = u64::from(key.incarnation) <= forgot_up_to;
        return forgotten.then(|| "damage took flushes that may have held all of it".to_owned());
    };
    let doubt = log.doubt?;
    match (doubt.vote, doubt.end) {
        (true, Some(_)) => Some("damage took its last vote and the end of its log".to_owned()),
        (true, None) => Some("damage took its last vote".to_owned()),
        (false, Some(end)) => Some(format!("damage took the end of its log, up to index {end}")),
        (false, None) => None,
    }
}

/// What all handles share. The flusher ends when the last one is dropped, after what is queued.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// Most bytes of a frame.
    entry_limit: usize,
    id: u64,
    damage: Vec<Damage>,
}

impl Handle {
    fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The node's one durable stream of Raft entries and votes. A clone is the same journal.
#[derive(Debug, Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

impl Journal {
    /// Recovers (S1, S2) and starts the flusher.
    ///
    /// # Errors
    /// When the disk refuses, no flush is readable at all, or the journal is not the expected one, or of a newer version.
    /// Nothing was written then, unless it was the disk that refused. Other damage is no error: see [`Journal::doubtful`]
    /// and [`ShardLog::holes`].
    pub async fn open(disk: Arc<dyn Disk>, options: JournalOptions) -> Result<Self, JournalError> {
        let options = options.within_bounds();
        let expected = options.expected;
        expected.check_folder(disk.as_ref()).await?;
        let folder = async {
            disk.create_dir(DIR).await?;
            disk.sync_dir("").await
        };
        folder.await.map_err(|source| JournalError::Io { path: DIR.to_owned(), source })?;
        let recovered = recovery::recover(disk.as_ref(), &options).await?;
        expected.check(&recovered)?;
        let id = recovered.journal.unwrap_or(options.new_journal_id);
        let entry_limit = usize::try_from(options.file_bytes / 4).unwrap_or(usize::MAX) - HEAD;
        let damage: Vec<Damage> = recovered.lost.iter().map(Lost::tell).collect();
        let flusher = Flusher::start(disk, options, recovered).await?;
        let shared = Arc::clone(&flusher.shared);
        shared.numbers.damaged.add(damage.len() as u64);
        tokio::spawn(flusher.run());
        Ok(Self { handle: Arc::new(Handle { shared, entry_limit, id, damage }) })
    }

    /// Drawn when it was born: no other journal has it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.handle.id
    }

    /// Most bytes of one entry's payload.
    #[must_use]
    pub fn payload_limit(&self) -> usize {
        self.handle.entry_limit - HEAD
    }

    /// The log of one local replica; created empty at its first write.
    #[must_use]
    pub fn shard(&self, key: ReplicaKey) -> ShardLog {
        ShardLog::new(Arc::clone(&self.handle), key)
    }

    /// Returns once everything queued before the call is durable.
    ///
    /// # Errors
    /// When the journal has failed.
    pub async fn barrier(&self) -> Result<(), JournalError> {
        self.handle.shared.wait_for(|state| state.check_open(None)).await
    }

    /// Resolves when a flush has failed; the process must stop (S4). Never after a clean shutdown.
    pub async fn failed(&self) -> JournalError {
        let mut ended = self.handle.shared.ended.subscribe();
        let failed = ended.wait_for(|ended| matches!(ended, Some(Err(_)))).await;
        match failed.as_deref() {
            Ok(Some(Err(why))) => JournalError::Failed(why.clone()),
            _ => JournalError::Failed("the journal's flusher is gone".to_owned()),
        }
    }

    /// Keys of all replicas that the journal knows anything of, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<ReplicaKey> {
        let state = self.handle.shared.lock();
        state.logs.replicas.keys().copied().filter(|key| *key != NODE).collect()
    }

    /// Nothing of any replica is in it, and none was lost.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.handle.shared.lock().logs.replicas.is_empty()
    }

    /// What was found to be damaged when it was opened, oldest first.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.handle.damage
    }

    /// Replicas of which damage took the vote or the end of the log, and why: they must not run under their ids again
    /// (S11 c). Sorted; the same after every restart until they are forgotten.
    #[must_use]
    pub fn doubtful(&self) -> Vec<(ReplicaKey, String)> {
        let logs = &self.handle.shared.lock().logs;
        let all = logs.replicas.keys().filter(|key| **key != NODE);
        all.filter_map(|key| Some((*key, doubt_of(logs, *key)?))).collect()
    }

    /// Takes the entries that could not be read when their file was recycled: it stays until they are mended or purged.
    #[must_use]
    pub fn take_unreadable(&self) -> Vec<(ReplicaKey, u64)> {
        std::mem::take(&mut self.handle.shared.lock().unreadable).into_iter().collect()
    }

    /// Forgets a replica for ever. Later writes of it are refused.
    pub fn forget(&self, key: ReplicaKey) {
        self.handle.shared.lock().forget(key);
        self.handle.shared.wake.notify_one();
    }

    /// The replicas to checkpoint next so that old files can be recycled: those that hold the oldest file back (S3, S6).
    /// Empty while there is only one file.
    #[must_use]
    pub fn oldest_holders(&self) -> Vec<ReplicaKey> {
        let state = self.handle.shared.lock();
        match state.files.first_key_value() {
            Some((oldest, _)) if state.files.len() > 1 => state.logs.entry_holders(*oldest),
            _ => Vec::new(),
        }
    }

    /// Bytes handed over and not yet durable. Admission upstream bounds them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.handle.shared.lock().queued_bytes
    }

    /// Bytes of the files that recovery would need now, spare files not counted.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.handle.shared.lock().files.values().map(|file| file.bytes).sum()
    }

    /// Each file of the chain with how many of its first bytes are durable: all of what was synced, whatever follows. Of no
    /// use to the journal itself; whoever has the disk at hand may compare.
    #[must_use]
    pub fn durable_bytes(&self) -> Vec<(String, u64)> {
        let state = self.handle.shared.lock();
        let (newest, synced) = state.durable_to;
        let durable = |number: u64, bytes: u64| match number.cmp(&newest) {
            Ordering::Less => bytes,
            Ordering::Equal => synced,
            Ordering::Greater => 0,
        };
        let files = state.files.iter();
        files.map(|(number, file)| (file.path.clone(), durable(*number, file.bytes))).collect()
    }

    /// What it counted since it was opened.
    #[must_use]
    pub fn numbers(&self) -> &JournalNumbers {
        &self.handle.shared.numbers
    }

    /// Stops after everything queued is durable, with an empty closing flush. Later writes are refused.
    pub async fn shutdown(&self) {
        self.handle.stop();
        let mut ended = self.handle.shared.ended.subscribe();
        // The sender lives as long as this handle, so the wait ends with the flusher and not before.
        let _ = ended.wait_for(Option::is_some).await;
    }
}
