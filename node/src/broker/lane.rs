//! Owns coalescing: batches of one shard, of any partition and any caller, that arrive while an entry is on its way travel
//! together in the next one. Order of arrival is order of append. Never decides an outcome.
//!
//! While an entry is on its way, a next one waits until it is worth its cost: an entry costs every replica the same work
//! whether it carries one small batch or a hundred. Entries of many bytes follow each other at once.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{ShardId, TopicPartition};

use super::door::stamp_time;
use super::logs::Appended;
use super::refusal::{failure, refused, unexpected};
use super::{BrokerOptions, Core};
use crate::consensus::{Committed, ProposeError};
use crate::state::command::{Produce, ProduceItem};
use crate::state::{Command, Reply};

pub(super) type Outcome = Result<Appended, Failure>;

/// An entry of this part of the largest goes at once, even while others are on their way.
const LARGE: usize = 4;
/// The next entry waits no longer than this for the last one: it may be on its way for as long as a leader without a quorum
/// believes in itself, and what is sent after it is refused at once.
const STALE: Duration = Duration::from_millis(500);

/// A batch that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) item: ProduceItem,
    pub(super) log_append_time: bool,
    /// When it was taken.
    pub(super) since: Instant,
    /// Not sent after it.
    pub(super) deadline: Instant,
    pub(super) tell: oneshot::Sender<Outcome>,
}

/// A batch that was sent and has no outcome yet.
#[derive(Debug)]
struct Owed {
    at: TopicPartition,
    bytes: usize,
    log_append_time: bool,
    since: Instant,
    tell: oneshot::Sender<Outcome>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Each with its number; numbers rise.
    waiting: VecDeque<(u64, Waiting)>,
    /// The number of the next one.
    next: u64,
    /// Bytes of `waiting`.
    bytes: usize,
    /// Entries on their way.
    in_flight: usize,
    /// When the last of them was sent.
    sent: Option<Instant>,
}

impl Queue {
    /// Whether an entry should go now.
    fn is_due(&self, options: &BrokerOptions) -> bool {
        if self.waiting.is_empty() || self.in_flight >= options.entries_in_flight {
            return false;
        }
        let large = self.bytes >= options.entry_bytes / LARGE;
        self.in_flight == 0 || large || self.sent.is_some_and(|sent| sent.elapsed() >= STALE)
    }

    /// The batches of the next entry, at least one if any waits.
    fn take(&mut self, most: usize) -> Vec<Waiting> {
        let mut bytes = 0;
        let fits = |(_, next): &&(u64, Waiting)| {
            bytes += next.item.batch.len();
            bytes <= most
        };
        let count = self.waiting.iter().take_while(fits).count().max(1).min(self.waiting.len());
        let taken: Vec<Waiting> = self.waiting.drain(..count).map(|(_, next)| next).collect();
        self.bytes -= taken.iter().map(|it| it.item.batch.len()).sum::<usize>();
        taken
    }
}

/// The queue of one shard.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: Mutex<Queue>,
    /// An entry is due.
    due: Notify,
}

/// A batch in a lane.
#[derive(Debug)]
pub(super) struct Place {
    lane: Arc<Lane>,
    number: u64,
}

impl Lane {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, waiting: Waiting, options: &BrokerOptions) -> u64 {
        let mut queue = self.queue();
        let number = queue.next;
        queue.next += 1;
        queue.bytes += waiting.item.batch.len();
        queue.waiting.push_back((number, waiting));
        let due = queue.is_due(options);
        drop(queue);
        if due {
            self.due.notify_one();
        }
        number
    }

    /// The batches of an entry that is due; it is on its way from now on.
    fn take(&self, options: &BrokerOptions) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        if !queue.is_due(options) {
            return None;
        }
        queue.in_flight += 1;
        queue.sent = Some(Instant::now());
        Some(queue.take(options.entry_bytes))
    }

    /// An entry has its outcome.
    fn landed(&self, options: &BrokerOptions) {
        let mut queue = self.queue();
        queue.in_flight -= 1;
        if queue.is_due(options) {
            self.due.notify_one();
        }
    }

    /// Waits until an entry may be due.
    async fn turn(&self) {
        let landing = self.queue().in_flight > 0;
        let due = self.due.notified();
        if landing {
            let _ = timeout(STALE, due).await;
        } else {
            due.await;
        }
    }

    /// The first batch of a partition that waits.
    fn peek(&self, at: TopicPartition) -> Option<bytes::Bytes> {
        let queue = self.queue();
        let found = queue.waiting.iter().find(|(_, it)| it.item.at == at);
        found.map(|(_, it)| it.item.batch.clone())
    }
}

