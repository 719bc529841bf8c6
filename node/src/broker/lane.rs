//! Owns coalescing: batches of one shard, of any partition and any caller, that arrive while entries are on the way travel
//! together in the next one. Order of arrival is order of append. Never decides an outcome.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::ShardId;

use super::Core;
use super::door::stamp_time;
use super::logs::Appended;
use super::refusal::{failure, no_leader, refused, unexpected, unproposed};
use crate::consensus::{Committed, ProposeError};
use crate::state::command::{Produce, ProduceItem};
use crate::state::{Command, Reply};

pub(super) type Outcome = Result<Appended, Failure>;

/// A batch that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) item: ProduceItem,
    pub(super) log_append_time: bool,
    pub(super) tell: oneshot::Sender<Outcome>,
}

/// The queue of one shard.
#[derive(Debug)]
pub(super) struct Lane {
    queue: Mutex<VecDeque<Waiting>>,
    arrived: Notify,
    in_flight: Arc<Semaphore>,
}

impl Lane {
    fn take(&self, most: usize) -> Vec<Waiting> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(next) = queue.front() {
            bytes += next.item.batch.len();
            if !taken.is_empty() && bytes > most {
                break;
            }
            taken.extend(queue.pop_front());
        }
        taken
    }
}

impl Core {
    /// Puts a batch into its shard's queue; its bytes are already counted.
    pub(super) fn enqueue(self: &Arc<Self>, shard: ShardId, waiting: Waiting) {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            let known = lanes.get(&shard).cloned();
            known.unwrap_or_else(|| {
                let lane = Arc::new(Lane {
                    queue: Mutex::default(),
                    arrived: Notify::new(),
                    in_flight: Arc::new(Semaphore::new(self.options.entries_in_flight)),
                });
                lanes.insert(shard, Arc::clone(&lane));
                tokio::spawn(drive(Arc::downgrade(self), shard, Arc::clone(&lane)));
                lane
            })
        };
        lane.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(waiting);
        lane.arrived.notify_one();
    }

    fn settle(&self, waiting: Waiting, outcome: Outcome) {
        self.pending.fetch_sub(waiting.item.batch.len(), Ordering::Relaxed);
        // A caller that went away does not need to know.
        let _ = waiting.tell.send(outcome);
    }
}

/// Sends one entry after the other for as long as the node lives.
async fn drive(core: std::sync::Weak<Core>, shard: ShardId, lane: Arc<Lane>) {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&lane.in_flight).acquire_owned().await else { return };
        let taken = loop {
            let Some(core) = core.upgrade() else { return };
            let taken = lane.take(core.options.entry_bytes);
            drop(core);
            if !taken.is_empty() {
                break taken;
            }
            lane.arrived.notified().await;
        };
        let Some(core) = core.upgrade() else { return };
        send(&core, shard, taken, permit).await;
    }
}

async fn send(
    core: &Arc<Core>,
    shard: ShardId,
    taken: Vec<Waiting>,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let replica = match core.serving(shard) {
        Ok(replica) => replica,
        Err(failure) => {
            for waiting in taken {
                core.settle(waiting, Err(failure.clone()));
            }
            return;
        }
    };
    let now = core.env.clock.now_ms();
    let item = |waiting: &Waiting| {
        let mut item = waiting.item.clone();
        if waiting.log_append_time {
            item.batch = stamp_time(&item.batch, now);
        }
        item
    };
    let items = taken.iter().map(item).collect();
    let command = Command::Produce(Produce { append_time_ms: now, items });
    let owner = Arc::clone(core);
    let done = Box::new(move |outcome| {
        drop(permit);
        tell(&owner, taken, outcome);
    });
    replica.submit(command, done).await;
}

fn tell(core: &Core, taken: Vec<Waiting>, outcome: Result<Committed, ProposeError>) {
    let committed = match outcome {
        Ok(committed) => committed,
        Err(error) => {
            let failure = unwritten(core, &error);
            for waiting in taken {
                core.settle(waiting, Err(failure.clone()));
            }
            return;
        }
    };
    let Reply::Produced(verdicts) = committed.reply else {
        for waiting in taken {
            core.settle(waiting, Err(unexpected()));
        }
        return;
    };
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let mut verdicts = verdicts.into_iter();
    for waiting in taken {
        let outcome = match verdicts.next() {
            Some(Ok(receipt)) => Ok(Appended {
                receipt,
                log_append_time: waiting.log_append_time,
                durable_replicas: count(committed.durable_replicas),
                replicas: count(committed.replicas),
                read_token: bytes::Bytes::new(),
            }),
            Some(Err(refusal)) => Err(refused(&refusal)),
            None => Err(unexpected()),
        };
        core.settle(waiting, outcome);
    }
}

fn unwritten(core: &Core, error: &ProposeError) -> Failure {
    match error {
        ProposeError::NotLeader { leader: Some(leader), .. } => {
            core.led_by(*leader, FailureCode::NotLeader)
        }
        ProposeError::NotLeader { leader: None, .. } | ProposeError::NotHere(_) => {
            no_leader(error.to_string())
        }
        ProposeError::NoQuorum(_) => failure(FailureCode::NoQuorum, error.to_string()),
        _ => unproposed(error),
    }
}
