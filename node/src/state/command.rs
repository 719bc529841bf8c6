//! Owns everything that a Raft entry may contain, as domain types. Time, ids and settings come as data: the state that
//! applies a command has nothing else to ask (S16, S18). Never applies anything.

use bytes::Bytes;
use waymark_proto::ids::{ClusterId, NodeId, ReplicaId, ShardId, TopicId, TopicPartition};

use super::groups::{Actor, GroupEntry};
use super::holds::Hold;

/// What a Raft entry asks a shard's state to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Append batches, each with a verdict of its own.
    Produce(Produce),
    /// Partitions of a topic begin to live in this shard. Repeating it changes nothing, nor does it for a deleted topic.
    OpenPartitions {
        /// The topic.
        topic: TopicId,
        /// What the partitions need of its configuration.
        settings: PartitionSettings,
        /// Which partitions.
        partitions: Vec<i32>,
    },
    /// New settings for all partitions of a topic in this shard; an older version changes nothing.
    AlterPartitions {
        /// The topic.
        topic: TopicId,
        /// The new settings.
        settings: PartitionSettings,
    },
    /// All partitions of a topic leave this shard and give their space back.
    ClosePartitions {
        /// The topic.
        topic: TopicId,
    },
    /// Raise log starts: retention, or an operator's request. A lower offset than now changes nothing.
    AdvanceLogStart {
        /// Which, and how far.
        items: Vec<LogStartRise>,
    },
    /// Raise floors of groups, or lower them before a reset (S20). The reply tells each partition's log start.
    SetHolds {
        /// The floors.
        items: Vec<Hold>,
        /// Floors only fall; otherwise they only rise.
        lower: bool,
    },
    /// Forget producers that were last heard before a time.
    ExpireProducers {
        /// Unix ms.
        last_append_before_ms: i64,
    },
    /// A group's progress.
    CommitOffsets(CommitOffsets),
    /// Forget committed offsets of a group; none named means all.
    DeleteOffsets {
        /// The group.
        group: String,
        /// Which partitions.
        partitions: Vec<TopicPartition>,
        /// The leader's clock, Unix ms.
        time_ms: i64,
        /// Who asked for it.
        actor: Actor,
    },
    /// Members, partitions and positions of a group.
    Group(GroupEntry),
    /// A topic was deleted: forget every group's committed offsets of it.
    ForgetTopic {
        /// The topic.
        topic: TopicId,
    },
    /// A command of the catalog (shard 0 only).
    Catalog(CatalogCommand),
}

/// A partition's new first offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStartRise {
    /// The partition.
    pub at: TopicPartition,
    /// Its new first offset.
    pub to: i64,
    /// Only while no group's floor is below this: what retention saw when it decided. `None`: whatever is held.
    pub floor_seen: Option<i64>,
}

/// Batches to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produce {
    /// The leader's wall clock at the proposal, Unix ms: the batches' append time.
    pub append_time_ms: i64,
    /// In the order in which they are appended.
    pub items: Vec<ProduceItem>,
}

/// One batch to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceItem {
    /// Where to.
    pub at: TopicPartition,
    /// Append only if this is the base offset that it would get.
    pub expected_base_offset: Option<i64>,
    /// Exactly one whole record batch v2, checked at the door; base offset and leader epoch as sent are ignored.
    pub batch: Bytes,
}

/// What a partition needs to know of its topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSettings {
    /// A segment rolls before it would exceed this many bytes.
    pub segment_bytes: i64,
    /// A segment rolls at the first append this many ms after its first.
    pub segment_ms: i64,
    /// Oldest segments go while a partition holds more; `None`: never.
    pub retention_bytes: Option<i64>,
    /// Segments go when their newest record is older; `None`: never.
    pub retention_ms: Option<i64>,
    /// Largest batch.
    pub max_message_bytes: i32,
    /// The leader stamps its own time into batches.
    pub log_append_time: bool,
    /// Groups whose floors hold retention up, sorted.
    pub hold_groups: Vec<String>,
    /// Bytes that holds may keep beyond what retention would; `None`: no limit.
    pub hold_max_bytes: Option<i64>,
    /// The catalog's version of the topic; an older one never replaces a newer one.
    pub version: u64,
}

/// A group's progress to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    /// The group.
    pub group: String,
    /// By what right.
    pub committer: Committer,
    /// Positions.
    pub items: Vec<OffsetCommit>,
    /// One bad item refuses all.
    pub all_or_nothing: bool,
    /// Above 0: ordered per member; a lower one than stored is superseded. 0: the last arrival wins.
    pub commit_seq: i64,
    /// The leader's clock, Unix ms.
    pub commit_time_ms: i64,
    /// What made the caller commit, as on the wire: kept in the ledger.
    pub cause: i32,
    /// The caller's words, kept in the ledger.
    pub note: String,
    /// Who committed, as the node knows: kept in the ledger unless a member did, which the group knows.
    pub actor: Actor,
}

