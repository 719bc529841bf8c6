//! Gathered heartbeats, votes and transfers.

use futures::{StreamExt, future, stream};
use openraft::errors::RPCError;
use openraft::network::RaftNetworkV2;
use openraft::raft::{StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest};

use super::*;

type Answer = Result<StreamAppendResult<C>, RPCError<C>>;

/// A heartbeat as openraft sends it: a stream of one request, read to its end.
async fn beat(nodes: &Nodes, shard: u32) -> Answer {
    let mut way = nodes.node(1).towards(2, shard, true).await;
    let output = way.stream_append(stream::iter([heartbeat(4)]), option()).await.unwrap();
    let mut answers: Vec<_> = output.collect().await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

#[tokio::test(start_paused = true)]
async fn heartbeats_of_many_shards_become_one_call() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    for shard in 0..200 {
        nodes.node(2).replica(shard);
    }
    let answers = future::join_all((0..200).map(|shard| beat(&nodes, shard))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(Some(_))))));
    assert_eq!(nodes.node(2).host.heard.load(SeqCst), 1, "calls");
    for shard in 0..200 {
        assert_eq!(nodes.node(2).replica(shard).beats.load(SeqCst), 1, "each reached its replica");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_shard_delays_no_other_heartbeat() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    nodes.node(2).replica(0).open.send_replace(false);
    nodes.node(2).replica(1);
    let start = Instant::now();
    let timed = |shard| {
        let nodes = &nodes;
        async move { (beat(nodes, shard).await, start.elapsed()) }
    };
    let ((slow, _), (fast, took)) = future::join(timed(0), timed(1)).await;
    assert!(fast.is_ok());
    assert!(took < Duration::from_millis(50), "{took:?}");
    assert!(matches!(slow, Err(RPCError::Unreachable(_))), "{slow:?}");
    assert!(start.elapsed() <= Duration::from_millis(310), "ends before openraft's own limit");
}

async fn conflict_is_seen() -> bool {
    let nodes = Nodes::start(&NetworkOptions::default());
    nodes.node(2).replica(0).conflicts.store(true, SeqCst);
    matches!(beat(&nodes, 0).await, Ok(Err(StreamAppendError::Conflict(_))))
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_answered_by_its_replica() {
    let _sound = sound();
    assert!(conflict_is_seen().await);
}

/// What a leader's node is told of a follower that lacks what its heartbeats name.
async fn told_by_a_heartbeat() -> Vec<(u64, u64)> {
    let nodes = Nodes::start(&NetworkOptions::default());
    let follower = nodes.node(2).replica(0);
    assert!(beat(&nodes, 0).await.is_ok_and(|answer| answer.is_ok()));
    follower.conflicts.store(true, SeqCst);
    assert!(beat(&nodes, 0).await.is_ok_and(|answer| answer.is_err()));
    nodes.node(1).host.reverted.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_lacks_what_a_heartbeat_names_has_lost_it() {
    let _sound = sound();
    assert_eq!(told_by_a_heartbeat().await, [(4, 4)]);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_witness_nothing_are_caught() {
    let _planted = crate::mutants::plant("heartbeats-witness-nothing");
    assert_eq!(told_by_a_heartbeat().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_answered_at_the_door_is_noticed() {
    let _planted = crate::mutants::plant("answer-heartbeats-at-the-door");
    assert!(!conflict_is_seen().await);
}

#[tokio::test(start_paused = true)]
async fn votes_and_transfers_reach_the_replica() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    nodes.node(2).replica(0);
    let mut way = nodes.node(1).towards(2, 0, false).await;
    let request = || VoteRequest::new(leader_vote(3), Some(log_id(8)));
    assert!(!way.vote(request(), option()).await.unwrap().vote_granted);
    let granted = way.pre_vote(request(), option()).await.unwrap();
    assert!(granted.vote_granted);
    assert_eq!(granted.last_log_id, Some(log_id(8)));
    let transfer = TransferLeaderRequest::new(leader_vote(3), RaftNode(replica(2)), None);
    assert_eq!(way.transfer_leader(transfer, option()).await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_or_unfit_replica_never_grants_a_pre_vote() {
    let _sound = sound();
    let mut nodes = Nodes::start(&NetworkOptions::default());
    let request = || VoteRequest::new(leader_vote(3), None);
    let mut way = nodes.node(1).towards(2, 0, false).await;
    let unfit = way.pre_vote(request(), option()).await;
    assert!(matches!(unfit, Err(RPCError::Unreachable(_))), "{unfit:?}");
    nodes.nodes[1].server = None;
    nodes.wires.cut();
    nodes.wires.listeners.lock().unwrap().remove(&address(2));
    let start = Instant::now();
    let gone = way.pre_vote(request(), option()).await;
    assert!(matches!(gone, Err(RPCError::Unreachable(_))), "{gone:?}");
    assert!(start.elapsed() < option().hard_ttl());
}
