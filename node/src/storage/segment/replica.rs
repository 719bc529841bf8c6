//! Owns the files of one replica: appends wait in memory and are written in long runs, by one task at a time. What is
//! written is not durable yet: that is [`sync`](super::sync).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use waymark_proto::ids::{ReplicaKey, TopicPartition};

use super::checkpoint::folder_of;
use super::frame::pieces;
use super::partition::{Partition, Segment};
use super::pull::Pulled;
use super::source::Begin;
use crate::state::StampedBatch;
use crate::storage::disk::{Disk, DiskFile, OpenMode};
use crate::storage::shard_store::{
    Checkpoint, DamagedRange, SegmentInfo, StoreError, StoreNumbers, StoreOptions,
};
use crate::storage::tables::TableEngine;

/// One write takes about this much of a segment that has more.
const WRITE: u64 = 4 << 20;

/// Bytes of segments that a node reads through at start, the newest first: a second or so.
const CHECK_AT_START: u64 = 512 << 20;

/// What all replicas of a node share.
#[derive(Debug)]
pub(in crate::storage) struct Shelf {
    pub(in crate::storage) disk: Arc<dyn Disk>,
    pub(in crate::storage) tables: Arc<dyn TableEngine>,
    pub(in crate::storage) options: StoreOptions,
    /// Bytes of all replicas that wait for their segments.
    pub(in crate::storage) pending: AtomicUsize,
    /// Told when `pending` fell.
    pub(in crate::storage) room: Notify,
    /// Told when a partition has enough for a write.
    pub(in crate::storage) enough: Arc<Notify>,
    /// Told when a segment has a long run of unsynced bytes.
    pub(in crate::storage) unsynced: Arc<Notify>,
    /// Told when damage was found.
    pub(in crate::storage) damage: Arc<Notify>,
    /// Files kept open.
    open: AtomicUsize,
    /// Bytes of segments that may still be read through while replicas open.
    pub(super) check_at_start: AtomicU64,
    /// Cancelled by a sync that failed: what it covered may pass for clean and be lost, so that no later sync proves
    /// anything, and no checkpoint is written before a restart has read the disk again (S4).
    sync_failed: CancellationToken,
    /// As `Replica::syncing`, for syncs of everything: they share a handle, whatever the replica.
    pub(super) syncing_all: tokio::sync::Mutex<()>,
    pub(in crate::storage) numbers: StoreNumbers,
}

impl Shelf {
    pub(in crate::storage) fn new(
        disk: Arc<dyn Disk>,
        tables: Arc<dyn TableEngine>,
        options: StoreOptions,
    ) -> Self {
        Self {
            disk,
            tables,
            options,
            pending: AtomicUsize::new(0),
            room: Notify::new(),
            enough: Arc::default(),
            unsynced: Arc::default(),
            damage: Arc::default(),
            open: AtomicUsize::new(0),
            check_at_start: AtomicU64::new(CHECK_AT_START),
            sync_failed: CancellationToken::new(),
            syncing_all: tokio::sync::Mutex::new(()),
            numbers: StoreNumbers::default(),
        }
    }

    /// Remembers a sync that failed.
    pub(super) fn synced(&self, outcome: io::Result<()>) -> io::Result<()> {
        if outcome.is_err() {
            self.sync_failed.cancel();
        }
        outcome
    }

    /// Refuses what would have to rely on a sync after one has failed.
    pub(in crate::storage) fn trusted(&self) -> Result<(), StoreError> {
        if self.sync_failed.is_cancelled() {
            let source = io::Error::other("an earlier sync failed: the node has to be restarted");
            return Err(StoreError::Io { path: "data directory".to_owned(), source });
        }
        Ok(())
    }

    /// So many bytes wait that appliers stand still.
    pub(in crate::storage) fn is_full(&self) -> bool {
        self.pending.load(Ordering::Relaxed) >= self.options.pending_bytes
    }

    fn release(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.pending.fetch_sub(bytes, Ordering::Relaxed);
        self.room.notify_waiters();
    }
}

/// What is known of a replica; under one lock that nobody holds across a wait.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    /// What a follower's pull has brought and no checkpoint names yet.
    pub(super) pulled: BTreeMap<(TopicPartition, i64), Pulled>,
    /// Damage that was met and not repaired yet, by segment, as it was met.
    pub(super) damaged: BTreeMap<(TopicPartition, i64), Vec<DamagedRange>>,
    /// The manifest that a restart would find being pulled.
    pub(super) pulling: Option<bytes::Bytes>,
    /// How far files were given to those who pull.
    pub(super) given: BTreeMap<(TopicPartition, i64), Begin>,
    /// Folders in which a name is new since the last checkpoint.
    pub(super) new_names: BTreeSet<String>,
    /// Files that nothing names any more, kept while a pull holds them (S7).
    pub(super) doomed: Vec<Doomed>,
    pub(super) checkpoint: Option<Checkpoint>,
}

