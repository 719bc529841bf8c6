//! Owns that leaderships go back to the nodes that the catalog prefers (S13), after a failure moved them; that a leader
//! whose own disk stalls gives up (S4), and one whose disk is full hands over to one that has room (S19); and that the journal's oldest files become
//! free. Never forces a move: the target must be alive and level.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use tokio::time::{sleep, timeout};
use waymark_proto::ids::{NodeId, ShardId};

use super::member::Member;
use super::room::Level;
use super::shard::Shard;
use super::types::{C, RaftNode};

const RECLAIM_PAUSE: Duration = Duration::from_secs(1);

/// Moves leaders back for ever.
pub(super) async fn balance(member: &Member) {
    loop {
        sleep(member.options.balance_interval).await;
        for shard in member.all_shards() {
            if !shard.leadership().ready {
                continue;
            }
            let Some(to) = better_leader(member, &shard) else { continue };
            if let Err(error) = shard.transfer_to(to).await {
                tracing::debug!(shard = %shard.id(), %to, %error, "leadership not moved");
            }
        }
    }
}

/// Who should lead instead: the preferred node, and while this one's disk is full whoever has room.
fn better_leader(member: &Member, shard: &Shard) -> Option<NodeId> {
    let fits = |node: &NodeId| {
        *node != member.node
            && member.level_of(*node) == Level::Records
            && is_level(member, shard, *node)
    };
    let preferred = preferred(member, shard.id()).filter(fits);
    if member.level() == Level::Records {
        return preferred;
    }
    preferred.or_else(|| shard.progress().into_iter().map(|(id, _)| id.node).find(fits))
}

fn preferred(member: &Member, shard: ShardId) -> Option<NodeId> {
    if shard == ShardId::CATALOG {
        return Some(member.founder());
    }
    let shard0 = member.shard(ShardId::CATALOG)?;
    shard0.read(|state| Some(state.catalog()?.shard(shard)?.initializer))
}

/// The target hears this leader and lacks little. What it lacks then comes while proposals pause.
fn is_level(member: &Member, shard: &Shard, node: NodeId) -> bool {
    let metrics = shard.core.raft.metrics();
    let metrics = metrics.borrow_watched();
    let Some(replication) = &metrics.replication else { return false };
    let votes = |id: &RaftNode| metrics.membership_config.voter_ids().any(|voter| voter == *id);
    let mut there = replication.iter().filter(|(id, _)| id.0.node == node && votes(id));
    let Some((id, matched)) = there.next_back() else { return false };
    let last = metrics.last_log_index.unwrap_or(0);
    let close = matched.is_some_and(|it| it.index + 1000 >= last);
    close && hears(member, *id, &metrics)
}

fn hears(member: &Member, id: RaftNode, metrics: &RaftMetrics<C>) -> bool {
    let acked = metrics.heartbeat.as_ref().and_then(|all| all.get(&id)).and_then(Option::as_ref);
    acked.is_some_and(|at| at.elapsed() < member.options.heartbeat * 3)
}

/// Gives every leadership up when the journal takes longer than two elections to sync: the followers would be faster.
pub(super) async fn watch_journal(member: &Member) {
    let limit = member.options.election_max * 2;
    loop {
        sleep(member.options.heartbeat).await;
        if timeout(limit, member.parts.journal.barrier()).await.is_ok() {
            continue;
        }
        tracing::error!(node = %member.node, "the journal stalls, giving leaderships up");
        for shard in member.all_shards() {
            hand_over(&shard).await;
        }
    }
}

/// Hands a leadership to the follower that has most; true when there was none to hand over, or it moved.
pub(super) async fn hand_over(shard: &Shard) -> bool {
    let best = shard.progress().into_iter().max_by_key(|(_, matched)| *matched);
    match best {
        Some((to, _)) => shard.transfer_to(to.node).await.is_ok(),
        None => true,
    }
}

/// Urges the replicas that hold the oldest journal file to checkpoint, once the journal has grown beyond what all replicas
/// keep when each checkpoints in its turn, and what is kept for pulls (S3, S6, S9).
pub(super) async fn reclaim_journal(member: &Arc<Member>) {
    let most = member.options.checkpoint_bytes.saturating_mul(2);
    let most = most.saturating_add(member.options.kept_bytes);
    // Files are reclaimed once half of them is dead.
    let for_pulls = member.network.options().pull_kept_bytes.saturating_mul(2);
    loop {
        sleep(RECLAIM_PAUSE).await;
        let shards = member.all_shards();
        let pulled = shards.iter().filter(|shard| shard.core.kept_log.lowest().is_some());
        let allowed = [(most, shards.len().max(1)), (for_pulls, pulled.count())]
            .map(|(bytes, shards)| bytes.saturating_mul(shards as u64));
        if member.parts.journal.disk_bytes() <= allowed[0].saturating_add(allowed[1]) {
            continue;
        }
        let started = member.started.lock().unwrap_or_else(PoisonError::into_inner);
        for key in member.parts.journal.oldest_holders() {
            if let Some(started) = started.get(&key.shard) {
                started.urged.notify_one();
            }
        }
    }
}
