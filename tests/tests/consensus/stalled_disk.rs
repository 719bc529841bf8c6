//! Owns a disk whose journal can be made to hang: what waits for it must wait, the rest goes on.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use waymark_node::storage::disk::{AlignedBuf, Disk, DiskFile, OpenMode, Space};
use waymark_node::storage::real_disk::RealDisk;

/// A real disk with a gate in front of the journal's writes.
#[derive(Debug)]
pub(crate) struct StalledDisk {
    disk: RealDisk,
    stalled: watch::Sender<bool>,
}

impl StalledDisk {
    pub(crate) fn over(disk: RealDisk) -> Self {
        Self { disk, stalled: watch::channel(false).0 }
    }

    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }
}

#[async_trait]
impl Disk for StalledDisk {
    async fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode).await?;
        if !path.starts_with("journal/") {
            return Ok(file);
        }
        Ok(Arc::new(StalledFile { file, stalled: self.stalled.subscribe() }))
    }
    async fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir).await
    }
    async fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir).await
    }
    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to).await
    }
    async fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path).await
    }
    async fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.remove_dir(dir).await
    }
    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir).await
    }
    async fn sync_all(&self) -> io::Result<()> {
        self.disk.sync_all().await
    }
    async fn space(&self) -> io::Result<Space> {
        self.disk.space().await
    }
}

#[derive(Debug)]
struct StalledFile {
    file: Arc<dyn DiskFile>,
    stalled: watch::Receiver<bool>,
}

impl StalledFile {
    async fn gate(&self) {
        let _ = self.stalled.clone().wait_for(|stalled| !stalled).await;
    }
}

#[async_trait]
impl DiskFile for StalledFile {
    async fn len(&self) -> io::Result<u64> {
        self.file.len().await
    }
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.file.read_at(offset, len).await
    }
    async fn write_at(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()> {
        self.gate().await;
        self.file.write_at(offset, data).await
    }
    async fn write_blocks(&self, offset: u64, data: AlignedBuf) -> (io::Result<()>, AlignedBuf) {
        self.gate().await;
        self.file.write_blocks(offset, data).await
    }
    async fn write_blocks_and_sync(
        &self,
        offset: u64,
        data: AlignedBuf,
    ) -> (io::Result<()>, AlignedBuf) {
        self.gate().await;
        self.file.write_blocks_and_sync(offset, data).await
    }
    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).await
    }
    async fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len).await
    }
    async fn sync(&self) -> io::Result<()> {
        self.gate().await;
        self.file.sync().await
    }
}
