//! Owns what the cluster is: its nodes, shards, pools, group slots, topics and producer ids. Lives on shard 0 alone, in
//! the place of `ZooKeeper`. Never reaches into another shard: what a shard must know, shard 0's leader proposes there
//! (`steps`), and repeats until it is done (S16).
//!
//! Shard 0 itself is not among the shards listed here: it is born before there is a catalog (S12).

mod incarnations;
pub mod pools;
pub mod steps;
pub mod topic;
mod topics;

use std::collections::{BTreeMap, BTreeSet};

use waymark_proto::ids::{ClusterId, NodeId, ShardId, TopicId};

use super::command::{CatalogCommand, NodeEntry, ShardEntry};
use super::reply::{Refusal, Reply};
use super::slot::{GROUP_SLOTS, group_slot};
pub use incarnations::{Incarnations, Swap};
pub use pools::Pool;
pub use steps::PendingStep;
pub use topic::{TopicEntry, TopicPhase};
pub use topics::MAX_PARTITIONS;

/// Bits of a producer id below the cluster's salt.
const PRODUCER_COUNTER_BITS: u32 = 40;
const PRODUCER_SALT_BITS: u32 = 23;

/// The catalog of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    pub(in crate::state) founding: Option<Founding>,
    pub(in crate::state) nodes: BTreeMap<NodeId, NodeEntry>,
    /// The counter part of the next producer id; only rises.
    pub(in crate::state) next_producer: i64,
    pub(in crate::state) metadata_version: u64,
    /// The id of the next shard; only rises.
    pub(in crate::state) next_shard: u32,
    /// Slot s is served by `slot_shards[s % len]`.
    pub(in crate::state) slot_shards: Vec<ShardId>,
    pub(in crate::state) shards: BTreeMap<ShardId, ShardEntry>,
    /// Of nodes that ever lost a replica.
    pub(in crate::state) incarnations: BTreeMap<NodeId, Incarnations>,
    /// By replication factor; which shards a pool has follows from `shards`.
    pub(in crate::state) pools: BTreeMap<u32, Pool>,
    pub(in crate::state) topics: BTreeMap<TopicId, TopicEntry>,
    /// Follows from `topics`: all but those being deleted, whose names are free again.
    pub(in crate::state) names: BTreeMap<String, TopicId>,
    pub(in crate::state) dirty: CatalogDirty,
}

/// What founding a cluster fixed for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Founding {
    /// The cluster.
    pub cluster: ClusterId,
    /// The high part of every producer id.
    pub producer_salt: i64,
}

/// Rows changed since the last drain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::state) struct CatalogDirty {
    pub(in crate::state) root: bool,
    pub(in crate::state) topics: BTreeSet<TopicId>,
    pub(in crate::state) shards: BTreeSet<ShardId>,
    pub(in crate::state) incarnations: BTreeSet<NodeId>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            founding: None,
            nodes: BTreeMap::new(),
            next_producer: 0,
            metadata_version: 0,
            next_shard: 1,
            slot_shards: Vec::new(),
            shards: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            pools: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            dirty: CatalogDirty::default(),
        }
    }
}

impl Catalog {
    pub(super) fn apply(&mut self, command: CatalogCommand) -> Result<Reply, Refusal> {
        if let CatalogCommand::FoundCluster { cluster, producer_salt, nodes } = command {
            return self.found(Founding { cluster, producer_salt }, nodes);
        }
        let Some(founding) = self.founding else {
            return Err(Refusal::Misplaced("the cluster is not founded"));
        };
        match command {
            CatalogCommand::FoundCluster { .. } => Ok(Reply::Done),
            CatalogCommand::CreatePool { replication, shards } => {
                self.create_pool(replication, shards)
            }
            CatalogCommand::ShardBorn { shard } => self.shard_born(shard),
            CatalogCommand::CreateTopic {
                topic,
                name,
                partitions,
                replication,
                configs,
                time_ms,
            } => {
                let spec = topics::TopicSpec { name, partitions, replication, configs, time_ms };
                self.create_topic(topic, spec)
            }
            CatalogCommand::TopicStep { topic, version } => Ok(self.step_done(topic, version)),
            CatalogCommand::AlterTopic { topic, ops, expected_version } => {
                self.alter_topic(topic, ops, expected_version)
            }
            CatalogCommand::AddPartitions { topic, total } => self.add_partitions(topic, total),
            CatalogCommand::DeleteTopic { topic } => self.delete_topic(topic),
            CatalogCommand::PreferLeader { shard, node } => self.prefer_leader(shard, node),
            CatalogCommand::AdmitDisk { node, journal } => self.admit_disk(node, journal),
            CatalogCommand::ReplaceReplica { shard, old, votes } => {
                self.replace_replica(shard, old, votes)
            }
            CatalogCommand::ReplicaReplaced { shard, replica } => {
                self.replica_replaced(shard, replica)
            }
            CatalogCommand::AllocateProducerIds { count, .. } => {
                self.allocate_producer_ids(founding, count)
            }
        }
    }

