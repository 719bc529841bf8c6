//! The Disk seam: everything that this node does to files goes through here, so that the simulation can lose, tear and
//! reorder what was not synced. Owns the contract only; it never touches a file (see `real_disk` and the tests' disk).
//!
//! Paths are relative to the data directory and use `/`. A write is visible to reads at once and durable only after
//! [`DiskFile::sync`]; a created, renamed or removed name is durable only after [`Disk::sync_dir`] of its folder.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// Direct writes start at a multiple of this and are a multiple of it long; journal blocks have this size.
pub const BLOCK: usize = 4096;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist; only reads.
    Read,
    /// Created when missing; reads and buffered writes.
    Write,
    /// As `Write`, but past the page cache where the file system allows it: every write is aligned to [`BLOCK`].
    Direct,
}

/// How full the file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that this process may still use.
    pub free: u64,
}

/// A folder of files.
#[async_trait]
pub trait Disk: Send + Sync + Debug + 'static {
    /// Opens a file; its folder must exist.
    async fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Names in a folder, files and folders, sorted; empty when the folder is missing.
    async fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Creates a folder and those above it.
    async fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Replaces `to` by `from` in one step.
    async fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    async fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes a folder with all that is in it; no error when it is missing.
    async fn remove_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes the names in a folder durable.
    async fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes everything written so far durable, in all files: cheaper than many single syncs.
    async fn sync_all(&self) -> io::Result<()>;
    /// How full the disk is.
    async fn space(&self) -> io::Result<Space>;
}

/// An open file. Cloned handles share the file; every method may run beside every other.
#[async_trait]
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Send + Sync + Debug + 'static {
    /// Its length in bytes.
    async fn len(&self) -> io::Result<u64>;
    /// The bytes at `offset`, fewer when the file ends before.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
    /// Writes the buffers one after the other from `offset`; all or an error.
    async fn write_at(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()>;
    /// Writes an aligned buffer at an aligned offset and gives the buffer back for the next time.
    async fn write_blocks(&self, offset: u64, data: AlignedBuf) -> (io::Result<()>, AlignedBuf);
    /// Writes an aligned buffer and syncs the file, in one trip to the disk: for journal flushes, which follow each other.
    async fn write_blocks_and_sync(
        &self,
        offset: u64,
        data: AlignedBuf,
    ) -> (io::Result<()>, AlignedBuf) {
        let (written, data) = self.write_blocks(offset, data).await;
        match written {
            Ok(()) => (self.sync().await, data),
            Err(error) => (Err(error), data),
        }
    }
    /// Cuts or extends the file with zeros.
    async fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space up to `len` and makes the file that long.
    async fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes data and length durable.
    async fn sync(&self) -> io::Result<()>;
}

/// A growing byte buffer whose first byte lies on a [`BLOCK`] boundary, as direct writes demand.
///
/// Alignment without unsafe code: it allocates a block more than it needs and starts at the first boundary inside.
#[derive(Debug, Default)]
pub struct AlignedBuf {
    /// `storage[start..start + len]` is the content; `start` is fixed for the life of the allocation.
    storage: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// An empty buffer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let storage = vec![0; capacity + BLOCK];
        let start = storage.as_ptr().align_offset(BLOCK);
        Self { storage, start, len: 0 }
    }

    /// Bytes of content.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No content.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of content that fit without a new allocation.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.storage.len() - self.start
    }

    /// Forgets the content, keeps the allocation.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let end = self.start + self.len;
        self.storage[end..end + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends `count` zero bytes.
    pub fn extend_zeros(&mut self, count: usize) {
        self.reserve(count);
        let end = self.start + self.len;
        self.storage[end..end + count].fill(0);
        self.len += count;
    }

    /// The content.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }

    /// The content, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }

    fn reserve(&mut self, more: usize) {
        if self.len + more <= self.capacity() {
            return;
        }
        let mut grown = Self::with_capacity((self.len + more).max(self.capacity() * 2));
        grown.storage[grown.start..grown.start + self.len].copy_from_slice(self.as_slice());
        grown.len = self.len;
        *self = grown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_stays_aligned_while_it_grows() {
        let mut buffer = AlignedBuf::with_capacity(8);
        for step in 0..5 {
            buffer.extend_from_slice(&[step; 3000]);
            assert_eq!(buffer.as_slice().as_ptr().align_offset(BLOCK), 0);
        }
        assert_eq!(buffer.len(), 15_000);
        assert_eq!(buffer.as_slice()[14_999], 4);
    }
}
