//! Fetch and its stream.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use waymark_proto::v1;
use waymark_proto::v1::fetch_service_client::FetchServiceClient;

use super::clean;
use super::fake::TOPIC;
use super::world::{Served, World};

fn position(partition: i32, offset: i64) -> v1::FetchPosition {
    v1::FetchPosition {
        topic_id: Bytes::copy_from_slice(&TOPIC.0),
        partition: Some(partition),
        offset: Some(offset),
        ..v1::FetchPosition::default()
    }
}

fn add(cursor: i32, partition: i32, offset: i64) -> v1::CursorAdd {
    let position = Some(position(partition, offset));
    v1::CursorAdd { cursor, position, ..v1::CursorAdd::default() }
}

fn sized(bytes: usize) -> Bytes {
    Bytes::from(vec![1; bytes])
}

async fn fetch(node: &Served, request: v1::FetchRequest) -> Vec<v1::CursorData> {
    let answer = FetchServiceClient::new(node.channel.clone()).fetch(request).await;
    answer.expect("an answer").into_inner().data
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_when_something_is_appended() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    let request = v1::FetchRequest {
        positions: vec![position(0, 0), position(1, 0)],
        max_wait_ms: Some(30_000),
        ..v1::FetchRequest::default()
    };
    let (begun, other) = (Instant::now(), node.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        other.fake.put(1, &sized(10));
    });
    let data = fetch(&node, request).await;
    assert_eq!(begun.elapsed(), Duration::from_millis(700));
    assert_eq!((data[1].cursor, data[1].batches.len(), data[1].next_offset), (1, 10, Some(1)));
    assert!(data[0].batches.is_empty() && data[0].caught_up);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_without_news_ends_at_its_time_and_reads_only_twice() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    let begun = Instant::now();
    let request = v1::FetchRequest { positions: vec![position(0, 0)], ..Default::default() };
    let data = fetch(&node, request).await;
    assert_eq!(begun.elapsed(), Duration::from_millis(500));
    assert_eq!((data[0].next_offset, data[0].caught_up), (Some(0), true));
    assert!(node.fake.reads() <= 2, "{} reads", node.fake.reads());
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_waits_for_the_bytes_that_it_asks_for() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    node.fake.put(0, &sized(10));
    let request = v1::FetchRequest {
        positions: vec![position(0, 0)],
        max_wait_ms: Some(30_000),
        min_bytes: 15,
        ..v1::FetchRequest::default()
    };
    let (begun, other) = (Instant::now(), node.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        other.fake.put(0, &sized(10));
    });
    let data = fetch(&node, request).await;
    assert_eq!((begun.elapsed(), data[0].batches.len()), (Duration::from_millis(300), 20));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_its_positions_alone() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    node.fake.put(0, &sized(10));
    let nameless = v1::FetchPosition { offset: None, ..position(0, 0) };
    let request = v1::FetchRequest {
        positions: vec![position(2, 0), position(0, 0), nameless],
        ..v1::FetchRequest::default()
    };
    let data = fetch(&node, request).await;
    let code = |index: usize| data[index].failure.as_ref().map(v1::Failure::code);
    assert_eq!(code(0), Some(v1::FailureCode::NotLeader));
    assert_eq!((code(1), data[1].batches.len()), (None, 10));
    assert_eq!(code(2), Some(v1::FailureCode::InvalidArgument));
}

#[tokio::test(start_paused = true)]
async fn the_first_batch_is_whole_and_one_that_never_fits_says_what_it_needs() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    node.fake.put(0, &sized(3_000));
    node.fake.put(0, &sized(3_000));
    let request = |max_bytes, max_message_bytes| v1::FetchRequest {
        positions: vec![position(0, 0)],
        max_bytes,
        max_message_bytes,
        ..v1::FetchRequest::default()
    };
    let data = fetch(&node, request(100, 0)).await;
    assert_eq!((data[0].batches.len(), data[0].next_offset), (3_000, Some(1)));
    let data = fetch(&node, request(100, 2_000)).await;
    let failure = data[0].failure.clone().expect("it never fits");
    assert_eq!(failure.code(), v1::FailureCode::FetchLimitTooSmall);
    let needed = i32::try_from(failure.limit.expect("the size it needs")).expect("small");
    let data = fetch(&node, request(100, needed)).await;
    assert_eq!(data[0].batches.len(), 3_000, "what it was told was true");
}

