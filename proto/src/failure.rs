//! The closed list of failures as domain types: what a failure is about, what its caller does next, and its gRPC row. Owns
//! the table. Never decides that something failed.

use std::ops::{Deref, DerefMut};

use tonic::Code;

use crate::ids::NodeId;
use crate::v1;
pub use crate::v1::{FailureCode, RetryClass};

/// Each code with its retry class and its gRPC status.
const ROWS: [(FailureCode, RetryClass, Code); 64] = [
    (FailureCode::NotLeader, RetryClass::Reroute, Code::Unavailable),
    (FailureCode::NoLeader, RetryClass::Retry, Code::Unavailable),
    (FailureCode::NotCoordinator, RetryClass::Reroute, Code::Unavailable),
    (FailureCode::CoordinatorLoading, RetryClass::Retry, Code::Unavailable),
    (FailureCode::LeaderEpochOld, RetryClass::Reroute, Code::Unavailable),
    (FailureCode::LeaderEpochAhead, RetryClass::Reroute, Code::Unavailable),
    (FailureCode::ReplicaBehind, RetryClass::Reroute, Code::Unavailable),
    (FailureCode::PartitionNotFound, RetryClass::Fix, Code::NotFound),
    (FailureCode::Overloaded, RetryClass::Retry, Code::ResourceExhausted),
    (FailureCode::Throttled, RetryClass::Retry, Code::ResourceExhausted),
    (FailureCode::StorageFull, RetryClass::Retry, Code::ResourceExhausted),
    (FailureCode::NoQuorum, RetryClass::Retry, Code::Unavailable),
    (FailureCode::ExpiredUnsent, RetryClass::Retry, Code::DeadlineExceeded),
    (FailureCode::OutcomeUnknown, RetryClass::UnknownOutcome, Code::Unknown),
    (FailureCode::Internal, RetryClass::UnknownOutcome, Code::Internal),
    (FailureCode::InvalidArgument, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::Unsupported, RetryClass::Fix, Code::Unimplemented),
    (FailureCode::TopicNotFound, RetryClass::Fix, Code::NotFound),
    (FailureCode::TopicIdMismatch, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::InvalidTopicName, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::TopicExists, RetryClass::Fix, Code::AlreadyExists),
    (FailureCode::InvalidPartitions, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::InvalidReplication, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::InvalidConfig, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::PolicyViolation, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::BatchTooLarge, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::RequestTooLarge, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::CorruptBatch, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::InvalidBatch, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::UnsupportedCompression, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::InvalidTimestamp, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::MetadataTooLarge, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::OffsetOutOfRange, RetryClass::Fix, Code::OutOfRange),
    (FailureCode::FetchLimitTooSmall, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::ConditionFailed, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::OutOfOrderSequence, RetryClass::Fenced, Code::Aborted),
    (FailureCode::DuplicateSequence, RetryClass::Done, Code::AlreadyExists),
    (FailureCode::ProducerFenced, RetryClass::Fenced, Code::Aborted),
    (FailureCode::UnknownProducer, RetryClass::Fenced, Code::Aborted),
    (FailureCode::PrecedingFailed, RetryClass::Retry, Code::Aborted),
    (FailureCode::GroupNotFound, RetryClass::Fix, Code::NotFound),
    (FailureCode::GroupNotEmpty, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::GroupFull, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::GroupKindMismatch, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::UnknownMember, RetryClass::Fenced, Code::Aborted),
    (FailureCode::MemberFenced, RetryClass::Fenced, Code::Aborted),
    (FailureCode::MemberEpochStale, RetryClass::Retry, Code::Aborted),
    (FailureCode::NotOwner, RetryClass::Fenced, Code::Aborted),
    (FailureCode::InstanceFenced, RetryClass::Fenced, Code::Aborted),
    (FailureCode::InstanceInUse, RetryClass::Retry, Code::Aborted),
    (FailureCode::UnsupportedAssignor, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::InvalidPattern, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::InvalidTimeout, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::InvalidGroupId, RetryClass::Fix, Code::InvalidArgument),
    (FailureCode::TopicInUse, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::Superseded, RetryClass::Done, Code::Ok),
    (FailureCode::NotAttempted, RetryClass::Retry, Code::Aborted),
    (FailureCode::CommitSeqBehind, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::RangeDamaged, RetryClass::Reroute, Code::Unavailable),
    (FailureCode::DataLost, RetryClass::Fatal, Code::DataLoss),
    (FailureCode::LogDiverged, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::ClusterMismatch, RetryClass::Fix, Code::FailedPrecondition),
    (FailureCode::Unauthenticated, RetryClass::Fix, Code::Unauthenticated),
    (FailureCode::PermissionDenied, RetryClass::Fix, Code::PermissionDenied),
];

