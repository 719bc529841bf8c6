//! How clusters are born, and who is refused (S12).

use std::time::Duration;

use waymark_node::consensus::Identity;
use waymark_node::mutants;
use waymark_node::storage::real_disk::RealDisk;
use waymark_proto::ids::{ClusterId, ShardId};

use crate::cluster::{Cluster, options};

#[test]
fn a_single_node_founds_a_cluster_and_serves() {
    let _sound = mutants::seclude();
    let cluster = Cluster::running(1, options());
    let committed = cluster.commit(ShardId(1), 1, 42).unwrap();
    assert_eq!((committed.durable_replicas, committed.replicas), (1, 1));
    assert_eq!(cluster.committed(1, ShardId(1), 1), Some(42));
}

#[test]
fn every_node_leads_its_share_of_a_new_cluster() {
    let _sound = mutants::seclude();
    let cluster = Cluster::running(3, options());
    for shard in 0..=3 {
        cluster.wait("a leader where it is preferred", |cluster| {
            cluster.leader(ShardId(shard)) == Some(shard.max(1))
        });
    }
}

#[test]
fn a_disk_of_another_node_is_refused() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(3, options());
    cluster.kill(2);
    cluster.kill(3);
    let error = cluster.start_as(3, 2).unwrap_err().to_string();
    assert!(error.contains("its disk belongs to node 2"), "{error}");
}

/// Makes a stopped node's disk one of another cluster, as if somebody had mounted the wrong one.
fn estrange(cluster: &Cluster, node: u32) -> ClusterId {
    let other = ClusterId([0x5a; 16]);
    cluster.block_on(async {
        let disk = RealDisk::open(cluster.folder(node)).unwrap();
        let ours = Identity::load(&disk).await.unwrap().unwrap();
        Identity { cluster: other, ..ours }.save(&disk).await.unwrap();
    });
    other
}

/// Longer than a node without a quorum waits before it asks whose its peers are.
const LONG: Duration = Duration::from_secs(7);

fn why_it_stops(cluster: &Cluster, node: u32, within: Duration) -> Option<String> {
    let fatal = cluster.nodes[&node].consensus.fatal();
    cluster.block_on(async { tokio::time::timeout(within, fatal).await.ok() })
}

#[test]
fn a_disk_of_another_cluster_stops_its_node_and_nobody_else() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(3, options());
    let ours = (*cluster.nodes[&1].consensus.cluster_id().borrow()).unwrap();
    for node in 1..=3 {
        cluster.kill(node);
    }
    let other = estrange(&cluster, 3);
    cluster.start(1).unwrap();
    cluster.start(3).unwrap();
    // One stranger among two peers, and the other one is silent: that says nothing about who is wrong.
    assert_eq!(why_it_stops(&cluster, 1, LONG), None);
    assert_eq!(why_it_stops(&cluster, 3, Duration::ZERO), None);
    cluster.start(2).unwrap();
    let why = why_it_stops(&cluster, 3, 2 * LONG).unwrap();
    for told in [ours.to_string(), other.to_string(), "node 1".to_owned(), "node.data".to_owned()] {
        assert!(why.contains(&told), "no {told} in: {why}");
    }
    cluster.kill(3);
    cluster.commit(ShardId(1), 1, 42).unwrap();
    assert_eq!(why_it_stops(&cluster, 1, Duration::ZERO), None);
    assert_eq!(why_it_stops(&cluster, 2, Duration::ZERO), None);
}

/// Index applied by the time that the shard was first called ready. Entry 0 is the first membership, so a leader's own
/// entry is 1 at the least.
fn applied_when_first_ready() -> u64 {
    let cluster = Cluster::running(1, options());
    let first = cluster.nodes[&1].notes.first_ready.lock().unwrap().clone();
    first.values().map(|applied| applied.unwrap_or(0)).min().unwrap()
}

#[test]
fn a_leader_is_ready_only_after_an_entry_of_its_own_term() {
    let _sound = mutants::seclude();
    assert!(applied_when_first_ready() >= 1);
}

#[test]
fn a_leader_that_is_ready_too_early_is_caught() {
    let _bug = mutants::plant("ready-before-own-term");
    assert_eq!(applied_when_first_ready(), 0);
}
