//! Every request and answer reads back from its message, also after a trip through bytes.

use openraft::raft::{
    StreamAppendError, TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use proptest::prelude::*;
use prost::Message;

use super::super::wire::*;
use super::*;
use crate::consensus::membership::tests::{any_log_id, any_membership, any_replica};

/// Through bytes and back.
#[allow(clippy::needless_pass_by_value, reason = "reads better where it is used")]
fn trip<M: Message + Default>(message: M) -> M {
    M::decode(Bytes::from(message.encode_to_vec())).unwrap()
}

fn any_vote() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any_replica(), any::<bool>()).prop_map(|(term, node, committed)| {
        let mut vote = Vote::new(term, RaftNode(node));
        vote.committed = committed;
        vote
    })
}

fn any_payload() -> impl Strategy<Value = EntryPayload<Payload, RaftNode, EmptyNode>> {
    prop_oneof![
        Just(EntryPayload::Blank),
        proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| EntryPayload::Normal(Payload(bytes.into()))),
        any_membership().prop_map(EntryPayload::Membership),
    ]
}

fn maybe_log_id() -> impl Strategy<Value = Option<LogId>> {
    proptest::option::of(any_log_id())
}

/// Entries that follow `previous` without a hole.
fn any_append() -> impl Strategy<Value = AppendEntriesRequest<C>> {
    let entries = proptest::collection::vec((any_replica(), any_payload()), 0..5);
    (any_vote(), proptest::option::of((any::<u32>(), any_replica())), entries, maybe_log_id())
        .prop_map(|(vote, previous, entries, leader_commit)| {
            let id = |index, leader| to_raft_log_id(record::LogId { term: 3, leader, index });
            let prev_log_id = previous.map(|(index, leader)| id(u64::from(index), leader));
            let first = prev_log_id.map_or(0, |id| id.index + 1);
            let entries = (first..)
                .zip(entries)
                .map(|(index, (leader, payload))| Entry { log_id: id(index, leader), payload })
                .collect();
            AppendEntriesRequest { vote, prev_log_id, entries, leader_commit }
        })
}

proptest! {
    #[test]
    fn append_requests_read_back(request in any_append()) {
        let back = append_from(trip(append_to(request.clone()))).unwrap();
        prop_assert_eq!(back.vote, request.vote);
        prop_assert_eq!(back.prev_log_id, request.prev_log_id);
        prop_assert_eq!(back.leader_commit, request.leader_commit);
        prop_assert!(back.entries == request.entries);
    }

    #[test]
    fn append_answers_read_back(last in maybe_log_id(), at in any_log_id(), vote in any_vote()) {
        for answer in
            [Ok(last), Err(StreamAppendError::Conflict(at)), Err(StreamAppendError::HigherVote(vote))]
        {
            prop_assert_eq!(answer_from(trip(answer_to(&answer))), Ok(answer));
        }
    }

    #[test]
    fn votes_read_back(vote in any_vote(), last in maybe_log_id(), flag in any::<bool>()) {
        let mut request = VoteRequest::new(vote, last);
        request.leadership_transfer = flag;
        let route = Route { shard: ShardId(1), from: replica(1), to: replica(2) };
        let message = trip(vote_request_to(route, &request, flag));
        prop_assert_eq!(message.pre_vote, flag);
        prop_assert_eq!(vote_request_from(message), Ok(request));
        let response = VoteResponse::new(vote, last, flag);
        prop_assert_eq!(vote_response_from(trip(vote_response_to(&response))), Ok(response));
    }

    #[test]
    fn transfers_read_back(vote in any_vote(), other in any_vote(), last in maybe_log_id(), to in any_replica()) {
        let request = TransferLeaderRequest::new(vote, RaftNode(to), last);
        let route = Route { shard: ShardId(1), from: replica(1), to: replica(2) };
        prop_assert_eq!(transfer_from(trip(transfer_to(route, &request))), Ok(request));
        for response in [
            Ok(()),
            Err(TransferLeaderError::VoteChanged { expected: vote, actual: other }),
            Err(TransferLeaderError::LogNotFlushed { expected: last, actual: None }),
        ] {
            let back = transfer_response_from(trip(transfer_response_to(&response)));
            prop_assert_eq!(back, Ok(response));
        }
    }
}

#[test]
fn a_hole_between_entries_is_refused() {
    let mut request = append(3, 10);
    request.entries.push(entry(5, 10));
    assert!(append_from(append_to(request)).is_err());
}

#[test]
fn a_payload_is_a_slice_of_the_received_message() {
    let bytes = Bytes::from(append_to(append(3, 1000)).encode_to_vec());
    let range = bytes.as_ptr_range();
    let request = append_from(waymark_proto::peer::AppendRequest::decode(bytes).unwrap()).unwrap();
    let EntryPayload::Normal(payload) = &request.entries[0].payload else { panic!("a command") };
    assert!(range.contains(&payload.0.as_ptr()), "not copied");
}
