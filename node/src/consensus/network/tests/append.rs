//! The pipelined append stream: order, end, credit, independence of shards, broken connections.

use std::pin::pin;

use futures::{StreamExt, stream};
use openraft::errors::RPCError;
use openraft::network::RaftNetworkV2;
use tokio::time::{sleep, timeout};

use super::*;

const SOON: Duration = Duration::from_secs(1);

async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.expect("happens soon");
}

#[tokio::test(start_paused = true)]
async fn answers_keep_the_order_of_the_requests_and_end_with_them() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let target = nodes.node(2).replica(5);
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let input = stream::iter((0..500).map(|index| append(index, 100)));
    let output = way.stream_append(input, option()).await.unwrap();
    let answers: Vec<_> = timeout(SOON, output.collect()).await.expect("the output ends");
    let indexes: Vec<_> =
        answers.into_iter().map(|answer| answer.unwrap().unwrap().unwrap().index).collect();
    assert_eq!(indexes, (0..500).collect::<Vec<_>>());
    until(|| target.streams.load(SeqCst) == 0).await;
}

/// Appends entries up to 9, then something after 20 and after 7 to a follower that says it lacks those; what its leader's
/// node was told of that.
async fn told_of_a_follower_that_lacks_what_it_had() -> Vec<(u64, u64)> {
    let nodes = Nodes::start(&NetworkOptions::default());
    let target = nodes.node(2).replica(5);
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let input = stream::iter((0..10).map(|index| append(index, 10)));
    let answers: Vec<_> = way.stream_append(input, option()).await.unwrap().collect().await;
    assert_eq!(answers.len(), 10);
    target.conflicts.store(true, SeqCst);
    for index in [21, 8, 7] {
        let answers = way.stream_append(stream::iter([append(index, 10)]), option()).await.unwrap();
        let answers: Vec<_> = answers.collect().await;
        assert!(matches!(answers[..], [Ok(Err(_))]), "{answers:?}");
    }
    nodes.node(1).host.reverted.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_lacks_what_it_acknowledged_is_told_of_once() {
    let _sound = sound();
    assert_eq!(told_of_a_follower_that_lacks_what_it_had().await, [(9, 7)]);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_loses_entries_unnoticed_is_caught() {
    let _planted = crate::mutants::plant("reversion-unnoticed");
    assert_eq!(told_of_a_follower_that_lacks_what_it_had().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_ends_is_noticed() {
    let _planted = crate::mutants::plant("append-stream-never-ends");
    let nodes = Nodes::start(&NetworkOptions::default());
    nodes.node(2).replica(5);
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let input = stream::iter((0..5).map(|index| append(index, 100)));
    let output = way.stream_append(input, option()).await.unwrap();
    assert!(timeout(SOON, output.collect::<Vec<_>>()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_window_bounds_what_is_in_flight() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let target = nodes.node(2).replica(5);
    target.open.send_replace(false);
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let input = stream::iter((0..500).map(|index| append(index, 100)));
    let mut output = way.stream_append(input, option()).await.unwrap();
    assert!(timeout(SOON, output.next()).await.is_err());
    assert_eq!(target.taken.load(SeqCst), 64);
    target.open.send_replace(true);
    assert_eq!(output.collect::<Vec<_>>().await.len(), 500);
}

#[tokio::test(start_paused = true)]
async fn the_window_counts_bytes_and_always_lets_one_request_through() {
    let _sound = sound();
    let options = NetworkOptions { append_window_bytes: 1000, ..NetworkOptions::default() };
    let nodes = Nodes::start(&options);
    let target = nodes.node(2).replica(5);
    target.open.send_replace(false);
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let input = stream::iter((0..5).map(|index| append(index, 5000)));
    let mut output = way.stream_append(input, option()).await.unwrap();
    assert!(timeout(SOON, output.next()).await.is_err());
    assert_eq!(target.taken.load(SeqCst), 1);
    target.open.send_replace(true);
    assert_eq!(output.collect::<Vec<_>>().await.len(), 5);
}

/// How many requests of two shards reach a node that answers none, where little may wait for it.
async fn reached_without_answers() -> usize {
    let options = NetworkOptions { node_window_bytes: 12_000, ..NetworkOptions::default() };
    let nodes = Nodes::start(&options);
    let targets = [5, 6].map(|shard| nodes.node(2).replica(shard));
    for target in &targets {
        target.open.send_replace(false);
    }
    let send = async |shard| {
        let mut way = nodes.node(1).towards(2, shard, false).await;
        let input = stream::iter((0..20).map(|index| append(index, 5000)));
        let output = way.stream_append(input, option()).await.unwrap();
        assert_eq!(output.collect::<Vec<_>>().await.len(), 20);
    };
    let look = async {
        sleep(SOON).await;
        let taken = targets.iter().map(|target| target.taken.load(SeqCst)).sum();
        for target in &targets {
            target.open.send_replace(true);
        }
        taken
    };
    tokio::join!(send(5), send(6), look).2
}

#[tokio::test(start_paused = true)]
async fn all_shards_together_send_a_node_little_more_than_may_wait_there() {
    let _sound = sound();
    let reached = reached_without_answers().await;
    assert!((2..=4).contains(&reached), "{reached}");
}

#[tokio::test(start_paused = true)]
async fn a_window_of_a_node_that_is_ignored_is_caught() {
    let _planted = crate::mutants::plant("node-window-ignored");
    assert_eq!(reached_without_answers().await, 40);
}

/// Sends these requests one after the other, without an end; how many reached the replica by then, and in the end.
async fn reached(requests: Vec<AppendEntriesRequest<C>>, by: Duration) -> (usize, usize) {
    reached_of(5, requests, by).await
}

/// The same, for this shard.
async fn reached_of(
    shard: u32,
    requests: Vec<AppendEntriesRequest<C>>,
    by: Duration,
) -> (usize, usize) {
    let options =
        NetworkOptions { commit_gather: Duration::from_secs(10), ..NetworkOptions::default() };
    let nodes = Nodes::start(&options);
    let target = nodes.node(2).replica(shard);
    let mut way = nodes.node(1).towards(2, shard, false).await;
    let input = stream::iter(requests).chain(stream::pending());
    let mut output = way.stream_append(input, option()).await.unwrap();
    let _open_end = timeout(by, async { while output.next().await.is_some() {} }).await;
    let early = target.taken.load(SeqCst);
    let rest = timeout(options.commit_gather, async { while output.next().await.is_some() {} });
    rest.await.expect_err("nothing ends the stream");
    (early, target.taken.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_entries_travels_with_the_next_entries() {
    let _sound = sound();
    let requests = vec![append(0, 10), heartbeat(0), heartbeat(0), append(1, 10)];
    assert_eq!(reached(requests, SOON).await, (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_entries_goes_alone_when_none_follow() {
    let _sound = sound();
    assert_eq!(reached(vec![append(0, 10), heartbeat(0), heartbeat(0)], SOON).await, (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_the_catalog_is_never_held() {
    let _sound = sound();
    let requests = vec![append(0, 10), heartbeat(0), heartbeat(0)];
    assert_eq!(reached_of(ShardId::CATALOG.0, requests, SOON).await, (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_question_where_the_log_ends_is_never_held() {
    let _sound = sound();
    assert_eq!(reached(vec![heartbeat(0)], SOON).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_held_leaves_before_the_stream_ends() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let target = nodes.node(2).replica(5);
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let input = stream::iter([append(0, 10), heartbeat(0)]);
    let output = way.stream_append(input, option()).await.unwrap();
    assert_eq!(output.collect::<Vec<_>>().await.len(), 2);
    assert_eq!(target.taken.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_output_stops_the_reading_of_the_input() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let target = nodes.node(2).replica(5);
    target.open.send_replace(false);
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let (sender, input) = mpsc::channel(1);
    let mut output = way.stream_append(ReceiverStream::new(input), option()).await.unwrap();
    sender.send(append(0, 10)).await.unwrap();
    assert!(timeout(SOON, output.next()).await.is_err());
    drop(output);
    assert!(sender.is_closed(), "the input is dropped with the output");
    until(|| target.streams.load(SeqCst) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_blocked_shard_does_not_stop_another() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    nodes.node(2).replica(6);
    let blocked = nodes.node(2).replica(5);
    blocked.open.send_replace(false);
    let endless = stream::iter((0..).map(|index| append(index, 200_000)));
    let mut slow = nodes.node(1).towards(2, 5, false).await;
    let mut stuck = pin!(slow.stream_append(endless, option()).await.unwrap());
    assert!(timeout(SOON, stuck.next()).await.is_err());
    let mut way = nodes.node(1).towards(2, 6, false).await;
    let input = stream::iter((0..100).map(|index| append(index, 200_000)));
    let output = way.stream_append(input, option()).await.unwrap();
    let answers: Vec<_> = timeout(SOON, output.collect()).await.expect("the other shard goes on");
    assert_eq!(answers.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_silent_replica_is_unreachable_but_an_idle_stream_lives() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let target = nodes.node(2).replica(5);
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let (sender, input) = mpsc::channel(1);
    let mut output = way.stream_append(ReceiverStream::new(input), option()).await.unwrap();
    assert!(timeout(Duration::from_secs(60), output.next()).await.is_err(), "nothing is owed");
    target.open.send_replace(false);
    sender.send(append(0, 10)).await.unwrap();
    let start = Instant::now();
    let answer = output.next().await.unwrap();
    assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
    assert_eq!(start.elapsed().as_secs(), 2);
    assert!(output.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_ends_every_stream_and_the_next_one_reconnects() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    for shard in [5, 6] {
        nodes.node(2).replica(shard).open.send_replace(false);
    }
    let mut ways =
        [nodes.node(1).towards(2, 5, false).await, nodes.node(1).towards(2, 6, false).await];
    let [one, two] = &mut ways;
    let endless = || stream::iter((0..).map(|index| append(index, 10)));
    let mut one = one.stream_append(endless(), option()).await.unwrap();
    let mut two = two.stream_append(endless(), option()).await.unwrap();
    assert!(timeout(Duration::from_millis(100), one.next()).await.is_err());
    assert!(timeout(Duration::from_millis(100), two.next()).await.is_err());
    nodes.wires.cut();
    for stream in [&mut one, &mut two] {
        let answer = timeout(SOON, stream.next()).await.unwrap().unwrap();
        assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
    }
    drop((one, two));
    nodes.node(2).replica(5).open.send_replace(true);
    let mut again = nodes.node(1).towards(2, 5, false).await;
    let refused = again.stream_append(stream::iter([append(0, 10)]), option()).await.unwrap();
    let answers: Vec<_> = refused.collect().await;
    assert!(matches!(answers[..], [Err(RPCError::Unreachable(_))]), "backs off first");
    sleep(Duration::from_millis(60)).await;
    let output = again.stream_append(stream::iter([append(0, 10)]), option()).await.unwrap();
    let answers: Vec<_> = output.collect().await;
    assert!(matches!(answers[..], [Ok(Ok(_))]), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_not_there_or_has_stopped_is_unreachable() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    nodes.node(2).replica(6).stopped.store(true, SeqCst);
    for shard in [5, 6] {
        let mut way = nodes.node(1).towards(2, shard, false).await;
        let output = way.stream_append(stream::iter([append(0, 10)]), option()).await.unwrap();
        let answers: Vec<_> = timeout(SOON, output.collect()).await.unwrap();
        assert!(matches!(answers[..], [Err(RPCError::Unreachable(_))]), "{answers:?}");
    }
}

/// What a replica on a full node is given of an append with an entry.
async fn taken_by_a_full_node() -> usize {
    let nodes = Nodes::start(&NetworkOptions::default());
    let target = nodes.node(2).replica(5);
    nodes.node(2).host.full.store(true, SeqCst);
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let input = stream::iter([append(0, 10)]).chain(stream::pending());
    let mut output = way.stream_append(input, option()).await.unwrap();
    let answer = timeout(SOON, output.next()).await.expect("an answer").expect("an outcome");
    let refused = matches!(&answer, Err(RPCError::Unreachable(why)) if why.to_string().contains("the disk is full"));
    let taken = target.taken.load(SeqCst);
    assert_eq!(refused, taken == 0, "{answer:?}");
    taken
}

#[tokio::test(start_paused = true)]
async fn a_full_node_refuses_entries_before_raft_sees_them() {
    let _sound = sound();
    assert_eq!(taken_by_a_full_node().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_node_that_takes_entries_is_noticed() {
    let _planted = crate::mutants::plant("full-follower-appends");
    assert_eq!(taken_by_a_full_node().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_node_goes_on_answering_its_leader_and_takes_entries_once_it_has_room() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    nodes.node(2).replica(5);
    let full = &nodes.node(2).host.full;
    full.store(true, SeqCst);
    let mut beats = nodes.node(1).towards(2, 5, true).await;
    beats.append_entries(heartbeat(0), option()).await.expect("a heartbeat");
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let output = way.stream_append(stream::iter([heartbeat(0)]), option()).await.unwrap();
    let answers: Vec<_> = timeout(SOON, output.collect()).await.unwrap();
    assert!(matches!(answers[..], [Ok(Ok(_))]), "an append without entries: {answers:?}");
    full.store(false, SeqCst);
    let output = way.stream_append(stream::iter([append(0, 10)]), option()).await.unwrap();
    let answers: Vec<_> = timeout(SOON, output.collect()).await.unwrap();
    assert!(matches!(answers[..], [Ok(Ok(_))]), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn one_connection_carries_the_appends_of_all_shards() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    for shard in 0..50 {
        nodes.node(2).replica(shard);
        let mut way = nodes.node(1).towards(2, shard, false).await;
        let output = way.stream_append(stream::iter([append(0, 10)]), option()).await.unwrap();
        assert_eq!(output.collect::<Vec<_>>().await.len(), 1);
    }
    assert_eq!(nodes.wires.dialled.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_peer_is_told_only_after_the_input_was_read() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    nodes.wires.listeners.lock().unwrap().remove(&address(2));
    let mut way = nodes.node(1).towards(2, 5, false).await;
    let backing_off = stream::once(Box::pin(async {
        sleep(Duration::from_secs(3)).await;
        append(0, 10)
    }));
    let start = Instant::now();
    let output = way.stream_append(backing_off, option()).await.unwrap();
    let answers: Vec<_> = output.collect().await;
    assert!(matches!(answers[..], [Err(RPCError::Unreachable(_))]), "{answers:?}");
    assert!(start.elapsed() >= Duration::from_secs(3), "openraft's back-off was waited out");
}
