//! The real disk: Linux files under one folder, locked so that two processes never share it. Owns how the Disk seam maps
//! to system calls; it never knows what the files mean.
//!
//! Calls that may wait run on the runtime's blocking threads, one trip each; journal flushes on a thread of their own.
//! Reads of what the page cache holds are answered on the spot, without a trip.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::disk::{AlignedBuf, Disk, DiskFile, OpenMode, Space};

mod flush_thread;

use flush_thread::FlushThread;

/// Held while the process lives.
const LOCK_FILE: &str = "LOCK";
/// Longer reads are never tried on the spot: copying them would hold up the other tasks of the thread.
const SPOT_READ: usize = 256 * 1024;
/// Buffers of one vectored write; the system's limit is 1024.
const MOST_SLICES: usize = 512;

/// Files of one data directory.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: Arc<PathBuf>,
    /// The lock goes with the last handle.
    lock: Arc<File>,
    flushes: FlushThread,
}

impl RealDisk {
    /// Takes possession of a data directory, creating it when missing.
    ///
    /// # Errors
    /// When another process has it, or it cannot be created.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        std::fs::create_dir_all(&root)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join(LOCK_FILE))?;
        match lock.try_lock() {
            Ok(()) => {
                let (root, lock) = (Arc::new(root), Arc::new(lock));
                Ok(Self { root, lock, flushes: FlushThread::start()? })
            }
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "another process uses this data directory: it has locked {0} (`fuser -v {0}` names it). Stop it, or give \
                     this node a directory of its own",
                    root.join(LOCK_FILE).display()
                ),
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    async fn at<T: Send + 'static>(
        &self,
        path: &str,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = self.root.join(path);
        blocking(move || call(&path)).await
    }
}

/// Where blocking work leaves the runtime's threads; journal flushes have [`FlushThread`].
#[allow(clippy::disallowed_methods, reason = "the real disk is where blocking calls belong")]
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(stopped) => Err(io::Error::other(stopped)),
    }
}

fn open_file(path: &Path, mode: OpenMode, flushes: FlushThread) -> io::Result<RealFile> {
    let mut options = OpenOptions::new();
    options.read(true);
    if mode != OpenMode::Read {
        options.write(true).create(true).truncate(false);
    }
    if mode == OpenMode::Direct {
        options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        match options.open(path) {
            // The file system has no direct writes (tmpfs, for one): the page cache must do.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                options.custom_flags(0);
            }
            opened => return Ok(RealFile::new(opened?, Some(path.to_owned()), flushes)),
        }
    }
    Ok(RealFile::new(options.open(path)?, None, flushes))
}

#[async_trait]
impl Disk for RealDisk {
    async fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let flushes = self.flushes.clone();
        let file = self.at(path, move |path| open_file(path, mode, flushes)).await?;
        Ok(Arc::new(file))
    }

    async fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let list = |dir: &Path| {
            let entries = match std::fs::read_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort_unstable();
            Ok(names)
        };
        self.at(dir, list).await
    }

    async fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.at(dir, |dir| std::fs::create_dir_all(dir)).await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let to = self.root.join(to);
        self.at(from, move |from| std::fs::rename(from, to)).await
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        self.at(path, |path| std::fs::remove_file(path)).await
    }

    async fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let remove = |dir: &Path| match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        self.at(dir, remove).await
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.at(dir, |dir| File::open(dir)?.sync_all()).await
    }

    async fn sync_all(&self) -> io::Result<()> {
        let lock = Arc::clone(&self.lock);
        blocking(move || Ok(rustix::fs::syncfs(&*lock)?)).await
    }

    async fn space(&self) -> io::Result<Space> {
        let lock = Arc::clone(&self.lock);
        blocking(move || {
            let stat = rustix::fs::fstatvfs(&*lock)?;
            let (total, free) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
            Ok(Space { total, free })
        })
        .await
    }
}

/// One open file.
#[derive(Debug, Clone)]
struct RealFile {
    file: Arc<File>,
    direct: Option<Arc<DirectPath>>,
    flushes: FlushThread,
}

/// What a direct file falls back to when its first write shows that direct writes do not work after all.
#[derive(Debug)]
struct DirectPath {
    path: PathBuf,
    /// Opened at the first refusal, by whichever call meets it; never changed after that.
    buffered: OnceLock<File>,
    refused: AtomicBool,
}

impl RealFile {
    fn new(file: File, direct: Option<PathBuf>, flushes: FlushThread) -> Self {
        let direct = direct.map(|path| {
            let (buffered, refused) = (OnceLock::new(), AtomicBool::new(false));
            Arc::new(DirectPath { path, buffered, refused })
        });
        Self { file: Arc::new(file), direct, flushes }
    }

