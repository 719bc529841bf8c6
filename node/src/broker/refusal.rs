//! Owns the translation of what the state and consensus say into the closed list of failures.

use waymark_proto::failure::{Failure, FailureCode};

use crate::consensus::ProposeError;
use crate::state::Refusal;
use crate::storage::shard_store::StoreError;

/// Pause that is asked for while a leader is being found, ms.
pub(super) const ELECTION_PAUSE_MS: i32 = 50;

pub(super) fn failure(code: FailureCode, why: impl Into<String>) -> Failure {
    Failure::new(code, why)
}

/// Nobody serves for the moment.
pub(super) fn no_leader(why: impl Into<String>) -> Failure {
    let mut failure = failure(FailureCode::NoLeader, why);
    failure.retry_after_ms = ELECTION_PAUSE_MS;
    failure
}

pub(super) fn refused(refusal: &Refusal) -> Failure {
    let code = match refusal {
        Refusal::NoPartition(_) => FailureCode::PartitionNotFound,
        Refusal::NoTopic(_) => FailureCode::TopicNotFound,
        Refusal::TopicExists(_) => FailureCode::TopicExists,
        Refusal::VersionMismatch { .. } | Refusal::ConditionFailed { .. } => {
            FailureCode::ConditionFailed
        }
        Refusal::NoPool(_) => FailureCode::InvalidReplication,
        Refusal::Invalid(_) => FailureCode::InvalidArgument,
        Refusal::OutOfOrderSequence { .. } => FailureCode::OutOfOrderSequence,
        Refusal::DuplicateSequence => FailureCode::DuplicateSequence,
        Refusal::ProducerFenced => FailureCode::ProducerFenced,
        Refusal::UnknownProducer => FailureCode::UnknownProducer,
        Refusal::BatchTooLarge { .. } => FailureCode::BatchTooLarge,
        Refusal::BadBatch => FailureCode::InvalidBatch,
        Refusal::Superseded => FailureCode::Superseded,
        Refusal::Fenced { .. } => FailureCode::NotOwner,
        Refusal::NotAttempted => FailureCode::NotAttempted,
        Refusal::OffsetOutOfRange { .. } => FailureCode::OffsetOutOfRange,
        Refusal::Misplaced(_) => FailureCode::Internal,
    };
    let mut failure = failure(code, refusal.to_string());
    match refusal {
        Refusal::VersionMismatch { actual } => failure.actual = i64::try_from(*actual).ok(),
        Refusal::ConditionFailed { actual } => failure.actual = *actual,
        Refusal::OutOfOrderSequence { expected } => failure.expected = Some(i64::from(*expected)),
        Refusal::BatchTooLarge { limit } => failure.limit = Some(i64::from(*limit)),
        Refusal::Fenced { actual } => failure.actual = Some(*actual),
        Refusal::OffsetOutOfRange { log_start, next_offset } => {
            failure.log_start_offset = Some(*log_start);
            failure.high_watermark = Some(*next_offset);
        }
        _ => {}
    }
    failure
}

/// For proposals that consensus itself routes; where the caller routes, `place` says who leads instead.
pub(super) fn unproposed(error: &ProposeError) -> Failure {
    let text = error.to_string();
    match error {
        ProposeError::NotLeader { .. } | ProposeError::NotHere(_) => no_leader(text),
        ProposeError::NoQuorum(_) => failure(FailureCode::NoQuorum, text),
        ProposeError::ExpiredUnsent => failure(FailureCode::ExpiredUnsent, text),
        ProposeError::OutcomeUnknown(_) => failure(FailureCode::OutcomeUnknown, text),
        ProposeError::TooLarge { limit, .. } => {
            let mut failure = failure(FailureCode::BatchTooLarge, text);
            failure.limit = i64::try_from(*limit).ok();
            failure
        }
    }
}

pub(super) fn unread(error: &StoreError) -> Failure {
    let code = match error {
        StoreError::Damaged { .. } => FailureCode::RangeDamaged,
        StoreError::OutOfRange { .. } => FailureCode::OffsetOutOfRange,
        StoreError::NoPartition(_) => FailureCode::PartitionNotFound,
        StoreError::Io { .. } => FailureCode::Internal,
    };
    failure(code, error.to_string())
}

pub(super) fn unexpected() -> Failure {
    failure(FailureCode::Internal, "the state gave an answer of another kind")
}
