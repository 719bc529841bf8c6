//! Real processes are watched as Prometheus does it: what they count agrees with what clients did, and the death of a node
//! shows on the others.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, NODES, PATIENCE};
use crate::ledger::Ledger;

const RECORDS: u32 = 2_000;

/// Series with their values, as they stand on the page.
type Series = BTreeMap<String, f64>;

async fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

async fn scrape(address: &str) -> Series {
    let (status, page) = get(address, "/metrics").await;
    assert_eq!(status, 200, "{page}");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

fn sum(nodes: &[Series], name: &str) -> f64 {
    let of_name = |series: &str| series == name || series.starts_with(&format!("{name}{{"));
    nodes.iter().flatten().filter(|(series, _)| of_name(series)).map(|(_, value)| value).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nodes_count_agrees_with_what_clients_did() {
    let (mut cluster, client) = Cluster::start("").await.with_topic(6).await;
    let ledger = Ledger::new();
    let producer = Ledger::producer(&client).await;
    ledger.send(&producer, 0..RECORDS).await;
    drop(producer);
    let mut nodes = Vec::new();
    for node in cluster.nodes() {
        let address = cluster.metrics_address(node);
        assert_eq!(get(&address, "/health").await, (200, "ready\n".to_owned()));
        nodes.push(scrape(&address).await);
    }
    assert_eq!(sum(&nodes, "waymark_produce_records_total"), f64::from(RECORDS));
    assert_eq!(sum(&nodes, "waymark_partition_high_watermark"), f64::from(RECORDS));
    assert_eq!(sum(&nodes, "waymark_partitions_led"), 6.0);
    assert_eq!(sum(&nodes, "waymark_partitions_hosted"), 6.0 * f64::from(NODES));
    assert_eq!(sum(&nodes, "waymark_partitions_offline"), 0.0);
    for node in &nodes {
        assert!(node["waymark_process_resident_memory_bytes"] > 1e6, "{node:?}");
        assert!(node["waymark_process_open_fds"] > 10.0, "{node:?}");
        assert!(node["waymark_journal_sync_duration_seconds_count"] > 0.0, "{node:?}");
    }
    cluster.kill(NODES);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left =
            [scrape(&cluster.metrics_address(1)).await, scrape(&cluster.metrics_address(2)).await];
        // All are led again, and each of them lacks the same replica.
        if sum(&left, "waymark_partitions_led") == 6.0
            && sum(&left, "waymark_partitions_under_replicated") == 6.0
            && sum(&left, "waymark_partitions_offline") == 0.0
        {
            return;
        }
        assert!(Instant::now() < deadline, "the death of a node does not show: {left:?}");
        sleep(std::time::Duration::from_millis(100)).await;
    }
}
