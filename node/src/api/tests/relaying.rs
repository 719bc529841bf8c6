//! Calls that another node answers: whole, by item, and not at all.

use bytes::Bytes;
use tonic::Request;
use waymark_proto::failure::LeaderHint;
use waymark_proto::ids::NodeId;
use waymark_proto::v1;
use waymark_proto::v1::offset_service_client::OffsetServiceClient;
use waymark_proto::v1::record_service_client::RecordServiceClient;

use super::world::World;

fn topic() -> Option<v1::TopicRef> {
    Some(v1::TopicRef { name: "orders".to_owned(), topic_id: Bytes::new() })
}

fn commit() -> v1::CommitOffsetsRequest {
    let item = v1::OffsetCommit {
        topic: topic(),
        partition: Some(0),
        offset: Some(42),
        ..v1::OffsetCommit::default()
    };
    v1::CommitOffsetsRequest {
        group_id: "billing".to_owned(),
        offsets: vec![item],
        ..v1::CommitOffsetsRequest::default()
    }
}

fn append(partition: Option<i32>, keys: &[&str]) -> v1::AppendRequest {
    let record = |key: &&str| v1::LogRecord {
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::from_static(b"value")),
        ..v1::LogRecord::default()
    };
    v1::AppendRequest {
        topic: topic(),
        partition,
        records: keys.iter().map(record).collect(),
        ..v1::AppendRequest::default()
    }
}

