//! Appending and reading, as the services ask for it. Owns admission by bytes and the waiting of readers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{ShardId, TopicPartition};

use super::lane::{Outcome, Waiting};
use super::logs::{Append, Appended, Batches, Logs, Marks, ReadAt};
use super::refusal::{failure, no_leader, refused, unexpected, unproposed, unread};
use super::{Broker, Core, door};
use crate::consensus::Shard;
use crate::state::command::ProduceItem;
use crate::state::{CatalogCommand, Command, PartitionView, Reply};

/// Producer ids that a node gets at a time.
const PRODUCER_IDS: i32 = 1000;
/// Pause that a refusal for want of room asks for, ms.
const OVERLOAD_PAUSE_MS: i32 = 20;
/// Time that a quorum has to confirm the leadership; a caller that is refused asks again.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);

fn marks(view: &PartitionView<'_>) -> Marks {
    Marks {
        log_start: view.log_start,
        high_watermark: view.next_offset,
        leader_epoch: view.leader_epoch,
    }
}

fn no_partition() -> Failure {
    // The catalog knows it, its shard does not yet: it is about to be opened.
    no_leader("the partition is not open yet")
}

/// Returns once a quorum still follows this leader and it has applied all that was committed before. One that was deposed
/// and does not know it yet holds an older end of the log: told as "out of range", a reset policy would repeat or skip
/// records (S14).
pub(super) async fn confirm_leader(shard: &Shard) -> Result<(), Failure> {
    let confirmed = shard.read_barrier(Instant::now() + CONFIRM_PATIENCE).await;
    confirmed.map_err(|error| no_leader(error.to_string()))
}

impl Broker {
    fn take(&self, batch: Append) -> Result<oneshot::Receiver<Outcome>, Failure> {
        let core = &self.core;
        door::check(&batch.batch)?;
        let shard = core.serving_partition(batch.at)?;
        let view = shard.read(|state| {
            let view = state.partition(batch.at)?;
            Some((
                view.leader_epoch,
                view.settings.max_message_bytes,
                view.settings.log_append_time,
            ))
        });
        let (epoch, largest, log_append_time) = view.ok_or_else(no_partition)?;
        Core::check_epoch(batch.leader_epoch, epoch)?;
        if i32::try_from(batch.batch.len()).is_ok_and(|len| len > largest) {
            let mut failure =
                failure(FailureCode::BatchTooLarge, format!("at most {largest} bytes"));
            failure.limit = Some(i64::from(largest));
            return Err(failure);
        }
        let len = batch.batch.len();
        let before = core.pending.fetch_add(len, Ordering::Relaxed);
        if before > 0 && before + len > core.options.pending_bytes {
            core.pending.fetch_sub(len, Ordering::Relaxed);
            let mut failure = failure(FailureCode::Overloaded, "too many bytes wait for the disks");
            failure.retry_after_ms = OVERLOAD_PAUSE_MS;
            return Err(failure);
        }
        let (tell, told) = oneshot::channel();
        let item = ProduceItem {
            at: batch.at,
            expected_base_offset: batch.expected_base_offset,
            batch: batch.batch,
        };
        core.enqueue(shard.id(), Waiting { item, log_append_time, tell });
        Ok(told)
    }
}

#[async_trait]
impl Logs for Broker {
    fn append(&self, batch: Append) -> BoxFuture<'static, Result<Appended, Failure>> {
        let deadline = batch.deadline;
        let taken = self.take(batch);
        let unknown = |why: &str| failure(FailureCode::OutcomeUnknown, why);
        async move {
            match timeout_at(deadline, taken?).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(unknown("the node is stopping")),
                Err(_) => Err(unknown("the deadline passed after the batch was taken")),
            }
        }
        .boxed()
    }

    async fn read(&self, at: ReadAt) -> Result<Batches, Failure> {
        let shard = self.core.serving_partition(at.at)?;
        let look = || -> Result<Marks, Failure> {
            let seen = shard.read(|state| state.partition(at.at).map(|view| marks(&view)));
            let seen = seen.ok_or_else(no_partition)?;
            Core::check_epoch(at.leader_epoch, seen.leader_epoch)?;
            Ok(seen)
        };
        let mut marks = look()?;
        if at.offset > marks.high_watermark {
            confirm_leader(&shard).await?;
            marks = look()?;
        }
        if at.offset < marks.log_start || at.offset > marks.high_watermark {
            let range = format!("the log holds {} to {}", marks.log_start, marks.high_watermark);
            let mut failure = failure(FailureCode::OffsetOutOfRange, range);
            failure.log_start_offset = Some(marks.log_start);
            failure.high_watermark = Some(marks.high_watermark);
            return Err(failure);
        }
        if at.offset == marks.high_watermark {
            return Ok(Batches { next_offset: at.offset, marks, ..Batches::default() });
        }
        let read = shard.store().read(at.at, at.offset, marks.high_watermark, at.max_bytes).await;
        let read = read.map_err(|error| unread(&error))?;
        Ok(Batches { bytes: read.bytes, next_offset: read.next_offset, marks })
    }

    fn changed(&self, at: TopicPartition, seen: Marks) -> BoxFuture<'static, ()> {
        let broker = self.clone();
        async move {
            let Ok(shard) = broker.core.shard_of(at) else { return };
            let mut applied = broker.core.wakes.watch(shard);
            loop {
                let now = broker.marks(at);
                let same = now.is_some_and(|now| {
                    now.high_watermark <= seen.high_watermark
                        && now.leader_epoch == seen.leader_epoch
                });
                if !same || applied.changed().await.is_err() {
                    return;
                }
            }
        }
        .boxed()
    }

    async fn new_producer_id(&self, deadline: Instant) -> Result<i64, Failure> {
        let mut run = self.core.producer_ids.lock().await;
        if run.0 == run.1 {
            let command =
                CatalogCommand::AllocateProducerIds { node: self.core.node, count: PRODUCER_IDS };
            let command = Command::Catalog(command);
            let consensus = &self.core.consensus;
            let done = consensus.propose_anywhere(ShardId::CATALOG, command, deadline).await;
            match done.map_err(|error| unproposed(&error))?.reply {
                Reply::ProducerIds { first, count } => *run = (first, first + i64::from(count)),
                Reply::Refused(refusal) => return Err(refused(&refusal)),
                _ => return Err(unexpected()),
            }
        }
        run.0 += 1;
        Ok(run.0 - 1)
    }

    fn marks(&self, at: TopicPartition) -> Option<Marks> {
        let shard = self.core.serving_partition(at).ok()?;
        shard.read(|state| state.partition(at).map(|view| marks(&view)))
    }
}
