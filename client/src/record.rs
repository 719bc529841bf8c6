//! Owns the vocabulary of records: what is sent, what is received, and where. Never encodes or decodes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A partition of a topic, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name; shared, so that a record names its topic without copying.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl<T: Into<Arc<str>>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        Self::new(topic, partition)
    }
}

/// A named value beside a record; keys may repeat, order is kept, an absent value differs from an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub key: Bytes,
    /// The value.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }
}

/// A record to send.
///
/// ```
/// use waymark_client::ProducerRecord;
/// let record = ProducerRecord::new("orders").key("customer-7").value("3 apples").header("trace", "af01");
/// assert_eq!(record.topic(), "orders");
/// ```
#[derive(Debug, Clone)]
pub struct ProducerRecord {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
    pub(crate) timestamp_ms: Option<i64>,
}

impl ProducerRecord {
    /// A record for this topic, without key and value.
    pub fn new(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// Sets the key: records of one key stay in one partition, in order.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value; a record without one is a tombstone.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Sets the partition, past every partitioner.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header::new(key, value));
        self
    }

    /// Sets the time of the record, Unix ms; otherwise the clock at `send`.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp: i64) -> Self {
        self.timestamp_ms = Some(timestamp);
        self
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// An upper bound of its size in a batch, bytes: what it costs in buffer memory.
    pub(crate) fn cost(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|h| 10 + h.key.len() + len(&h.value)).sum();
        RECORD_OVERHEAD + len(&self.key) + len(&self.value) + headers
    }
}

/// Five varints of at most 5 bytes, one of 10 and the attributes.
const RECORD_OVERHEAD: usize = 36;

/// What an acknowledged record got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordReceipt {
    /// Where it is.
    pub at: TopicPartition,
    /// Its offset. `None`: an earlier attempt was appended so long ago that the cluster has forgotten where.
    pub offset: Option<i64>,
    /// Its timestamp, Unix ms: its own, or the leader's where the topic says so.
    pub timestamp_ms: i64,
    /// How safe it is, for its whole batch.
    pub batch: Arc<BatchReceipt>,
}

/// What the cluster says of an acknowledged batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchReceipt {
    /// Offset of the first record; see [`RecordReceipt::offset`].
    pub base_offset: Option<i64>,
    /// The leader's clock at the first attempt, Unix ms.
    pub append_time_ms: i64,
    /// The topic's records carry the append time instead of their own.
    pub log_append_time: bool,
    /// The partition's leader epoch.
    pub leader_epoch: i32,
    /// The durability reached, in the contract's words, for example `QUORUM_FSYNC`.
    pub achieved: &'static str,
    /// Replicas known to have it on disk at the time of the acknowledgement: a lower bound.
    pub durable_replicas: i32,
    /// Replicas of the partition.
    pub replicas: i32,
    /// An earlier attempt had been appended; this is its receipt.
    pub duplicate: bool,
}

/// A record received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Unix ms.
    pub timestamp_ms: i64,
    /// The key; absent differs from empty.
    pub key: Option<Bytes>,
    /// The value; absent (a tombstone) differs from empty.
    pub value: Option<Bytes>,
    /// In the order in which they were sent.
    pub headers: Vec<Header>,
    /// Leader epoch under which it was appended; `None` where the batch does not say.
    pub leader_epoch: Option<i32>,
    /// Under which ownership of the partition it was handed out: it rises with every new owner and every reset, for ever. A
    /// sink that stores it can reject what an earlier owner still sends. `None` without a subscription.
    pub fencing_epoch: Option<i64>,
}

impl ConsumerRecord {
    /// Where it came from.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: Arc::clone(&self.topic), partition: self.partition }
    }

    /// What to commit once this record is processed: the offset after it, under the ownership it came with.
    #[must_use]
    pub fn next_position(&self) -> OffsetAndMetadata {
        OffsetAndMetadata {
            offset: self.offset + 1,
            leader_epoch: self.leader_epoch,
            metadata: None,
            fencing_epoch: self.fencing_epoch,
        }
    }
}

/// A position to commit, or one that was committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the record before it.
    pub leader_epoch: Option<i32>,
    /// The application's own words; absent differs from empty.
    pub metadata: Option<String>,
    /// Ownership under which it was reached (see [`ConsumerRecord::fencing_epoch`]): the commit is refused once the partition
    /// has moved on or was reset. `None` in a commit: what the records in hand came with.
    pub fencing_epoch: Option<i64>,
}

/// Where a time is in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    /// Of the first record, in offset order, at or after the time.
    pub offset: i64,
    /// That record's own, Unix ms.
    pub timestamp_ms: Option<i64>,
    /// Leader epoch under which it was appended.
    pub leader_epoch: Option<i32>,
}

impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> Self {
        Self { offset, ..Self::default() }
    }
}