    fn write_aligned(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(direct) = &self.direct else { return self.file.write_all_at(data, offset) };
        if !direct.refused.load(Ordering::Relaxed) {
            match self.file.write_all_at(data, offset) {
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    direct.refused.store(true, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        let buffered = match direct.buffered.get() {
            Some(buffered) => buffered,
            None => {
                let opened = OpenOptions::new().read(true).write(true).open(&direct.path)?;
                direct.buffered.get_or_init(|| opened)
            }
        };
        buffered.write_all_at(data, offset)
    }

    /// A read that never waits: `None` when it would have to.
    fn read_on_the_spot(&self, offset: u64, len: usize) -> Option<Bytes> {
        if len > SPOT_READ || self.direct.is_some() {
            return None;
        }
        let mut buffer = vec![0; len];
        let slices = &mut [IoSliceMut::new(&mut buffer)];
        let read = rustix::io::preadv2(&*self.file, slices, offset, ReadWriteFlags::NOWAIT);
        // A short read may be the end of the file or the end of what is cached: the slow way finds out.
        (read == Ok(len)).then(|| buffer.into())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.clone();
        blocking(move || call(&file)).await
    }
}

#[async_trait]
impl DiskFile for RealFile {
    async fn len(&self) -> io::Result<u64> {
        self.blocking(|this| Ok(this.file.metadata()?.len())).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if let Some(bytes) = self.read_on_the_spot(offset, len) {
            return Ok(bytes);
        }
        self.blocking(move |this| {
            let mut buffer = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match this.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            buffer.truncate(filled);
            Ok(buffer.into())
        })
        .await
    }

    async fn write_at(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()> {
        self.blocking(move |this| write_vectored(&this.file, offset, &data)).await
    }

    async fn write_blocks(&self, offset: u64, data: AlignedBuf) -> (io::Result<()>, AlignedBuf) {
        let file = self.clone();
        let call = move || {
            let result = file.write_aligned(offset, data.as_slice());
            Ok((result, data))
        };
        match blocking(call).await {
            Ok(done) => done,
            Err(error) => (Err(error), AlignedBuf::default()),
        }
    }

    async fn write_blocks_and_sync(
        &self,
        offset: u64,
        data: AlignedBuf,
    ) -> (io::Result<()>, AlignedBuf) {
        let file = self.clone();
        let call = move |data: &[u8]| {
            file.write_aligned(offset, data)?;
            file.file.sync_data()
        };
        self.flushes.run(data, call).await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.blocking(move |this| this.file.set_len(len)).await
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        self.blocking(move |this| {
            match rustix::fs::fallocate(&*this.file, FallocateFlags::empty(), 0, len) {
                Err(Errno::OPNOTSUPP) => this.file.set_len(len),
                result => Ok(result?),
            }
        })
        .await
    }

    async fn sync(&self) -> io::Result<()> {
        self.blocking(|this| this.file.sync_data()).await
    }
}

/// Writes all buffers one after the other.
fn write_vectored(file: &File, mut offset: u64, data: &[Bytes]) -> io::Result<()> {
    let mut next = 0;
    let mut done_of_next = 0;
    while next < data.len() {
        let tail = &data[next..data.len().min(next + MOST_SLICES)];
        let slices: Vec<_> = tail
            .iter()
            .enumerate()
            .map(|(at, bytes)| IoSlice::new(if at == 0 { &bytes[done_of_next..] } else { bytes }))
            .collect();
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut written = match rustix::io::pwritev(file, &slices, offset) {
            Ok(0) if wanted > 0 => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        offset += written as u64;
        written += done_of_next;
        while next < data.len() && written >= data[next].len() {
            written -= data[next].len();
            next += 1;
        }
        done_of_next = written;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::BLOCK;

    #[tokio::test]
    async fn a_data_directory_has_one_owner() {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        let error = RealDisk::open(root.path()).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(disk);
        RealDisk::open(root.path()).unwrap();
    }

    #[tokio::test]
    async fn what_is_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        disk.create_dir("a/b").await.unwrap();
        let file = disk.open("a/b/c", OpenMode::Write).await.unwrap();
        let parts: Vec<Bytes> = (0..1500_u32).map(|n| n.to_le_bytes().to_vec().into()).collect();
        file.write_at(3, parts.clone()).await.unwrap();
        file.sync().await.unwrap();
        disk.sync_dir("a/b").await.unwrap();
        disk.sync_all().await.unwrap();
        assert_eq!(file.len().await.unwrap(), 6003);
        assert_eq!(file.read_at(3, 10_000).await.unwrap(), parts.concat());
        assert_eq!(file.read_at(9000, 10).await.unwrap(), Bytes::new());
        assert_eq!(disk.list("a").await.unwrap(), ["b"]);
        assert_eq!(disk.list("nowhere").await.unwrap(), [""; 0]);
        assert!(disk.space().await.unwrap().free > 0);
        disk.remove_dir("a").await.unwrap();
        disk.remove_dir("a").await.unwrap();
    }

    #[tokio::test]
    async fn a_direct_write_is_seen_by_a_buffered_reader() {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        let file = disk.open("direct", OpenMode::Direct).await.unwrap();
        file.allocate(4 * BLOCK as u64).await.unwrap();
        let reader = disk.open("direct", OpenMode::Read).await.unwrap();
        let mut data = AlignedBuf::with_capacity(BLOCK);
        for round in 1..4_u8 {
            data.clear();
            data.extend_from_slice(&[round; BLOCK]);
            let (written, buffer) = file.write_blocks_and_sync(BLOCK as u64, data).await;
            written.unwrap();
            data = buffer;
            assert_eq!(reader.read_at(BLOCK as u64, 9).await.unwrap(), vec![round; 9]);
        }
        assert_eq!(reader.len().await.unwrap(), 4 * BLOCK as u64);
    }
}
