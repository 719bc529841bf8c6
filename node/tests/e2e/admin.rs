//! Administration through any node, asked directly: what one node was told, the others know when it has answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use waymark_proto::transport::{Purpose, TcpDial, channel};
use waymark_proto::v1;
use waymark_proto::v1::cluster_service_client::ClusterServiceClient;
use waymark_proto::v1::topic_service_client::TopicServiceClient;

use crate::cluster::{Cluster, NODES, PATIENCE};

const MANY: i32 = 1_000;
/// What a healthy machine needs is a fiftieth of it.
const CREATED_WITHIN: Duration = Duration::from_secs(2);

fn connect(cluster: &Cluster, node: u32) -> Channel {
    channel(Arc::new(TcpDial), &cluster.address(node), Purpose::Client).unwrap()
}

fn named(name: &str) -> v1::TopicRef {
    v1::TopicRef { name: name.to_owned(), ..Default::default() }
}

async fn create(node: Channel, name: &str, partitions: i32, replicas: i32) {
    let topic = v1::NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: Some(replicas),
        ..Default::default()
    };
    let request = v1::CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer = TopicServiceClient::new(node).create_topics(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].failure, None);
}

async fn describe(node: Channel, name: &str) -> v1::TopicDescription {
    let request = v1::DescribeTopicsRequest { topics: vec![named(name)] };
    let answer = TopicServiceClient::new(node).describe_topics(request).await.unwrap();
    answer.into_inner().topics.remove(0)
}

async fn delete(node: Channel, name: &str) {
    let request = v1::DeleteTopicsRequest { topics: vec![named(name)], ..Default::default() };
    let answer = TopicServiceClient::new(node).delete_topics(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].failure, None);
}

async fn transfer(node: Channel, name: &str, partition: i32, to: i32) {
    let given =
        v1::LeaderMove { topic: Some(named(name)), partition: Some(partition), to_node: Some(to) };
    let request = v1::TransferLeadersRequest { moves: vec![given], ..Default::default() };
    let answer = ClusterServiceClient::new(node).transfer_leaders(request).await.unwrap();
    assert_eq!(answer.into_inner().results[0].failure, None);
}

/// Every partition has a leader, and its leader said where it stands, whichever node was asked.
fn assert_whole(topic: &v1::TopicDescription, partitions: i32) {
    assert_eq!(topic.failure, None);
    assert_eq!(i32::try_from(topic.partitions.len()), Ok(partitions));
    for it in &topic.partitions {
        let told = it.leader.is_some() && it.high_watermark == Some(0) && it.size_bytes == Some(0);
        assert!(told && it.in_sync.len() == it.voters.len() && it.offline.is_empty(), "{it:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_a_thousand_partitions_is_known_to_all_nodes_at_once_and_gone_at_once() {
    let cluster = Cluster::start("").await;
    let began = Instant::now();
    create(connect(&cluster, 2), "many", MANY, 3).await;
    let took = began.elapsed();
    for node in cluster.nodes() {
        assert_whole(&describe(connect(&cluster, node), "many").await, MANY);
    }
    assert!(took < CREATED_WITHIN, "created in {took:?}");
    // Where a node holds no replica it knows the leader from the others.
    create(connect(&cluster, 1), "single", 9, 1).await;
    for node in cluster.nodes() {
        let single = described_with_leaders(connect(&cluster, node), "single").await;
        assert_whole(&single, 9);
        let leaders: std::collections::BTreeSet<_> =
            single.partitions.iter().filter_map(|it| it.leader).collect();
        assert_eq!(leaders.len(), usize::try_from(NODES).unwrap(), "every node leads its share");
    }
    delete(connect(&cluster, 3), "many").await;
    for node in cluster.nodes() {
        let gone = describe(connect(&cluster, node), "many").await.failure.unwrap();
        assert_eq!(gone.code(), v1::FailureCode::TopicNotFound);
    }
}

/// The first topic of a replication factor makes new shards, and whoever holds none of them hears of their leaders within a
/// moment.
async fn described_with_leaders(node: Channel, name: &str) -> v1::TopicDescription {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let topic = describe(node.clone(), name).await;
        let led = topic.partitions.iter().all(|it| it.leader.is_some() && it.size_bytes.is_some());
        if led || Instant::now() > deadline {
            return topic;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leadership_that_was_moved_stays_where_it_was_moved_to() {
    let cluster = Cluster::start("[consensus]\nbalance_interval = \"200 ms\"\n").await;
    create(connect(&cluster, 1), "moved", 1, 3).await;
    let before = describe(connect(&cluster, 1), "moved").await.partitions.remove(0);
    let to = before.leader.map(|leader| leader % 3 + 1).unwrap();
    transfer(connect(&cluster, 1), "moved", 0, to).await;
    for _ in 0..5 {
        sleep(Duration::from_millis(200)).await;
        let after = describe(connect(&cluster, 1), "moved").await.partitions.remove(0);
        assert_eq!(after.leader, Some(to), "moved back");
        assert_eq!(after.leader_epoch, before.leader_epoch + 1);
    }
    let request = v1::DescribeClusterRequest::default();
    let mut service = ClusterServiceClient::new(connect(&cluster, 1));
    let whole = service.describe_cluster(request).await.unwrap().into_inner();
    assert_eq!((whole.topics, whole.partitions), (1, 1));
    for node in whole.nodes {
        let id = node.node.map(|it| it.node_id);
        assert!(node.alive && node.replicas == 1 && !node.version.is_empty(), "{id:?}");
        assert_eq!(node.leaders, i32::from(id == Some(to)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_by_the_name_of_each_service_and_taken_back_when_a_node_stops() {
    let mut cluster = Cluster::start("").await;
    let mut health = HealthClient::new(connect(&cluster, 2));
    for name in ["", "live", "waymark.v1.ProduceService", "waymark.v1.ClusterService"] {
        let request = HealthCheckRequest { service: name.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{name:?}");
    }
    let request = HealthCheckRequest { service: "waymark.v1.ProduceService".to_owned() };
    let mut watched = health.watch(request).await.unwrap().into_inner();
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let (_, last) = tokio::join!(cluster.stop(2), watched.message());
    assert_eq!(last.unwrap().unwrap().status(), ServingStatus::NotServing);
}
