//! Owns the consensus library's type parameters and the translation between its positions and ours, so that no other
//! layer ever names the library. Stored and sent bytes are always ours (`storage::raft_record`), never its serialisation.

use std::fmt;

use bytes::Bytes;
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_adv::LeaderId;
use openraft::{EmptyNode, OptionalSend, RaftTypeConfig};
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

/// The one configuration of openraft: shard 0 and every other shard are of the same kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct C;

impl RaftTypeConfig for C {
    type D = Payload;
    type R = Reply;
    type NodeId = RaftNode;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId<u64, RaftNode>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Payload, RaftNode, EmptyNode>;
    type Entry = openraft::Entry<
        <Self::LeaderId as RaftLeaderId>::Committed,
        <Self as RaftTypeConfig>::Payload,
    >;
    type AsyncRuntime = openraft_rt_tokio::TokioRuntime;
    type Responder<T>
        = OnComplete<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// How a proposal's outcome comes back: a plain call, so that a pipelined proposal costs neither a channel nor a task.
pub struct OnComplete<T>(pub Box<dyn FnOnce(T) + Send>);

impl<T> fmt::Debug for OnComplete<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnComplete")
    }
}

impl<T: OptionalSend + 'static> Responder<C, T> for OnComplete<T> {
    fn on_commit(&mut self, _: LogId) {}

    fn on_complete(self, outcome: T) {
        (self.0)(outcome);
    }
}

/// A position in a Raft log, in openraft's words.
pub type LogId = openraft::alias::LogIdOf<C>;
/// A vote, in openraft's words.
pub type Vote = openraft::alias::VoteOf<C>;
/// An entry, in openraft's words.
pub type Entry = openraft::alias::EntryOf<C>;
/// A membership with its position.
pub type Membership = openraft::alias::StoredMembershipOf<C>;

/// A running replica's handle.
pub type Raft = openraft::Raft<C, super::machine::Machine>;

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
