//! What the layers above use of segments, tables and checkpoints. Owns their vocabulary and the handles; how files are laid
//! out belongs to `segment`, and what happens to them in the background to `segment_writer`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waymark_proto::ids::{ReplicaId, ReplicaKey, ShardId, TopicPartition};

use super::disk::Disk;
use super::raft_record::LogId;
use super::scrubber::scrub_all;
use super::segment::{Replica, Shelf};
use super::segment_writer::{OpenReplicas, behind_apply};
use super::tables::TableEngine;
use crate::metrics::{Counter, Histogram};
use crate::state::{Row, StampedBatch};

pub use super::damaged_range::DamagedRange;
pub use super::segment::{Rebuild, Rebuilt};
pub use super::store_error::StoreError;

/// Sizes and limits.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// A partition's pending bytes are written once they reach this.
    pub segment_write_bytes: usize,
    /// … or once the oldest has waited this long.
    pub segment_write_after: Duration,
    /// A segment is synced ahead of the checkpoint once so many of its bytes are not.
    pub segment_sync_bytes: usize,
    /// Pending bytes of the whole node; beyond it apply waits.
    pub pending_bytes: usize,
    /// Open segment files kept.
    pub open_files: usize,
    /// Bytes between two entries of a segment's offset index.
    pub index_interval_bytes: usize,
    /// Bytes per second that a scrub of all replicas reads; 0: there is none.
    pub scrub_bytes_per_second: u64,
    /// Between the beginnings of two scrubs.
    pub scrub_interval: Duration,
}

/// Whole batches, back to back, as stored.
#[derive(Debug, Clone, Default)]
pub struct ReadBatches {
    /// The batches; the first one may begin below the offset asked for.
    pub bytes: Bytes,
    /// Where to go on reading.
    pub next_offset: i64,
}

/// A segment as the leader's retention sees it; oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its first offset, which names it.
    pub base_offset: i64,
    /// Offset after its last record.
    pub next_offset: i64,
    /// Bytes, frames included.
    pub bytes: u64,
    /// Its largest timestamp.
    pub max_timestamp: i64,
    /// It will not grow any more.
    pub sealed: bool,
}

/// The cut that a checkpoint records (S6): everything at one applied index.
#[derive(Debug, Clone)]
pub struct Cut {
    /// The last applied entry.
    pub applied: LogId,
    /// Membership as the consensus layer encodes it.
    pub membership: Bytes,
    /// Rows that changed since the last cut.
    pub rows: Vec<Row>,
}

/// A durable checkpoint: what recovery believes and what a snapshot is (its manifest). A clone shares the content.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Encoded form, as in its file: travels to followers as the manifest.
    pub encoded: Bytes,
    /// Whose.
    pub shard: ShardId,
    /// Which replica wrote it.
    pub replica: ReplicaId,
    /// The last applied entry.
    pub applied: LogId,
    /// Membership as the consensus layer encodes it.
    pub membership: Bytes,
}

/// A run of bytes of one segment file that a follower lacks (S9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRange {
    /// The partition.
    pub at: TopicPartition,
    /// The segment.
    pub base_offset: i64,
    /// First byte lacking.
    pub from_byte: u64,
    /// Byte after the last one lacking.
    pub to_byte: u64,
}

/// What the store counts of itself, for all replicas of the node.
#[derive(Debug, Default)]
pub struct StoreNumbers {
    /// How long checkpoints took that became durable.
    pub checkpoints: Histogram,
    /// Checkpoints that failed; the one before stays in force.
    pub failed_checkpoints: Counter,
    /// Damaged ranges that were found.
    pub damaged_ranges: Counter,
    /// Segments that were put together anew.
    pub repaired_segments: Counter,
    /// Bytes that scrubs have read.
    pub scrubbed_bytes: Counter,
}

/// Segments, tables and checkpoints of all replicas of a node.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) shelf: Arc<Shelf>,
    pub(super) replicas: OpenReplicas,
    stopping: CancellationToken,
}

