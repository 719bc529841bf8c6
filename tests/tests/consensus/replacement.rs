//! Nodes whose disks are lost: they come back under new replica ids, catch up and vote again, and a disk that was taken for
//! lost never runs again (S10–S12).

use std::time::Duration;

use waymark_node::mutants;
use waymark_node::state::Catalog;
use waymark_proto::ids::{NodeId, ShardId};

use crate::cluster::{Cluster, options};

const SHARDS: u32 = 3;
/// Longer than a few looks of a leader at what it replaces.
const A_WHILE: Duration = Duration::from_secs(3);

fn catalog<T>(cluster: &Cluster, node: u32, look: impl Fn(&Catalog) -> T) -> Option<T> {
    let shard0 = cluster.nodes.get(&node)?.consensus.shard(ShardId::CATALOG)?;
    shard0.read(|state| state.catalog().map(look))
}

fn pause(cluster: &Cluster, time: Duration) {
    cluster.block_on(async { tokio::time::sleep(time).await });
}

/// The incarnation of each replica that runs on a node.
fn incarnations(cluster: &Cluster, node: u32) -> Vec<u32> {
    let shards = cluster.nodes[&node].consensus.shards();
    shards.iter().map(|shard| shard.replica().incarnation).collect()
}

fn wait_until_replaced(cluster: &Cluster, node: u32, incarnation: u32) {
    cluster.wait("all replicas are replaced", |cluster| {
        let settled = |at: &u32| {
            catalog(cluster, *at, |catalog| {
                catalog.disk_of(NodeId(node)) == incarnation && catalog.swaps().count() == 0
            })
        };
        cluster.nodes.keys().all(|at| settled(at) == Some(true))
            && incarnations(cluster, node) == vec![incarnation; SHARDS as usize + 1]
    });
}

fn commit_everywhere(cluster: &Cluster, offset: i64) {
    for shard in 1..=SHARDS {
        for key in 0..10 {
            cluster.commit(ShardId(shard), key, offset).unwrap();
        }
    }
}

fn wait_for_everywhere(cluster: &Cluster, offset: i64) {
    cluster.wait("all nodes have everything", |cluster| {
        let all = (1..=SHARDS).flat_map(|shard| (0..10).map(move |key| (ShardId(shard), key)));
        let has = |node: u32, (shard, key)| cluster.committed(node, shard, key) == Some(offset);
        cluster.nodes.keys().all(|node| all.clone().all(|at| has(*node, at)))
    });
}

#[test]
fn disks_may_be_lost_one_after_the_other_and_nothing_is() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(3, options());
    commit_everywhere(&cluster, 1);
    // The founder last: it must not found again.
    for (round, lost) in (1..).zip([3, 2, 1]) {
        cluster.kill(lost);
        commit_everywhere(&cluster, round * 10);
        cluster.wipe(lost);
        cluster.start(lost).unwrap();
        commit_everywhere(&cluster, round * 10 + 1);
        wait_until_replaced(&cluster, lost, 1);
        // Its vote counts again.
        let other = lost % 3 + 1;
        cluster.kill(other);
        commit_everywhere(&cluster, round * 10 + 2);
        cluster.start(other).unwrap();
        wait_for_everywhere(&cluster, round * 10 + 2);
    }
    // The same node again: an id is never used twice.
    cluster.kill(3);
    cluster.wipe(3);
    cluster.start(3).unwrap();
    wait_until_replaced(&cluster, 3, 2);
    wait_for_everywhere(&cluster, 32);
}

#[test]
fn a_node_that_comes_back_may_be_restarted_at_any_time() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(3, options());
    commit_everywhere(&cluster, 1);
    cluster.kill(3);
    cluster.wipe(3);
    for pause_ms in [50, 300, 700] {
        cluster.start(3).unwrap();
        commit_everywhere(&cluster, pause_ms);
        pause(&cluster, Duration::from_millis(pause_ms.unsigned_abs()));
        cluster.kill(3);
    }
    cluster.start(3).unwrap();
    wait_until_replaced(&cluster, 3, 1);
    wait_for_everywhere(&cluster, 700);
}