impl Core {
    /// Puts a batch into its shard's queue; its bytes are already counted.
    pub(super) fn enqueue(self: &Arc<Self>, shard: ShardId, waiting: Waiting) -> Place {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            let known = lanes.get(&shard).cloned();
            known.unwrap_or_else(|| {
                let lane = Arc::new(Lane::default());
                lanes.insert(shard, Arc::clone(&lane));
                tokio::spawn(drive(Arc::downgrade(self), shard, Arc::clone(&lane)));
                lane
            })
        };
        let number = lane.push(waiting, &self.options);
        Place { lane, number }
    }

    /// Takes a batch out again; `false`: it is on its way.
    pub(super) fn withdraw(&self, place: &Place) -> bool {
        let mut queue = place.lane.queue();
        let found = queue.waiting.binary_search_by_key(&place.number, |(number, _)| *number);
        let Some((_, gone)) = found.ok().and_then(|index| queue.waiting.remove(index)) else {
            return false;
        };
        queue.bytes -= gone.item.batch.len();
        drop(queue);
        self.release(gone.item.batch.len());
        true
    }

    /// A batch of the partition that nobody has committed yet.
    pub(super) fn uncommitted(&self, shard: ShardId, at: TopicPartition) -> Option<bytes::Bytes> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(&shard)?.peek(at)
    }

    fn release(&self, bytes: usize) {
        self.pending.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn settle(&self, owed: Owed, outcome: Outcome) {
        self.release(owed.bytes);
        if let Ok(appended) = &outcome {
            self.count_appended(owed.at.topic, owed.bytes, appended, owed.since.elapsed());
        }
        // A caller that went away does not need to know.
        let _ = owed.tell.send(outcome);
    }
}

/// Sends one entry after the other for as long as the node lives.
async fn drive(core: Weak<Core>, shard: ShardId, lane: Arc<Lane>) {
    loop {
        let Some(alive) = core.upgrade() else { return };
        match lane.take(&alive.options) {
            Some(taken) => send(&alive, shard, &lane, taken).await,
            None => {
                drop(alive);
                lane.turn().await;
            }
        }
    }
}

async fn send(core: &Arc<Core>, shard: ShardId, lane: &Arc<Lane>, taken: Vec<Waiting>) {
    let now_ms = core.env.clock.now_ms();
    let (items, owed) = split(core, taken, now_ms);
    let replica = match core.serving(shard) {
        Ok(replica) if !items.is_empty() => replica,
        refused => {
            lane.landed(&core.options);
            if let Err(failure) = refused {
                refuse_all(core, shard, owed, &failure);
            }
            return;
        }
    };
    let command = Command::Produce(Produce { append_time_ms: now_ms, items });
    let (owner, lane) = (Arc::clone(core), Arc::clone(lane));
    let done = Box::new(move |outcome| {
        // First: the next entry may be built beside the telling.
        lane.landed(&owner.options);
        tell(&owner, shard, owed, outcome);
    });
    replica.submit(command, done).await;
}

/// What is sent and what is owed for it. A batch whose time is over is neither.
fn split(core: &Core, taken: Vec<Waiting>, now_ms: i64) -> (Vec<ProduceItem>, Vec<Owed>) {
    let now = Instant::now();
    let (mut items, mut owed) = (Vec::with_capacity(taken.len()), Vec::with_capacity(taken.len()));
    for Waiting { mut item, log_append_time, since, deadline, tell } in taken {
        let due = Owed { at: item.at, bytes: item.batch.len(), log_append_time, since, tell };
        if deadline <= now {
            core.settle(due, Err(expired()));
            continue;
        }
        if log_append_time {
            item.batch = stamp_time(&item.batch, now_ms);
        }
        items.push(item);
        owed.push(due);
    }
    (items, owed)
}

