//! SIGKILL in the middle of produce: of the leader, of each node in turn, of all at once. What was acknowledged is there.

use crate::cluster::{Cluster, assert_replicas_identical, described};
use crate::ledger::Ledger;

/// As many as the README promises to survive.
const MANY: u32 = 200_000;
/// Enough to be in the middle of something at every kill.
const SOME: u32 = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_may_die_in_the_middle_of_two_hundred_thousand_records() {
    let (mut cluster, client) = Cluster::start("").await.with_topic(6).await;
    let ledger = Ledger::new();
    let producer = Ledger::producer(&client).await;
    let sending = ledger.send(&producer, 0..MANY);
    let killing = async {
        ledger.reaches(MANY / 4).await;
        let partitions = described(&client, |partition| partition.leader.is_some()).await;
        let leader = u32::try_from(partitions[0].leader.unwrap()).unwrap();
        cluster.kill(leader);
        ledger.reaches(MANY / 2).await;
        cluster.boot(leader);
    };
    tokio::join!(sending, killing);
    cluster.ready().await;
    ledger.judge(&client, MANY).await;
    assert_replicas_identical(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_may_die_in_turn() {
    let (mut cluster, client) = Cluster::start("").await.with_topic(6).await;
    let ledger = Ledger::new();
    let producer = Ledger::producer(&client).await;
    let sending = ledger.send(&producer, 0..SOME);
    let killing = async {
        for node in cluster.nodes() {
            ledger.reaches(SOME / 4 * node).await;
            cluster.kill(node);
            cluster.boot(node);
            cluster.ready().await;
        }
    };
    tokio::join!(sending, killing);
    ledger.judge(&client, SOME).await;
    assert_replicas_identical(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_may_die_at_once() {
    let (mut cluster, client) = Cluster::start("").await.with_topic(6).await;
    let ledger = Ledger::new();
    let producer = Ledger::producer(&client).await;
    let sending = ledger.send(&producer, 0..SOME);
    let killing = async {
        for round in 1..=2 {
            ledger.reaches(SOME / 3 * round).await;
            for node in cluster.nodes() {
                cluster.kill(node);
            }
            for node in cluster.nodes() {
                cluster.boot(node);
            }
            cluster.ready().await;
        }
    };
    tokio::join!(sending, killing);
    ledger.judge(&client, SOME).await;
    assert_replicas_identical(&client).await;
}
