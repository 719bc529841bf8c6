//! What the data services ask of this node's partitions, in domain types: the seam between the services and the broker, so
//! that a stream's protocol can be tested against logs that a test writes. Never a generated type.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;
use waymark_proto::failure::Failure;
use waymark_proto::ids::TopicPartition;

use crate::state::Receipt;

/// One batch to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where to.
    pub at: TopicPartition,
    /// The caller's view of the leadership; another one is refused.
    pub leader_epoch: Option<i32>,
    /// Append only at this offset.
    pub expected_base_offset: Option<i64>,
    /// The outcome is told by then, known or not.
    pub deadline: Instant,
    /// Exactly one whole batch, as it came.
    pub batch: Bytes,
}

/// A batch on a quorum of disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The state's receipt.
    pub receipt: Receipt,
    /// The leader's time stands in the batch.
    pub log_append_time: bool,
    /// Replicas known to hold it durably: a lower bound.
    pub durable_replicas: i32,
    /// Replicas of the partition.
    pub replicas: i32,
    /// For reads that must see it; opaque.
    pub read_token: Bytes,
}

/// Where to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAt {
    /// The partition.
    pub at: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// The caller's view of the leadership; another one is refused.
    pub leader_epoch: Option<i32>,
    /// The epoch of the last batch that the caller read.
    pub last_fetched_epoch: Option<i32>,
    /// Most bytes; the first batch is whole whatever its size.
    pub max_bytes: usize,
}

/// Where a partition stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The first offset.
    pub log_start: i64,
    /// The first offset that is not yet committed and applied.
    pub high_watermark: i64,
    /// The partition's leader epoch.
    pub leader_epoch: i32,
}

/// Batches below the high watermark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batches {
    /// Whole batches, back to back, as stored.
    pub bytes: Bytes,
    /// Where to go on reading.
    pub next_offset: i64,
    /// Where the partition stood.
    pub marks: Marks,
}

/// The outcome of a batch that was taken.
pub type Appending = BoxFuture<'static, Result<Appended, Failure>>;

/// The partitions that this node leads.
#[async_trait]
pub trait Logs: Send + Sync + Debug + 'static {
    /// Appends a batch. Batches of a partition are taken in the order of these calls, not of the first polls; the outcome
    /// is decided even if the future is dropped.
    ///
    /// # Errors
    /// When the batch is not taken: said at once, so that the caller can refuse those that must not overtake it.
    fn append(&self, batch: Append) -> Result<Appending, Failure>;

    /// Reads below the high watermark; nothing at it.
    async fn read(&self, at: ReadAt) -> Result<Batches, Failure>;

    /// Resolves once the high watermark is above `seen`, or this node's leadership of the partition changed.
    fn changed(&self, at: TopicPartition, seen: Marks) -> BoxFuture<'static, ()>;

    /// A producer id that was never given before.
    async fn new_producer_id(&self, deadline: Instant) -> Result<i64, Failure>;

    /// Where a partition stands, if this node leads it.
    fn marks(&self, at: TopicPartition) -> Option<Marks>;
}

/// A shared handle to [`Logs`].
pub type SharedLogs = Arc<dyn Logs>;
