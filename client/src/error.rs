//! Owns the client's errors and the one question a caller has about them: what may be done next. Never decides a retry:
//! that is `retry`.

use std::sync::Arc;
use std::time::Duration;

use waymark_proto::v1 as wire;

use crate::config::ConfigError;
use crate::record::TopicPartition;

pub use waymark_proto::v1::FailureCode;

/// The result of most calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What may be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// It was not done. The client has retried until its deadline; the same call may succeed later.
    Retryable,
    /// It may have been done or not. Repeat only what is idempotent; the producer and the admin calls are by default.
    Ambiguous,
    /// The identity used is stale: a newer producer or owner has taken over. Stop, or begin anew.
    Fenced,
    /// The caller must change something first.
    Rejected,
    /// The cluster has lost something, or has a bug, or this client is closed for good.
    Fatal,
}

/// What a node said when it refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// From the closed list.
    pub code: FailureCode,
    /// Its class, as the node told it.
    pub retry: wire::RetryClass,
    /// For people.
    pub message: String,
    /// What it is about: a partition, a key, a group.
    pub subject: String,
    /// The first offset the log still has, where that is the point.
    pub log_start_offset: Option<i64>,
    /// The first offset not yet committed, where that is the point.
    pub high_watermark: Option<i64>,
    /// What would have been accepted: a sequence, a version.
    pub expected: Option<i64>,
    /// What was found instead.
    pub actual: Option<i64>,
    /// The limit exceeded, or what is needed.
    pub limit: Option<i64>,
    /// The pause the node asks for.
    pub retry_after: Duration,
    /// The leader, where the node knows it.
    pub(crate) leader: Option<wire::LeaderHint>,
}

/// Everything that can go wrong. Cheap to clone: every record of a failed batch gets one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A node refused.
    #[error("{}: {}{}", .0.code.as_str_name(), .0.message, about(&.0.subject))]
    Refused(Arc<Refusal>),
    /// A connection could not be made or broke, and what it carried may have been done.
    #[error("connection to {address}: {message}")]
    Transport {
        /// Whom we talked to.
        address: Arc<str>,
        /// What happened.
        message: Arc<str>,
        /// Whether the request may have reached the node.
        sent: bool,
    },
    /// The deadline passed.
    #[error("{what} took longer than {after:?}{}", because(last.as_deref()))]
    Timeout {
        /// What was attempted.
        what: &'static str,
        /// The deadline.
        after: Duration,
        /// Why the last attempt failed.
        last: Option<Box<Error>>,
        /// Whether it may have been done all the same.
        ambiguous: bool,
    },
    /// An attempt whose outcome nobody knows was repeated, and refused: the first one may have been done all the same.
    #[error("an earlier attempt may have been done, and the last one was refused: {0}")]
    RefusedAfterUnknown(Box<Error>),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The topic has no such partition.
    #[error("{at} does not exist: the topic has {partitions} partitions")]
    UnknownPartition {
        /// As asked for.
        at: TopicPartition,
        /// How many there are.
        partitions: i32,
    },
    /// The record can never be sent.
    #[error("a record of {bytes} bytes exceeds {limit} ({key})")]
    RecordTooLarge {
        /// Its size in a batch, at most.
        bytes: usize,
        /// The limit.
        limit: usize,
        /// The key that sets the limit.
        key: &'static str,
    },
    /// `try_send` only: the buffer is full.
    #[error("the send buffer is full (buffer.memory); wait with send, or slow down")]
    BufferFull,
    /// `try_send` only: the topic has not been looked up yet.
    #[error("topic {0:?} is not known yet; send to it with send first")]
    TopicNotReady(Arc<str>),
    /// No offset was committed, or it is not in the log, and `auto.offset.reset` is `none`.
    #[error("{at} has no offset to start from (auto.offset.reset=none): {reason}; seek to one")]
    NoOffset {
        /// Which partition.
        at: TopicPartition,
        /// Why.
        reason: Arc<str>,
    },
    /// The partition is not assigned to this consumer.
    #[error("{0} is not assigned to this consumer; assign it, or wait until its group does")]
    NotAssigned(TopicPartition),
    /// The call needs a consumer group.
    #[error("committing and subscribing need a consumer group: set group.id")]
    NoGroup,
    /// The topic of a partition does not exist, or was deleted (and perhaps made again).
    #[error("topic {topic:?} does not exist or was deleted ({}): create it, or read another one", .refusal.message)]
    UnknownTopic {
        /// By the name it was asked for.
        topic: Arc<str>,
        /// What the node said.
        refusal: Arc<Refusal>,
    },
    /// Either the group assigns partitions or the application does, never both.
    #[error("{0}")]
    SubscriptionConflict(&'static str),
    /// The subscription names nothing.
    #[error(
        "a subscription names at least one topic or a pattern; to stop reading, call unsubscribe"
    )]
    EmptySubscription,
    /// The partition is another member's by now, or its offset was reset: the commit was refused.
    #[error(
        "{at} no longer is this member's, or was reset; drop what is left of it and go on with recv: its owner reads it again from the committed offset"
    )]
    PartitionLost {
        /// Which partition.
        at: TopicPartition,
    },
    /// The group goes on without this member.
    #[error(
        "group {group:?} goes on without this member, whose partitions are lost; drop what is left of them and call recv, which joins again (a handler too slow for max.poll.interval.ms, or a silence beyond session.timeout.ms, gets a member here)"
    )]
    MemberFenced {
        /// `group.id`.
        group: Arc<str>,
    },
    /// Another process has taken the seat of this one.
    #[error(
        "another process has taken over group.instance.id {instance:?} in group {group:?}: stop this one, or give it an instance of its own"
    )]
    InstanceFenced {
        /// `group.id`.
        group: Arc<str>,
        /// `group.instance.id`.
        instance: Arc<str>,
    },
    /// Bytes from a node that are no valid batch.
    #[error("{at} at offset {offset}: {message}")]
    Corrupt {
        /// Which partition.
        at: TopicPartition,
        /// Where.
        offset: i64,
        /// What is wrong.
        message: Arc<str>,
    },
    /// A node's answer breaks the contract.
    #[error("a node's answer breaks the contract: {0}")]
    Protocol(Arc<str>),
    /// The client, producer or consumer is closed.
    #[error("{0} is closed")]
    Closed(&'static str),
}

