//! Owns which incarnation of each replica is the one that counts (S10): ids are given here, greatest ever and one more, and
//! never again. A replica that lost what it voted or acknowledged is *swapped*: both ids stand here until the shard's own
//! members have the new one instead of the old. Never changes the members of a shard: its leader does (`consensus`).

use std::collections::BTreeMap;

use waymark_proto::ids::{NodeId, ReplicaId, ShardId};

use super::Catalog;
use crate::mutants;
use crate::state::reply::{Refusal, Reply};

/// A replica that is being replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap {
    /// The incarnation that was, or still is, a voter.
    pub old: u32,
    /// The one that comes instead.
    pub new: u32,
}

/// The incarnations of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incarnations {
    /// The greatest ever given to any replica of the node; only rises.
    pub(in crate::state) greatest: u32,
    /// What its newest disk began with: older ids were on disks that are gone.
    pub(in crate::state) disk: u32,
    /// The journal on that disk; 0 before a disk was lost.
    pub(in crate::state) journal: u64,
    /// Of its replica of shard 0, which no [`ShardEntry`](crate::state::command::ShardEntry) names.
    pub(in crate::state) catalog: u32,
    /// By shard.
    pub(in crate::state) swaps: BTreeMap<ShardId, Swap>,
}

impl Catalog {
    pub(super) fn admit_disk(&mut self, node: NodeId, journal: u64) -> Result<Reply, Refusal> {
        if !self.nodes.contains_key(&node) {
            return Err(Refusal::Invalid(format!("node {node} is not of this cluster")));
        }
        if let Some(known) = self.incarnations.get(&node)
            && known.disk > 0
            && known.journal == journal
        {
            return Ok(Reply::Incarnation(known.disk));
        }
        let new = self.allot(node)?;
        let held = self.shards.values().flat_map(|entry| {
            let here = entry.replicas.iter().filter(|it| it.node == node);
            here.map(|it| (entry.shard, it.incarnation))
        });
        let mut held: BTreeMap<ShardId, u32> = held.collect();
        let known = self.incarnations.entry(node).or_default();
        held.insert(ShardId::CATALOG, known.catalog);
        (known.disk, known.journal) = (new, journal);
        for (shard, old) in held {
            known.swaps.insert(shard, Swap { old, new });
        }
        self.note_swap(node);
        Ok(Reply::Incarnation(new))
    }

    pub(super) fn replace_replica(
        &mut self,
        shard: ShardId,
        old: ReplicaId,
        votes: bool,
    ) -> Result<Reply, Refusal> {
        let node = old.node;
        let Some(now) = self.replica_on(shard, node) else {
            return Err(Refusal::Invalid(format!("node {node} holds no replica of shard {shard}")));
        };
        if now.incarnation > old.incarnation {
            return Ok(Reply::Incarnation(now.incarnation));
        }
        if now != old {
            return Err(Refusal::Invalid(format!("shard {shard} never had a replica {old}")));
        }
        if votes && !self.can_spare(shard, node, |_| true) {
            return Err(Refusal::NoMajorityWithout);
        }
        let new = self.allot(node)?;
        let swaps = &mut self.incarnations.entry(node).or_default().swaps;
        // One that is itself replaced before it took its place leaves the voter that it would have replaced.
        let voter = swaps.get(&shard).map_or(old.incarnation, |swap| swap.old);
        swaps.insert(shard, Swap { old: voter, new });
        self.note_swap(node);
        Ok(Reply::Incarnation(new))
    }

    pub(super) fn replica_replaced(
        &mut self,
        shard: ShardId,
        replica: ReplicaId,
    ) -> Result<Reply, Refusal> {
        let Some(known) = self.incarnations.get_mut(&replica.node) else {
            return Ok(Reply::Done);
        };
        // The news of a swap that was overtaken by another one says nothing about that one.
        if known.swaps.get(&shard).is_none_or(|swap| swap.new != replica.incarnation) {
            return Ok(Reply::Done);
        }
        known.swaps.remove(&shard);
        if shard == ShardId::CATALOG {
            known.catalog = replica.incarnation;
        } else if let Some(entry) = self.shards.get_mut(&shard) {
            for here in entry.replicas.iter_mut().filter(|it| it.node == replica.node) {
                *here = replica;
            }
            self.dirty.shards.insert(shard);
        }
        self.note_swap(replica.node);
        Ok(Reply::Done)
    }

    /// An incarnation that no replica of the node ever had.
    fn allot(&mut self, node: NodeId) -> Result<u32, Refusal> {
        let held = self.shards.values().flat_map(|entry| &entry.replicas);
        let held = held.filter(|it| it.node == node).map(|it| it.incarnation).max();
        let known = self.incarnations.get(&node).map_or(0, |known| known.greatest);
        let next = known.max(held.unwrap_or(0)).checked_add(1);
        let next =
            next.ok_or_else(|| Refusal::Invalid(format!("node {node} has no incarnations left")))?;
        self.incarnations.entry(node).or_default().greatest = next;
        Ok(next)
    }

    fn note_swap(&mut self, node: NodeId) {
        self.dirty.incarnations.insert(node);
        self.note_change();
    }
}

/// What readers may know.
impl Catalog {
    /// What the newest disk of a node began with; 0 for the first one.
    #[must_use]
    pub fn disk_of(&self, node: NodeId) -> u32 {
        self.incarnations.get(&node).map_or(0, |known| known.disk)
    }

    /// The replica of a shard that runs on a node: the new one, while it is being replaced. Shard 0 is on every node.
    #[must_use]
    pub fn replica_on(&self, shard: ShardId, node: NodeId) -> Option<ReplicaId> {
        let known = self.incarnations.get(&node);
        let settled = if shard == ShardId::CATALOG {
            self.nodes.get(&node).map(|_| known.map_or(0, |known| known.catalog))
        } else {
            let entry = self.shards.get(&shard)?;
            entry.replicas.iter().find(|it| it.node == node).map(|it| it.incarnation)
        };
        let swap = known.and_then(|known| known.swaps.get(&shard));
        let incarnation = swap.map_or(settled?, |swap| swap.new);
        Some(ReplicaId { node, incarnation })
    }

    /// Whether the replicas of a shard that are not being replaced, on nodes that `run`, are a majority without the one on this
    /// node. A swap needs the votes of one, so to take such a replica away by oneself would stop the shard.
    #[must_use]
    pub fn can_spare(&self, shard: ShardId, node: NodeId, run: impl Fn(NodeId) -> bool) -> bool {
        let holders: Vec<NodeId> = if shard == ShardId::CATALOG {
            self.nodes.keys().copied().collect()
        } else {
            let entry = self.shards.get(&shard);
            entry.map_or(Vec::new(), |it| it.replicas.iter().map(|it| it.node).collect())
        };
        let sound = |it: &&NodeId| **it != node && run(**it) && self.swap(shard, **it).is_none();
        holders.iter().filter(sound).count() > holders.len() / 2
            || mutants::planted!("replaces-the-majority")
    }

    /// The swap of a node's replica of a shard.
    #[must_use]
    pub fn swap(&self, shard: ShardId, node: NodeId) -> Option<Swap> {
        self.incarnations.get(&node)?.swaps.get(&shard).copied()
    }

    /// All replicas that are being replaced, by node and shard.
    pub fn swaps(&self) -> impl Iterator<Item = (ShardId, NodeId, Swap)> {
        self.incarnations.iter().flat_map(|(node, known)| {
            known.swaps.iter().map(move |(shard, swap)| (*shard, *node, *swap))
        })
    }
}
