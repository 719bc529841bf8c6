//! Appending and reading, as the services ask for it. Owns admission by bytes and the waiting of readers.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{ShardId, TopicPartition};

use super::lane::{Outcome, Place, Waiting, expired};
use super::logs::{Append, Appended, Appending, Batches, Logs, Marks, ReadAt};
use super::numbers::FetchWait;
use super::refusal::{failure, no_leader, out_of_range, refused, unexpected, unproposed, unread};
use super::{Broker, Core, door};
use crate::consensus::Shard;
use crate::mutants;
use crate::reached::reached;
use crate::state::batch::{BatchHeader, stamp};
use crate::state::command::ProduceItem;
use crate::state::{CatalogCommand, Command, EpochEnd, PartitionView, Receipt, Reply};
use crate::storage::shard_store::StoreError;

/// Producer ids that a node gets at a time.
const PRODUCER_IDS: i32 = 1000;
/// Pause that a refusal for want of room asks for, ms.
const OVERLOAD_PAUSE_MS: i32 = 20;
/// … and one because disks are full, ms: nodes look at their disks every second.
const FULL_PAUSE_MS: i32 = 500;

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

fn unknown(why: &str) -> Failure {
    failure(FailureCode::OutcomeUnknown, why)
}

/// A batch that waits in its lane.
#[derive(Debug)]
struct Taken {
    place: Place,
    told: oneshot::Receiver<Outcome>,
}

impl Core {
    /// Whether one more batch of this many bytes may wait; if so they are counted. A node at rest takes any batch.
    fn admit(&self, bytes: usize) -> Result<(), Failure> {
        let before = self.pending.fetch_add(bytes, Ordering::Relaxed);
        if before == 0 || self.waiting_bytes(before) + bytes <= self.options.pending_bytes {
            return Ok(());
        }
        self.pending.fetch_sub(bytes, Ordering::Relaxed);
        reached!("overloaded");
        let mut failure = failure(FailureCode::Overloaded, "too many bytes wait for the disks");
        failure.retry_after_ms = OVERLOAD_PAUSE_MS;
        Err(failure)
    }

    /// Bytes that this node holds until its disks have taken them (S8). Batches that wait for their outcome are in the
    /// journal's queue too, beside those that other leaders sent: only the larger of the two counts.
    pub(super) fn waiting_bytes(&self, pending: usize) -> usize {
        let storage = self.consensus.waiting_bytes();
        pending.max(storage.journal) + storage.segments
    }

    /// Whether there is room for records of the shard (S19). Asked before they are proposed, so the caller may repeat them.
    fn check_room(&self, shard: &Shard) -> Result<(), Failure> {
        let Err(no_room) = self.consensus.check_room(shard) else { return Ok(()) };
        let mut failure = failure(FailureCode::StorageFull, no_room.to_string());
        failure.retry_after_ms = FULL_PAUSE_MS;
        Err(failure)
    }

    fn look(&self, shard: &Shard, at: &ReadAt) -> Result<Marks, Failure> {
        let (seen, ended) = shard.read(|state| {
            let seen = state.partition(at.at).map(|view| marks(&view));
            let last = at.last_fetched_epoch;
            (seen, last.map(|epoch| (epoch, state.epoch_end_offset(at.at, epoch))))
        });
        let seen = seen.ok_or_else(no_partition)?;
        self.check_epoch(at.leader_epoch, seen.leader_epoch)?;
        match ended.and_then(|(epoch, end)| diverged(epoch, at.offset, end)) {
            Some(failure) => Err(failure),
            None => Ok(seen),
        }
    }
}

/// The caller read records of an epoch that has none there: after a forced recovery, its log and this one differ.
fn diverged(epoch: i32, offset: i64, end: Option<EpochEnd>) -> Option<Failure> {
    let Some(end) = end else {
        let why = format!("leader epoch {epoch} has not begun here");
        return Some(failure(FailureCode::LeaderEpochAhead, why));
    };
    if end.leader_epoch == epoch && end.end_offset >= offset {
        return None;
    }
    let why = format!("leader epoch {} ends at offset {}", end.leader_epoch, end.end_offset);
    let mut failure = failure(FailureCode::LogDiverged, why);
    failure.expected = Some(end.end_offset.min(offset));
    failure.actual = Some(end.leader_epoch.into());
    Some(failure)
}