/// By what right offsets are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committer {
    /// From outside the group, while it has no members. A name orders the commits of one process.
    Outside {
        /// May be empty: the last arrival wins.
        name: String,
        /// Its sequences have to be above everybody's.
        in_line: bool,
    },
    /// A member, of partitions that it holds (CONTRACT §0.6).
    Member {
        /// Its id.
        id: String,
        /// The generation that it has taken on.
        epoch: i32,
        /// The seat that it believes to sit on: tells one whose seat was taken from a stranger.
        instance: Option<String>,
    },
}

impl Committer {
    /// Whose commits are ordered by their sequence; empty: nobody's.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Outside { name, .. } => name,
            Self::Member { id, .. } => id,
        }
    }
}

/// One position to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The partition.
    pub at: TopicPartition,
    /// The NEXT offset to read.
    pub offset: i64,
    /// Leader epoch of the record before it.
    pub leader_epoch: Option<i32>,
    /// The application's own words; `None` differs from empty.
    pub metadata: Option<String>,
    /// Record only if this is what is stored now.
    pub expected_offset: Option<i64>,
    /// The assignment's fencing epoch.
    pub fencing_epoch: Option<i64>,
}

/// A node as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its id.
    pub node: NodeId,
    /// Its rack, may be empty.
    pub rack: String,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
    /// Where peers reach it, `host:port`.
    pub peer_address: String,
}

/// A shard as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardEntry {
    /// Its id.
    pub shard: ShardId,
    /// Its replicas, voters all.
    pub replicas: Vec<ReplicaId>,
    /// The one node that may initialize it while unborn, and its preferred leader, which may change later.
    pub initializer: NodeId,
    /// Initialized, and its first entry committed (S12).
    pub born: bool,
    /// The pool it belongs to: topics of this replication factor.
    pub replication: u32,
}

/// Changes of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogCommand {
    /// The first entry of a cluster. A second one changes nothing.
    FoundCluster {
        /// Drawn by the founder.
        cluster: ClusterId,
        /// 23 bits, the high part of every producer id.
        producer_salt: i64,
        /// The configured nodes.
        nodes: Vec<NodeEntry>,
    },
    /// The shards for topics of one replication factor. A second one for the same factor changes nothing. The pool
    /// of the first call also receives the 4,096 group slots.
    CreatePool {
        /// The factor.
        replication: u32,
        /// Replicas and initializer of each new shard; their ids are given by the catalog, in this order.
        shards: Vec<(Vec<ReplicaId>, NodeId)>,
    },
    /// A shard has committed its first entry.
    ShardBorn {
        /// Which.
        shard: ShardId,
    },
    /// A topic begins, in phase creating. The same id and spec again is fine.
    CreateTopic {
        /// Its id, made by the client or the node.
        topic: TopicId,
        /// Its name.
        name: String,
        /// How many partitions.
        partitions: i32,
        /// Replication factor; its pool must exist.
        replication: u32,
        /// Configuration that differs from the defaults.
        configs: Vec<(String, String)>,
        /// Unix ms.
        time_ms: i64,
    },
    /// All shards have taken a topic's step: creating or altering → ready, deleting → gone.
    TopicStep {
        /// The topic.
        topic: TopicId,
        /// The version that was spread.
        version: u64,
    },
    /// Change a topic's configuration: value, or `None` for the default.
    AlterTopic {
        /// The topic.
        topic: TopicId,
        /// Key and new value.
        ops: Vec<(String, Option<String>)>,
        /// Only if the topic has this version.
        expected_version: Option<u64>,
    },
    /// Give a topic more partitions; the new total.
    AddPartitions {
        /// The topic.
        topic: TopicId,
        /// The total.
        total: i32,
    },
    /// Delete a topic.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// From now on another replica of a born shard is the preferred leader.
    PreferLeader {
        /// The shard.
        shard: ShardId,
        /// The node that prefers to lead it.
        node: NodeId,
    },
    /// A node has an empty disk, and what it held before is lost: all its replicas are replaced under a new incarnation
    /// (S10, S12). The same disk may ask again.
    AdmitDisk {
        /// The node.
        node: NodeId,
        /// The journal on its disk.
        journal: u64,
    },
    /// A replica must not run under its id any more (S11): it is replaced under a new incarnation. May be repeated.
    ReplaceReplica {
        /// Of which shard.
        shard: ShardId,
        /// Which.
        old: ReplicaId,
        /// Whether it votes until then: it is refused while its shard has no majority without it.
        votes: bool,
    },
    /// A shard's members have the new replica of a node and none before it. May be repeated.
    ReplicaReplaced {
        /// Which shard.
        shard: ShardId,
        /// The new replica.
        replica: ReplicaId,
    },
    /// Give a node a run of producer ids.
    AllocateProducerIds {
        /// To whom.
        node: NodeId,
        /// How many.
        count: i32,
    },
}