/// A fetch stream and the way to control it.
struct Stream {
    controls: mpsc::Sender<v1::FetchControl>,
    frames: Streaming<v1::FetchFrame>,
}

impl Stream {
    async fn open(node: &Served, first: v1::FetchControl) -> Self {
        let (controls, waiting) = mpsc::channel(16);
        controls.send(first).await.expect("room");
        let mut client = FetchServiceClient::new(node.channel.clone());
        let frames = client.fetch_stream(ReceiverStream::new(waiting)).await;
        Self { controls, frames: frames.expect("a stream").into_inner() }
    }

    async fn control(&self, control: v1::FetchControl) {
        self.controls.send(control).await.expect("an open stream");
    }

    async fn frame(&mut self) -> v1::FetchFrame {
        self.frames.message().await.expect("a good stream").expect("a frame")
    }

    /// Frames until nothing comes for a second.
    async fn frames(&mut self) -> Vec<v1::FetchFrame> {
        let mut frames = Vec::new();
        while let Ok(frame) = timeout(Duration::from_secs(1), self.frame()).await {
            frames.push(frame);
        }
        frames
    }
}

fn bytes(frames: &[v1::FetchFrame]) -> usize {
    frames.iter().flat_map(|frame| &frame.data).map(|data| data.batches.len()).sum()
}

#[tokio::test(start_paused = true)]
async fn a_stream_sends_no_more_than_its_credit_and_one_batch() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    node.fake.put_many(0, 10, &sized(1_000));
    let first =
        v1::FetchControl { add: vec![add(1, 0, 0)], credit_bytes: 2_500, ..Default::default() };
    let mut stream = Stream::open(&node, first).await;
    assert_eq!(bytes(&stream.frames().await), 3_000);
    stream.control(v1::FetchControl { credit_bytes: 500, ..Default::default() }).await;
    assert_eq!(bytes(&stream.frames().await), 0, "the overdraw is paid back first");
    stream.control(v1::FetchControl { credit_bytes: 1, ..Default::default() }).await;
    assert_eq!(bytes(&stream.frames().await), 1_000, "a batch larger than a grant does not hang");
}

