//! Produce and its stream.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::v1;
use waymark_proto::v1::produce_service_client::ProduceServiceClient;

use super::clean;
use super::fake::TOPIC;
use super::world::World;

fn batch(tag: i64, partition: i32) -> v1::ProduceBatch {
    v1::ProduceBatch {
        tag,
        topic_id: Bytes::copy_from_slice(&TOPIC.0),
        partition: Some(partition),
        batch: Bytes::from(format!("batch {tag}")),
        ..v1::ProduceBatch::default()
    }
}

fn request(batches: Vec<v1::ProduceBatch>) -> v1::ProduceRequest {
    v1::ProduceRequest { batches, ..v1::ProduceRequest::default() }
}

fn outcomes(receipts: &[v1::BatchReceipt]) -> Vec<(i64, Result<i64, FailureCode>)> {
    let outcome = |receipt: &v1::BatchReceipt| match &receipt.failure {
        None => Ok(receipt.base_offset.expect("a receipt has an offset")),
        Some(failure) => Err(failure.code()),
    };
    receipts.iter().map(|receipt| (receipt.tag, outcome(receipt))).collect()
}

#[tokio::test(start_paused = true)]
async fn receipts_come_in_the_order_of_the_batches_whatever_finishes_first() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    node.fake.delay_appends(&[300, 100, 200]);
    let batches = vec![batch(5, 0), batch(6, 1), batch(7, 0)];
    let answer = ProduceServiceClient::new(node.channel).produce(request(batches)).await;
    let receipts = answer.expect("an answer").into_inner().receipts;
    assert_eq!(outcomes(&receipts), [(5, Ok(0)), (6, Ok(0)), (7, Ok(1))]);
    assert_eq!(receipts[0].achieved(), v1::Durability::QuorumFsync);
}

#[tokio::test(start_paused = true)]
async fn a_bad_batch_fails_alone_and_stops_what_follows_it_in_its_partition() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    let nameless = v1::ProduceBatch { partition: None, ..batch(1, 0) };
    let empty = v1::ProduceBatch { batch: Bytes::new(), ..batch(2, 0) };
    let batches = vec![nameless, empty, batch(3, 0), batch(4, 1), batch(5, 2)];
    let answer = ProduceServiceClient::new(node.channel).produce(request(batches)).await;
    let receipts = answer.expect("an answer").into_inner().receipts;
    let expected = [
        (1, Err(FailureCode::InvalidArgument)),
        (2, Err(FailureCode::InvalidArgument)),
        (3, Err(FailureCode::PrecedingFailed)),
        (4, Ok(0)),
        (5, Err(FailureCode::NotLeader)),
    ];
    assert_eq!(outcomes(&receipts), expected);
    assert_eq!(node.fake.batches(0).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_the_node_does_not_take_stops_what_follows_it_in_its_partition() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    let batches = vec![batch(1, 2), batch(2, 2), batch(3, 0)];
    let answer = ProduceServiceClient::new(node.channel).produce(request(batches)).await;
    let receipts = answer.expect("an answer").into_inner().receipts;
    let expected =
        [(1, Err(FailureCode::NotLeader)), (2, Err(FailureCode::PrecedingFailed)), (3, Ok(0))];
    assert_eq!(outcomes(&receipts), expected);
}

/// Sends all of this, half-closes, and reads to the end.
async fn stream_of(
    channel: tonic::transport::Channel,
    requests: Vec<v1::ProduceRequest>,
) -> Vec<v1::ProduceResponse> {
    let mut client = ProduceServiceClient::new(channel);
    let stream = client.produce_stream(tokio_stream::iter(requests)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let mut responses = Vec::new();
    while let Some(response) = stream.message().await.expect("a stream that ends well") {
        responses.push(response);
    }
    responses
}

#[tokio::test(start_paused = true)]
async fn half_close_flushes_and_receipts_of_a_partition_come_in_order_under_their_tags() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    node.fake.delay_appends(&[500, 100, 50, 300]);
    let requests =
        vec![request(vec![batch(1, 0), batch(2, 1)]), request(vec![batch(3, 0), batch(4, 1)])];
    let responses = stream_of(node.channel, requests).await;
    let receipts: Vec<_> = responses.into_iter().flat_map(|response| response.receipts).collect();
    let mut got = outcomes(&receipts);
    let place = |tag| got.iter().position(|(got, _)| *got == tag);
    assert!(place(1) < place(3) && place(2) < place(4), "{got:?}");
    got.sort_by_key(|(tag, _)| *tag);
    assert_eq!(got, [(1, Ok(0)), (2, Ok(0)), (3, Ok(1)), (4, Ok(1))]);
}

