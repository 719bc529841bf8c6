//! Owns the translation between openraft's requests and the messages of `waymark.peer.v1`, by hand, so that neither the
//! wire nor the library depends on the other. A payload is shared, never copied, in both directions. Never sends anything.

use std::sync::Arc;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use waymark_proto::ids::{
    ClusterId, NodeId, PartitionId, ReplicaId, ShardId, TopicId, TopicPartition,
};
use waymark_proto::peer;

use super::{HelloAnswer, Vitals};
use crate::consensus::membership::{decode_membership, encode_membership};
use crate::consensus::types::{
    C, Entry, LogId, Payload, RaftNode, Vote, from_raft_log_id, from_raft_vote, to_raft_log_id,
    to_raft_vote,
};
use crate::consensus::{DiskRoom, Level};
use crate::storage::raft_record as record;
use crate::storage::shard_store::MissingRange;

/// A message that no node of this version sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

/// Which replica speaks to which, of which shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The shard.
    pub shard: ShardId,
    /// The sender.
    pub from: ReplicaId,
    /// The receiver.
    pub to: ReplicaId,
}

impl Route {
    /// Why a request over it is refused although both ends are where they say.
    pub(super) fn replaced(&self) -> String {
        format!("replica {} of shard {} was replaced", self.from, self.shard)
    }
}

/// Whole milliseconds, at least one: zero would mean "no deadline" to some readers.
#[must_use]
pub fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

pub(super) fn replica_to(id: ReplicaId) -> peer::Replica {
    peer::Replica { node: id.node.0, incarnation: id.incarnation }
}

pub(super) fn replica_from(id: Option<peer::Replica>) -> Result<ReplicaId, Malformed> {
    let id = id.ok_or(Malformed("no replica id"))?;
    Ok(ReplicaId { node: NodeId(id.node), incarnation: id.incarnation })
}

pub(super) fn route_to(route: Route) -> peer::Route {
    peer::Route {
        shard: route.shard.0,
        from: Some(replica_to(route.from)),
        to: Some(replica_to(route.to)),
    }
}

pub(super) fn route_from(route: Option<peer::Route>) -> Result<Route, Malformed> {
    let route = route.ok_or(Malformed("no route"))?;
    Ok(Route {
        shard: ShardId(route.shard),
        from: replica_from(route.from)?,
        to: replica_from(route.to)?,
    })
}

/// A log position → message.
#[must_use]
pub fn log_id_to(id: LogId) -> peer::LogId {
    let id = from_raft_log_id(id);
    peer::LogId { term: id.term, leader: Some(replica_to(id.leader)), index: id.index }
}

/// A message → log position.
///
/// # Errors
/// When its leader is absent.
pub fn log_id_from(id: peer::LogId) -> Result<LogId, Malformed> {
    let leader = replica_from(id.leader)?;
    Ok(to_raft_log_id(record::LogId { term: id.term, leader, index: id.index }))
}

pub(super) fn vote_to(vote: Vote) -> peer::RaftVote {
    let vote = from_raft_vote(vote);
    peer::RaftVote {
        term: vote.term,
        voted_for: Some(replica_to(vote.voted_for)),
        committed: vote.committed,
    }
}

pub(super) fn vote_from(vote: Option<peer::RaftVote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(Malformed("no vote"))?;
    let voted_for = replica_from(vote.voted_for)?;
    Ok(to_raft_vote(record::Vote { term: vote.term, voted_for, committed: vote.committed }))
}

/// An entry → message; the payload is shared.
#[must_use]
pub fn entry_to(entry: Entry) -> peer::Entry {
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (peer::EntryKind::Blank, bytes::Bytes::new()),
        EntryPayload::Normal(payload) => (peer::EntryKind::Command, payload.0),
        EntryPayload::Membership(m) => (peer::EntryKind::Membership, encode_membership(&m)),
    };
    peer::Entry { id: Some(log_id_to(entry.log_id)), kind: kind.into(), payload }
}

/// A message → entry; the payload is a slice of the received message.
///
/// # Errors
/// When the position or the kind is not legal, or a membership does not decode.
pub fn entry_from(entry: peer::Entry) -> Result<Entry, Malformed> {
    let kind = entry.kind();
    let log_id = log_id_from(entry.id.ok_or(Malformed("an entry without a position"))?)?;
    let payload = match kind {
        peer::EntryKind::Blank => EntryPayload::Blank,
        peer::EntryKind::Command => EntryPayload::Normal(Payload(entry.payload)),
        peer::EntryKind::Membership => EntryPayload::Membership(
            decode_membership(&entry.payload).map_err(|_| Malformed("a bad membership"))?,
        ),
        peer::EntryKind::Unspecified => return Err(Malformed("an entry of an unknown kind")),
    };
    Ok(Entry { log_id, payload })
}