/// To be removed.
#[derive(Debug, Clone)]
pub(super) enum Doomed {
    File(String),
    Folder(String),
}

/// Files of one replica.
#[derive(Debug)]
pub(in crate::storage) struct Replica {
    pub(super) shelf: Arc<Shelf>,
    pub(in crate::storage) key: ReplicaKey,
    pub(super) known: Mutex<Known>,
    /// Held by whoever writes, cuts or removes files. Only an install holds it across a sync of many bytes: apply has to
    /// wait for it anyway.
    pub(super) io: tokio::sync::Mutex<()>,
    /// Held by whoever writes the checkpoint's file until it is known.
    pub(super) publishing: tokio::sync::Mutex<()>,
    /// Held by whoever makes names durable.
    pub(super) naming: tokio::sync::Mutex<()>,
    /// Held by a sync of segments until its outcome is noted.
    pub(super) syncing: Arc<tokio::sync::Mutex<()>>,
    /// The last write of segments was refused, and that was said.
    pub(in crate::storage) refused: AtomicBool,
    /// The generation of the tables that hold its rows.
    pub(super) filled: AtomicU64,
    /// Pulls that read the newest checkpoint's files.
    pub(in crate::storage) holds: AtomicUsize,
}

impl Drop for Replica {
    fn drop(&mut self) {
        // What waits here waits no more: the next life applies it again, and other replicas need the room.
        let partitions = std::mem::take(&mut self.known().partitions);
        self.forget_handles(partitions.values().flat_map(|it| it.segments.iter()));
    }
}

pub(super) fn io_error(path: &str) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { path: path.to_owned(), source }
}

impl Replica {
    /// Knows of nothing yet.
    pub(super) fn new(shelf: Arc<Shelf>, key: ReplicaKey) -> Self {
        Self {
            shelf,
            key,
            known: Mutex::default(),
            io: tokio::sync::Mutex::new(()),
            publishing: tokio::sync::Mutex::new(()),
            naming: tokio::sync::Mutex::new(()),
            syncing: Arc::default(),
            refused: AtomicBool::new(false),
            filled: AtomicU64::new(0),
            holds: AtomicUsize::new(0),
        }
    }

    pub(in crate::storage) fn sync_failed(&self) -> bool {
        self.shelf.sync_failed.is_cancelled()
    }

    pub(in crate::storage) async fn until_sync_fails(&self) {
        self.shelf.sync_failed.cancelled().await;
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::storage) fn numbers(&self) -> &StoreNumbers {
        &self.shelf.numbers
    }

    pub(super) fn folder(&self) -> String {
        folder_of(self.key)
    }

    pub(super) fn partition_folder(&self, at: TopicPartition) -> String {
        format!("{}/{}.{}", self.folder(), at.topic, at.partition.0)
    }

    pub(super) fn path(&self, at: TopicPartition, base: i64) -> String {
        format!("{}/{base:020}.log", self.partition_folder(at))
    }

    pub(in crate::storage) fn checkpoint(&self) -> Option<Checkpoint> {
        self.known().checkpoint.clone()
    }

    pub(in crate::storage) fn append(&self, batch: StampedBatch) {
        let at = batch.at;
        let waiting = {
            let mut known = self.known();
            let partition = known.partitions.entry(at).or_default();
            let before: u64 = partition.segments.back().map_or(0, Segment::waiting);
            let fresh = batch.starts_segment;
            partition.append(batch);
            let after = partition.segments.back().map_or(0, Segment::waiting);
            let added = if fresh { after } else { after.saturating_sub(before) };
            let added = usize::try_from(added).unwrap_or(usize::MAX);
            self.shelf.pending.fetch_add(added, Ordering::Relaxed);
            after
        };
        if waiting >= self.shelf.options.segment_write_bytes as u64 {
            self.shelf.enough.notify_one();
        }
    }

    /// Waits while too many bytes of the node wait for their segments.
    pub(in crate::storage) async fn make_room(&self) {
        loop {
            let room = self.shelf.room.notified();
            if !self.shelf.is_full() {
                return;
            }
            self.shelf.enough.notify_one();
            room.await;
        }
    }

    pub(in crate::storage) fn close_partition(&self, at: TopicPartition) {
        if let Some(partition) = self.known().partitions.get_mut(&at) {
            partition.closed = true;
        }
    }

    pub(in crate::storage) fn segments(&self, at: TopicPartition) -> Vec<SegmentInfo> {
        self.known().partitions.get(&at).map(Partition::infos).unwrap_or_default()
    }

    pub(in crate::storage) fn stored_bytes(&self, at: TopicPartition) -> u64 {
        let known = self.known();
        let segments = known.partitions.get(&at).map(|it| it.segments.iter());
        segments.into_iter().flatten().map(|segment| segment.bytes).sum()
    }