#[test]
fn without_a_quorum_nothing_is_replaced() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(3, options());
    commit_everywhere(&cluster, 1);
    for lost in [2, 3] {
        cluster.kill(lost);
        cluster.wipe(lost);
    }
    cluster.start(2).unwrap();
    cluster.start(3).unwrap();
    pause(&cluster, A_WHILE);
    assert_eq!(catalog(&cluster, 1, |catalog| catalog.swaps().count()), Some(0));
    for lost in [2, 3] {
        assert!(
            cluster.nodes[&lost].consensus.shards().is_empty(),
            "one disk cannot speak for two"
        );
    }
}

/// The incarnation of the replicas on a node whose disk was lost.
fn incarnation_after_a_loss() -> u32 {
    let mut cluster = Cluster::running(3, options());
    cluster.kill(3);
    cluster.wipe(3);
    cluster.start(3).unwrap();
    let runs = |cluster: &Cluster| cluster.nodes[&3].consensus.shard(ShardId(1)).is_some();
    cluster.wait("a replica runs on the new disk", runs);
    incarnations(&cluster, 3)[0]
}

#[test]
fn a_replica_that_lost_its_votes_runs_under_another_id() {
    let _sound = mutants::seclude();
    assert_eq!(incarnation_after_a_loss(), 1);
}

#[test]
fn a_replica_that_keeps_its_id_without_its_votes_is_caught() {
    let _bug = mutants::plant("replaced-keeps-its-id");
    assert_eq!(incarnation_after_a_loss(), 0);
}

/// Replicas that took a place among the voters although their node is gone since before it could have caught up.
fn swapped_without_having_caught_up() -> usize {
    let mut cluster = Cluster::running(3, options());
    commit_everywhere(&cluster, 1);
    cluster.kill(3);
    cluster.wipe(3);
    cluster.start(3).unwrap();
    cluster.wait("the new disk is admitted", |cluster| {
        catalog(cluster, 1, |catalog| catalog.disk_of(NodeId(3))) == Some(1)
    });
    cluster.kill(3);
    pause(&cluster, A_WHILE);
    let waiting = catalog(&cluster, 1, |catalog| catalog.swaps().count()).unwrap();
    SHARDS as usize + 1 - waiting
}

#[test]
fn a_replica_becomes_a_voter_only_once_it_has_caught_up() {
    let _sound = mutants::seclude();
    assert_eq!(swapped_without_having_caught_up(), 0);
}

#[test]
fn a_voter_that_has_nothing_is_caught() {
    let _bug = mutants::plant("swap-before-caught-up");
    assert!(swapped_without_having_caught_up() > 0);
}

/// Why a disk that was taken for lost does not run, once its node has come back on another one.
fn why_the_old_disk_stops() -> Option<String> {
    let mut cluster = Cluster::running(3, options());
    commit_everywhere(&cluster, 1);
    cluster.kill(3);
    cluster.put_aside(3);
    cluster.start(3).unwrap();
    wait_until_replaced(&cluster, 3, 1);
    cluster.kill(3);
    cluster.put_back(3);
    cluster.start(3).unwrap();
    let fatal = cluster.nodes[&3].consensus.fatal();
    let why = cluster.block_on(async { tokio::time::timeout(2 * A_WHILE, fatal).await.ok() });
    commit_everywhere(&cluster, 2);
    why
}

#[test]
fn a_disk_that_was_taken_for_lost_does_not_run_again() {
    let _sound = mutants::seclude();
    let why = why_the_old_disk_stops().unwrap();
    assert!(why.contains("has had another disk") && why.contains("node.data"), "{why}");
}

#[test]
fn an_old_disk_that_runs_is_caught() {
    let _bug = mutants::plant("old-disk-votes");
    assert_eq!(why_the_old_disk_stops(), None);
}
