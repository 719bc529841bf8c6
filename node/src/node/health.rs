//! Owns what a node says of its health, in the standard service: "live" while the process runs, and the empty name once it
//! can do its work, which is when every shard here knows a leader.

use std::time::Duration;

use tokio::time::sleep;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use waymark_proto::ids::ShardId;

use crate::consensus::Consensus;

/// Ready to serve.
const READY: &str = "";
/// The process runs.
const LIVE: &str = "live";
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Keeps the service up to date, for ever.
pub(super) async fn report(reporter: HealthReporter, consensus: Consensus) {
    reporter.set_service_status(LIVE, ServingStatus::Serving).await;
    let mut told = None;
    loop {
        let ready = is_ready(&consensus);
        if told != Some(ready) {
            tracing::info!(ready, "readiness changed");
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(READY, status).await;
            told = Some(ready);
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The catalog has its first pool, all of its shards are born, and every replica on this node knows who leads it.
fn is_ready(consensus: &Consensus) -> bool {
    let shards = consensus.shards();
    let catalog = shards.iter().find(|shard| shard.id() == ShardId::CATALOG);
    let complete = catalog.is_some_and(|shard| {
        shard.read(|state| {
            state.catalog().is_some_and(|catalog| {
                catalog.shards().count() > 1 && catalog.unborn_shards().next().is_none()
            })
        })
    });
    complete && shards.iter().all(|shard| shard.leadership().leader.is_some())
}
