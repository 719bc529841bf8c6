//! Owns the journal's files as names and handles: opening, preparing and counting them, and the pool of spare files that
//! keeps a roll from stalling. It never reads or writes a flush.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::{DIR, JournalError};
use crate::storage::disk::{AlignedBuf, BLOCK, Disk, DiskFile, OpenMode};

/// Spare files kept; more are removed, so that the journal shrinks again after a burst. Checkpoints free many files at a
/// time, and a file that has to be made anew is written twice.
const MOST_SPARES: usize = 16;
/// Bytes written at a time while a file is prepared.
const PREPARE_CHUNK: usize = 256 * 1024;
/// A file is prepared this much faster than the one before it fills, so that it is ready in time.
const AHEAD: u64 = 2;

/// How full the current file is: a file that is prepared beside it goes no faster than it must, or its zeros would hold up
/// the flushes. A new file of 64 MiB at the disk's full speed is a pause of a tenth of a second.
#[derive(Debug, Default)]
struct Pace {
    /// Bytes of the current file that are used; `u64::MAX` once the new one is waited for. Only rises.
    filled: AtomicU64,
    /// `filled` rose. One waiter: the file being prepared.
    rose: Notify,
}

impl Pace {
    fn reach(&self, filled: u64) {
        self.filled.fetch_max(filled, Ordering::Relaxed);
        self.rose.notify_one();
    }

    /// Returns once the new file may have this many bytes.
    async fn allows(&self, bytes: u64) {
        while bytes > self.filled.load(Ordering::Relaxed).saturating_mul(AHEAD) {
            self.rose.notified().await;
        }
    }
}

/// One file of the journal, whatever it holds at the moment. A clone shares the handles.
#[derive(Debug, Clone)]
pub(super) struct JournalFile {
    /// `journal/<slot>.wal`; the slot says nothing about the content.
    pub(super) path: String,
    /// Its length.
    pub(super) bytes: u64,
    /// For the flusher alone.
    pub(super) write: Arc<dyn DiskFile>,
    /// For readers and recovery.
    pub(super) read: Arc<dyn DiskFile>,
}

impl JournalFile {
    /// Opens an existing file.
    pub(super) async fn open(disk: &dyn Disk, slot: u32) -> Result<Self, JournalError> {
        let path = path_of(slot);
        let opened = async {
            let write = disk.open(&path, OpenMode::Direct).await?;
            let read = disk.open(&path, OpenMode::Read).await?;
            let bytes = read.len().await?;
            Ok((write, read, bytes))
        };
        match opened.await {
            Ok((write, read, bytes)) => Ok(Self { path, bytes, write, read }),
            Err(source) => Err(JournalError::Io { path, source }),
        }
    }

    /// Creates a file full of zeros. Written, not only reserved: the first write to reserved space changes the file's
    /// extents, and every sync would then wait for the file system's own journal too.
    async fn create(
        disk: Arc<dyn Disk>,
        slot: u32,
        bytes: u64,
        pace: Arc<Pace>,
    ) -> Result<Self, JournalError> {
        let path = path_of(slot);
        let filled = async {
            let file = disk.open(&path, OpenMode::Direct).await?;
            file.allocate(bytes).await?;
            let mut zeros = AlignedBuf::with_capacity(PREPARE_CHUNK);
            let mut at = 0;
            while at < bytes {
                pace.allows(at).await;
                let chunk = (bytes - at).min(PREPARE_CHUNK as u64);
                zeros.clear();
                zeros.extend_zeros(usize::try_from(chunk).expect("at most one chunk"));
                let (written, buffer) = file.write_blocks(at, zeros).await;
                written?;
                zeros = buffer;
                at += chunk;
            }
            file.sync().await?;
            disk.sync_dir(DIR).await
        };
        if let Err(source) = filled.await {
            // Half made. It holds nothing, and on a disk that is full its room is needed.
            let _ = disk.remove(&path).await;
            return Err(JournalError::Io { path, source });
        }
        Self::open(disk.as_ref(), slot).await
    }

    pub(super) fn failed(&self, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), source }
    }

    pub(super) fn damaged(&self, offset: u64, what: impl Into<String>) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), offset, what: what.into() }
    }
}

fn path_of(slot: u32) -> String {
    format!("{DIR}/{slot:08}.wal")
}

/// Slots of the files in the folder.
pub(super) async fn slots(disk: &dyn Disk) -> io::Result<Vec<u32>> {
    let names = disk.list(DIR).await?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".wal")?.parse().ok()).collect())
}

/// Files that hold nothing wanted. Only the flusher's task uses it.
#[derive(Debug)]
pub(super) struct Pool {
    disk: Arc<dyn Disk>,
    file_bytes: u64,
    next_slot: u32,
    spares: Vec<JournalFile>,
    /// A file being prepared in the background.
    preparing: Option<(u32, AbortOnDropHandle<Result<JournalFile, JournalError>>)>,
    /// Of the file being prepared.
    pace: Arc<Pace>,
}

impl Pool {
    pub(super) fn new(disk: Arc<dyn Disk>, file_bytes: u64, next_slot: u32) -> Self {
        debug_assert_eq!(
            file_bytes % BLOCK as u64,
            0,
            "options are checked when the journal opens"
        );
        Self {
            disk,
            file_bytes,
            next_slot,
            spares: Vec::new(),
            preparing: None,
            pace: Arc::default(),
        }
    }

    /// A file to write to from its beginning: a spare, the one being prepared, or a new one.
    pub(super) async fn take(&mut self) -> Result<JournalFile, JournalError> {
        if let Some(spare) = self.spares.pop() {
            return Ok(spare);
        }
        self.prepare();
        self.pace.reach(u64::MAX);
        match self.preparing.take() {
            Some((_, task)) => task.await.unwrap_or_else(|stopped| {
                let path = DIR.to_owned();
                Err(JournalError::Io { path, source: io::Error::other(stopped) })
            }),
            None => Err(JournalError::Failed("no file is being prepared".to_owned())),
        }
    }

    /// Starts preparing a file in the background when there is no spare left.
    pub(super) fn prepare(&mut self) {
        if !self.spares.is_empty() || self.preparing.is_some() {
            return;
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        self.pace = Arc::default();
        let (disk, pace) = (Arc::clone(&self.disk), Arc::clone(&self.pace));
        let made = JournalFile::create(disk, slot, self.file_bytes, pace);
        self.preparing = Some((slot, AbortOnDropHandle::new(tokio::spawn(made))));
    }

    /// The current file is used up to here.
    pub(super) fn filled(&self, bytes: u64) {
        self.pace.reach(bytes);
    }

    /// Takes a file back, or removes it when there are enough. A file of another size, from before a change of the
    /// configuration, is always removed.
    pub(super) async fn put_back(&mut self, file: JournalFile) {
        if file.bytes == self.file_bytes && self.spares.len() < MOST_SPARES {
            self.spares.push(file);
        } else if let Err(error) = self.disk.remove(&file.path).await {
            // It holds nothing wanted and its name is not used again before the next start, which tries again.
            tracing::warn!(path = file.path, %error, "a spare journal file could not be removed");
        }
    }

    /// Stops preparing and lets the disk go.
    pub(super) async fn close(self) {
        if let Some((slot, task)) = self.preparing {
            task.abort();
            if task.await.is_err() {
                // Half prepared. What a kill leaves behind is used as it is: it only makes the syncs of its first use slower.
                let _ = self.disk.remove(&path_of(slot)).await;
            }
        }
    }
}
