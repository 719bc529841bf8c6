//! Owns when segments and checkpoints are looked at that nobody reads: round by round through all replicas of the node.
//! Never decides what a flaw means, and keeps no replica and no disk alive.

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::segment::{Pace, scrub};
use super::segment_writer::OpenReplicas;
use super::shard_store::StoreOptions;

/// Scrubs until told to stop. The first round begins after one interval: a start has checked the newest already.
pub(super) fn scrub_all(
    options: &StoreOptions,
    replicas: &OpenReplicas,
    stopping: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let (pace, interval) = (options.scrub_bytes_per_second, options.scrub_interval);
    let replicas = replicas.clone();
    let rounds = async move {
        if pace == 0 {
            return;
        }
        let mut due = Instant::now() + interval;
        loop {
            sleep_until(due).await;
            due = Instant::now() + interval;
            for replica in replicas.open_now() {
                scrub(replica, Pace(pace)).await;
            }
        }
    };
    async move {
        stopping.run_until_cancelled(rounds).await;
    }
}