impl Store {
    /// Opens the store and starts the segment writer. Tables are emptied: what they hold is never believed (S5).
    ///
    /// # Errors
    /// When the disk or the tables refuse.
    pub async fn open(
        disk: Arc<dyn Disk>,
        tables: Arc<dyn TableEngine>,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let refused = |error: super::tables::TableError| StoreError::Io {
            path: "tables".to_owned(),
            source: std::io::Error::other(error),
        };
        tables.clear().map_err(refused)?;
        let store = Self {
            shelf: Arc::new(Shelf::new(disk, tables, options)),
            replicas: OpenReplicas::default(),
            stopping: CancellationToken::new(),
        };
        tokio::spawn(behind_apply(&store.shelf, store.replicas.clone(), store.stopping.clone()));
        tokio::spawn(scrub_all(&store.shelf.options, &store.replicas, store.stopping.clone()));
        Ok(store)
    }
    /// Recovers one replica (S5): loads its checkpoint, refills its tables, cuts its segments back to the checkpoint's
    /// positions and removes what the checkpoint does not name.
    ///
    /// A damaged segment is no error: it is known as such and waits for its repair.
    ///
    /// # Errors
    /// When the disk refuses; [`StoreError::Damaged`] when the checkpoint is damaged.
    pub async fn open_shard(&self, key: ReplicaKey) -> Result<ShardStore, StoreError> {
        let replica = Arc::new(Replica::open(Arc::clone(&self.shelf), key).await?);
        self.replicas.add(&replica);
        Ok(ShardStore { replica })
    }
    /// Removes all that is stored of a replica that runs no more and never will.
    ///
    /// # Errors
    /// When the disk or the tables refuse.
    pub async fn remove_shard(&self, key: ReplicaKey) -> Result<(), StoreError> {
        self.shelf.remove_replica(key).await
    }
    /// Bytes that wait for segments, of the whole node: they count in admission (S8).
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.shelf.pending.load(Ordering::Relaxed)
    }
    /// A sync has failed, so that no replica opens before a restart (S4).
    #[must_use]
    pub fn sync_failed(&self) -> bool {
        self.shelf.trusted().is_err()
    }
    /// What it counted since it was opened.
    #[must_use]
    pub fn numbers(&self) -> &StoreNumbers {
        &self.shelf.numbers
    }
    /// Writes what is pending and stops.
    pub async fn shutdown(&self) {
        self.stopping.cancel();
        self.replicas.write_all(1).await;
    }
}

/// Segments, tables and checkpoint of one replica. A clone is the same store.
#[derive(Debug, Clone)]
pub struct ShardStore {
    pub(super) replica: Arc<Replica>,
}

