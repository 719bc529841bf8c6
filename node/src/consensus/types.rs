//! Owns the consensus library's type parameters and the translation between its positions and ours, so that no other
//! layer ever names the library. Stored and sent bytes are always ours (`storage::raft_record`), never its serialisation.

use std::fmt;

use bytes::Bytes;
use openraft::EmptyNode;
use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_adv::LeaderId;
use waymark_proto::ids::{NodeId, ReplicaId};

use crate::state::Reply;
use crate::storage::raft_record as record;

/// A replica's id as openraft wants it: [`ReplicaId`] with the conversions that its store suite demands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RaftNode(pub ReplicaId);

impl fmt::Display for RaftNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<u64> for RaftNode {
    fn from(id: u64) -> Self {
        let node = NodeId(u32::try_from(id).unwrap_or(u32::MAX));
        Self(ReplicaId { node, incarnation: 0 })
    }
}

/// The payload of an ordinary entry: an encoded command. Shared, never copied, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// The one configuration of openraft: shard 0 and every other shard are of the same kind.
    pub C: D = Payload, R = Reply, NodeId = RaftNode, Node = EmptyNode, Term = u64,
);

/// A position in a Raft log, in openraft's words.
pub type LogId = openraft::alias::LogIdOf<C>;
/// A vote, in openraft's words.
pub type Vote = openraft::alias::VoteOf<C>;
/// An entry, in openraft's words.
pub type Entry = openraft::alias::EntryOf<C>;
/// A membership with its position.
pub type Membership = openraft::alias::StoredMembershipOf<C>;

/// What openraft calls snapshot data: the manifest of a checkpoint, encoded as in its file (S9).
pub type Manifest = Bytes;

/// Ours → openraft's.
#[must_use]
pub fn to_raft_log_id(id: record::LogId) -> LogId {
    openraft::LogId::new(LeaderId::new(id.term, RaftNode(id.leader)), id.index)
}

/// openraft's → ours.
#[must_use]
pub fn from_raft_log_id(id: LogId) -> record::LogId {
    record::LogId { term: id.leader_id.term, leader: id.leader_id.node_id.0, index: id.index }
}

/// Ours → openraft's.
#[must_use]
pub fn to_raft_vote(vote: record::Vote) -> Vote {
    let mut raft = Vote::new(vote.term, RaftNode(vote.voted_for));
    raft.committed = vote.committed;
    raft
}

/// openraft's → ours.
#[must_use]
pub fn from_raft_vote(vote: Vote) -> record::Vote {
    record::Vote {
        term: vote.leader_id.term,
        voted_for: vote.leader_id.node_id.0,
        committed: vote.committed,
    }
}
