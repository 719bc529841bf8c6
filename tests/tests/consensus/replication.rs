//! What survives crashes, and how a replica that lags catches up.

use std::time::Duration;

use waymark_node::consensus::ProposeError;
use waymark_node::mutants;
use waymark_proto::ids::{NodeId, ShardId};

use crate::cluster::{Cluster, options};

const SHARD: ShardId = ShardId(1);

#[test]
fn what_was_acknowledged_survives_its_leader_and_a_restart_of_all() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(3, options());
    for key in 0..20 {
        let committed = cluster.commit(SHARD, key, 1).unwrap();
        assert!(committed.durable_replicas >= 2, "{committed:?}");
    }
    let leader = cluster.leader(SHARD).unwrap();
    cluster.kill(leader);
    cluster.wait("another leader", |cluster| cluster.leader(SHARD).is_some());
    for key in 20..40 {
        cluster.commit(SHARD, key, 2).unwrap();
    }
    cluster.start(leader).unwrap();
    for node in 1..=3 {
        cluster.kill(node);
    }
    for node in 1..=3 {
        cluster.start(node).unwrap();
    }
    for node in 1..=3 {
        cluster.wait("every replica has everything", |cluster| {
            (0..40).all(|key| {
                cluster.committed(node, SHARD, key) == Some(if key < 20 { 1 } else { 2 })
            })
        });
    }
}

#[test]
fn a_laggard_takes_the_manifest_when_the_log_is_gone() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::of(3, options());
    cluster.options.checkpoint_bytes = 20_000;
    cluster.options.kept_bytes = 0;
    for node in 1..=3 {
        cluster.start(node).unwrap();
    }
    cluster.wait_until_born();
    cluster.stop(3);
    for key in 0..100 {
        cluster.commit(SHARD, key, 3).unwrap();
    }
    cluster.wait("the log is cut", |cluster| {
        cluster.nodes.values().all(|node| {
            let shard = node.consensus.shard(SHARD).unwrap();
            shard.purged_index().is_some_and(|index| index > 60)
        })
    });
    cluster.start(3).unwrap();
    cluster.wait("the laggard has everything", |cluster| {
        (0..100).all(|key| cluster.committed(3, SHARD, key) == Some(3))
    });
    cluster.commit(SHARD, 100, 4).unwrap();
    cluster.wait("and goes on", |cluster| cluster.committed(3, SHARD, 100) == Some(4));
}

#[test]
fn a_leadership_goes_back_to_its_preferred_node() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(3, options());
    cluster.wait("shard 1 led by node 1", |cluster| cluster.leader(SHARD) == Some(1));
    cluster.kill(1);
    cluster.wait("another leader", |cluster| cluster.leader(SHARD).is_some());
    cluster.start(1).unwrap();
    cluster.wait("node 1 leads again", |cluster| cluster.leader(SHARD) == Some(1));
    cluster.commit(SHARD, 1, 1).unwrap();
}

#[test]
fn a_transfer_loses_no_proposal() {
    let _sound = mutants::seclude();
    let cluster = Cluster::running(3, options());
    cluster.wait("shard 1 led by node 1", |cluster| cluster.leader(SHARD) == Some(1));
    let leader = cluster.nodes[&1].consensus.shard(SHARD).unwrap();
    cluster.block_on(leader.transfer_to(NodeId(2))).unwrap();
    cluster.wait("node 2 leads", |cluster| cluster.leader(SHARD) == Some(2));
    cluster.commit(SHARD, 1, 1).unwrap();
}

#[test]
fn without_a_quorum_a_proposal_is_never_acknowledged() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(3, options());
    cluster.kill(2);
    cluster.kill(3);
    for key in 0..5 {
        let outcome = cluster.commit_within(SHARD, key, 1, Duration::from_millis(700));
        let error = outcome.expect_err("acknowledged without a quorum");
        assert!(!matches!(error, ProposeError::NotHere(_)), "{error}");
    }
    cluster.start(2).unwrap();
    cluster.commit(SHARD, 9, 1).unwrap();
}
