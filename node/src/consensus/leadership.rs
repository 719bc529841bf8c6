//! Owns what this node says of a shard's leadership: `ready` only once an entry of the leader's own term is applied, since
//! before that its producer table may lack what an earlier leader acknowledged. Also notices that a replica died.

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;

use super::Leadership;
use super::shard::Shard;
use super::types::C;
use crate::mutants;

/// Publishes until the replica ends; returns why it did. `metrics().running_state` alone does not tell that it has: after a
/// panic it says that all is well, but its senders are gone.
pub(super) async fn publish(shard: &Shard) -> Fatal<C> {
    let mut changes = shard.core.raft.server_metrics();
    let mut leading = shard.core.applied.leading.subscribe();
    loop {
        let now = {
            let seen = changes.borrow_watched();
            let term = seen.vote.leader_id.term;
            let leads = seen.state == ServerState::Leader;
            let own = Some((term, shard.replica()));
            let applied_own = *leading.borrow_and_update() == own;
            let ready = leads && (applied_own || mutants::planted!("ready-before-own-term"));
            let leader = seen.current_leader.map(|id| id.0.node);
            Leadership { leader, term, ready }
        };
        set(shard, now);
        tokio::select! {
            // Fails once the replica's task has ended, however it did. The other metrics change with every entry.
            changed = changes.changed() => if changed.is_err() { break },
            _ = leading.changed() => {}
        }
    }
    let term = shard.leadership().term;
    set(shard, Leadership { leader: None, term, ready: false });
    let ended = shard.core.raft.metrics().borrow_watched().running_state.clone();
    ended.err().unwrap_or(Fatal::Panicked)
}

fn set(shard: &Shard, now: Leadership) {
    let mut before = now;
    let changed = shard.core.leadership.send_if_modified(|known| {
        before = std::mem::replace(known, now);
        before != now
    });
    if now.leader.is_some() && (before.leader, before.term) != (now.leader, now.term) {
        shard.core.leader_changes.one();
    }
    if changed {
        tracing::info!(
            shard = %shard.id(), term = now.term, leader = ?now.leader, ready = now.ready,
            "leadership"
        );
        shard.core.applied.announce(now);
    }
}
