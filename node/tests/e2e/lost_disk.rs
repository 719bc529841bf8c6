//! The data directory of a node is deleted while records flow: it comes back by itself, with everything. Two at once: an
//! operator has to say that what is left is all there is.

use tokio::time::{Instant, sleep};
use waymark_client::Client;

use crate::cluster::{Cluster, LOOK_AGAIN, PATIENCE, assert_replicas_identical};
use crate::ledger::Ledger;

const BEFORE: u32 = 30_000;
const MEANWHILE: u32 = 60_000;
const AFTERWARDS: u32 = 1_000;

/// Returns once nothing is wrong with the cluster any more.
async fn until_well(client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let health = client.admin().health().await.unwrap();
        if health.healthy {
            return;
        }
        assert!(Instant::now() < deadline, "never well again: {:?}", health.problems);
        sleep(LOOK_AGAIN).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_data_directory_is_deleted_comes_back_by_itself() {
    let (mut cluster, client) = Cluster::start("").await.with_topic(6).await;
    let ledger = Ledger::new();
    let producer = Ledger::producer(&client).await;
    let sending = ledger.send(&producer, 0..MEANWHILE);
    let losing = async {
        ledger.reaches(BEFORE).await;
        cluster.kill(3);
        cluster.lose_disk(3);
        cluster.boot(3);
        cluster.ready().await;
    };
    tokio::join!(sending, losing);
    until_well(&client).await;
    ledger.judge(&client, MEANWHILE).await;
    assert_replicas_identical(&client).await;
    // What it votes and acknowledges counts: with it, two are a majority.
    cluster.kill(1);
    ledger.send(&producer, MEANWHILE..MEANWHILE + AFTERWARDS).await;
    cluster.boot(1);
    cluster.ready().await;
    until_well(&client).await;
    ledger.judge(&client, MEANWHILE + AFTERWARDS).await;
    assert_replicas_identical(&client).await;
}

fn said(output: &[u8]) -> &str {
    std::str::from_utf8(output).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_data_directories_that_are_deleted_at_once_are_given_up_by_an_operator() {
    let (mut cluster, client) = Cluster::start("").await.with_topic(6).await;
    let ledger = Ledger::new();
    let producer = Ledger::producer(&client).await;
    ledger.send(&producer, 0..AFTERWARDS).await;
    assert_replicas_identical(&client).await;
    let running = cluster.operate(1, &["recover"]);
    assert!(!running.status.success(), "it changes the disk of a node that runs");
    for node in cluster.nodes() {
        cluster.kill(node);
    }
    cluster.lose_disk(2);
    cluster.lose_disk(3);
    let unsaid = cluster.operate(1, &["recover"]);
    assert!(said(&unsaid.stderr).contains("--gone 2"), "{unsaid:?}");
    let gone = ["recover", "--gone", "2", "--gone", "3"];
    let looked = cluster.operate(1, &gone);
    assert!(looked.status.success(), "{looked:?}");
    let shown = said(&looked.stdout);
    assert!(shown.contains("orders/0 is kept up to offset"), "{shown}");
    assert!(shown.contains("No shard was changed"), "{shown}");
    let done = cluster.operate(1, &[&gone[..], &["--accept-loss"]].concat());
    assert!(done.status.success(), "{done:?}");
    for node in cluster.nodes() {
        cluster.boot(node);
    }
    cluster.ready().await;
    until_well(&client).await;
    ledger.send(&producer, AFTERWARDS..2 * AFTERWARDS).await;
    ledger.judge(&client, 2 * AFTERWARDS).await;
    assert_replicas_identical(&client).await;
    cluster.kill(1);
    let well = cluster.operate(1, &["recover", "--json"]);
    assert!(said(&well.stdout).contains(r#""shards":[]"#), "{well:?}");
    ledger.send(&producer, 2 * AFTERWARDS..3 * AFTERWARDS).await;
    ledger.judge(&client, 3 * AFTERWARDS).await;
}
