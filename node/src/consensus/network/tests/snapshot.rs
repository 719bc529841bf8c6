//! Snapshots: pull first, install after (S9).

use futures::future;
use openraft::errors::{ReplicationClosed, StreamingError};
use openraft::network::RaftNetworkV2;
use openraft::raft::SnapshotResponse;
use tokio::time::{sleep, timeout};

use super::super::Snapshot;
use super::*;

const SEGMENTS: [(i64, usize); 3] = [(0, 700_000), (100, 300_000), (200, 5)];

fn snapshot(manifest: Bytes) -> Snapshot {
    let last_log_id = Some(log_id(20));
    let meta = openraft::alias::SnapshotMetaOf::<C> { last_log_id, ..Default::default() };
    Snapshot { meta, snapshot: manifest }
}

fn give_files(node: &TestNode, files: FakeFiles) -> Arc<FakeFiles> {
    let files = Arc::new(files);
    *node.host.files.lock().unwrap() = Some(Arc::clone(&files));
    files
}

async fn send(
    nodes: &Nodes,
    term: u64,
    manifest: Bytes,
) -> Result<SnapshotResponse<C>, StreamingError<C>> {
    let mut way = nodes.node(1).towards(2, 0, false).await;
    let never = future::pending::<ReplicationClosed>();
    way.full_snapshot(leader_vote(term), snapshot(manifest), never, option()).await
}

#[tokio::test(start_paused = true)]
async fn a_follower_pulls_what_it_lacks_and_then_installs() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let source = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    // The first segment is half there.
    let mut half = FakeFiles::holding(&SEGMENTS[..1]);
    half.segments.get_mut().unwrap().get_mut(&0).unwrap().truncate(300_000);
    let target = give_files(nodes.node(2), half);
    nodes.node(2).replica(0);
    let answer = send(&nodes, 1, source.manifest()).await.unwrap();
    assert_eq!(answer.vote, leader_vote(1));
    assert_eq!(*target.segments.lock().unwrap(), *source.segments.lock().unwrap());
    assert_eq!(source.given.load(SeqCst), 700_005, "only what was missing");
    let counted = [1, 2].map(|node| nodes.node(node).network.pull_numbers());
    let counted = counted.map(|it| (it.pulled.get(), it.given.get()));
    assert_eq!(counted, [(0, 700_005), (700_005, 0)]);
    let installed = nodes.node(2).replica(0).installed.lock().unwrap().clone();
    assert_eq!(installed, [(leader_vote(1), source.manifest())]);
}

/// Whether a follower whose disk stands still says that a snapshot is installed.
async fn installs_without_its_disk() -> bool {
    let nodes = Nodes::start(&NetworkOptions::default());
    let source = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    give_files(nodes.node(2), FakeFiles::holding(&SEGMENTS));
    nodes.node(2).replica(0);
    nodes.node(2).host.stalled.send_replace(true);
    let early = timeout(Duration::from_secs(1), send(&nodes, 1, source.manifest())).await.is_ok();
    nodes.node(2).host.stalled.send_replace(false);
    send(&nodes, 1, source.manifest()).await.expect("its disk goes on");
    early
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_installed_once_what_the_log_had_before_it_is_on_disk() {
    let _sound = sound();
    assert!(!installs_without_its_disk().await);
}

#[tokio::test(start_paused = true)]
async fn an_install_that_does_not_wait_for_the_disk_is_caught() {
    let _planted = crate::mutants::plant("install-before-disk");
    assert!(installs_without_its_disk().await);
}

#[tokio::test(start_paused = true)]
async fn a_full_node_pulls_nothing() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let source = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    let target = give_files(nodes.node(2), FakeFiles::default());
    nodes.node(2).replica(0);
    nodes.node(2).host.full.store(true, SeqCst);
    send(&nodes, 1, source.manifest()).await.expect_err("there is no room for it");
    assert!(target.segments.lock().unwrap().is_empty());
    assert!(nodes.node(2).replica(0).installed.lock().unwrap().is_empty());
    nodes.node(2).host.full.store(false, SeqCst);
    send(&nodes, 1, source.manifest()).await.expect("room");
}

