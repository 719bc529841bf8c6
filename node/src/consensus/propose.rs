//! Owns finding a shard's leader for a proposal: here, or one hop away. Repeats only what is certain not to have been
//! written (S15). Never gives up before the deadline while that holds.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use waymark_proto::ids::{NodeId, ShardId};

use super::member::Member;
use super::network::PeerError;
use super::{Committed, ProposeError};

const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Proposes wherever the shard is led.
pub(super) async fn anywhere(
    member: &Member,
    shard: ShardId,
    command: &Bytes,
    deadline: Instant,
) -> Result<Committed, ProposeError> {
    let mut hint: Option<NodeId> = None;
    let mut refused = ProposeError::ExpiredUnsent;
    let mut round = 0;
    loop {
        if Instant::now() >= deadline {
            return Err(refused);
        }
        let outcome = match target(member, shard, hint.take(), round) {
            Some(node) if node == member.node => local(member, shard, command, deadline).await,
            Some(node) => remote(member, node, shard, command, deadline).await,
            None => Err(ProposeError::NoQuorum(shard)),
        };
        refused = match outcome {
            Ok(committed) => return Ok(committed),
            Err(ProposeError::ExpiredUnsent) => return Err(refused),
            Err(unknown @ ProposeError::OutcomeUnknown(_)) => return Err(unknown),
            Err(certain) => certain,
        };
        if let ProposeError::NotLeader { leader, .. } = &refused {
            hint = *leader;
        }
        round += 1;
        sleep_until(deadline.min(Instant::now() + RETRY_PAUSE)).await;
    }
}

async fn local(
    member: &Member,
    shard: ShardId,
    command: &Bytes,
    deadline: Instant,
) -> Result<Committed, ProposeError> {
    let Some(replica) = member.shard(shard) else { return Err(ProposeError::NotHere(shard)) };
    replica.propose_encoded(command.clone(), deadline).await
}

async fn remote(
    member: &Member,
    node: NodeId,
    shard: ShardId,
    command: &Bytes,
    deadline: Instant,
) -> Result<Committed, ProposeError> {
    match member.network.propose(node, shard, command.clone(), deadline).await {
        Ok(outcome) => outcome,
        Err(PeerError::Unanswered { reason, .. }) => Err(ProposeError::OutcomeUnknown(reason)),
        Err(_) => Err(ProposeError::NotLeader { shard, leader: None }),
    }
}

/// Whom to ask: the hint of the last refusal, the leader as the local replica knows it, else the replicas in turn.
pub(super) fn target(
    member: &Member,
    shard: ShardId,
    hint: Option<NodeId>,
    round: usize,
) -> Option<NodeId> {
    let local = member.shard(shard).and_then(|it| it.leadership().leader);
    if let Some(leader) = hint.or(local) {
        return Some(leader);
    }
    let replicas = replica_nodes(member, shard);
    replicas.get(round % replicas.len().max(1)).copied()
}

fn replica_nodes(member: &Member, shard: ShardId) -> Vec<NodeId> {
    if shard == ShardId::CATALOG {
        return member.nodes.iter().map(|it| it.node).collect();
    }
    let Some(shard0) = member.shard(ShardId::CATALOG) else { return Vec::new() };
    shard0.read(|state| {
        let entry = state.catalog().and_then(|catalog| catalog.shard(shard));
        entry.map(|it| it.replicas.iter().map(|id| id.node).collect()).unwrap_or_default()
    })
}