#[tokio::test(start_paused = true)]
async fn outcomes_known_together_travel_together() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    node.fake.delay_appends(&[100; 50]);
    let requests = (0..50).map(|tag| request(vec![batch(tag, 0)])).collect();
    let responses = stream_of(node.channel, requests).await;
    assert_eq!(responses.iter().map(|response| response.receipts.len()).sum::<usize>(), 50);
    assert!(responses.len() < 25, "{} responses for 50 batches", responses.len());
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_failure_of_a_batch_and_of_a_whole_message() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    let unknown = Failure::new(FailureCode::OutcomeUnknown, "the leader was lost");
    node.fake.refuse_append(vec![Some(unknown)]);
    let undurable = v1::ProduceRequest {
        durability: v1::Durability::AllFsync.into(),
        ..request(vec![batch(2, 0)])
    };
    let requests = vec![request(vec![batch(1, 0)]), undurable, request(vec![batch(3, 0)])];
    let responses = stream_of(node.channel, requests).await;
    let mut got: Vec<_> =
        responses.iter().flat_map(|response| outcomes(&response.receipts)).collect();
    got.sort_by_key(|(tag, _)| *tag);
    let expected =
        [(1, Err(FailureCode::OutcomeUnknown)), (2, Err(FailureCode::Unsupported)), (3, Ok(0))];
    assert_eq!(got, expected);
}

#[tokio::test(start_paused = true)]
async fn a_message_beyond_the_limit_ends_the_stream_with_its_code_after_the_receipts() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    node.fake.delay_appends(&[200]);
    let monster = v1::ProduceBatch { batch: Bytes::from(vec![0; 34 << 20]), ..batch(2, 0) };
    let requests = vec![request(vec![batch(1, 0)]), request(vec![monster])];
    let mut client = ProduceServiceClient::new(node.channel).max_encoding_message_size(64 << 20);
    let stream = client.produce_stream(tokio_stream::iter(requests)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let first = stream.message().await.expect("a message").expect("a receipt");
    assert_eq!(outcomes(&first.receipts), [(1, Ok(0))]);
    let status = stream.message().await.expect_err("too large");
    let code = status.metadata().get("waymark-code").map(|code| code.as_bytes().to_vec());
    assert_eq!(code, Some(b"51".to_vec()), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_about_to_stop_says_so_and_still_acknowledges() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    let (sender, requests) = mpsc::channel(4);
    let mut client = ProduceServiceClient::new(node.channel);
    let stream = client.produce_stream(ReceiverStream::new(requests)).await;
    let mut stream = stream.expect("a stream").into_inner();
    node.draining.cancel();
    let notice = stream.message().await.expect("a message").expect("the notice").notice;
    assert_eq!(notice.expect("a notice").kind(), v1::NoticeKind::Draining);
    sender.send(request(vec![batch(1, 0)])).await.expect("still open");
    let response = stream.message().await.expect("a message").expect("a receipt");
    assert_eq!(outcomes(&response.receipts), [(1, Ok(0))]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_its_window_full_stops_reading_until_something_is_decided() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    node.fake.delay_appends(&[1_000; 12]);
    // Twelve requests of 8 MiB against a window of 64 MiB.
    let large = |tag| v1::ProduceBatch { batch: Bytes::from(vec![0; 8 << 20]), ..batch(tag, 0) };
    let requests: Vec<_> = (0..12).map(|tag| request(vec![large(tag)])).collect();
    let mut client = ProduceServiceClient::new(node.channel.clone())
        .max_encoding_message_size(waymark_proto::transport::MAX_MESSAGE);
    let stream = client.produce_stream(tokio_stream::iter(requests)).await;
    let mut stream = stream.expect("a stream").into_inner();
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(node.fake.batches(0).len(), 7, "seven of these and their cost fit into the window");
    let mut acknowledged = 0;
    while let Some(response) = stream.message().await.expect("a stream that ends well") {
        acknowledged += response.receipts.len();
    }
    assert_eq!(acknowledged, 12);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_on_a_stream_does_not_overtake_the_receipts_of_its_partition() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    node.fake.delay_appends(&[500]);
    let empty = v1::ProduceBatch { batch: Bytes::new(), ..batch(2, 0) };
    let requests = vec![request(vec![batch(1, 0), empty]), request(vec![batch(3, 1)])];
    let responses = stream_of(node.channel, requests).await;
    let receipts: Vec<_> = responses.into_iter().flat_map(|response| response.receipts).collect();
    let tags: Vec<_> = receipts.iter().map(|receipt| receipt.tag).collect();
    assert_eq!(tags, [3, 1, 2]);
}
