//! Owns one topic as the catalog knows it. Never knows what its partitions hold.

use std::collections::BTreeMap;

use waymark_proto::ids::{PartitionId, ShardId, TopicId};

use crate::state::topic_config::TopicConfig;

/// Where a topic stands on its way through the shards (S16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicPhase {
    /// Its partitions are being opened.
    Creating,
    /// All its shards know it as the catalog does.
    Ready,
    /// New settings or more partitions are being spread; it serves meanwhile.
    Altering,
    /// Its partitions are being closed; its name is free.
    Deleting,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicEntry {
    /// Its id, for ever.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its replication factor, which names its pool.
    pub replication: u32,
    /// Configuration that differs from the defaults, as given, by key.
    pub configs: BTreeMap<String, String>,
    /// The whole configuration; follows from `configs`.
    pub config: TopicConfig,
    /// Partition p lives in `partition_shards[p]`.
    pub partition_shards: Vec<ShardId>,
    /// Where it stands.
    pub phase: TopicPhase,
    /// Raised by each change, from 1.
    pub version: u64,
    /// When it was created, Unix ms.
    pub created_ms: i64,
}

impl TopicEntry {
    /// The shard of a partition; `None` when the topic has no such partition.
    #[must_use]
    pub fn shard_of(&self, partition: PartitionId) -> Option<ShardId> {
        self.partition_shards.get(usize::try_from(partition.0).ok()?).copied()
    }

    /// Its shards with the partitions that each holds, in the order of shards.
    #[must_use]
    pub fn by_shard(&self) -> BTreeMap<ShardId, Vec<i32>> {
        let mut shards: BTreeMap<ShardId, Vec<i32>> = BTreeMap::new();
        for (partition, shard) in (0_i32..).zip(&self.partition_shards) {
            shards.entry(*shard).or_default().push(partition);
        }
        shards
    }
}
