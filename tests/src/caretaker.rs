//! Somebody who looks after the cluster while a storm goes on: moves leaders, and makes, grows and deletes topics that nobody
//! else uses. What comes of it is nobody's promise; that the rest goes on is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::subject::{Chore, Subject};
use crate::tally::Tally;

/// Between two chores at most.
const LONGEST_PAUSE_MS: u64 = 3_000;

/// Starts on a host of its own; ends with `stop`.
pub(crate) fn start(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    tally: &Tally,
) -> Arc<AtomicBool> {
    let seed = cluster.draw(0, u64::MAX);
    let mut client = subject.client(seed);
    let mut random = SmallRng::seed_from_u64(seed);
    let (nodes, partitions, tally) = (cluster.nodes(), subject.partitions(), tally.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    cluster.client("caretaker", async move {
        let mut topics = 0;
        while !stopped.load(Ordering::SeqCst) {
            let chore = if random.random_bool(0.6) {
                let partition = random.random_range(0..partitions);
                Chore::MoveLeader { partition, to: random.random_range(nodes.clone()) }
            } else {
                topics += 1;
                Chore::TopicComesAndGoes { number: topics }
            };
            match client.tend(chore).await {
                Ok(()) => tally.count(chore.name()),
                Err(error) => tracing::debug!(?chore, %error, "a chore is left undone"),
            }
            sleep(Duration::from_millis(random.random_range(1..LONGEST_PAUSE_MS))).await;
        }
    });
    stop
}
