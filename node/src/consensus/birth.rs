//! Owns how a shard gets its first leader: at its birth (S12), and after a start of its node, when nobody leads it yet. The
//! node that prefers to lead acts at once, the others only after their timers. Never raises a term that a leader holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::EmptyNode;
use tokio::time::{Instant, sleep, timeout};
use waymark_proto::ids::{NodeId, ShardId};

use super::member::Member;
use super::propose;
use super::types::RaftNode;
use crate::state::command::ShardEntry;
use crate::state::{CatalogCommand, Command};

const PROPOSAL_TIME: Duration = Duration::from_secs(5);
/// A wake-up that was missed costs this much.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Long enough for an election on loopback or in one rack; a cluster that is started as a whole needs a few of them.
const TURN: Duration = Duration::from_millis(40);

/// Only while nothing of the shard is here: a replica that ever voted or wrote must not begin again.
pub(super) async fn initialize(member: &Member, entry: &ShardEntry) {
    let Some(shard) = member.shard(entry.shard) else { return };
    let raft = &shard.core.raft;
    if !matches!(raft.is_initialized().await, Ok(false)) {
        return;
    }
    let members: BTreeMap<RaftNode, EmptyNode> =
        entry.replicas.iter().map(|id| (RaftNode(*id), EmptyNode {})).collect();
    match raft.initialize(members).await {
        Ok(()) => tracing::info!(shard = %entry.shard, "shard initialized"),
        Err(error) => tracing::warn!(shard = %entry.shard, %error, "shard not initialized"),
    }
}

/// A shard is born once its first entry is committed. Returns once the catalog was told: nothing; or the shard, when it has
/// to be told again.
pub(super) async fn announce(member: &Member, shard: ShardId) -> Option<ShardId> {
    loop {
        let Some(replica) = member.shard(shard) else {
            sleep(LOOK_AGAIN).await;
            continue;
        };
        // Subscribed before the look, so that no change falls between.
        let mut leadership = replica.watch_leadership();
        if replica.applied_index().is_some() {
            break;
        }
        let _changed_or_not = timeout(LOOK_AGAIN, leadership.changed()).await;
    }
    let command = Command::Catalog(CatalogCommand::ShardBorn { shard });
    let deadline = Instant::now() + PROPOSAL_TIME;
    let told = propose::anywhere(member, ShardId::CATALOG, &command.encode(), deadline).await;
    let error = told.err()?;
    tracing::debug!(%shard, %error, "birth not recorded yet");
    Some(shard)
}

/// After a start, replicas ask for votes in turns instead of after their timers, for as long as a timer would run: first the
/// one that prefers to lead, then the others, of whom one may have a longer log. A pre-vote is asked first, so that a shard
/// that is led is left alone.
pub(super) async fn awaken(member: Arc<Member>, entry: ShardEntry) {
    let Some(turn) = turn(&entry, member.node) else { return };
    let round = TURN * u32::try_from(entry.replicas.len()).unwrap_or(u32::MAX);
    let until = Instant::now() + member.options.election_max;
    let mut pause = TURN * turn;
    while Instant::now() < until && !member.stopping.is_cancelled() {
        let Some(replica) = member.shard(entry.shard) else { return };
        let mut leadership = replica.watch_leadership();
        if timeout(pause, leadership.wait_for(|now| now.leader.is_some())).await.is_ok() {
            return;
        }
        if replica.core.raft.trigger().elect(true).await.is_err() {
            return;
        }
        pause = round;
    }
}

/// How many others come before a node.
fn turn(entry: &ShardEntry, node: NodeId) -> Option<u32> {
    let first = entry.replicas.iter().position(|it| it.node == entry.initializer).unwrap_or(0);
    let own = entry.replicas.iter().position(|it| it.node == node)?;
    let count = entry.replicas.len();
    u32::try_from((own + count - first) % count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymark_proto::ids::ReplicaId;

    #[test]
    fn the_preferred_leader_s_turn_is_first_and_everybody_has_another_one() {
        let replicas = [4, 7, 9].map(|node| ReplicaId { node: NodeId(node), incarnation: 0 });
        let entry = ShardEntry {
            shard: ShardId(1),
            replicas: replicas.to_vec(),
            initializer: NodeId(7),
            born: true,
            replication: 3,
        };
        let turns = [4, 7, 9].map(|node| turn(&entry, NodeId(node)));
        assert_eq!(turns, [Some(2), Some(0), Some(1)]);
        assert_eq!(turn(&entry, NodeId(1)), None);
    }
}
