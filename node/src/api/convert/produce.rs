//! Produce: from the wire to batches to append, and receipts back.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;
use waymark_proto::v1;

use super::fields::{by_id, count, known, optional, timeout};
use crate::api::logs::{Append, Appended};
use crate::api::refusal::{invalid, missing, refuse, too_large, unsupported};

/// Batches of one request.
pub(in crate::api) const MAX_BATCHES: usize = 4_096;
/// Bytes of one request.
pub(in crate::api) const MAX_REQUEST_BYTES: usize = 32 << 20;
/// The longest a batch may wait for its outcome.
pub(in crate::api) const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// How long it waits when the request does not say.
pub(in crate::api) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a whole message asks for, apart from its batches.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Terms {
    /// Relative to the arrival of the message.
    pub(in crate::api) timeout: Duration,
}

/// Checks what concerns the whole message.
pub(in crate::api) fn terms(request: &v1::ProduceRequest) -> Result<Terms, Failure> {
    if request.batches.len() > MAX_BATCHES {
        return Err(too_large("batches of a request", MAX_BATCHES as i64));
    }
    let bytes: usize = request.batches.iter().map(|batch| batch.batch.len()).sum();
    if bytes > MAX_REQUEST_BYTES {
        return Err(too_large("bytes of a request", MAX_REQUEST_BYTES as i64));
    }
    durability(request.durability)?;
    let own = timeout("timeout_ms", request.timeout_ms, MAX_TIMEOUT)?;
    Ok(Terms { timeout: own.unwrap_or(DEFAULT_TIMEOUT) })
}

/// Everything below a synced quorum is raised to it; what is above is not built.
pub(in crate::api) fn durability(asked: i32) -> Result<(), Failure> {
    match known("durability", asked)? {
        v1::Durability::AllFsync => Err(unsupported("durability: ALL_FSYNC is not built")),
        _ => Ok(()),
    }
}

/// A batch to append.
pub(in crate::api) fn append(
    batch: v1::ProduceBatch,
    deadline: Instant,
) -> Result<Append, Failure> {
    if batch.tag < 0 {
        return Err(invalid("tag", "0 or more"));
    }
    let at = by_id(&batch.topic_id, batch.partition)?;
    if batch.batch.is_empty() {
        return Err(missing("batch"));
    }
    Ok(Append {
        at,
        leader_epoch: optional("leader_epoch", batch.leader_epoch)?,
        expected_base_offset: optional("expected_base_offset", batch.expected_base_offset)?,
        deadline,
        batch: batch.batch,
    })
}

/// The partitions of a message of which a batch was refused: later ones must not overtake it.
#[derive(Debug, Default)]
pub(in crate::api) struct Door {
    refused: BTreeSet<TopicPartition>,
}

/// A batch of a message that was handed over, or refused at once.
#[derive(Debug)]
pub(in crate::api) struct Passed<T> {
    /// Whose order its receipt keeps; `None`: it named no partition.
    pub(in crate::api) lane: Option<TopicPartition>,
    /// What `take` gave, or why it was refused.
    pub(in crate::api) taken: Result<T, Failure>,
}

impl Door {
    /// Checks the next batch of the message and hands it to `take`, which may refuse it too.
    pub(in crate::api) fn pass<T>(
        &mut self,
        batch: v1::ProduceBatch,
        deadline: Instant,
        take: impl FnOnce(Append) -> Result<T, Failure>,
    ) -> Passed<T> {
        // A batch without a partition has no order that it could break.
        let lane = by_id(&batch.topic_id, batch.partition).ok();
        if lane.is_some_and(|at| self.refused.contains(&at)) {
            let why = "an earlier batch of this partition in the same message was refused";
            return Passed { lane, taken: Err(refuse(FailureCode::PrecedingFailed, why)) };
        }
        let taken = append(batch, deadline).and_then(take);
        if taken.is_err() {
            self.refused.extend(lane);
        }
        Passed { lane, taken }
    }
}

/// The receipt of a batch, under its tag.
pub(in crate::api) fn receipt(tag: i64, outcome: Result<Appended, Failure>) -> v1::BatchReceipt {
    match outcome {
        Ok(appended) => appended_receipt(tag, appended),
        Err(failure) => refused_receipt(tag, failure),
    }
}

/// The receipt of a batch that was not appended, or of which that is not known.
pub(in crate::api) fn refused_receipt(tag: i64, failure: Failure) -> v1::BatchReceipt {
    v1::BatchReceipt { tag, failure: Some(failure.into()), ..v1::BatchReceipt::default() }
}

