//! Owns what is told of nodes: who they are, whether they live, what they lead, and which one coordinates a group.

use std::collections::BTreeMap;

use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{NodeId, ShardId};

use super::places::ShardPlace;
use crate::broker::Core;
use crate::broker::admin::{NodeState, NodeView};
use crate::broker::refusal::{ELECTION_PAUSE_MS, failure};
use crate::state::catalog::Catalog;

impl Core {
    pub(in crate::broker) fn view(&self, node: NodeId) -> NodeView {
        let found = self.nodes.iter().find(|it| it.node == node);
        let rack = found.map(|it| it.rack.clone()).unwrap_or_default();
        NodeView { node, rack, address: self.address(node) }
    }

    pub(in crate::broker) fn node_states(&self) -> Result<Vec<NodeState>, Failure> {
        let places = self.shard_places();
        let sizes = self.catalog(shard_sizes)?;
        let told = self.told_lately();
        let state = |node: NodeId| {
            let (leaders, replicas) = load(node, &places, &sizes);
            let version = match node == self.node {
                true => env!("CARGO_PKG_VERSION").to_owned(),
                false => told.get(&node).map(|it| it.version.clone()).unwrap_or_default(),
            };
            NodeState {
                view: self.view(node),
                alive: self.is_alive(node),
                leaders,
                replicas,
                version,
            }
        };
        Ok(self.nodes.iter().map(|it| state(it.node)).collect())
    }

    /// The node that coordinates a group.
    pub(in crate::broker) fn coordinator(&self, group: &str) -> Result<NodeView, Failure> {
        let shard = self.group_shard(group)?;
        let leader = self.shard_places().remove(&shard).and_then(|place| place.leader);
        let loading = || {
            let mut failure =
                failure(FailureCode::CoordinatorLoading, "the coordinator is being elected");
            group.clone_into(&mut failure.subject);
            failure.retry_after_ms = ELECTION_PAUSE_MS;
            failure
        };
        leader.map(|leader| self.view(leader)).ok_or_else(loading)
    }
}

/// Partitions of each shard.
fn shard_sizes(catalog: &Catalog) -> BTreeMap<ShardId, i32> {
    let mut sizes: BTreeMap<ShardId, i32> = BTreeMap::new();
    for shard in catalog.topics().flat_map(|topic| &topic.partition_shards) {
        *sizes.entry(*shard).or_default() += 1;
    }
    sizes
}

/// Partitions that a node leads, and replicas that it holds.
fn load(
    node: NodeId,
    places: &BTreeMap<ShardId, ShardPlace>,
    sizes: &BTreeMap<ShardId, i32>,
) -> (i32, i32) {
    let size = |shard: &ShardId| sizes.get(shard).copied().unwrap_or(0);
    let led = places.iter().filter(|(_, place)| place.leader == Some(node));
    let held = places.iter().filter(|(_, place)| place.voters.contains(&node));
    (led.map(|(shard, _)| size(shard)).sum(), held.map(|(shard, _)| size(shard)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::catalog::catalog_with;

    #[test]
    fn a_node_s_load_is_counted_in_partitions() {
        let catalog = catalog_with(&["a", "b"]);
        let sizes = shard_sizes(&catalog);
        assert_eq!(sizes.values().sum::<i32>(), 6, "two topics of three partitions");
        let led = |leader| ShardPlace {
            leader,
            voters: vec![NodeId(1), NodeId(2)],
            ..ShardPlace::default()
        };
        let places = sizes.keys().map(|shard| (*shard, led(Some(NodeId(1))))).collect();
        assert_eq!(load(NodeId(1), &places, &sizes), (6, 6));
        assert_eq!(load(NodeId(2), &places, &sizes), (0, 6));
        assert_eq!(load(NodeId(3), &places, &sizes), (0, 0));
    }
}
