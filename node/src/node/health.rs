//! Owns what a node says of its health, in the standard service: "live" while the process runs; the empty name and the name
//! of each public service once it can do its work, which is when every shard of this node knows a leader, and until it
//! begins to stop.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use waymark_proto::ids::{NodeId, ShardId};

use crate::api::SERVICES;
use crate::consensus::Consensus;

/// Ready to serve.
const READY: &str = "";
/// The process runs.
const LIVE: &str = "live";
/// A node that is about to be ready is waited for …
const LOOK_SOON: Duration = Duration::from_millis(10);
/// … and one that loses a leader for a moment need not say so at once.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Says that the process runs and does not serve yet. Before the door opens: what is not said counts as serving.
pub(super) async fn begin(reporter: &HealthReporter) {
    reporter.set_service_status(LIVE, ServingStatus::Serving).await;
    tell(reporter, false).await;
}

/// Keeps the service up to date until the node begins to stop.
pub(super) async fn report(
    reporter: HealthReporter,
    (node, consensus): (NodeId, Consensus),
    draining: CancellationToken,
) {
    let mut told = false;
    let following = async {
        loop {
            let ready = is_ready(node, &consensus);
            if told != ready {
                tell(&reporter, ready).await;
                told = ready;
            }
            sleep(if ready { LOOK_AGAIN } else { LOOK_SOON }).await;
        }
    };
    draining.run_until_cancelled(following).await;
    tell(&reporter, false).await;
}

async fn tell(reporter: &HealthReporter, ready: bool) {
    tracing::info!(ready, "readiness changed");
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in SERVICES.iter().copied().chain([READY]) {
        reporter.set_service_status(name, status).await;
    }
}

/// The catalog has its first pool, all of its shards are born, and every replica that it places on this node runs and
/// knows who leads it. One that is being replaced is nobody's to wait for: its shard may have been lost with it.
pub(super) fn is_ready(node: NodeId, consensus: &Consensus) -> bool {
    let led = |shard: ShardId| {
        consensus.shard(shard).is_some_and(|shard| shard.leadership().leader.is_some())
    };
    let Some(shard0) = consensus.shard(ShardId::CATALOG) else { return false };
    let placed: Option<Vec<ShardId>> = shard0.read(|state| {
        let catalog = state.catalog()?;
        let mut all = catalog.shards().peekable();
        let complete = all.peek().is_some() && catalog.unborn_shards().next().is_none();
        let here = all.filter(|shard| {
            let is_here = shard.replicas.iter().any(|it| it.node == node);
            is_here && catalog.swap(shard.shard, node).is_none()
        });
        complete.then(|| here.map(|shard| shard.shard).collect())
    });
    placed.is_some_and(|placed| led(ShardId::CATALOG) && placed.into_iter().all(led))
}