#[tokio::test(start_paused = true)]
async fn a_pull_survives_the_loss_of_its_source() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let leader = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    *leader.gives.lock().unwrap() = Some(600_000);
    let other = give_files(nodes.node(3), FakeFiles::holding(&SEGMENTS));
    let target = give_files(nodes.node(2), FakeFiles::default());
    nodes.node(2).replica(0);
    send(&nodes, 1, leader.manifest()).await.unwrap();
    assert_eq!(*target.segments.lock().unwrap(), *other.segments.lock().unwrap());
    assert!(leader.given.load(SeqCst) > 0 && other.given.load(SeqCst) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_segment_is_rotten_does_not_hold_the_pull_for_ever() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let leader = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    leader.segments.lock().unwrap().get_mut(&0).unwrap()[7] ^= 1;
    let other = give_files(nodes.node(3), FakeFiles::holding(&SEGMENTS));
    let target = give_files(nodes.node(2), FakeFiles::default());
    nodes.node(2).replica(0);
    send(&nodes, 1, leader.manifest()).await.unwrap();
    assert_eq!(*target.segments.lock().unwrap(), *other.segments.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_second_call_joins_the_pull_and_the_newest_vote_installs() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let source = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    let slow = FakeFiles { write_time: Duration::from_secs(3), ..FakeFiles::default() };
    give_files(nodes.node(2), slow);
    let target = nodes.node(2).replica(0);
    let late = async {
        sleep(Duration::from_secs(4)).await;
        send(&nodes, 2, source.manifest()).await
    };
    let (first, second) = future::join(send(&nodes, 1, source.manifest()), late).await;
    assert_eq!(second.unwrap().vote, leader_vote(2));
    assert_eq!(first.unwrap().vote, leader_vote(2), "the older leader learns of the newer");
    assert_eq!(target.installed.lock().unwrap().len(), 1);
    assert_eq!(source.given.load(SeqCst), 1_000_005, "pulled once");
}

#[tokio::test(start_paused = true)]
async fn a_pull_outlives_its_caller() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let source = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    let slow = FakeFiles { write_time: Duration::from_secs(3), ..FakeFiles::default() };
    give_files(nodes.node(2), slow);
    let target = nodes.node(2).replica(0);
    let call = send(&nodes, 1, source.manifest());
    assert!(timeout(Duration::from_secs(1), call).await.is_err());
    assert!(matches!(nodes.node(2).network.lacking()[..], [(_, 1..)]), "an operator can see it");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(target.installed.lock().unwrap().len(), 1);
    assert_eq!(nodes.node(2).network.lacking(), []);
}

#[tokio::test(start_paused = true)]
async fn another_manifest_replaces_the_pull_and_keeps_what_was_pulled() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let source = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    let slow = FakeFiles { write_time: Duration::from_secs(3), ..FakeFiles::default() };
    let files = give_files(nodes.node(2), slow);
    let target = nodes.node(2).replica(0);
    let newer = FakeFiles::holding(&SEGMENTS[..2]).manifest();
    let late = async {
        sleep(Duration::from_secs(4)).await;
        send(&nodes, 2, newer.clone()).await
    };
    let (first, second) = future::join(send(&nodes, 1, source.manifest()), late).await;
    assert!(matches!(first, Err(StreamingError::Unreachable(_))), "{first:?}");
    assert_eq!(second.unwrap().vote, leader_vote(2));
    assert_eq!(*target.installed.lock().unwrap(), [(leader_vote(2), newer)]);
    assert_eq!(files.segments.lock().unwrap().len(), 2);
}

/// What comes of a pull while the log grows by so much, and for how many pulls something was kept meanwhile.
async fn pulled_while_the_log_grows_by(bytes: u64) -> (bool, usize) {
    let nodes = Nodes::start(&NetworkOptions::default());
    let source = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    let slow = FakeFiles { write_time: Duration::from_secs(3), ..FakeFiles::default() };
    give_files(nodes.node(2), slow);
    nodes.node(2).replica(0);
    let leader = &nodes.node(1).host;
    let meanwhile = async {
        sleep(Duration::from_secs(2)).await;
        leader.grown.store(bytes, SeqCst);
        Arc::strong_count(&leader.kept) - 1
    };
    let (sent, kept) = future::join(send(&nodes, 1, source.manifest()), meanwhile).await;
    assert_eq!(Arc::strong_count(&leader.kept), 1, "whatever came of it, it is over");
    (sent.is_ok(), kept)
}

#[tokio::test(start_paused = true)]
async fn what_a_pull_needs_is_kept_while_it_lasts_and_the_log_grows_no_more_than_it_may() {
    let _sound = sound();
    let most = NetworkOptions::default().pull_kept_bytes;
    assert_eq!(pulled_while_the_log_grows_by(most).await, (true, 1));
    assert_eq!(pulled_while_the_log_grows_by(most + 1).await, (false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_moves_nothing_is_given_up_as_unreachable() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let manifest = FakeFiles::holding(&SEGMENTS).manifest();
    give_files(nodes.node(1), FakeFiles::default());
    give_files(nodes.node(2), FakeFiles::default());
    nodes.node(2).replica(0);
    let start = Instant::now();
    let stuck = send(&nodes, 1, manifest).await;
    assert!(matches!(stuck, Err(StreamingError::Unreachable(_))), "{stuck:?}");
    assert!(start.elapsed() < Duration::from_secs(15));
    assert!(nodes.node(2).replica(0).installed.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn openraft_s_cancel_ends_the_call_at_once() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let source = give_files(nodes.node(1), FakeFiles::holding(&SEGMENTS));
    let slow = FakeFiles { write_time: Duration::from_secs(3), ..FakeFiles::default() };
    give_files(nodes.node(2), slow);
    nodes.node(2).replica(0);
    let mut way = nodes.node(1).towards(2, 0, false).await;
    let cancel = async {
        sleep(Duration::from_secs(1)).await;
        ReplicationClosed::new("done with it")
    };
    let snapshot = snapshot(source.manifest());
    let answer = way.full_snapshot(leader_vote(1), snapshot, cancel, option()).await;
    assert!(matches!(answer, Err(StreamingError::Closed(_))), "{answer:?}");
}
