//! A node that was away for so long that nobody's journal holds what it missed comes back while records flow.

use crate::cluster::{Cluster, assert_replicas_identical, described};
use crate::ledger::Ledger;

/// A journal so small that a few megabytes are beyond its reach.
const SHORT_MEMORY: &str = "\n[journal]\nfile_bytes = \"2 MiB\"\nflush_bytes = \"256 KiB\"\n[consensus]\n\
    checkpoint_bytes = \"1 MiB\"\ncheckpoint_interval = \"200 ms\"\nkept_bytes = 0\n\
    [broker]\nentry_bytes = \"256 KiB\"\n";
const MISSED: u32 = 100_000;
const AFTERWARDS: u32 = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_missed_more_than_the_journal_holds_comes_back() {
    let (mut cluster, client) = Cluster::start(SHORT_MEMORY).await.with_topic(3).await;
    let ledger = Ledger::new();
    let producer = Ledger::producer(&client).await;
    ledger.send(&producer, 0..1_000).await;
    let away = 3;
    cluster.kill(away);
    ledger.send(&producer, 1_000..MISSED).await;
    cluster.boot(away);
    let sending = ledger.send(&producer, MISSED..MISSED + AFTERWARDS);
    let coming_back = async {
        cluster.ready().await;
        let id = i32::try_from(away).unwrap();
        described(&client, |partition| partition.in_sync.contains(&id)).await;
    };
    tokio::join!(sending, coming_back);
    ledger.judge(&client, MISSED + AFTERWARDS).await;
    assert_replicas_identical(&client).await;
}
