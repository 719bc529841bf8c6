//! Owns the pools: the shards that serve topics of one replication factor, and which of them gets the next partition.
//! Never moves a partition.

use std::collections::BTreeSet;

use waymark_proto::ids::{NodeId, ReplicaId, ShardId};

use super::Catalog;
use crate::state::command::ShardEntry;
use crate::state::reply::{Refusal, Reply};

/// The shards of one replication factor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// In the order of their ids; never empty.
    pub shards: Vec<ShardId>,
    /// Which of them gets the next partition: topics go on where the last one ended, so that many small topics spread
    /// as evenly as a large one.
    pub(in crate::state) next: usize,
}

impl Pool {
    /// A pool of these shards that goes on at one of them.
    pub(in crate::state) fn new(shards: Vec<ShardId>, next: usize) -> Self {
        Self { shards, next }
    }

    /// The shards of the next `count` partitions.
    pub(super) fn place(&mut self, count: usize) -> Vec<ShardId> {
        let from_next = self.shards.iter().cycle().skip(self.next);
        let placed: Vec<ShardId> = from_next.take(count).copied().collect();
        self.next = (self.next + count).checked_rem(self.shards.len()).unwrap_or(0);
        placed
    }
}

impl Catalog {
    pub(super) fn create_pool(
        &mut self,
        replication: u32,
        shards: Vec<(Vec<ReplicaId>, NodeId)>,
    ) -> Result<Reply, Refusal> {
        if let Some(pool) = self.pools.get(&replication) {
            return Ok(Reply::Pool(pool.shards.clone()));
        }
        if shards.is_empty() {
            return Err(Refusal::Invalid("a pool must have at least 1 shard".to_owned()));
        }
        for (replicas, initializer) in &shards {
            self.check_replicas(replication, replicas, *initializer)?;
        }
        let room =
            u32::try_from(shards.len()).ok().and_then(|len| self.next_shard.checked_add(len));
        let Some(next_shard) = room else {
            return Err(Refusal::Invalid("the cluster has no shard ids left".to_owned()));
        };
        let ids: Vec<ShardId> = (self.next_shard..next_shard).map(ShardId).collect();
        self.next_shard = next_shard;
        for (shard, (mut replicas, initializer)) in ids.iter().zip(shards) {
            for replica in &mut replicas {
                // Older ones are of a disk that is lost, and never run again.
                replica.incarnation = replica.incarnation.max(self.disk_of(replica.node));
            }
            let entry =
                ShardEntry { shard: *shard, replicas, initializer, born: false, replication };
            self.shards.insert(*shard, entry);
            self.dirty.shards.insert(*shard);
        }
        if self.slot_shards.is_empty() {
            self.slot_shards.clone_from(&ids);
        }
        self.pools.insert(replication, Pool::new(ids.clone(), 0));
        self.note_change();
        Ok(Reply::Pool(ids))
    }

    fn check_replicas(
        &self,
        replication: u32,
        replicas: &[ReplicaId],
        initializer: NodeId,
    ) -> Result<(), Refusal> {
        let nodes: BTreeSet<NodeId> = replicas.iter().map(|replica| replica.node).collect();
        let wrong = |why: String| Err(Refusal::Invalid(why));
        if nodes.len() != replicas.len() || u32::try_from(nodes.len()) != Ok(replication) {
            return wrong(format!("a shard of this pool must be on {replication} different nodes"));
        }
        if let Some(stranger) = nodes.iter().find(|node| !self.nodes.contains_key(node)) {
            return wrong(format!("node {stranger} is not of this cluster"));
        }
        if !nodes.contains(&initializer) {
            return wrong(format!("node {initializer} initializes a shard that it does not hold"));
        }
        Ok(())
    }

    pub(super) fn shard_born(&mut self, shard: ShardId) -> Result<Reply, Refusal> {
        let Some(entry) = self.shards.get_mut(&shard) else {
            return Err(Refusal::Invalid(format!("shard {shard} does not exist")));
        };
        if !entry.born {
            entry.born = true;
            self.dirty.shards.insert(shard);
            self.note_change();
        }
        Ok(Reply::Done)
    }

    /// No metadata shows it, so that the version that watchers see stays. While a shard is unborn, one node alone may
    /// initialize it (S12): that node must not change.
    pub(super) fn prefer_leader(&mut self, shard: ShardId, node: NodeId) -> Result<Reply, Refusal> {
        let entry = self.shards.get_mut(&shard).filter(|entry| entry.born);
        let Some(entry) = entry else {
            return Err(Refusal::Invalid(format!("shard {shard} is not born")));
        };
        if !entry.replicas.iter().any(|replica| replica.node == node) {
            let why = format!("node {node} holds no replica of shard {shard}");
            return Err(Refusal::Invalid(why));
        }
        if entry.initializer != node {
            entry.initializer = node;
            self.dirty.shards.insert(shard);
        }
        Ok(Reply::Done)
    }
}