    fn found(&mut self, founding: Founding, nodes: Vec<NodeEntry>) -> Result<Reply, Refusal> {
        if let Some(present) = self.founding {
            let same = present.cluster == founding.cluster;
            let other = Refusal::Misplaced("another cluster is founded here");
            return if same { Ok(Reply::Done) } else { Err(other) };
        }
        if founding.producer_salt < 0 || founding.producer_salt >> PRODUCER_SALT_BITS != 0 {
            return Err(Refusal::Invalid("the producer salt must be within 23 bits".to_owned()));
        }
        self.founding = Some(founding);
        self.nodes = nodes.into_iter().map(|node| (node.node, node)).collect();
        self.note_change();
        Ok(Reply::Done)
    }

    /// Runs are whole and never used again, also those that a node did not use up. They are no metadata, so that the
    /// version that watchers see stays.
    fn allocate_producer_ids(&mut self, founding: Founding, count: i32) -> Result<Reply, Refusal> {
        if count < 1 {
            return Err(Refusal::Invalid(format!("a run of ids must be at least 1, got {count}")));
        }
        let end = self.next_producer + i64::from(count);
        if end > 1 << PRODUCER_COUNTER_BITS {
            return Err(Refusal::Invalid("the cluster has no producer ids left".to_owned()));
        }
        let first = (founding.producer_salt << PRODUCER_COUNTER_BITS) | self.next_producer;
        self.next_producer = end;
        self.dirty.root = true;
        Ok(Reply::ProducerIds { first, count })
    }

    /// Every change that metadata shows raises its version.
    fn note_change(&mut self) {
        self.metadata_version += 1;
        self.dirty.root = true;
    }
}

/// What readers may know.
impl Catalog {
    /// The cluster; `None` until it is founded.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.founding.map(|founding| founding.cluster)
    }

    /// Raised on each change that metadata shows.
    #[must_use]
    pub fn metadata_version(&self) -> u64 {
        self.metadata_version
    }

    /// The nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.values()
    }

    /// The shards of all pools, by id; shard 0 is not among them.
    pub fn shards(&self) -> impl Iterator<Item = &ShardEntry> {
        self.shards.values()
    }

    /// One shard of a pool.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<&ShardEntry> {
        self.shards.get(&shard)
    }

    /// Shards that wait to be initialized (S12).
    pub fn unborn_shards(&self) -> impl Iterator<Item = &ShardEntry> {
        self.shards.values().filter(|shard| !shard.born)
    }

    /// The pool of a replication factor.
    #[must_use]
    pub fn pool(&self, replication: u32) -> Option<&Pool> {
        self.pools.get(&replication)
    }

    /// The shard that serves a slot; `None` until there is a pool.
    #[must_use]
    pub fn slot_shard(&self, slot: u16) -> Option<ShardId> {
        let place = usize::from(slot % GROUP_SLOTS).checked_rem(self.slot_shards.len())?;
        self.slot_shards.get(place).copied()
    }

    /// The shard that serves a group; `None` until there is a pool.
    #[must_use]
    pub fn group_shard(&self, group: &str) -> Option<ShardId> {
        self.slot_shard(group_slot(group))
    }

    /// One topic, also while it is being deleted.
    #[must_use]
    pub fn topic(&self, topic: TopicId) -> Option<&TopicEntry> {
        self.topics.get(&topic)
    }

    /// The topic that has this name now.
    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<&TopicEntry> {
        self.topics.get(self.names.get(name)?)
    }

    /// Topics in the order of their names, without those being deleted.
    pub fn topics(&self) -> impl Iterator<Item = &TopicEntry> {
        self.topics_from("")
    }

    /// As [`Catalog::topics`], from this name on: what a page begins with.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &TopicEntry> {
        self.names.range(name.to_owned()..).filter_map(|(_, id)| self.topics.get(id))
    }
}

#[cfg(test)]
mod tests;