impl FailureCode {
    fn row(self) -> (RetryClass, Code) {
        let row = ROWS.iter().find(|(code, ..)| *code == self);
        row.map_or((RetryClass::Fatal, Code::Unknown), |(_, class, code)| (*class, *code))
    }

    /// What a caller does next.
    #[must_use]
    pub fn retry(self) -> RetryClass {
        self.row().0
    }

    /// The status of a call that fails as a whole with this code.
    #[must_use]
    pub fn grpc(self) -> Code {
        self.row().1
    }
}

/// Who leads, as the answering node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader's node.
    pub node: NodeId,
    /// The partition's leader epoch, 0 where it is not known.
    pub leader_epoch: i32,
    /// Its address for clients, `host:port`; may be empty.
    pub address: String,
}

/// Why one item, or one call, was refused: [`Facts`] behind one pointer, because it is the rare arm of most results.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Failure(Box<Facts>);

impl Deref for Failure {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.0
    }
}

/// What is known of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Which.
    pub code: FailureCode,
    /// For people.
    pub message: String,
    /// What it is about: "topic/partition", a key, a group. May be empty.
    pub subject: String,
    /// Where to go instead.
    pub leader: Option<LeaderHint>,
    /// A pause before the next attempt, ms; 0: the caller's own.
    pub retry_after_ms: i32,
    /// The first offset of the partition.
    pub log_start_offset: Option<i64>,
    /// Its high watermark.
    pub high_watermark: Option<i64>,
    /// What must come next.
    pub expected: Option<i64>,
    /// What an expected value really is.
    pub actual: Option<i64>,
    /// What would have been legal.
    pub limit: Option<i64>,
    /// Records of a batch that broke a rule: position and why.
    pub records: Vec<(i32, String)>,
}

impl Failure {
    /// A failure with a message for people.
    #[must_use]
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self(Box::new(Facts {
            code,
            message: message.into(),
            subject: String::new(),
            leader: None,
            retry_after_ms: 0,
            log_start_offset: None,
            high_watermark: None,
            expected: None,
            actual: None,
            limit: None,
            records: Vec::new(),
        }))
    }
}

/// An address as an endpoint of the gRPC listener; one without a port has port 0.
#[must_use]
pub fn endpoint(address: &str) -> v1::Endpoint {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    v1::Endpoint {
        listener: "client".to_owned(),
        protocol: "grpc".to_owned(),
        host: host.to_owned(),
        port: port.parse().unwrap_or(0),
    }
}

impl From<LeaderHint> for v1::LeaderHint {
    fn from(hint: LeaderHint) -> Self {
        let endpoints =
            if hint.address.is_empty() { Vec::new() } else { vec![endpoint(&hint.address)] };
        Self {
            node_id: i32::try_from(hint.node.0).unwrap_or(i32::MAX),
            leader_epoch: hint.leader_epoch,
            endpoints,
        }
    }
}

impl From<Failure> for v1::Failure {
    fn from(failure: Failure) -> Self {
        let failure = *failure.0;
        let fault = |(record, message)| v1::RecordFault { record: Some(record), message };
        Self {
            code: failure.code.into(),
            retry: failure.code.retry().into(),
            message: failure.message,
            subject: failure.subject,
            leader: failure.leader.map(Into::into),
            retry_after_ms: failure.retry_after_ms,
            log_start_offset: failure.log_start_offset,
            high_watermark: failure.high_watermark,
            expected: failure.expected,
            actual: failure.actual,
            limit: failure.limit,
            records: failure.records.into_iter().map(fault).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_row() {
        for number in 1..140 {
            let Ok(code) = FailureCode::try_from(number) else { continue };
            assert!(ROWS.iter().any(|(known, ..)| *known == code), "{code:?}");
        }
    }
}
