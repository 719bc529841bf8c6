//! Who may talk to whom (S12), and proposals by one hop.

use futures::{StreamExt, stream};
use openraft::errors::RPCError;
use openraft::network::RaftNetworkV2;
use openraft::raft::VoteRequest;

use super::super::PeerError;
use super::*;

const OTHER: ClusterId = ClusterId([9; 16]);

#[tokio::test(start_paused = true)]
async fn an_empty_node_says_hello_and_takes_the_founder_s_cluster() {
    let _sound = sound();
    let nodes = Nodes::of_clusters(&NetworkOptions::default(), [None; 3]);
    let network = &nodes.node(1).network;
    let hello = network.hello(NodeId(2)).await.unwrap();
    assert_eq!(hello, HelloAnswer { node: NodeId(2), cluster: None, empty: true, callers_disk: 0 });
    network.set_cluster(CLUSTER);
    assert_eq!(network.offer_cluster(NodeId(2), CLUSTER).await.unwrap(), Ok(()));
    assert_eq!(network.offer_cluster(NodeId(2), CLUSTER).await.unwrap(), Ok(()), "again");
    assert_eq!(network.hello(NodeId(2)).await.unwrap().cluster, Some(CLUSTER));
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_cluster_is_refused_in_clear_words() {
    let _sound = sound();
    let clusters = [Some(CLUSTER), Some(OTHER), None];
    let nodes = Nodes::of_clusters(&NetworkOptions::default(), clusters);
    nodes.node(2).replica(0);
    let refused = nodes.node(1).network.hello(NodeId(2)).await.unwrap_err();
    let PeerError::Refused { cluster, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(*cluster, Some(OTHER), "the caller may find out that it is the stranger");
    assert!(refused.to_string().contains(&OTHER.to_string()), "{refused}");
    let mut way = nodes.node(1).towards(2, 0, false).await;
    let output = way.stream_append(stream::iter([append(0, 1)]), option()).await.unwrap();
    assert!(matches!(output.collect::<Vec<_>>().await[..], [Err(RPCError::Unreachable(_))]));
    let mut beats = nodes.node(1).towards(2, 0, true).await;
    let output = beats.stream_append(stream::iter([heartbeat(0)]), option()).await.unwrap();
    assert!(matches!(output.collect::<Vec<_>>().await[..], [Err(RPCError::Unreachable(_))]));
    assert_eq!(nodes.node(2).replica(0).beats.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_cluster_takes_no_part_in_raft() {
    let _sound = sound();
    let nodes = Nodes::of_clusters(&NetworkOptions::default(), [Some(CLUSTER), None, None]);
    nodes.node(2).replica(0);
    let mut way = nodes.node(1).towards(2, 0, false).await;
    let output = way.stream_append(stream::iter([append(0, 1)]), option()).await.unwrap();
    assert!(matches!(output.collect::<Vec<_>>().await[..], [Err(RPCError::Unreachable(_))]));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_replaced_is_refused_at_every_door() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let asked = nodes.node(2).replica(0);
    let ask = async |kind: &str| {
        let mut way = nodes.node(1).towards(2, 0, kind == "heartbeat").await;
        let vote = || VoteRequest::new(leader_vote(3), Some(log_id(8)));
        match kind {
            "vote" => way.vote(vote(), option()).await.is_ok(),
            "pre-vote" => way.pre_vote(vote(), option()).await.is_ok(),
            kind => {
                let request = if kind == "heartbeat" { heartbeat(0) } else { append(0, 1) };
                let output = way.stream_append(stream::iter([request]), option()).await.unwrap();
                output.collect::<Vec<_>>().await.iter().all(Result::is_ok)
            }
        }
    };
    for kind in ["vote", "pre-vote", "heartbeat", "append"] {
        *nodes.node(2).host.replaced.lock().unwrap() = None;
        assert!(ask(kind).await, "{kind} of a member");
        *nodes.node(2).host.replaced.lock().unwrap() = Some(replica(1));
        assert!(!ask(kind).await, "{kind}");
    }
    assert_eq!(asked.beats.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn another_node_at_the_configured_address_is_refused() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    {
        let mut listeners = nodes.wires.listeners.lock().unwrap();
        let third = listeners.get(&address(3)).cloned().unwrap();
        listeners.insert(address(2), third);
    }
    let refused = nodes.node(1).network.hello(NodeId(2)).await.unwrap_err();
    assert!(matches!(refused, PeerError::Refused { .. }), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_proposal_takes_one_hop_and_brings_its_outcome_back() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let network = &nodes.node(1).network;
    let deadline = Instant::now() + Duration::from_secs(5);
    for bytes in [10, 200_000] {
        let command = Bytes::from(vec![0; bytes]);
        let done = network.propose(NodeId(2), ShardId(4), command, deadline).await.unwrap();
        assert_eq!(done.unwrap().reply, Reply::OffsetsDeleted(bytes as u64));
    }
    let refused = network.propose(NodeId(2), ShardId(4), Bytes::new(), deadline).await.unwrap();
    let leader = Some(NodeId(3));
    assert_eq!(refused, Err(ProposeError::NotLeader { shard: ShardId(4), leader }));
}

#[tokio::test(start_paused = true)]
async fn a_proposal_that_was_never_sent_says_so() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    nodes.wires.listeners.lock().unwrap().remove(&address(2));
    let network = &nodes.node(1).network;
    let deadline = Instant::now() + Duration::from_secs(5);
    let command = Bytes::from_static(b"x");
    let lost = network.propose(NodeId(2), ShardId(4), command.clone(), deadline).await;
    assert!(matches!(lost, Err(PeerError::Unreachable { .. })), "{lost:?}");
    let late = network.propose(NodeId(3), ShardId(4), command, Instant::now()).await.unwrap();
    assert_eq!(late, Err(ProposeError::ExpiredUnsent));
}