/// An append request → message.
#[must_use]
pub fn append_to(request: AppendEntriesRequest<C>) -> peer::AppendRequest {
    peer::AppendRequest {
        vote: Some(vote_to(request.vote)),
        previous: request.prev_log_id.map(log_id_to),
        entries: request.entries.into_iter().map(entry_to).collect(),
        commit: request.leader_commit.map(log_id_to),
    }
}

/// A message → append request. Entries must follow `previous` without a hole: openraft only asserts that.
///
/// # Errors
/// When a part is absent or not legal.
pub fn append_from(request: peer::AppendRequest) -> Result<AppendEntriesRequest<C>, Malformed> {
    let prev_log_id = request.previous.map(log_id_from).transpose()?;
    let entries: Vec<Entry> =
        request.entries.into_iter().map(entry_from).collect::<Result<_, _>>()?;
    let mut next = prev_log_id.map(|id| id.index.saturating_add(1));
    for entry in &entries {
        if next.is_some_and(|next| next != entry.log_id.index) {
            return Err(Malformed("a hole between entries"));
        }
        next = Some(entry.log_id.index.saturating_add(1));
    }
    let leader_commit = request.commit.map(log_id_from).transpose()?;
    Ok(AppendEntriesRequest { vote: vote_from(request.vote)?, prev_log_id, entries, leader_commit })
}

/// The outcome of an append → message.
#[must_use]
pub fn answer_to(answer: &StreamAppendResult<C>) -> peer::AppendAnswer {
    use peer::append_answer::Kind;
    let kind = match answer {
        Ok(last) => Kind::Matched(peer::Matched { last: last.map(log_id_to) }),
        Err(StreamAppendError::Conflict(at)) => Kind::Conflict(log_id_to(*at)),
        Err(StreamAppendError::HigherVote(vote)) => Kind::HigherVote(vote_to(*vote)),
    };
    peer::AppendAnswer { kind: Some(kind) }
}

/// A message → the outcome of an append.
///
/// # Errors
/// When it is empty.
pub fn answer_from(answer: peer::AppendAnswer) -> Result<StreamAppendResult<C>, Malformed> {
    use peer::append_answer::Kind;
    Ok(match answer.kind.ok_or(Malformed("an empty answer"))? {
        Kind::Matched(matched) => Ok(matched.last.map(log_id_from).transpose()?),
        Kind::Conflict(at) => Err(StreamAppendError::Conflict(log_id_from(at)?)),
        Kind::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from(Some(vote))?)),
    })
}

/// A vote request → message.
#[must_use]
pub fn vote_request_to(route: Route, request: &VoteRequest<C>, pre: bool) -> peer::VoteRequest {
    peer::VoteRequest {
        route: Some(route_to(route)),
        vote: Some(vote_to(request.vote)),
        last: request.last_log_id.map(log_id_to),
        leadership_transfer: request.leadership_transfer,
        pre_vote: pre,
    }
}

/// A message → vote request.
///
/// # Errors
/// When a part is absent.
pub fn vote_request_from(request: peer::VoteRequest) -> Result<VoteRequest<C>, Malformed> {
    let last = request.last.map(log_id_from).transpose()?;
    let mut vote = VoteRequest::new(vote_from(request.vote)?, last);
    vote.leadership_transfer = request.leadership_transfer;
    Ok(vote)
}

