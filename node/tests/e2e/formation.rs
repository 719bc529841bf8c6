//! A cluster forms by itself, stops cleanly, and is the same cluster after it.

use waymark_client::{ConsumerConfig, OffsetAndMetadata, TopicPartition};

use crate::cluster::{Cluster, NODES, TOPIC, assert_replicas_identical};
use crate::ledger::Ledger;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_a_cluster_by_themselves() {
    let (_cluster, client) = Cluster::start("").await.with_topic(3).await;
    let described = client.admin().describe_cluster().await.unwrap();
    assert!(described.cluster_id.is_some());
    let alive = described.nodes.iter().filter(|node| node.alive).count();
    assert_eq!(alive, usize::try_from(NODES).unwrap(), "{described:?}");
    let health = client.admin().health().await.unwrap();
    assert!(health.healthy, "{:?}", health.problems);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_stopped_and_started_again_has_everything_it_had() {
    let (mut cluster, client) = Cluster::start("").await.with_topic(3).await;
    let ledger = Ledger::new();
    let producer = Ledger::producer(&client).await;
    ledger.send(&producer, 0..5_000).await;
    drop(producer);
    let group = || ConsumerConfig::default().group_id("billing").auto_commit(false);
    let at = TopicPartition::new(TOPIC, 1);
    let consumer = client.consumer(group()).unwrap();
    consumer.commit_offsets([(at.clone(), OffsetAndMetadata::from(17))]).await.unwrap();
    for node in cluster.nodes() {
        cluster.stop(node).await;
    }
    for node in cluster.nodes() {
        cluster.boot(node);
    }
    cluster.ready().await;
    let client = cluster.client().await;
    ledger.judge(&client, 5_000).await;
    let committed = client.consumer(group()).unwrap().committed([at.clone()]).await.unwrap();
    assert_eq!(committed[&at].offset, 17);
    assert_replicas_identical(&client).await;
}
