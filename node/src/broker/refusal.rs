//! Owns the translation of what the state and consensus say into the closed list of failures.

use waymark_proto::failure::{Failure, FailureCode};

use crate::consensus::ProposeError;
use crate::mutants;
use crate::state::Refusal;
use crate::storage::shard_store::StoreError;

/// Pause that is asked for while a leader is being found, ms.
pub(super) const ELECTION_PAUSE_MS: i32 = 50;

/// … and while another process sits on a seat, ms.
const INSTANCE_PAUSE_MS: i32 = 500;

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
        Refusal::VersionMismatch { .. }
        | Refusal::ConditionFailed { .. }
        | Refusal::MovedSince { .. } => FailureCode::ConditionFailed,
        Refusal::NoPool(_) => FailureCode::InvalidReplication,
        Refusal::Invalid(_) => FailureCode::InvalidArgument,
        Refusal::NoMajorityWithout => FailureCode::NoQuorum,
        Refusal::OutOfOrderSequence { .. } => FailureCode::OutOfOrderSequence,
        Refusal::DuplicateSequence => FailureCode::DuplicateSequence,
        Refusal::ProducerFenced => FailureCode::ProducerFenced,
        Refusal::UnknownProducer => FailureCode::UnknownProducer,
        Refusal::BatchTooLarge { .. } => FailureCode::BatchTooLarge,
        Refusal::BadBatch => FailureCode::InvalidBatch,
        Refusal::Superseded => FailureCode::Superseded,
        Refusal::SequenceBehind { .. } => FailureCode::CommitSeqBehind,
        Refusal::Fenced { .. } | Refusal::NotOwner(_) => FailureCode::NotOwner,
        Refusal::NotAttempted => FailureCode::NotAttempted,
        Refusal::NoGroup => FailureCode::GroupNotFound,
        Refusal::GroupNotEmpty => FailureCode::GroupNotEmpty,
        Refusal::GroupFull { .. } => FailureCode::GroupFull,
        Refusal::UnknownMember => FailureCode::UnknownMember,
        Refusal::InstanceInUse(_) => FailureCode::InstanceInUse,
        Refusal::InstanceFenced => FailureCode::InstanceFenced,
        Refusal::TopicInUse => FailureCode::TopicInUse,
        Refusal::OffsetOutOfRange { .. } => FailureCode::OffsetOutOfRange,
        Refusal::Misplaced(_) => FailureCode::Internal,
    };
    let mut failure = failure(code, refusal.to_string());
    match refusal {
        Refusal::VersionMismatch { actual } => failure.actual = i64::try_from(*actual).ok(),
        Refusal::ConditionFailed { actual } => failure.actual = *actual,
        Refusal::MovedSince { generation } => failure.actual = Some(i64::from(*generation)),
        Refusal::OutOfOrderSequence { expected } => failure.expected = Some(i64::from(*expected)),
        Refusal::BatchTooLarge { limit } => failure.limit = Some(i64::from(*limit)),
        Refusal::Fenced { actual } | Refusal::SequenceBehind { actual } => {
            failure.actual = Some(*actual);
        }
        Refusal::GroupFull { limit } => failure.limit = i64::try_from(*limit).ok(),
        Refusal::InstanceInUse(_) => failure.retry_after_ms = INSTANCE_PAUSE_MS,
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

/// For reads that the state says must succeed: what is not stored then, this replica has lost, and what its disk refuses to
/// read, another one can, or this one later. Never a bug, which would end the reader.
pub(super) fn unread(error: &StoreError) -> Failure {
    let bug = mutants::planted!("unread-is-a-bug") && matches!(error, StoreError::Io { .. });
    let code = if bug { FailureCode::Internal } else { FailureCode::RangeDamaged };
    failure(code, error.to_string())
}

/// An offset outside of what a ready leader holds.
pub(super) fn out_of_range(log_start: i64, high_watermark: i64) -> Failure {
    let range = format!("the log holds {log_start} to {high_watermark}");
    let mut failure = failure(FailureCode::OffsetOutOfRange, range);
    failure.log_start_offset = Some(log_start);
    failure.high_watermark = Some(high_watermark);
    failure
}

pub(super) fn unexpected() -> Failure {
    failure(FailureCode::Internal, "the state gave an answer of another kind")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use waymark_proto::ids::{ShardId, TopicId, TopicPartition};

    use super::*;

    /// Every refusal once. The match makes a new one fail to compile until it stands here.
    fn refusals() -> Vec<Refusal> {
        let all = vec![
            Refusal::NoTopic(TopicId([1; 16])),
            Refusal::NoPartition(TopicPartition::default()),
            Refusal::TopicExists("orders".to_owned()),
            Refusal::VersionMismatch { actual: 4 },
            Refusal::NoPool(3),
            Refusal::Invalid("a number".to_owned()),
            Refusal::ConditionFailed { actual: Some(7) },
            Refusal::MovedSince { generation: 15 },
            Refusal::OutOfOrderSequence { expected: 8 },
            Refusal::DuplicateSequence,
            Refusal::ProducerFenced,
            Refusal::UnknownProducer,
            Refusal::BatchTooLarge { limit: 9 },
            Refusal::BadBatch,
            Refusal::Superseded,
            Refusal::SequenceBehind { actual: 14 },
            Refusal::Fenced { actual: 10 },
            Refusal::NotAttempted,
            Refusal::OffsetOutOfRange { log_start: 11, next_offset: 12 },
            Refusal::Misplaced("elsewhere"),
            Refusal::NoGroup,
            Refusal::GroupNotEmpty,
            Refusal::GroupFull { limit: 13 },
            Refusal::UnknownMember,
            Refusal::NotOwner(TopicPartition::default()),
            Refusal::InstanceInUse("seat".to_owned()),
            Refusal::InstanceFenced,
            Refusal::TopicInUse,
            Refusal::NoMajorityWithout,
        ];
        all.iter().for_each(stands_here);
        all
    }

    fn stands_here(refusal: &Refusal) {
        match refusal {
            Refusal::NoPartition(_)
            | Refusal::NoTopic(_)
            | Refusal::TopicExists(_)
            | Refusal::VersionMismatch { .. }
            | Refusal::NoPool(_)
            | Refusal::Invalid(_)
            | Refusal::ConditionFailed { .. }
            | Refusal::MovedSince { .. }
            | Refusal::OutOfOrderSequence { .. }
            | Refusal::DuplicateSequence
            | Refusal::ProducerFenced
            | Refusal::UnknownProducer
            | Refusal::BatchTooLarge { .. }
            | Refusal::BadBatch
            | Refusal::Superseded
            | Refusal::SequenceBehind { .. }
            | Refusal::Fenced { .. }
            | Refusal::NotAttempted
            | Refusal::OffsetOutOfRange { .. }
            | Refusal::NoGroup
            | Refusal::GroupNotEmpty
            | Refusal::GroupFull { .. }
            | Refusal::UnknownMember
            | Refusal::NotOwner(_)
            | Refusal::InstanceInUse(_)
            | Refusal::InstanceFenced
            | Refusal::TopicInUse
            | Refusal::NoMajorityWithout
            | Refusal::Misplaced(_) => {}
        }
    }

    #[test]
    fn every_refusal_of_the_state_has_a_code_of_its_own() {
        let codes: Vec<FailureCode> = refusals().iter().map(|it| refused(it).code).collect();
        let different: BTreeSet<String> = codes.iter().map(|code| format!("{code:?}")).collect();
        // Another version of a topic, another next offset and a move of the group are the same to a caller: look again, then
        // decide. So are a partition that another member holds and one that it has written to since.
        assert_eq!(different.len(), codes.len() - 3, "{codes:?}");
        assert!(refusals().iter().all(|it| !refused(it).message.is_empty()));
    }

    #[test]
    fn a_refusal_tells_the_number_that_the_caller_needs() {
        let told = |refusal| {
            let it = refused(&refusal);
            (it.expected, it.actual, it.limit, it.log_start_offset.zip(it.high_watermark))
        };
        assert_eq!(told(Refusal::VersionMismatch { actual: 4 }), (None, Some(4), None, None));
        let condition = Refusal::ConditionFailed { actual: Some(7) };
        assert_eq!(told(condition), (None, Some(7), None, None));
        let moved = Refusal::MovedSince { generation: 15 };
        assert_eq!(told(moved), (None, Some(15), None, None));
        let order = Refusal::OutOfOrderSequence { expected: 8 };
        assert_eq!(told(order), (Some(8), None, None, None));
        assert_eq!(told(Refusal::BatchTooLarge { limit: 9 }), (None, None, Some(9), None));
        assert_eq!(told(Refusal::Fenced { actual: 10 }), (None, Some(10), None, None));
        let range = Refusal::OffsetOutOfRange { log_start: 11, next_offset: 12 };
        assert_eq!(told(range), (None, None, None, Some((11, 12))));
    }

    #[test]
    fn what_was_certainly_not_written_never_reads_as_unknown() {
        let code = |error| unproposed(&error).code;
        let shard = ShardId(1);
        assert_eq!(code(ProposeError::NotLeader { shard, leader: None }), FailureCode::NoLeader);
        assert_eq!(code(ProposeError::NotHere(shard)), FailureCode::NoLeader);
        assert_eq!(code(ProposeError::NoQuorum(shard)), FailureCode::NoQuorum);
        assert_eq!(code(ProposeError::ExpiredUnsent), FailureCode::ExpiredUnsent);
        let unknown = ProposeError::OutcomeUnknown("lost".to_owned());
        assert_eq!(code(unknown), FailureCode::OutcomeUnknown);
        let large = unproposed(&ProposeError::TooLarge { bytes: 9, limit: 8 });
        assert_eq!((large.code, large.limit), (FailureCode::BatchTooLarge, Some(8)));
    }
}