impl Error {
    /// What may be done about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused(refusal) => class_of(refusal.retry),
            Self::Transport { sent: true, .. }
            | Self::Timeout { ambiguous: true, .. }
            | Self::RefusedAfterUnknown(_) => ErrorClass::Ambiguous,
            Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::BufferFull
            | Self::TopicNotReady(_) => ErrorClass::Retryable,
            Self::Config(_)
            | Self::UnknownPartition { .. }
            | Self::RecordTooLarge { .. }
            | Self::NoOffset { .. }
            | Self::NotAssigned(_)
            | Self::UnknownTopic { .. }
            | Self::SubscriptionConflict(_)
            | Self::EmptySubscription
            | Self::NoGroup => ErrorClass::Rejected,
            Self::PartitionLost { .. }
            | Self::MemberFenced { .. }
            | Self::InstanceFenced { .. } => ErrorClass::Fenced,
            Self::Corrupt { .. } | Self::Protocol(_) | Self::Closed(_) => ErrorClass::Fatal,
        }
    }

    /// The code from the closed list, if a node refused (for a timeout: at the last attempt).
    #[must_use]
    pub fn code(&self) -> Option<FailureCode> {
        self.refusal().map(|refusal| refusal.code)
    }

    /// What the node said, if one refused (for a timeout: at the last attempt).
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::UnknownTopic { refusal, .. } => Some(refusal),
            Self::Timeout { last: Some(last), .. } | Self::RefusedAfterUnknown(last) => {
                last.refusal()
            }
            _ => None,
        }
    }

    /// Whether a node refused with this code.
    #[must_use]
    pub fn is(&self, code: FailureCode) -> bool {
        self.code() == Some(code)
    }

    /// The last word of an operation of which an earlier attempt may have been done.
    pub(crate) fn after_unknown(self) -> Self {
        match self.class() {
            ErrorClass::Ambiguous => self,
            _ => Self::RefusedAfterUnknown(Box::new(self)),
        }
    }

    /// As it is, or in words about a topic that is not there.
    pub(crate) fn about_topic(self, topic: &Arc<str>) -> Self {
        match self {
            Self::Refused(refusal)
                if matches!(
                    refusal.code,
                    FailureCode::TopicNotFound | FailureCode::TopicIdMismatch
                ) =>
            {
                Self::UnknownTopic { topic: Arc::clone(topic), refusal }
            }
            error => error,
        }
    }

    pub(crate) fn protocol(message: impl Into<Arc<str>>) -> Self {
        Self::Protocol(message.into())
    }
}

fn class_of(retry: wire::RetryClass) -> ErrorClass {
    match retry {
        wire::RetryClass::Retry | wire::RetryClass::Reroute | wire::RetryClass::Done => {
            ErrorClass::Retryable
        }
        wire::RetryClass::UnknownOutcome => ErrorClass::Ambiguous,
        wire::RetryClass::Fenced => ErrorClass::Fenced,
        wire::RetryClass::Fix => ErrorClass::Rejected,
        wire::RetryClass::Fatal | wire::RetryClass::Unspecified => ErrorClass::Fatal,
    }
}

fn about(subject: &str) -> String {
    if subject.is_empty() { String::new() } else { format!(" ({subject})") }
}

fn because(last: Option<&Error>) -> String {
    last.map(|error| format!("; the last attempt failed with {error}")).unwrap_or_default()
}
