//! Nodes that are told to keep more of their disks free than there is: records are refused, the rest goes on, and whoever
//! asks is told why.

use std::time::Duration;

use waymark_client::{
    Client, ClientConfig, ConsumerConfig, FailureCode, ProducerConfig, ProducerRecord, StartAt,
};

use crate::cluster::{Cluster, NODES, TOPIC};
use crate::commands::waymark;

/// No disk has so much.
const SETTINGS: &str = "\n[store]\nreserve_bytes = \"16 TiB\"\n";
const DELIVERY: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_refused_below_the_reserve_and_the_reason_is_told() {
    let (cluster, client) = Cluster::start(SETTINGS).await.with_topic(3).await;
    let impatient = ClientConfig::new(cluster.addresses()).request_timeout(DELIVERY / 4);
    let producer = Client::connect(impatient).await.unwrap();
    let producer = producer.producer(ProducerConfig::default().delivery_timeout(DELIVERY)).await;
    let record = ProducerRecord::new(TOPIC).value(b"no room".to_vec());
    let sent = producer.unwrap().send(record).await.unwrap();
    let error = sent.await.expect_err("no node has so much room");
    assert!(error.is(FailureCode::StorageFull), "{error}");
    assert!(error.to_string().contains("16777216 MiB (store.reserve_bytes)"), "{error}");
    let health = client.admin().health().await.unwrap();
    for node in 1..=NODES {
        let subject = format!("node {node}");
        let problem = health.problems.iter().find(|(about, _)| *about == subject);
        let (_, words) = problem.unwrap_or_else(|| panic!("{health:?}"));
        assert!(words.contains(&format!("node-{node}")), "the folder is named: {words}");
    }
    let unwell = waymark(&cluster, "cluster health", "");
    assert_eq!(unwell.status.code(), Some(4), "{}", String::from_utf8_lossy(&unwell.stdout));
    let reader = client.consumer(ConsumerConfig::default().group_id("billing")).unwrap();
    reader.assign_from([(TOPIC, 0)], StartAt::Beginning).await.unwrap();
    reader.commit_offsets([((TOPIC, 0), 0)]).await.expect("a commit needs no such room");
}
