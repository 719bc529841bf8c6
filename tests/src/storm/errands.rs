//! Somebody who does what a storm wants done to the cluster itself: leaderships handed over, logs kept short. On a host of its
//! own, with a client as any other. What comes of it is nobody's promise; that the rest goes on is.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::caretaker::LEADER_MOVED;
use crate::cluster::Cluster;
use crate::subject::{LogClient, Subject};
use crate::tally::Tally;

/// It looks for something to do this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What waits to be done; what comes on top is not done.
const MOST: usize = 32;

/// As in a batch's table.
pub(crate) const LOG_LIMIT_SET: &str = "log-limit-set";

/// Something to be done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Errand {
    /// The leadership of a partition goes to a node.
    MoveLeader { partition: u32, to: u32 },
    /// The logs of the workload are kept to so many bytes, or as long as they grow.
    LimitLogs { bytes: Option<u32> },
}

impl Errand {
    fn name(self) -> &'static str {
        match self {
            Self::MoveLeader { .. } => LEADER_MOVED,
            Self::LimitLogs { .. } => LOG_LIMIT_SET,
        }
    }

    async fn run(self, client: &mut dyn LogClient) -> io::Result<()> {
        match self {
            Self::MoveLeader { partition, to } => client.move_leader(partition, to).await,
            Self::LimitLogs { bytes } => client.limit_logs(bytes).await,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Errand>,
    over: bool,
}

/// What is to be done. A clone is the same list.
#[derive(Debug, Clone, Default)]
pub(super) struct Errands(Arc<Mutex<State>>);

impl Errands {
    pub(super) fn begin(cluster: &mut Cluster, subject: &Arc<dyn Subject>, tally: &Tally) -> Self {
        let mut client = subject.client(cluster.draw(0, u64::MAX));
        let errands = Self::default();
        let (list, tally) = (errands.clone(), tally.clone());
        cluster.client(async move {
            while let Some(next) = list.next() {
                let Some(errand) = next else {
                    sleep(LOOK_AGAIN).await;
                    continue;
                };
                match errand.run(client.as_mut()).await {
                    Ok(()) => tally.count(errand.name()),
                    Err(error) => tracing::debug!(?errand, %error, "an errand was in vain"),
                }
            }
        });
        errands
    }

    pub(super) fn give(&self, errand: Errand) {
        let mut state = self.lock();
        if state.waiting.len() < MOST {
            state.waiting.push_back(errand);
        }
    }

    /// What waits is not done any more.
    pub(super) fn end(&self) {
        self.lock().over = true;
    }

    /// `None`: nothing ever again; `Some(None)`: nothing now.
    fn next(&self) -> Option<Option<Errand>> {
        let mut state = self.lock();
        (!state.over).then(|| state.waiting.pop_front())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
