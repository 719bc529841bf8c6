//! What every call has: its id, its deadline, and refusals that say what to do.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tonic::{Code, Request};
use waymark_proto::v1;
use waymark_proto::v1::cluster_service_client::ClusterServiceClient;
use waymark_proto::v1::produce_service_client::ProduceServiceClient;
use waymark_proto::v1::topic_service_client::TopicServiceClient;

use super::clean;
use super::fake::TOPIC;
use super::world::{CLUSTER, World};

fn code_of(status: &tonic::Status) -> Option<i32> {
    status.metadata().get("waymark-code")?.to_str().ok()?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn the_callers_id_is_echoed_and_one_is_made_where_there_is_none() {
    let node = World::default().serve(1, &[]);
    let mut client = ClusterServiceClient::new(node.channel);
    let mut call = Request::new(v1::GetServerInfoRequest::default());
    call.metadata_mut().insert("waymark-request-id", "abc".parse().expect("ascii"));
    let answer = client.get_server_info(call).await.expect("an answer");
    assert_eq!(
        answer.metadata().get("waymark-request-id").map(|id| id.as_bytes()),
        Some(&b"abc"[..])
    );
    let answer =
        client.get_server_info(v1::GetServerInfoRequest::default()).await.expect("an answer");
    assert!(answer.metadata().get("waymark-request-id").is_some());
    let info = answer.into_inner();
    assert_eq!((&info.cluster_id[..], info.node_id), (&CLUSTER.0[..], 1));
    assert_eq!(info.listeners[0].port, 7001);
    assert_eq!(info.limits.expect("limits").producer_window_batches, 5);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_says_so_in_trailers_and_details() {
    let node = World::default().serve(1, &[]);
    let mut client = ClusterServiceClient::new(node.channel);
    for (key, value, code) in [
        ("waymark-cluster-id", "AAAAAAAAAAAAAAAAAAAAAA", v1::FailureCode::ClusterMismatch),
        ("waymark-require", "time-travel", v1::FailureCode::Unsupported),
    ] {
        let mut call = Request::new(v1::GetServerInfoRequest::default());
        call.metadata_mut().insert(key, value.parse().expect("ascii"));
        let status = client.get_server_info(call).await.expect_err("refused");
        assert_eq!(code_of(&status), Some(code.into()));
        let failure: v1::Failure = prost::Message::decode(status.details()).expect("the failure");
        assert_eq!((failure.code(), failure.retry()), (code, v1::RetryClass::Fix));
    }
}

/// What a node says of a topic that cannot confirm its catalog with a quorum.
async fn asks_a_node_without_a_quorum(level: Option<v1::ConsistencyLevel>) -> Option<Code> {
    let node = World::default().serve(1, &[]);
    let topic = v1::TopicRef { name: "orders".to_owned(), topic_id: Bytes::new() };
    let consistency =
        level.map(|level| v1::Consistency { level: level.into(), ..Default::default() });
    let request = v1::GetMetadataRequest { topics: vec![topic], consistency, ..Default::default() };
    let answer = ClusterServiceClient::new(node.channel).get_metadata(request).await;
    answer.err().map(|status| status.code())
}

#[tokio::test(start_paused = true)]
async fn metadata_of_a_topic_is_as_new_as_it_was_asked_for() {
    let _clean = clean();
    assert!(asks_a_node_without_a_quorum(None).await.is_some());
    assert!(asks_a_node_without_a_quorum(Some(v1::ConsistencyLevel::Linearizable)).await.is_some());
    assert_eq!(asks_a_node_without_a_quorum(Some(v1::ConsistencyLevel::Any)).await, None);
}

#[tokio::test(start_paused = true)]
async fn metadata_of_a_node_that_may_lag_is_caught() {
    let _bug = crate::mutants::plant("catalog-as-it-is-here");
    assert_eq!(asks_a_node_without_a_quorum(None).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_takes_too_long_is_unknown_before_the_caller_gives_up() {
    let node = World::default().serve(1, &[0]);
    node.fake.delay_appends(&[60_000]);
    let batch = v1::ProduceBatch {
        topic_id: Bytes::copy_from_slice(&TOPIC.0),
        partition: Some(0),
        batch: Bytes::from_static(b"batch"),
        ..v1::ProduceBatch::default()
    };
    let mut call = Request::new(v1::ProduceRequest { batches: vec![batch], ..Default::default() });
    call.set_timeout(Duration::from_secs(5));
    let begun = Instant::now();
    let status = ProduceServiceClient::new(node.channel).produce(call).await.expect_err("too late");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(code_of(&status), Some(v1::FailureCode::OutcomeUnknown.into()));
    assert_eq!(status.code(), Code::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_none_is_refused_and_not_an_unknown_outcome() {
    let node = World::default().serve(1, &[0]);
    // A length-delimited field that claims more bytes than there are.
    let bytes = Bytes::from_static(b"\0\0\0\0\x02\x0a\x7f");
    let request = http::Request::post("http://n1:7001/waymark.v1.ProduceService/Produce")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(Once(Some(bytes))))
        .expect("a request");
    let answer = tower::ServiceExt::oneshot(node.channel, request).await.expect("an answer");
    let code = answer.headers().get("waymark-code").and_then(|code| code.to_str().ok());
    assert_eq!(code, Some("40"), "{:?}", answer.headers());
}

#[tokio::test(start_paused = true)]
async fn before_the_cluster_is_formed_a_node_says_who_it_is_and_nothing_else() {
    let node = World::unformed().serve(1, &[0]);
    let mut client = ClusterServiceClient::new(node.channel);
    let info =
        client.get_server_info(v1::GetServerInfoRequest::default()).await.expect("an answer");
    assert!(info.into_inner().cluster_id.is_empty());
    let status = client.get_metadata(v1::GetMetadataRequest::default()).await.expect_err("not yet");
    assert_eq!(code_of(&status), Some(v1::FailureCode::NoLeader.into()));
}

#[tokio::test(start_paused = true)]
async fn lists_have_a_result_for_each_item_in_order() {
    let node = World::default().serve(1, &[0]);
    let named = |name: &str| v1::NewTopic { name: name.to_owned(), ..v1::NewTopic::default() };
    let request = v1::CreateTopicsRequest {
        topics: vec![named("good"), named("b/d"), named("fine")],
        ..v1::CreateTopicsRequest::default()
    };
    let answer = TopicServiceClient::new(node.channel).create_topics(request).await;
    let results = answer.expect("an answer").into_inner().results;
    let codes: Vec<_> = results.iter().map(|r| r.failure.as_ref().map(v1::Failure::code)).collect();
    assert_eq!(codes, [None, Some(v1::FailureCode::InvalidTopicName), None]);
    assert_eq!(results[1].name, "b/d");
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_the_whole() {
    let node = World::default().serve(1, &[0, 1, 2]);
    let request = v1::WatchMetadataRequest { all_topics: true, ..Default::default() };
    let stream = ClusterServiceClient::new(node.channel).watch_metadata(request).await;
    let mut stream = stream.expect("a stream").into_inner();
    let whole = stream.message().await.expect("a message").expect("the whole");
    assert_eq!((whole.nodes.len(), whole.topics[0].partitions.len()), (1, 3));
    node.fake.lose(1);
    let next = stream.message().await.expect("a message").expect("the change");
    assert_eq!(next.topics[0].partitions[1].leader, None);
    assert!(next.metadata_version > whole.metadata_version);
}

struct Once(Option<Bytes>);

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}
