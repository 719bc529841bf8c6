//! Replicas drawn by hand, for the tests of those who judge from above. Nothing of it runs.

use waymark_node::consensus::LogStand;
use waymark_node::state::ShardState;
use waymark_node::storage::raft_record::{LogId, Vote};
use waymark_proto::ids::{NodeId, ReplicaId, ShardId};

use crate::subject::Sight;

/// The shard of all of them.
pub(crate) const SHARD: ShardId = ShardId(3);

pub(crate) fn replica(node: u32) -> ReplicaId {
    ReplicaId { node: NodeId(node), incarnation: 0 }
}

pub(crate) fn entry(term: u64, leader: u32, index: u64) -> LogId {
    LogId { term, leader: replica(leader), index }
}

pub(crate) fn vote(term: u64, node: u32) -> Vote {
    Vote { term, voted_for: replica(node), committed: true }
}

/// A log of node 1 from index 0 on, by the terms of its entries.
pub(crate) fn log(terms: &[u64]) -> Vec<LogId> {
    terms.iter().zip(0..).map(|(term, index)| entry(*term, 1, index)).collect()
}

/// A replica in its first life that follows node 1 in term 1, with this log from index 0 on, all of it durable, and so much
/// of it applied.
pub(crate) fn sight(node: u32, log: &[LogId], applied: usize) -> Sight {
    let own: Vec<LogId> = log.to_vec();
    let stand = LogStand {
        applied: log.get(applied.wrapping_sub(1)).copied(),
        last: log.last().copied(),
        purged: None,
        vote: Some(vote(1, 1)),
        durable_vote: Some(vote(1, 1)),
        believed_vote: vote(1, 1),
        leads: node == 1,
        believed: Vec::new(),
    };
    Sight {
        node,
        life: 1,
        shard: SHARD,
        replica: replica(node),
        stand,
        entry: Box::new(move |index| own.get(usize::try_from(index).ok()?).copied()),
        on_disk: Box::new(|_| true),
        state: Box::new(|| ShardState::new(SHARD)),
        honest_disk: true,
    }
}
