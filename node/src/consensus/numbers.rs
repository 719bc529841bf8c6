//! Owns what is told of the replicas on this node to whoever watches it: terms, positions, how far followers are. As of
//! now, from what openraft measures; it asks nobody and waits for nothing.

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use waymark_proto::ids::{NodeId, ShardId};

use super::Consensus;
use super::shard::Shard;

/// Where a replica stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaNumbers {
    /// Its shard.
    pub shard: ShardId,
    /// Its term.
    pub term: u64,
    /// Raft index of the last entry applied; 0 before the first.
    pub applied: u64,
    /// It leads, whether it may serve already or not.
    pub leads: bool,
    /// Leaders that came since the replica was started here.
    pub leader_changes: u64,
    /// Entries that each follower lacks; only where it leads.
    pub lags: Vec<(NodeId, u64)>,
}

impl Consensus {
    /// Where every replica of this node stands, sorted by shard.
    #[must_use]
    pub fn replica_numbers(&self) -> Vec<ReplicaNumbers> {
        self.shards().iter().map(numbers).collect()
    }
}

fn numbers(shard: &Shard) -> ReplicaNumbers {
    let applied = shard.applied_index().unwrap_or(0);
    let metrics = shard.core.raft.metrics();
    let metrics = metrics.borrow_watched();
    let last = metrics.last_log_index.unwrap_or(0);
    let followers = metrics.replication.iter().flatten();
    let followers = followers.filter(|(id, _)| id.0 != shard.replica());
    let lags = followers.map(|(id, matched)| {
        let matched = matched.map_or(0, |it| it.index);
        (id.0.node, last.saturating_sub(matched))
    });
    ReplicaNumbers {
        shard: shard.id(),
        term: metrics.current_term,
        applied,
        leads: metrics.state == ServerState::Leader,
        leader_changes: shard.core.leader_changes.get(),
        lags: lags.collect(),
    }
}
