//! Somebody who does what a storm wants done to the cluster itself: leaderships handed over, logs kept short. On a host of its
//! own, with a client as any other. What comes of it is nobody's promise; that the rest goes on is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::subject::{Chore, Subject};
use crate::tally::Tally;

/// It looks for something to do this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What waits to be done; what comes on top is not done.
const MOST: usize = 32;

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Chore>,
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
        cluster.client("errands", async move {
            while let Some(next) = list.next() {
                let Some(chore) = next else {
                    sleep(LOOK_AGAIN).await;
                    continue;
                };
                match client.tend(chore).await {
                    Ok(()) => tally.count(chore.name()),
                    Err(error) => tracing::debug!(?chore, %error, "an errand was in vain"),
                }
            }
        });
        errands
    }

    pub(super) fn give(&self, chore: Chore) {
        let mut state = self.lock();
        if state.waiting.len() < MOST {
            state.waiting.push_back(chore);
        }
    }

    /// What waits is not done any more.
    pub(super) fn end(&self) {
        self.lock().over = true;
    }

    /// `None`: nothing ever again; `Some(None)`: nothing now.
    fn next(&self) -> Option<Option<Chore>> {
        let mut state = self.lock();
        (!state.over).then(|| state.waiting.pop_front())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
