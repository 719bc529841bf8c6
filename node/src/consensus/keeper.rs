//! Owns the first entries of a catalog: the founding of the cluster and its first pool. Whoever leads shard 0 proposes what
//! is missing, and again until it is there, so that a founder's crash in between leaves nothing half done.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use waymark_proto::ids::{NodeId, ReplicaId, ShardId};

use super::member::Member;
use super::shard::Shard;
use crate::state::command::NodeEntry;
use crate::state::{CatalogCommand, Command, Reply};

/// Only while a cluster is being founded, so it may be short: clients wait for the end of it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const PROPOSAL_TIME: Duration = Duration::from_secs(5);
/// The high part of producer ids has this many bits.
const SALT_BITS: u32 = 23;

/// Returns once the catalog is complete, as seen here.
pub(super) async fn complete_catalog(member: &Member) {
    loop {
        let Some(shard0) = member.shard(ShardId::CATALOG) else {
            sleep(LOOK_AGAIN).await;
            continue;
        };
        let mut leadership = shard0.watch_leadership();
        let leads = leadership.borrow_and_update().ready;
        let Some(command) = missing(member, &shard0) else { return };
        if leads && add(&shard0, command).await {
            continue;
        }
        let _changed_or_not = timeout(LOOK_AGAIN, leadership.changed()).await;
    }
}

/// True once it is applied here.
async fn add(shard0: &Shard, command: CatalogCommand) -> bool {
    let deadline = Instant::now() + PROPOSAL_TIME;
    match shard0.propose(Command::Catalog(command), deadline).await {
        Ok(committed) => match committed.reply {
            Reply::Refused(refusal) => {
                tracing::error!(%refusal, "the catalog refuses its founding");
                false
            }
            _ => true,
        },
        Err(error) => {
            tracing::warn!(%error, "the catalog is not complete yet");
            false
        }
    }
}

fn missing(member: &Member, shard0: &Shard) -> Option<CatalogCommand> {
    let replication = member.options.default_replication.min(node_count(member)).max(1);
    let (founded, pooled) = shard0.read(|state| {
        let catalog = state.catalog();
        let founded = catalog.is_some_and(|it| it.cluster().is_some());
        (founded, catalog.is_some_and(|it| it.pool(replication).is_some()))
    });
    if !founded {
        let cluster = (*member.cluster.borrow())?;
        let salt = member.parts.env.random.next_u64() >> (u64::BITS - SALT_BITS);
        let nodes = member.nodes.iter().map(|it| NodeEntry {
            node: it.node,
            rack: it.rack.clone(),
            client_address: it.client_address.clone(),
            peer_address: it.peer_address.clone(),
        });
        return Some(CatalogCommand::FoundCluster {
            cluster,
            producer_salt: i64::try_from(salt).unwrap_or(0),
            nodes: nodes.collect(),
        });
    }
    let nodes: Vec<NodeId> = member.nodes.iter().map(|it| it.node).collect();
    let shards = spread_pool(&nodes, replication, member.options.shards_per_node);
    (!pooled).then_some(CatalogCommand::CreatePool { replication, shards })
}

fn node_count(member: &Member) -> u32 {
    u32::try_from(member.nodes.len()).unwrap_or(u32::MAX)
}

/// The replicas of a pool's shards: initializers rotate, so that every node leads its share, and followers rotate too, so
/// that a lost node's load does not fall on one other.
#[must_use]
pub fn spread_pool(
    nodes: &[NodeId],
    replication: u32,
    shards_per_node: u32,
) -> Vec<(Vec<ReplicaId>, NodeId)> {
    let count = nodes.len();
    let total = count * usize::try_from(shards_per_node.max(1)).unwrap_or(1);
    let others = usize::try_from(replication).unwrap_or(1).clamp(1, count.max(1)) - 1;
    let place = |shard: usize| {
        let first = shard % count;
        // The others follow the leader at a distance that changes from round to round.
        let turn = shard / count;
        let rest = count - 1;
        let followers = (0..others).map(|it| (first + 1 + (turn + it) % rest) % count);
        let chosen = std::iter::once(first).chain(followers);
        let replicas = chosen.map(|at| ReplicaId { node: nodes[at], incarnation: 0 }).collect();
        (replicas, nodes[first])
    };
    (0..total).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_node_leads_its_share_and_no_shard_has_a_node_twice() {
        for count in 1..6_u32 {
            for replication in 1..=count {
                let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
                let pool = spread_pool(&nodes, replication, 3);
                let mut led = BTreeMap::<NodeId, u32>::new();
                for (replicas, leader) in &pool {
                    let distinct: BTreeSet<_> = replicas.iter().collect();
                    assert_eq!(distinct.len(), replication as usize);
                    assert!(replicas.iter().any(|it| it.node == *leader));
                    *led.entry(*leader).or_default() += 1;
                }
                assert!(led.values().all(|shards| *shards == 3), "{led:?}");
                assert_eq!(led.len(), nodes.len());
            }
        }
    }
}
