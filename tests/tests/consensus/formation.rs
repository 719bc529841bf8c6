//! How clusters are born, and who is refused (S12).

use waymark_node::mutants;
use waymark_proto::ids::ShardId;

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
fn a_node_that_lost_its_disk_is_refused_and_says_why() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(3, options());
    cluster.kill(3);
    cluster.wipe(3);
    let error = cluster.start(3).unwrap_err().to_string();
    assert!(error.contains("empty disk") && error.contains("must be replaced"), "{error}");
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