/// A vote's answer → message.
#[must_use]
pub fn vote_response_to(response: &VoteResponse<C>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(vote_to(response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(log_id_to),
    }
}

/// A message → a vote's answer.
///
/// # Errors
/// When a part is absent.
pub fn vote_response_from(response: peer::VoteResponse) -> Result<VoteResponse<C>, Malformed> {
    let last = response.last.map(log_id_from).transpose()?;
    Ok(VoteResponse::new(vote_from(response.vote)?, last, response.granted))
}

/// A transfer → message.
#[must_use]
pub fn transfer_to(
    route: Route,
    request: &TransferLeaderRequest<C>,
) -> peer::TransferLeaderRequest {
    peer::TransferLeaderRequest {
        route: Some(route_to(route)),
        from_leader: Some(vote_to(*request.from_leader())),
        to: Some(replica_to(request.to_node_id().0)),
        last: request.last_log_id().copied().map(log_id_to),
    }
}

/// A message → transfer.
///
/// # Errors
/// When a part is absent.
pub fn transfer_from(
    request: peer::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<C>, Malformed> {
    let last = request.last.map(log_id_from).transpose()?;
    let to = RaftNode(replica_from(request.to)?);
    Ok(TransferLeaderRequest::new(vote_from(request.from_leader)?, to, last))
}

/// A transfer's answer → message.
#[must_use]
pub fn transfer_response_to(response: &TransferLeaderResponse<C>) -> peer::TransferLeaderResponse {
    use peer::transfer_leader_response::Kind;
    let kind = match response {
        Ok(()) => Kind::Accepted(peer::End {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            let (expected, actual) = (Some(vote_to(*expected)), Some(vote_to(*actual)));
            Kind::VoteChanged(peer::VotePair { expected, actual })
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            let (expected, actual) = (expected.map(log_id_to), actual.map(log_id_to));
            Kind::LogNotFlushed(peer::LogIdPair { expected, actual })
        }
    };
    peer::TransferLeaderResponse { kind: Some(kind) }
}

/// A message → a transfer's answer.
///
/// # Errors
/// When it is empty or a part is absent.
pub fn transfer_response_from(
    response: peer::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<C>, Malformed> {
    use peer::transfer_leader_response::Kind;
    Ok(match response.kind.ok_or(Malformed("an empty answer"))? {
        Kind::Accepted(_) => Ok(()),
        Kind::VoteChanged(pair) => Err(TransferLeaderError::VoteChanged {
            expected: vote_from(pair.expected)?,
            actual: vote_from(pair.actual)?,
        }),
        Kind::LogNotFlushed(pair) => Err(TransferLeaderError::LogNotFlushed {
            expected: pair.expected.map(log_id_from).transpose()?,
            actual: pair.actual.map(log_id_from).transpose()?,
        }),
    })
}

pub(super) fn hello_to(answer: HelloAnswer) -> peer::HelloResponse {
    peer::HelloResponse {
        node: answer.node.0,
        cluster_id: answer.cluster.map(|cluster| bytes::Bytes::copy_from_slice(&cluster.0)),
        empty: answer.empty,
        callers_disk: answer.callers_disk,
    }
}

pub(super) fn hello_from(answer: &peer::HelloResponse) -> Result<HelloAnswer, Malformed> {
    let cluster = answer.cluster_id.as_ref().map(|id| ClusterId::from_slice(id)).transpose();
    Ok(HelloAnswer {
        node: NodeId(answer.node),
        cluster: cluster.map_err(|_| Malformed("a bad cluster id"))?,
        empty: answer.empty,
        callers_disk: answer.callers_disk,
    })
}

pub(super) fn vitals_to(vitals: Vitals) -> peer::Vitals {
    let has_room = vitals.level() == Level::Records;
    let disk = vitals.disk.map(|disk| peer::DiskRoom {
        folder: disk.folder.clone(),
        free_bytes: disk.free_bytes,
        reserve_bytes: disk.reserve_bytes,
        last_reserve_bytes: disk.last_reserve_bytes,
        takes_entries: disk.level != Level::Nothing,
    });
    peer::Vitals { clock_ms: vitals.clock_ms, has_room, disk }
}

pub(super) fn vitals_from(vitals: peer::Vitals) -> Vitals {
    let peer::Vitals { clock_ms, has_room, disk } = vitals;
    let level = |takes_entries| match (has_room, takes_entries) {
        (true, _) => Level::Records,
        (false, true) => Level::Entries,
        (false, false) => Level::Nothing,
    };
    let disk = disk.map(|disk| DiskRoom {
        level: level(disk.takes_entries),
        folder: disk.folder,
        free_bytes: disk.free_bytes,
        reserve_bytes: disk.reserve_bytes,
        last_reserve_bytes: disk.last_reserve_bytes,
    });
    Vitals { clock_ms, disk: disk.map(Arc::new) }
}

pub(super) fn range_to(range: &MissingRange) -> peer::FileRange {
    peer::FileRange {
        topic_id: bytes::Bytes::copy_from_slice(&range.at.topic.0),
        partition: range.at.partition.0,
        base_offset: range.base_offset,
        from_byte: range.from_byte,
        to_byte: range.to_byte,
    }
}

pub(super) fn range_from(range: &peer::FileRange) -> Result<MissingRange, Malformed> {
    if range.from_byte > range.to_byte {
        return Err(Malformed("a range that ends before it starts"));
    }
    let topic = TopicId::from_slice(&range.topic_id).map_err(|_| Malformed("a bad topic id"))?;
    Ok(MissingRange {
        at: TopicPartition { topic, partition: PartitionId(range.partition) },
        base_offset: range.base_offset,
        from_byte: range.from_byte,
        to_byte: range.to_byte,
    })
}
