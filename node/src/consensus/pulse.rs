//! Owns when the shards that this node leads send their heartbeats: all at the same moment, so that those towards one node
//! travel in one call. Each shard's own timer would spread them over the interval, a call each. Never sends one itself:
//! openraft does, and takes in the answers.

use tokio::time::{MissedTickBehavior, interval, timeout};

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::member::Member;
use super::shard::Shard;

/// Beats for ever.
pub(super) async fn beat(member: &Member) {
    let every = member.options.heartbeat;
    let mut beats = interval(every);
    // After a stall one heartbeat says as much as all that were missed.
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        for shard in member.all_shards().into_iter().filter(leads) {
            // A task each: a replica whose queue is full must not hold up the others.
            tokio::spawn(async move {
                let _late_or_stopped = timeout(every, shard.core.raft.trigger().heartbeat()).await;
            });
        }
    }
}

/// Leads, whether it may serve yet or not.
fn leads(shard: &Shard) -> bool {
    shard.core.raft.server_metrics().borrow_watched().state == ServerState::Leader
}
