//! Owns the words for what a proposal comes to (S15): applied, certainly not written, or nobody knows. Never proposes.

use waymark_proto::ids::{NodeId, ShardId};

use crate::state::Reply;
use crate::storage::raft_record::LogId;

/// Why a proposal has no reply (S15).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not written: another node leads.
    #[error("shard {shard} is led by {leader:?}")]
    NotLeader {
        /// The shard.
        shard: ShardId,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Not written: the shard has no leader, or its leader no quorum just now.
    #[error("shard {0} has no leader with a quorum")]
    NoQuorum(ShardId),
    /// Not written: the deadline passed before the proposal.
    #[error("the deadline passed before the proposal")]
    ExpiredUnsent,
    /// Perhaps written: the deadline, a lost leadership or a failure came after the proposal.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// Not written: larger than an entry of the journal can be.
    #[error("a command of {bytes} bytes, at most {limit} fit the journal's files")]
    TooLarge {
        /// Bytes of the command.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not written: this node does not run the shard, or is stopping.
    #[error("shard {0} does not run here")]
    NotHere(ShardId),
}

/// An applied proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The state's reply.
    pub reply: Reply,
    /// Where its entry stands.
    pub at: LogId,
    /// Replicas known to hold it durably at this moment: a lower bound (S21).
    pub durable_replicas: u32,
    /// Replicas of the shard.
    pub replicas: u32,
}