/// The deadline passed while the batch waited for its turn.
pub(super) fn expired() -> Failure {
    failure(FailureCode::ExpiredUnsent, "the deadline passed before the batch was sent")
}

/// One answer for a whole entry, with each partition's own leader epoch.
fn refuse_all(core: &Core, shard: ShardId, owed: Vec<Owed>, failure: &Failure) {
    for owed in owed {
        let failure = core.with_epoch(shard, owed.at, failure.clone());
        core.settle(owed, Err(failure));
    }
}

fn tell(core: &Core, shard: ShardId, owed: Vec<Owed>, outcome: Result<Committed, ProposeError>) {
    let committed = match outcome {
        Ok(committed) => committed,
        Err(error) => return refuse_all(core, shard, owed, &core.unwritten(&error)),
    };
    let Reply::Produced(verdicts) = committed.reply else {
        owed.into_iter().for_each(|owed| core.settle(owed, Err(unexpected())));
        return;
    };
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let mut verdicts = verdicts.into_iter();
    for owed in owed {
        let outcome = match verdicts.next() {
            Some(Ok(receipt)) => Ok(Appended {
                receipt,
                log_append_time: owed.log_append_time,
                durable_replicas: count(committed.durable_replicas),
                replicas: count(committed.replicas),
                read_token: bytes::Bytes::new(),
            }),
            Some(Err(refusal)) => Err(refused(&refusal)),
            None => Err(unexpected()),
        };
        core.settle(owed, outcome);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::tests::bed::limits;
    use super::*;

    fn waiting(bytes: usize) -> Waiting {
        let item = ProduceItem {
            at: TopicPartition::default(),
            expected_base_offset: None,
            batch: Bytes::from(vec![0; bytes]),
        };
        let (tell, _) = oneshot::channel();
        let now = Instant::now();
        Waiting { item, log_append_time: false, since: now, deadline: now, tell }
    }

    fn options() -> BrokerOptions {
        BrokerOptions { entry_bytes: 400, entries_in_flight: 3, ..limits() }
    }

    fn sizes(taken: Option<Vec<Waiting>>) -> Option<Vec<usize>> {
        taken.map(|taken| taken.iter().map(|it| it.item.batch.len()).collect())
    }

    #[tokio::test]
    async fn small_batches_gather_while_an_entry_is_on_its_way() {
        let (lane, options) = (Lane::default(), options());
        lane.push(waiting(10), &options);
        assert_eq!(sizes(lane.take(&options)), Some(vec![10]), "the first one goes at once");
        lane.push(waiting(20), &options);
        lane.push(waiting(30), &options);
        assert_eq!(sizes(lane.take(&options)), None);
        lane.landed(&options);
        assert_eq!(sizes(lane.take(&options)), Some(vec![20, 30]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_does_not_land_holds_the_next_one_back_for_a_while_only() {
        let (lane, options) = (Lane::default(), options());
        lane.push(waiting(10), &options);
        lane.turn().await;
        lane.take(&options).expect("the first one");
        lane.push(waiting(20), &options);
        assert_eq!(sizes(lane.take(&options)), None);
        lane.turn().await;
        assert_eq!(sizes(lane.take(&options)), Some(vec![20]));
        lane.push(waiting(30), &options);
        assert_eq!(sizes(lane.take(&options)), None, "nor does a stuck shard fill with entries");
    }

    #[tokio::test]
    async fn entries_of_many_bytes_follow_each_other_up_to_the_limit() {
        let (lane, options) = (Lane::default(), options());
        for size in [300, 100, 300, 900, 1] {
            lane.push(waiting(size), &options);
        }
        assert_eq!(sizes(lane.take(&options)), Some(vec![300, 100]));
        assert_eq!(sizes(lane.take(&options)), Some(vec![300]));
        assert_eq!(sizes(lane.take(&options)), Some(vec![900]), "one that is larger goes alone");
        lane.push(waiting(400), &options);
        assert_eq!(sizes(lane.take(&options)), None, "three are on their way");
        lane.landed(&options);
        assert_eq!(sizes(lane.take(&options)), Some(vec![1]), "order is kept");
    }
}
