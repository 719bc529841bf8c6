//! Bits flip in the files of one node while records flow: nobody is served them, and a moment later they are as they were.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, LOOK_AGAIN, PATIENCE, assert_replicas_identical};
use crate::ledger::Ledger;

/// Segments reach the disk quickly, and are read again at once.
const EAGER: &str = "\n[store]\nsegment_write_after = \"50 ms\"\nscrub_bytes_per_second = \"64 MiB\"\n\
    scrub_interval = \"500 ms\"\n[consensus]\ncheckpoint_interval = \"300 ms\"\n";
const RECORDS: u32 = 60_000;

fn flip(path: &Path, at: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 0x10]).unwrap();
}

/// Once the node has kept so many damaged runs aside, it has repaired them.
async fn repaired(cluster: &Cluster, node: u32, least: usize) {
    let deadline = Instant::now() + PATIENCE;
    while cluster.files(node, ".damaged").len() < least {
        assert!(Instant::now() < deadline, "node {node} has not repaired what was damaged");
        sleep(LOOK_AGAIN).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_and_a_checkpoint_that_rot_are_repaired_while_records_flow() {
    let (mut cluster, client) = Cluster::start(EAGER).await.with_topic(3).await;
    let ledger = Ledger::new();
    let producer = Ledger::producer(&client).await;
    let sending = ledger.send(&producer, 0..RECORDS);
    let rotting = async {
        ledger.reaches(RECORDS / 3).await;
        sleep(LOOK_AGAIN * 20).await;
        let (segment, len) = cluster.files(2, ".log").pop().unwrap();
        flip(&segment, len / 3);
        repaired(&cluster, 2, 1).await;
        // The next time while it is down, with a checkpoint that nobody can read any more.
        cluster.kill(3);
        let (segment, len) = cluster.files(3, ".log").pop().unwrap();
        flip(&segment, len / 4);
        let (checkpoint, len) = cluster.files(3, "/checkpoint").pop().unwrap();
        flip(&checkpoint, len / 2);
        cluster.boot(3);
        cluster.ready().await;
    };
    tokio::join!(sending, rotting);
    ledger.judge(&client, RECORDS).await;
    repaired(&cluster, 3, 1).await;
    assert_replicas_identical(&client).await;
}
