//! A disk in memory that forgets nothing, with a gate in front of the journal's writes and syncs and reads of the others that
//! fail on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::storage::disk::{AlignedBuf, Disk, DiskFile, OpenMode, Space};

const TOTAL: u64 = 1 << 40;

type Content = Arc<Mutex<Vec<u8>>>;

/// All files, by path; folders are what their paths say.
#[derive(Debug)]
pub(in crate::broker) struct MemoryDisk {
    files: Mutex<BTreeMap<String, Content>>,
    stalled: watch::Sender<bool>,
    /// Syncs of what is not the journal's fail.
    sick: Arc<AtomicBool>,
    /// Bytes that are free, whatever is written.
    free: AtomicU64,
    /// Segments and checkpoints cannot be read.
    blind: Arc<AtomicBool>,
}

impl MemoryDisk {
    pub(super) fn new() -> Self {
        Self {
            files: Mutex::default(),
            stalled: watch::channel(false).0,
            sick: Arc::default(),
            blind: Arc::default(),
            free: AtomicU64::new(TOTAL),
        }
    }

    /// Segments and checkpoints cannot be read, or can again.
    pub(in crate::broker) fn fail_reads(&self, fail: bool) {
        self.blind.store(fail, Ordering::Relaxed);
    }

    /// Lets the journal's writes hang, or go on.
    pub(in crate::broker) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// From here on segments and checkpoints cannot be synced.
    pub(in crate::broker) fn fail_syncs(&self) {
        self.sick.store(true, Ordering::Relaxed);
    }

    /// From here on so many bytes are free, as the disk tells it.
    pub(in crate::broker) fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::Relaxed);
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Content>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

#[async_trait]
impl Disk for MemoryDisk {
    async fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files();
        if mode == OpenMode::Read && !files.contains_key(path) {
            return Err(missing());
        }
        let content = Arc::clone(files.entry(path.to_owned()).or_default());
        let gate = path.starts_with("journal/").then(|| self.stalled.subscribe());
        let sick = Arc::clone(&self.sick);
        let blind = path.starts_with("shards/").then(|| Arc::clone(&self.blind));
        Ok(Arc::new(MemoryFile { content, gate, sick, blind }))
    }

    async fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let files = self.files();
        let below = files.keys().filter_map(|path| path.strip_prefix(&prefix));
        let names = below.map(|path| path.split('/').next().unwrap_or(path).to_owned());
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let content = files.remove(from).ok_or_else(missing)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        self.files().remove(path).map(|_| ()).ok_or_else(missing)
    }

    async fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let prefix = format!("{dir}/");
        self.files().retain(|path, _| !path.starts_with(&prefix));
        Ok(())
    }

    async fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    async fn space(&self) -> io::Result<Space> {
        Ok(Space { total: TOTAL, free: self.free.load(Ordering::Relaxed) })
    }
}

#[derive(Debug)]
struct MemoryFile {
    content: Content,
    /// The journal's files only.
    gate: Option<watch::Receiver<bool>>,
    sick: Arc<AtomicBool>,
    /// Files of replicas only.
    blind: Option<Arc<AtomicBool>>,
}

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Vec<u8>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let from = usize::try_from(offset).expect("a small file");
        let mut content = self.content();
        let len = content.len().max(from + data.len());
        content.resize(len, 0);
        content[from..from + data.len()].copy_from_slice(data);
    }

    async fn passed(&self) {
        if let Some(mut gate) = self.gate.clone() {
            let _ = gate.wait_for(|stalled| !stalled).await;
        }
    }
}

#[async_trait]
impl DiskFile for MemoryFile {
    async fn len(&self) -> io::Result<u64> {
        Ok(self.content().len() as u64)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if self.blind.as_ref().is_some_and(|blind| blind.load(Ordering::Relaxed)) {
            return Err(io::Error::other("a blind disk"));
        }
        let content = self.content();
        let from = usize::try_from(offset).expect("a small file").min(content.len());
        let to = (from + len).min(content.len());
        Ok(Bytes::copy_from_slice(&content[from..to]))
    }

    async fn write_at(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()> {
        self.passed().await;
        self.write(offset, &data.concat());
        Ok(())
    }

    async fn write_blocks(&self, offset: u64, data: AlignedBuf) -> (io::Result<()>, AlignedBuf) {
        self.passed().await;
        self.write(offset, data.as_slice());
        (Ok(()), data)
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.content().resize(usize::try_from(len).expect("a small file"), 0);
        Ok(())
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        let mut content = self.content();
        let len = content.len().max(usize::try_from(len).expect("a small file"));
        content.resize(len, 0);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        if self.gate.is_none() && self.sick.load(Ordering::Relaxed) {
            return Err(io::Error::other("a sick disk"));
        }
        self.passed().await;
        Ok(())
    }
}