#[tokio::test(start_paused = true)]
async fn an_append_wakes_the_stream_at_once() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    let first =
        v1::FetchControl { add: vec![add(1, 0, 0)], credit_bytes: 10_000, ..Default::default() };
    let mut stream = Stream::open(&node, first).await;
    let frame = stream.frame().await;
    assert!(frame.data[0].caught_up && frame.data[0].batches.is_empty());
    let begun = Instant::now();
    node.fake.put(0, &sized(10));
    let frame = stream.frame().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!((frame.data[0].batches.len(), frame.data[0].next_offset), (10, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn after_a_seek_is_applied_nothing_of_the_old_cursor_comes() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    node.fake.put_many(0, 100, &sized(1_000));
    let first = v1::FetchControl {
        add: vec![add(1, 0, 0)],
        credit_bytes: 1 << 20,
        max_bytes: 2_000,
        control_seq: 1,
        ..Default::default()
    };
    let mut stream = Stream::open(&node, first).await;
    stream.frame().await;
    let seek = v1::FetchControl {
        remove: vec![1],
        add: vec![add(2, 0, 90)],
        control_seq: 2,
        ..Default::default()
    };
    stream.control(seek).await;
    let frames = stream.frames().await;
    let applied =
        frames.iter().position(|frame| frame.applied_control_seq >= 2).expect("it is confirmed");
    let after = frames[applied..].iter().flat_map(|frame| &frame.data);
    assert!(after.clone().all(|data| data.cursor == 2));
    assert_eq!(after.filter(|data| !data.batches.is_empty()).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_tells_where_its_partitions_stand_every_five_seconds() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    let first = v1::FetchControl {
        add: vec![add(1, 0, 0), add(2, 1, 0)],
        credit_bytes: 100,
        ..Default::default()
    };
    let mut stream = Stream::open(&node, first).await;
    stream.frame().await;
    for _ in 0..3 {
        let begun = Instant::now();
        let frame = stream.frame().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert_eq!(frame.data.iter().map(|data| data.cursor).collect::<Vec<_>>(), [1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_leadership_ends_its_cursor_and_not_the_stream() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    let first = v1::FetchControl {
        add: vec![add(1, 0, 0), add(2, 1, 0)],
        credit_bytes: 10_000,
        ..Default::default()
    };
    let mut stream = Stream::open(&node, first).await;
    stream.frame().await;
    node.fake.lose(0);
    let frame = stream.frame().await;
    let failure = frame.data[0].failure.as_ref().map(v1::Failure::code);
    assert_eq!((frame.data[0].cursor, failure), (1, Some(v1::FailureCode::NotLeader)));
    node.fake.put(1, &sized(10));
    let frames = stream.frames().await;
    assert_eq!(bytes(&frames), 10);
}

#[tokio::test(start_paused = true)]
async fn a_bad_cursor_fails_alone() {
    let _clean = clean();
    let node = World::default().serve(1, &[0]);
    node.fake.put(0, &sized(10));
    let nameless = v1::CursorAdd { cursor: 2, ..v1::CursorAdd::default() };
    let first = v1::FetchControl {
        add: vec![nameless, add(1, 0, 0)],
        credit_bytes: 10_000,
        ..Default::default()
    };
    let mut stream = Stream::open(&node, first).await;
    let frames = stream.frames().await;
    let all: Vec<_> = frames.iter().flat_map(|frame| &frame.data).collect();
    let failed = all.iter().find(|data| data.cursor == 2).and_then(|data| data.failure.as_ref());
    assert_eq!(failed.map(v1::Failure::code), Some(v1::FailureCode::InvalidArgument));
    assert_eq!(bytes(&frames), 10);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_cursors_wake_only_for_what_changed() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    let adds = (0..10_000).map(|cursor| add(cursor, 0, 0)).collect();
    let first = v1::FetchControl { add: adds, credit_bytes: 1 << 30, ..Default::default() };
    let mut stream = Stream::open(&node, first).await;
    let told: usize = stream.frames().await.iter().map(|frame| frame.data.len()).sum();
    assert_eq!(told, 10_000);
    node.fake.put(0, &sized(10));
    assert_eq!(bytes(&stream.frames().await), 100_000);
}

fn patient(min_bytes: i32) -> v1::FetchControl {
    v1::FetchControl {
        add: vec![add(1, 0, 0), add(2, 1, 0)],
        credit_bytes: 10_000,
        max_wait_ms: Some(800),
        min_bytes,
        control_seq: 1,
        ..v1::FetchControl::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_for_the_bytes_that_it_asks_for() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    let mut stream = Stream::open(&node, patient(25)).await;
    assert_eq!(stream.frame().await.data.len(), 2, "where the cursors stand is told at once");
    let (begun, other) = (Instant::now(), node.clone());
    tokio::spawn(async move {
        for partition in [0, 1, 0] {
            tokio::time::sleep(Duration::from_millis(200)).await;
            other.fake.put(partition, &sized(10));
        }
    });
    let frame = stream.frame().await;
    assert_eq!(begun.elapsed(), Duration::from_millis(600));
    let read: Vec<_> = frame.data.iter().map(|data| (data.cursor, data.next_offset)).collect();
    assert_eq!(read, [(1, Some(1)), (2, Some(1)), (1, Some(2))]);
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_holds_back_comes_at_its_time() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    let mut stream = Stream::open(&node, patient(1_000)).await;
    stream.frame().await;
    node.fake.put(0, &sized(10));
    let begun = Instant::now();
    assert_eq!(bytes(&[stream.frame().await]), 10);
    assert_eq!(begun.elapsed(), Duration::from_millis(800));
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_holds_back_of_a_cursor_comes_before_its_end_is_confirmed() {
    let _clean = clean();
    let node = World::default().serve(1, &[0, 1]);
    let mut stream = Stream::open(&node, patient(1_000)).await;
    stream.frame().await;
    node.fake.put(0, &sized(10));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let grant = v1::FetchControl { credit_bytes: 5, ..Default::default() };
    stream.control(grant).await;
    assert!(timeout(Duration::from_millis(100), stream.frame()).await.is_err(), "still too little");
    let end = v1::FetchControl { remove: vec![1], control_seq: 2, ..Default::default() };
    stream.control(end).await;
    let (held, confirmed) = (stream.frame().await, stream.frame().await);
    assert_eq!((held.applied_control_seq, held.data[0].cursor), (1, 1));
    assert_eq!((confirmed.applied_control_seq, confirmed.data.len()), (2, 0));
}