impl ShardStore {
    /// The newest durable checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.replica.checkpoint()
    }
    /// All rows of the checkpoint, sorted by key: what the state is rebuilt from.
    #[must_use]
    pub fn checkpoint_rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.replica.checkpoint_rows()
    }
    /// Hands a committed batch to its partition's tail: readable at once, written to its segment later.
    pub fn append(&self, batch: StampedBatch) {
        self.replica.append(batch);
    }
    /// Waits while too many bytes of the node are pending. Called by apply between entries.
    pub async fn make_room(&self) {
        self.replica.make_room().await;
    }
    /// A partition's first offset rose; segments wholly below it may go after the next checkpoint.
    pub fn set_log_start(&self, at: TopicPartition, offset: i64) {
        // The checkpoint's rows say the same; until then the files stay.
        let _ = (at, offset);
    }
    /// A partition left: its files may go after the next checkpoint.
    pub fn close_partition(&self, at: TopicPartition) {
        self.replica.close_partition(at);
    }
    /// Whole batches from `offset` (the first always whole, then while they fit in `max_bytes`), below `limit_offset`.
    /// Verifies every frame it returns. Empty when `offset` is `limit_offset`.
    ///
    /// # Errors
    /// On damage, or an offset outside of what is stored.
    pub async fn read(
        &self,
        at: TopicPartition,
        offset: i64,
        limit_offset: i64,
        max_bytes: usize,
    ) -> Result<ReadBatches, StoreError> {
        self.replica.read(at, offset, limit_offset, max_bytes).await
    }
    /// The first batch (in offset order) that may hold a record with timestamp ≥ `time_ms`: its bytes, as stored. `None` when
    /// there is none below `limit_offset`. With `i64::MAX`-like needs see `batch_of_max_timestamp`.
    ///
    /// # Errors
    /// On damage.
    pub async fn batch_at_time(
        &self,
        at: TopicPartition,
        time_ms: i64,
        limit_offset: i64,
    ) -> Result<Option<Bytes>, StoreError> {
        self.replica.batch_at_time(at, time_ms, limit_offset).await
    }
    /// When the record at an offset was appended, by the clock of the leader then. `None` at the end of what is stored.
    ///
    /// # Errors
    /// On damage, or an offset outside of what is stored.
    pub async fn append_time(
        &self,
        at: TopicPartition,
        offset: i64,
    ) -> Result<Option<i64>, StoreError> {
        self.replica.append_time(at, offset).await
    }
    /// The partition's segments, oldest first.
    #[must_use]
    pub fn segments(&self, at: TopicPartition) -> Vec<SegmentInfo> {
        self.replica.segments(at)
    }
    /// Bytes of the partition's segments, with what waits to be written.
    #[must_use]
    pub fn stored_bytes(&self, at: TopicPartition) -> u64 {
        self.replica.stored_bytes(at)
    }
    /// A digest of the batches in `from..to` (both at batch boundaries or clipped to whole batches inside), as stored (S21).
    ///
    /// # Errors
    /// On damage, or a range outside of what is stored.
    pub async fn digest(
        &self,
        at: TopicPartition,
        from: i64,
        to: i64,
    ) -> Result<[u8; 16], StoreError> {
        self.replica.digest(at, from, to).await
    }
    /// Makes a cut durable (S6): writes pending segments of this replica, syncs them, writes the checkpoint file. Apply may
    /// go on meanwhile; the caller has already waited for the journal's barrier. Afterwards unlinks what no checkpoint
    /// names and no pull holds (S7).
    ///
    /// # Errors
    /// When the disk refuses; the previous checkpoint stays in force.
    pub async fn write_checkpoint(&self, cut: Cut) -> Result<Checkpoint, StoreError> {
        let began = Instant::now();
        let written = self.replica.write_checkpoint(cut).await;
        let numbers = self.replica.numbers();
        match &written {
            Ok(_) => numbers.checkpoints.observe(began.elapsed()),
            Err(_) => numbers.failed_checkpoints.one(),
        }
        written
    }

    /// A sync of segments has failed, so no checkpoint will ever be written before a restart (S4).
    #[must_use]
    pub fn sync_failed(&self) -> bool {
        self.replica.sync_failed()
    }

    /// Resolves once [`ShardStore::sync_failed`].
    pub async fn until_sync_fails(&self) {
        self.replica.until_sync_fails().await;
    }

    /// What of a manifest's segments is not here yet (S9).
    ///
    /// # Errors
    /// When the manifest does not decode.
    pub async fn missing(&self, manifest: &Bytes) -> Result<Vec<MissingRange>, StoreError> {
        self.replica.missing(manifest).await
    }
    /// Writes pulled bytes into place beyond what is believed here; verifies the frames.
    ///
    /// # Errors
    /// On damage or when the disk refuses.
    pub async fn write_pulled(&self, range: &MissingRange, data: Bytes) -> Result<(), StoreError> {
        self.replica.write_pulled(range, data).await
    }
    /// Serves a follower's pull: bytes of a segment file, fewer at its end, whole frames not needed. Verifies what it gives.
    ///
    /// # Errors
    /// When the segment is gone, or damaged there.
    pub async fn read_segment(
        &self,
        at: TopicPartition,
        base_offset: i64,
        from_byte: u64,
        max_bytes: usize,
    ) -> Result<Bytes, StoreError> {
        self.replica.read_segment(at, base_offset, from_byte, max_bytes).await
    }
    /// Holds the files that the newest checkpoint names while the guard lives (S7, S9).
    #[must_use]
    pub fn hold(&self) -> PullHold {
        self.replica.holds.fetch_add(1, Ordering::SeqCst);
        PullHold(Arc::clone(&self.replica))
    }
    /// Makes a fully pulled manifest this replica's checkpoint: sync, verify, switch (S9). Rows and positions are the
    /// manifest's afterwards.
    ///
    /// # Errors
    /// When something is missing or the disk refuses.
    pub async fn install(&self, manifest: Bytes) -> Result<Checkpoint, StoreError> {
        self.replica.install(manifest).await
    }
}

/// Keeps files of a manifest from being unlinked.
#[derive(Debug)]
pub struct PullHold(Arc<Replica>);

impl Drop for PullHold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
    }
}