    /// Writes every segment that has at least `least` bytes waiting.
    pub(in crate::storage) async fn write_waiting(&self, least: u64) -> Result<(), StoreError> {
        let _turn = self.io.lock().await;
        self.write_in_turn(least).await
    }

    /// As `write_waiting`, for one who holds `io`.
    pub(super) async fn write_in_turn(&self, least: u64) -> Result<(), StoreError> {
        let due: Vec<(TopicPartition, i64)> = {
            let known = self.known();
            let all = known.partitions.iter();
            let waiting = all.flat_map(|(at, partition)| {
                let segments = partition.segments.iter();
                segments.filter(|it| it.waiting() >= least.max(1)).map(|it| (*at, it.base))
            });
            waiting.collect()
        };
        for (at, base) in due {
            while self.write_once(at, base).await? {}
        }
        Ok(())
    }

    /// One write; whether more waits.
    async fn write_once(&self, at: TopicPartition, base: i64) -> Result<bool, StoreError> {
        let (frames, position) = {
            let known = self.known();
            let segment = known.partitions.get(&at).and_then(|it| it.segment(base));
            let Some(segment) = segment else { return Ok(false) };
            (segment.next_write(WRITE), segment.written)
        };
        if frames.is_empty() {
            return Ok(false);
        }
        let file = self.file(at, base, OpenMode::Write).await?;
        file.write_at(position, pieces(&frames)).await.map_err(io_error(&self.path(at, base)))?;
        let mut known = self.known();
        let segment = known.partitions.get_mut(&at).and_then(|it| it.segment_mut(base));
        let Some(segment) = segment else { return Ok(false) };
        let wrote = segment.wrote(frames.len(), self.shelf.options.index_interval_bytes);
        let more = segment.waiting() > 0;
        let long = segment.unsynced() >= self.shelf.options.segment_sync_bytes as u64;
        drop(known);
        self.shelf.release(wrote);
        if long {
            self.shelf.unsynced.notify_one();
        }
        Ok(more)
    }

    /// The open file of a segment; created in `Write` mode.
    pub(super) async fn file(
        &self,
        at: TopicPartition,
        base: i64,
        mode: OpenMode,
    ) -> Result<Arc<dyn DiskFile>, StoreError> {
        {
            let known = self.known();
            let segment = known.partitions.get(&at).and_then(|it| it.segment(base));
            if let Some(file) = segment.and_then(|it| it.file.clone()) {
                return Ok(file);
            }
        }
        let path = self.path(at, base);
        if mode == OpenMode::Write {
            let folder = self.partition_folder(at);
            self.shelf.disk.create_dir(&folder).await.map_err(io_error(&folder))?;
        }
        // A handle that is kept serves writes too.
        let opened = match mode {
            OpenMode::Read => self.shelf.disk.open(&path, OpenMode::Read).await,
            OpenMode::Write | OpenMode::Direct => {
                self.shelf.disk.open(&path, OpenMode::Write).await
            }
        };
        let file = opened.map_err(io_error(&path))?;
        if mode != OpenMode::Read {
            self.owe_names(at);
            self.keep_open(at, base, &file);
        }
        Ok(file)
    }

    /// The next who needs the file opens it by its name.
    pub(super) fn let_go(&self, at: TopicPartition, base: i64) {
        let mut known = self.known();
        let segment = known.partitions.get_mut(&at).and_then(|it| it.segment_mut(base));
        if segment.is_some_and(|it| it.file.take().is_some()) {
            self.shelf.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn keep_open(&self, at: TopicPartition, base: i64, file: &Arc<dyn DiskFile>) {
        let most = self.shelf.options.open_files;
        let kept = self.shelf.open.fetch_add(1, Ordering::Relaxed) < most;
        let mut known = self.known();
        let segment = known.partitions.get_mut(&at).and_then(|it| it.segment_mut(base));
        match segment {
            Some(segment) if kept && segment.file.is_none() => {
                segment.file = Some(Arc::clone(file))
            }
            _ => {
                self.shelf.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Lets go of the handles of segments that leave.
    pub(super) fn forget_handles<'a>(&self, segments: impl Iterator<Item = &'a Segment>) {
        let mut waiting = 0;
        for segment in segments {
            waiting += segment.waiting();
            if segment.file.is_some() {
                self.shelf.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if waiting > 0 {
            self.shelf.release(waiting);
        }
    }

    /// The names of a file that may be new. Noted after it was made: a checkpoint under way syncs folders meanwhile, and
    /// one that was synced before must be synced again.
    pub(super) fn owe_names(&self, at: TopicPartition) {
        let mut known = self.known();
        known.new_names.insert(self.partition_folder(at));
        known.new_names.insert(self.folder());
    }
}