impl Broker {
    fn take(&self, batch: Append) -> Result<Taken, Failure> {
        let core = &self.core;
        let header = door::check(&batch.batch)?;
        let shard = core.serving_partition(batch.at)?;
        let view = shard.read(|state| {
            let view = state.partition(batch.at)?;
            let settings = view.settings;
            Some((view.leader_epoch, settings.max_message_bytes, settings.log_append_time))
        });
        let (epoch, largest, log_append_time) = view.ok_or_else(no_partition)?;
        core.check_epoch(batch.leader_epoch, epoch)?;
        core.check_room(&shard)?;
        if i32::try_from(batch.batch.len()).map_or(true, |len| len > largest) {
            return Err(too_large(largest));
        }
        if !log_append_time {
            door::check_time(&header, core.env.clock.now_ms())?;
        }
        let since = Instant::now();
        if batch.deadline <= since {
            return Err(expired());
        }
        core.admit(batch.batch.len())?;
        let (tell, told) = oneshot::channel();
        let (at, deadline) = (batch.at, batch.deadline);
        let expected_base_offset = batch.expected_base_offset;
        let item = ProduceItem { at, expected_base_offset, batch: batch.batch };
        let waiting = Waiting { item, log_append_time, since, deadline, tell };
        Ok(Taken { place: core.enqueue(shard.id(), waiting), told })
    }

    /// Reads from the replica here, if it leads.
    async fn read_here(&self, at: &ReadAt) -> Result<Batches, Failure> {
        let core = &self.core;
        let shard = core.serving_known(at.at).await?;
        let mut marks = core.look(&shard, at)?;
        if at.offset > marks.high_watermark {
            core.confirm_leader(&shard).await?;
            marks = core.look(&shard, at)?;
        }
        let from_the_start;
        let mut at = at;
        if at.offset < marks.log_start && mutants::planted!("gone-is-skipped") {
            from_the_start = ReadAt { offset: marks.log_start, ..at.clone() };
            at = &from_the_start;
        }
        if at.offset < marks.log_start || at.offset > marks.high_watermark {
            return Err(out_of_range(marks.log_start, marks.high_watermark));
        }
        if at.offset == marks.high_watermark {
            let nothing = Batches { next_offset: at.offset, marks, ..Batches::default() };
            return Ok(self.with_uncommitted((shard.id(), at.at), nothing));
        }
        match shard.store().read(at.at, at.offset, marks.high_watermark, at.max_bytes).await {
            Ok(read) => {
                let mut next_offset = read.next_offset;
                if mutants::planted!("read-skips-records") && next_offset < marks.high_watermark {
                    next_offset += 1;
                }
                let read = Batches { bytes: read.bytes, next_offset, marks };
                Ok(self.with_uncommitted((shard.id(), at.at), read))
            }
            Err(error @ (StoreError::OutOfRange { .. } | StoreError::NoPartition(_))) => {
                // Retention may have overtaken the read, or the topic may be gone.
                let now = core.look(&shard, at)?;
                let passed = at.offset < now.log_start;
                Err(if passed {
                    out_of_range(now.log_start, now.high_watermark)
                } else {
                    unread(&error)
                })
            }
            Err(error) => Err(unread(&error)),
        }
    }

    /// The answer to a batch of a partition that this node has not heard of.
    fn refused_later(&self, at: TopicPartition, deadline: Instant) -> Appending {
        let core = self.core.clone();
        async move {
            let missing = timeout_at(deadline, core.missing(at)).await;
            let failure = missing.unwrap_or_else(|_| expired());
            core.numbers.not_produced(&failure);
            Err(failure)
        }
        .boxed()
    }

    /// A planted bug's receipt: the offset that the batch would get if nothing else came before it.
    fn early_receipt(&self, at: TopicPartition, header: Option<BatchHeader>) -> Appended {
        let now = self.marks(at).unwrap_or_default();
        let receipt = Receipt {
            base_offset: now.high_watermark,
            record_count: header.map_or(0, |it| it.record_count),
            append_time_ms: self.core.env.clock.now_ms(),
            leader_epoch: now.leader_epoch,
            log_start_offset: now.log_start,
            duplicate: false,
        };
        Appended {
            receipt,
            log_append_time: false,
            durable_replicas: 1,
            replicas: 1,
            read_token: bytes::Bytes::new(),
        }
    }

