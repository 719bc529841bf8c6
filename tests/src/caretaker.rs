//! Somebody who looks after the cluster while a storm goes on: moves leaders, and makes, grows and deletes topics that nobody
//! else uses; of its own accord, or as it is told. What comes of it is nobody's promise; that the rest goes on is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::subject::{Chore, Subject};
use crate::tally::Tally;

/// Between two chores of its own at most.
const LONGEST_PAUSE_MS: u64 = 3_000;
/// It looks for orders this often.
const LOOK_AGAIN_MS: u64 = 20;
/// Orders that wait; what comes on top is not done.
const MOST_ORDERS: usize = 32;

/// What it is told to do next, before anything of its own. A clone is the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders(Arc<Mutex<VecDeque<Chore>>>);

impl Orders {
    pub(crate) fn give(&self, chore: Chore) {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() < MOST_ORDERS {
            orders.push_back(chore);
        }
    }

    fn next(&self) -> Option<Chore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// The caretaker of a run.
pub(crate) struct Caretaker {
    orders: Orders,
    stop: Arc<AtomicBool>,
}

impl Caretaker {
    /// Starts on a host of its own.
    pub(crate) fn start(cluster: &mut Cluster, subject: &Arc<dyn Subject>, tally: &Tally) -> Self {
        let seed = cluster.draw(0, u64::MAX);
        let mut client = subject.client(seed);
        let mut random = SmallRng::seed_from_u64(seed);
        let (nodes, partitions, tally) = (cluster.nodes(), subject.partitions(), tally.clone());
        let caretaker = Self { orders: Orders::default(), stop: Arc::default() };
        let (orders, stopped) = (caretaker.orders(), Arc::clone(&caretaker.stop));
        cluster.client("caretaker", async move {
            let (mut topics, mut rest_ms): (u32, u64) = (0, 0);
            while !stopped.load(Ordering::SeqCst) {
                let ordered = orders.next();
                if ordered.is_none() && rest_ms > 0 {
                    rest_ms = rest_ms.saturating_sub(LOOK_AGAIN_MS);
                    sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
                    continue;
                }
                let chore = ordered.unwrap_or_else(|| {
                    rest_ms = random.random_range(1..LONGEST_PAUSE_MS);
                    if random.random_bool(0.6) {
                        let partition = random.random_range(0..partitions);
                        Chore::MoveLeader { partition, to: random.random_range(nodes.clone()) }
                    } else {
                        topics += 1;
                        Chore::TopicComesAndGoes { number: topics }
                    }
                });
                match client.tend(chore).await {
                    Ok(()) => tally.count(chore.name()),
                    Err(error) => tracing::debug!(?chore, %error, "a chore is left undone"),
                }
            }
        });
        caretaker
    }

    /// Where to tell it what to do.
    pub(crate) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// It ends with what it does.
    pub(crate) fn leave(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
