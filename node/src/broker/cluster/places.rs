//! Owns where partitions live: all that is asked of a shard is worked out once and shared by its partitions, so that a
//! topic of a thousand partitions costs a dozen looks. Clients never hear of shards.

use std::collections::BTreeMap;

use waymark_proto::ids::{NodeId, PartitionId, ShardId, TopicId, TopicPartition};

use crate::broker::Core;
use crate::broker::admin::PartitionPlace;
use crate::consensus::LedShard;

/// Where a shard's replicas are, as far as this node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::broker) struct ShardPlace {
    pub(in crate::broker) leader: Option<NodeId>,
    pub(in crate::broker) voters: Vec<NodeId>,
    pub(in crate::broker) in_sync: Vec<NodeId>,
    pub(in crate::broker) offline: Vec<NodeId>,
}

impl Core {
    /// Where the partitions of a topic live, in order; none for a topic that this node does not know.
    pub(in crate::broker) fn places(&self, topic: TopicId) -> Vec<PartitionPlace> {
        let shards = self.catalog(|catalog| {
            catalog.topic(topic).map(|it| it.partition_shards.clone()).unwrap_or_default()
        });
        let shards = shards.unwrap_or_default();
        let places = self.shard_places();
        let place = |(number, shard): (i32, &ShardId)| {
            let at = TopicPartition { topic, partition: PartitionId(number) };
            let replica = self.consensus.shard(*shard);
            let epoch = match &replica {
                Some(replica) => self.leader_epoch(replica, at).unwrap_or(0),
                None => self.epoch_elsewhere(at),
            };
            let place = places.get(shard).cloned().unwrap_or_default();
            PartitionPlace {
                partition: at.partition,
                leader: place.leader,
                leader_epoch: epoch,
                voters: place.voters,
                in_sync: place.in_sync,
                offline: place.offline,
            }
        };
        (0..).zip(&shards).map(place).collect()
    }

    /// Every shard of the catalog, and the catalog's own.
    pub(in crate::broker) fn shard_places(&self) -> BTreeMap<ShardId, ShardPlace> {
        let voters = self.catalog(|catalog| {
            let entries = catalog.shards();
            let nodes = |replicas: &[waymark_proto::ids::ReplicaId]| {
                replicas.iter().map(|it| it.node).collect::<Vec<_>>()
            };
            entries.map(|it| (it.shard, nodes(&it.replicas))).collect::<BTreeMap<_, _>>()
        });
        let mut voters = voters.unwrap_or_default();
        let everyone = self.nodes.iter().map(|it| it.node).collect();
        voters.insert(ShardId::CATALOG, everyone);
        let told = self.told_lately().into_iter();
        let mut led: BTreeMap<NodeId, Vec<LedShard>> =
            told.map(|(node, it)| (node, it.led)).collect();
        led.insert(self.node, self.consensus.led());
        let known = |shard| self.consensus.shard(shard).and_then(|it| it.leadership().leader);
        voters
            .into_iter()
            .map(|(shard, voters)| {
                let offline = voters.iter().copied().filter(|node| !self.is_alive(*node)).collect();
                (shard, place(shard, (voters, offline), known(shard), &led))
            })
            .collect()
    }
}

/// A shard's place, from what its replica here knows and what every node that answered lately leads.
fn place(
    shard: ShardId,
    (voters, offline): (Vec<NodeId>, Vec<NodeId>),
    known: Option<NodeId>,
    led: &BTreeMap<NodeId, Vec<LedShard>>,
) -> ShardPlace {
    let claims = led.iter().flat_map(|(node, all)| all.iter().map(move |it| (node, it)));
    // An older leader may not know yet that it is none.
    let claim = claims.filter(|(_, it)| it.shard == shard).max_by_key(|(_, it)| it.term);
    let leader = known.or_else(|| claim.map(|(node, _)| *node));
    let told = claim.filter(|(node, _)| Some(**node) == leader).map(|(_, it)| &it.in_sync);
    let keeps_up = |node: &NodeId| told.is_none_or(|told| told.contains(node));
    let in_sync =
        voters.iter().copied().filter(|node| keeps_up(node) && !offline.contains(node)).collect();
    ShardPlace { leader, voters, in_sync, offline }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(4);

    fn nodes(ids: &[u32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn leads(term: u64, in_sync: &[u32]) -> Vec<LedShard> {
        vec![LedShard { shard: SHARD, term, in_sync: nodes(in_sync) }]
    }

    #[test]
    fn the_leader_says_who_keeps_up() {
        let led = BTreeMap::from([(NodeId(1), leads(3, &[1, 3])), (NodeId(2), vec![])]);
        let place = place(SHARD, (nodes(&[1, 2, 3]), vec![]), Some(NodeId(1)), &led);
        assert_eq!(place.leader, Some(NodeId(1)));
        assert_eq!(place.in_sync, nodes(&[1, 3]));
    }

    #[test]
    fn a_node_that_is_silent_is_offline_and_not_in_sync() {
        let led = BTreeMap::from([(NodeId(1), leads(3, &[1, 2, 3])), (NodeId(2), vec![])]);
        let place = place(SHARD, (nodes(&[1, 2, 3]), nodes(&[3])), Some(NodeId(1)), &led);
        assert_eq!(place.offline, nodes(&[3]));
        assert_eq!(place.in_sync, nodes(&[1, 2]));
    }

    #[test]
    fn without_a_replica_here_the_claim_of_the_highest_term_counts() {
        let led = BTreeMap::from([(NodeId(1), leads(3, &[1])), (NodeId(2), leads(4, &[1, 2]))]);
        let place = place(SHARD, (nodes(&[1, 2]), vec![]), None, &led);
        assert_eq!(place.leader, Some(NodeId(2)));
        assert_eq!(place.in_sync, nodes(&[1, 2]));
    }

    #[test]
    fn a_shard_that_nobody_leads_has_no_leader() {
        let led = BTreeMap::from([(NodeId(1), vec![])]);
        assert_eq!(place(SHARD, (nodes(&[1]), vec![]), None, &led).leader, None);
    }
}