fn appended_receipt(tag: i64, appended: Appended) -> v1::BatchReceipt {
    let receipt = appended.receipt;
    let timestamp_type = if appended.log_append_time {
        v1::TimestampType::LogAppendTime
    } else {
        v1::TimestampType::CreateTime
    };
    v1::BatchReceipt {
        tag,
        base_offset: Some(receipt.base_offset),
        record_count: receipt.record_count,
        append_time_ms: receipt.append_time_ms,
        timestamp_type: timestamp_type.into(),
        log_start_offset: receipt.log_start_offset,
        leader_epoch: receipt.leader_epoch,
        achieved: v1::Durability::QuorumFsync.into(),
        durable_replicas: appended.durable_replicas,
        replicas: appended.replicas,
        duplicate: receipt.duplicate,
        read_token: appended.read_token,
        failure: None,
    }
}

/// A producer to raise, or `None` for a new one.
pub(in crate::api) fn init_producer(
    request: &v1::InitProducerRequest,
) -> Result<Option<(i64, i16)>, Failure> {
    match (request.producer_id, request.producer_epoch) {
        (None, None) => Ok(None),
        (id, epoch) => {
            let id = count("producer_id", id)?;
            let epoch = count("producer_epoch", epoch)?;
            let epoch =
                i16::try_from(epoch).map_err(|_| invalid("producer_epoch", "at most 32767"))?;
            Ok(Some((id, epoch)))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn batch(partition: Option<i32>) -> v1::ProduceBatch {
        v1::ProduceBatch {
            topic_id: Bytes::from_static(&[7; 16]),
            partition,
            batch: Bytes::from_static(b"batch"),
            ..v1::ProduceBatch::default()
        }
    }

    fn code_of(batch: v1::ProduceBatch) -> Option<FailureCode> {
        append(batch, Instant::now()).err().map(|failure| failure.code)
    }

    #[tokio::test]
    async fn a_forgotten_partition_is_not_partition_0() {
        let failure = append(batch(None), Instant::now()).expect_err("no partition");
        assert_eq!(failure.code, FailureCode::InvalidArgument);
        assert!(failure.message.contains("partition"), "{failure}");
    }

    #[tokio::test]
    async fn negative_numbers_and_odd_ids_are_refused() {
        let invalid = Some(FailureCode::InvalidArgument);
        assert_eq!(code_of(batch(Some(-1))), invalid);
        assert_eq!(code_of(v1::ProduceBatch { leader_epoch: Some(-1), ..batch(Some(0)) }), invalid);
        assert_eq!(code_of(v1::ProduceBatch { tag: -1, ..batch(Some(0)) }), invalid);
        let short = v1::ProduceBatch { topic_id: Bytes::from_static(b"x"), ..batch(Some(0)) };
        assert_eq!(code_of(short), invalid);
        let zero = v1::ProduceBatch { topic_id: Bytes::from_static(&[0; 16]), ..batch(Some(0)) };
        assert_eq!(code_of(zero), invalid);
        assert_eq!(code_of(batch(Some(0))), None);
    }

    #[tokio::test]
    async fn what_follows_a_refused_batch_of_its_partition_is_refused_with_it() {
        let (mut door, now) = (Door::default(), Instant::now());
        let empty = v1::ProduceBatch { batch: Bytes::new(), ..batch(Some(1)) };
        let mut pass = |batch| door.pass(batch, now, Ok).taken;
        assert!(pass(batch(Some(1))).is_ok());
        assert!(pass(empty).is_err());
        let failure = pass(batch(Some(1))).expect_err("its predecessor failed");
        assert_eq!(failure.code, FailureCode::PrecedingFailed);
        assert!(pass(batch(Some(2))).is_ok());
    }

    #[tokio::test]
    async fn a_batch_that_is_not_taken_stops_its_partition_as_one_that_is_not_legal() {
        let (mut door, now) = (Door::default(), Instant::now());
        let full = || Err::<(), _>(refuse(FailureCode::Overloaded, "full"));
        let passed = door.pass(batch(Some(1)), now, |_| full());
        assert_eq!(passed.lane.map(|at| at.partition.0), Some(1));
        assert!(passed.taken.is_err());
        let next = door.pass(batch(Some(1)), now, |_| -> Result<(), _> { panic!("overtaken") });
        assert_eq!(next.taken.expect_err("with it").code, FailureCode::PrecedingFailed);
        assert!(door.pass(batch(Some(2)), now, |_| Ok(())).taken.is_ok());
    }

    #[test]
    fn a_durability_that_is_not_built_or_not_known_is_never_silently_less() {
        let code = |asked| durability(asked).err().map(|failure| failure.code);
        assert_eq!(code(v1::Durability::AllFsync.into()), Some(FailureCode::Unsupported));
        assert_eq!(code(99), Some(FailureCode::Unsupported));
        assert_eq!(code(v1::Durability::Leader.into()), None);
    }
}