fn code_of(status: &tonic::Status) -> Option<i32> {
    status.metadata().get("waymark-code")?.to_str().ok()?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn a_commit_at_any_node_reaches_the_coordinator() {
    let world = World::default();
    let (one, two) = (world.serve(1, &[]), world.serve(2, &[0]));
    one.fake.led_elsewhere(two.hint.clone());
    let answer = OffsetServiceClient::new(one.channel).commit_offsets(commit()).await;
    let results = answer.expect("the coordinator's answer").into_inner().results;
    assert!(results[0].failure.is_none());
    let asked = v1::FetchOffsetsRequest { group_id: "billing".to_owned(), ..Default::default() };
    let stored = OffsetServiceClient::new(two.channel).fetch_offsets(asked).await;
    let stored = stored.expect("an answer").into_inner().offsets;
    assert_eq!((stored.len(), stored[0].offset), (1, Some(42)));
}

#[tokio::test(start_paused = true)]
async fn a_call_hops_once() {
    let world = World::default();
    let (one, two) = (world.serve(1, &[]), world.serve(2, &[]));
    // Each believes that the other coordinates.
    one.fake.led_elsewhere(two.hint.clone());
    two.fake.led_elsewhere(one.hint.clone());
    let status = OffsetServiceClient::new(one.channel).commit_offsets(commit()).await;
    let status = status.expect_err("nobody coordinates");
    assert_eq!(code_of(&status), Some(v1::FailureCode::NotCoordinator.into()));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_sent_is_answered_with_the_hint() {
    let world = World::default();
    let one = world.serve(1, &[]);
    let gone = LeaderHint { node: NodeId(9), leader_epoch: 1, address: "n9:7001".to_owned() };
    one.fake.led_elsewhere(gone);
    let status = OffsetServiceClient::new(one.channel).commit_offsets(commit()).await;
    let status = status.expect_err("the node is gone");
    assert_eq!(code_of(&status), Some(v1::FailureCode::NotCoordinator.into()));
    let failure: v1::Failure = prost::Message::decode(status.details()).expect("the failure");
    assert_eq!(failure.leader.expect("a hint").node_id, 9);
}

#[tokio::test(start_paused = true)]
async fn items_of_several_leaders_are_asked_of_each_and_put_back_in_order() {
    let world = World::default();
    let (one, two) = (world.serve(1, &[0]), world.serve(2, &[1, 2]));
    one.fake.led_elsewhere(two.hint.clone());
    one.fake.put(0, &Bytes::from_static(b"a"));
    two.fake.put_many(2, 3, &Bytes::from_static(b"b"));
    let query = |partition| v1::OffsetQuery {
        topic: topic(),
        partition: Some(partition),
        spec: v1::OffsetSpec::Latest.into(),
        ..v1::OffsetQuery::default()
    };
    let request = v1::ListOffsetsRequest { queries: vec![query(2), query(0), query(1)] };
    let answer = OffsetServiceClient::new(one.channel).list_offsets(request).await;
    let answers = answer.expect("an answer").into_inner().answers;
    let offsets: Vec<_> = answers.iter().map(|answer| (answer.partition, answer.offset)).collect();
    assert_eq!(offsets, [(Some(2), Some(3)), (Some(0), Some(1)), (Some(1), Some(0))]);
}

#[tokio::test(start_paused = true)]
async fn plain_records_go_to_the_leaders_of_their_keys_and_read_back_anywhere() {
    let world = World::default();
    let (one, two) = (world.serve(1, &[0]), world.serve(2, &[1, 2]));
    one.fake.led_elsewhere(two.hint.clone());
    two.fake.led_elsewhere(one.hint.clone());
    let mut client = RecordServiceClient::new(one.channel.clone());
    // By murmur2 "a" belongs to partition 1, "ab" to 2, "abc" to 0.
    let answer = client.append(append(None, &["a", "abc", "ab", "a"])).await.expect("an answer");
    let appended = answer.into_inner().appended;
    let got: Vec<_> =
        appended.iter().map(|a| (a.partition, a.base_offset, a.records.clone())).collect();
    let expected =
        [(Some(1), Some(0), vec![0, 3]), (Some(0), Some(0), vec![1]), (Some(2), Some(0), vec![2])];
    assert_eq!(got, expected);
    let read = v1::ReadRequest {
        topic: topic(),
        partition: Some(1),
        offset: Some(0),
        ..v1::ReadRequest::default()
    };
    let answer = client.read(read).await.expect("an answer").into_inner();
    let keys: Vec<_> = answer.records.iter().map(|r| r.key.clone().expect("a key")).collect();
    assert_eq!((keys, answer.next_offset), (vec![Bytes::from_static(b"a"); 2], Some(2)));
    assert_eq!(answer.records[0].timestamp_ms, Some(43_200_000));
}

#[tokio::test(start_paused = true)]
async fn a_tail_is_followed_through_another_node() {
    let world = World::default();
    let (one, two) = (world.serve(1, &[]), world.serve(2, &[1]));
    one.fake.led_elsewhere(two.hint.clone());
    let request = v1::TailRequest { topic: topic(), partition: Some(1), offset: Some(0) };
    let stream = RecordServiceClient::new(one.channel.clone()).tail(request).await;
    let mut stream = stream.expect("a stream").into_inner();
    let first = stream.message().await.expect("a message").expect("the beginning");
    assert!(first.records.is_empty());
    let appended = RecordServiceClient::new(one.channel).append(append(Some(1), &["k"])).await;
    appended.expect("an answer");
    let next = stream.message().await.expect("a message").expect("a record");
    assert_eq!((next.records.len(), next.next_offset), (1, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn one_bad_item_of_an_all_or_nothing_commit_stops_the_others() {
    let world = World::default();
    let one = world.serve(1, &[0]);
    let mut request = commit();
    let forgotten = v1::OffsetCommit { offset: None, ..request.offsets[0].clone() };
    request.offsets.push(forgotten);
    let mut client = OffsetServiceClient::new(one.channel);
    let answer = client.commit_offsets(Request::new(request.clone())).await.expect("an answer");
    let codes = |results: Vec<v1::OffsetResult>| {
        results.iter().map(|r| r.failure.as_ref().map(v1::Failure::code)).collect::<Vec<_>>()
    };
    let (skipped, invalid) = (v1::FailureCode::NotAttempted, v1::FailureCode::InvalidArgument);
    assert_eq!(codes(answer.into_inner().results), [Some(skipped), Some(invalid)]);
    request.all_or_nothing = Some(false);
    let answer = client.commit_offsets(request).await.expect("an answer");
    assert_eq!(codes(answer.into_inner().results), [None, Some(invalid)]);
}
