//! The data directory of a node is deleted while records flow: it comes back by itself, with everything.

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
