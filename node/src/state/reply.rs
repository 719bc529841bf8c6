//! Owns what a state answers to a command, and what it asks the layers around it to do. Never does any of it.

use bytes::Bytes;
use waymark_proto::ids::{ShardId, TopicId, TopicPartition};

use super::groups::Changed;

/// The answer to one command, on the replica that proposed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Blank and membership entries, and commands whose only answer is that they were applied.
    Done,
    /// A verdict per batch, in order.
    Produced(Vec<Result<Receipt, Refusal>>),
    /// A verdict per position, in order.
    Committed(Vec<Result<(), Refusal>>),
    /// What became of a group.
    Group(Changed),
    /// Committed offsets that were forgotten.
    OffsetsDeleted(u64),
    /// The log start of each partition asked for, in order.
    LogStarts(Vec<Result<i64, Refusal>>),
    /// A topic's id and version after a catalog command.
    Topic {
        /// The topic.
        topic: TopicId,
        /// Its version.
        version: u64,
    },
    /// The shards of a pool.
    Pool(Vec<ShardId>),
    /// The first id of a run.
    ProducerIds {
        /// First id.
        first: i64,
        /// How many.
        count: i32,
    },
    /// The incarnation under which replicas come back.
    Incarnation(u32),
    /// The command was refused as a whole.
    Refused(Refusal),
}

/// What an appended batch got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Its records.
    pub record_count: i32,
    /// The leader's clock at the first attempt.
    pub append_time_ms: i64,
    /// The partition's leader epoch at the first attempt.
    pub leader_epoch: i32,
    /// The partition's first offset now.
    pub log_start_offset: i64,
    /// Appended by an earlier attempt; this is the original's receipt.
    pub duplicate: bool,
}

/// Why a state says no. The broker turns it into a failure of the wire's closed list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The partition does not live in this shard.
    #[error("partition {0} is not here")]
    NoPartition(TopicPartition),
    /// The topic does not exist.
    #[error("topic {0} does not exist")]
    NoTopic(TopicId),
    /// A topic of that name exists.
    #[error("topic {0:?} exists")]
    TopicExists(String),
    /// The topic is at another version.
    #[error("the topic is at version {actual}")]
    VersionMismatch {
        /// The version now.
        actual: u64,
    },
    /// There is no pool for this replication factor.
    #[error("no shards for replication factor {0}")]
    NoPool(u32),
    /// Without the replica its shard would have no majority.
    #[error("without this replica its shard would have no majority")]
    NoMajorityWithout,
    /// A number or a config value that is not legal.
    #[error("{0}")]
    Invalid(String),
    /// The batch's base offset would be another one.
    #[error("the next offset is {actual:?}")]
    ConditionFailed {
        /// What it would be; for a committed offset what is stored, if any.
        actual: Option<i64>,
    },
    /// A gap in a producer's sequence.
    #[error("sequence {expected} must come next")]
    OutOfOrderSequence {
        /// The next sequence.
        expected: i32,
    },
    /// Appended earlier, its offset forgotten.
    #[error("appended earlier, its offset is forgotten")]
    DuplicateSequence,
    /// A newer epoch of the producer has appended.
    #[error("a newer epoch of this producer has appended")]
    ProducerFenced,
    /// A producer or epoch that starts elsewhere than at sequence 0.
    #[error("this producer epoch is not known and does not start at sequence 0")]
    UnknownProducer,
    /// The batch is larger than the topic allows.
    #[error("the batch is larger than {limit} bytes")]
    BatchTooLarge {
        /// The topic's limit.
        limit: i32,
    },
    /// An entry that is not a record batch: the door must have refused it.
    #[error("not a record batch")]
    BadBatch,
    /// A later commit of this member is stored.
    #[error("a later commit is stored")]
    Superseded,
    /// A commit in line is not above one of another committer: late on its way, or of a clock that is behind.
    #[error("a commit of another committer has the sequence {actual}")]
    SequenceBehind {
        /// What it has to be above.
        actual: i64,
    },
    /// The committer's fencing epoch is older than the stored one.
    #[error("fenced by epoch {actual}")]
    Fenced {
        /// The stored one.
        actual: i64,
    },
    /// The group does not exist.
    #[error("the group does not exist")]
    NoGroup,
    /// The group's positions were moved since the caller looked at it.
    #[error("the group's offsets were moved in generation {generation}")]
    MovedSince {
        /// Which the last move began.
        generation: i32,
    },
    /// The group has members.
    #[error("the group has members")]
    GroupNotEmpty,
    /// The group has as many members as it may.
    #[error("a group has at most {limit} members")]
    GroupFull {
        /// How many.
        limit: usize,
    },
    /// Not a member of the group (any more).
    #[error("not a member of the group")]
    UnknownMember,
    /// The member does not hold the partition, or got it again since: it was moved away, or its position was reset.
    #[error("partition {0} is not held under this generation")]
    NotOwner(TopicPartition),
    /// Another process is connected under the instance.
    #[error("instance {0:?} is in use")]
    InstanceInUse(String),
    /// Another process took over the instance.
    #[error("another process has taken over the instance")]
    InstanceFenced,
    /// The group's members read the topic.
    #[error("the group's members read the topic")]
    TopicInUse,
    /// Another item of an all-or-nothing command failed.
    #[error("another item failed")]
    NotAttempted,
    /// The offset lies beyond what the partition holds.
    #[error("the offset lies outside {log_start}..={next_offset}")]
    OffsetOutOfRange {
        /// The first offset.
        log_start: i64,
        /// The offset after the last record.
        next_offset: i64,
    },
    /// The cluster is already founded, or a shard-0 command came elsewhere.
    #[error("not legal here: {0}")]
    Misplaced(&'static str),
}

/// What the layers around the state must do because an entry was applied; in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Bytes for a partition's segments.
    Append(StampedBatch),
    /// The first offset of a partition rose.
    LogStart {
        /// The partition.
        at: TopicPartition,
        /// Its first offset.
        offset: i64,
    },
    /// A partition began to live here.
    Opened(TopicPartition),
    /// A partition lives here no more: its files may go after the next checkpoint (S7).
    Closed(TopicPartition),
    /// A group changed in a way that its members must know of.
    GroupChanged(String),
    /// The catalog changed: wake who watches it.
    CatalogChanged,
    /// Another leader's first entry was applied: leader epochs rose.
    LeaderChanged,
}

/// A batch with its place, ready to be framed into a segment (S8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampedBatch {
    /// The partition.
    pub at: TopicPartition,
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset after the last record.
    pub next_offset: i64,
    /// The batch's largest timestamp.
    pub max_timestamp: i64,
    /// The entry's append time.
    pub append_time_ms: i64,
    /// The entry's Raft index and term.
    pub index: u64,
    /// See `index`.
    pub term: u64,
    /// The batch begins a new segment (its base offset names it).
    pub starts_segment: bool,
    /// The first 21 bytes of the batch as stored: base offset, length, leader epoch, magic, CRC.
    pub stamp: [u8; 21],
    /// The batch from byte 21 on, a slice of the Raft entry.
    pub body: Bytes,
}

impl StampedBatch {
    /// Bytes of the whole batch.
    #[must_use]
    pub fn batch_len(&self) -> usize {
        self.stamp.len() + self.body.len()
    }
}

/// A changed row of the tables: `None` removes it. Keys begin with the row family's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key within the shard.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}