    /// A read as it is, unless a bug is planted: then what waits to be appended is shown behind the last record.
    fn with_uncommitted(
        &self,
        (shard, at): (ShardId, TopicPartition),
        mut read: Batches,
    ) -> Batches {
        let ends = read.next_offset == read.marks.high_watermark;
        if !ends || !mutants::planted!("read-above-watermark") {
            return read;
        }
        let waits = self.core.uncommitted(shard, at);
        let counted = waits.and_then(|it| Some((BatchHeader::read(&it)?.record_count, it)));
        if let Some((count, batch)) = counted {
            let stamp = stamp(&batch, read.next_offset, read.marks.leader_epoch);
            read.bytes = [&read.bytes, &stamp[..], &batch[stamp.len()..]].concat().into();
            read.next_offset += i64::from(count);
        }
        read
    }
}

fn too_large(largest: i32) -> Failure {
    let mut failure = failure(FailureCode::BatchTooLarge, format!("at most {largest} bytes"));
    failure.limit = Some(i64::from(largest));
    failure
}

#[async_trait]
impl Logs for Broker {
    fn append(&self, batch: Append) -> Result<Appending, Failure> {
        let (at, deadline) = (batch.at, batch.deadline);
        let early = mutants::planted!("ack-before-commit").then(|| BatchHeader::read(&batch.batch));
        let Taken { place, told } = match self.take(batch) {
            Err(_) if !self.core.knows(at) => return Ok(self.refused_later(at, deadline)),
            Err(failure) => {
                self.core.numbers.not_produced(&failure);
                return Err(failure);
            }
            Ok(taken) => taken,
        };
        if let Some(header) = early {
            let receipt = self.early_receipt(at, header);
            return Ok(async move { Ok(receipt) }.boxed());
        }
        let core = self.core.clone();
        let outcome = async move {
            let outcome = match timeout_at(deadline, told).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(unknown("the node is stopping")),
                Err(_) if core.withdraw(&place) => Err(expired()),
                Err(_) => Err(unknown("the deadline passed after the batch was sent")),
            };
            if mutants::planted!("refused-and-stored")
                && matches!(&outcome, Ok(it) if it.receipt.base_offset % 64 == 7)
            {
                return Err(failure(FailureCode::InvalidBatch, "a planted bug"));
            }
            if let Err(failure) = &outcome {
                core.numbers.not_produced(failure);
            }
            outcome
        };
        Ok(outcome.boxed())
    }

    async fn read(&self, at: ReadAt) -> Result<Batches, Failure> {
        let began = Instant::now();
        let read = self.read_here(&at).await;
        self.core.count_read(&at, &read, began.elapsed());
        read
    }

    fn changed(&self, at: TopicPartition, seen: Marks) -> BoxFuture<'static, ()> {
        let broker = self.clone();
        async move {
            let Ok(shard) = broker.core.shard_of(at) else { return };
            let waiter = broker.core.wakes.wait(shard, at);
            let mut waiting = None;
            loop {
                // Before the look: what changes after it must not be missed.
                let change = waiter.next();
                let same = broker.marks(at).is_some_and(|now| {
                    now.high_watermark <= seen.high_watermark
                        && now.leader_epoch == seen.leader_epoch
                });
                if !same {
                    return;
                }
                waiting.get_or_insert_with(|| FetchWait::begin(&broker.core));
                change.await;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn code(epoch: i32, offset: i64, end: Option<(i32, i64)>) -> Option<FailureCode> {
        let end = end.map(|(leader_epoch, end_offset)| EpochEnd { leader_epoch, end_offset });
        diverged(epoch, offset, end).map(|failure| failure.code)
    }

    #[test]
    fn a_reader_learns_when_what_it_read_is_not_in_this_log() {
        assert_eq!(code(3, 10, Some((3, 10))), None);
        assert_eq!(code(3, 9, Some((3, 10))), None);
        assert_eq!(code(3, 11, Some((3, 10))), Some(FailureCode::LogDiverged), "it read on");
        assert_eq!(code(3, 9, Some((2, 10))), Some(FailureCode::LogDiverged), "never led here");
        assert_eq!(code(3, 9, None), Some(FailureCode::LeaderEpochAhead));
    }
}
