//! Batches that Kafka itself wrote, in all five codecs, sent through a real cluster: what comes back is what was sent, but
//! for the two fields that belong to the log.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tonic::transport::Channel;
use waymark_proto::batch::decode;
use waymark_proto::transport::{Purpose, TcpDial, channel};
use waymark_proto::v1::fetch_service_client::FetchServiceClient;
use waymark_proto::v1::produce_service_client::ProduceServiceClient;
use waymark_proto::v1::topic_service_client::TopicServiceClient;
use waymark_proto::v1::{
    DescribeTopicsRequest, FetchPosition, FetchRequest, ProduceBatch, ProduceRequest, TopicRef,
};

use crate::cluster::{Cluster, TOPIC, described};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Of a batch: where its length stands, and the bytes up to and including it.
const LENGTH: std::ops::Range<usize> = 8..12;
const BASE_OFFSET: std::ops::Range<usize> = 0..8;
const LEADER_EPOCH: std::ops::Range<usize> = 12..16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_kafka_come_back_byte_identical_but_for_offset_and_epoch() {
    let (cluster, client) = Cluster::start("").await.with_topic(5).await;
    let addresses = cluster.addresses();
    let to_node = |at: usize| channel(Arc::new(TcpDial), &addresses[at], Purpose::Client).unwrap();
    let topic_id = topic_id(to_node(0)).await;
    let partitions = described(&client, |partition| partition.leader.is_some()).await;
    for (partition, codec) in partitions.iter().zip(CODECS) {
        let leader = usize::try_from(partition.leader.unwrap()).unwrap();
        let (partition, channel) = (partition.partition, to_node(leader - 1));
        let sent = batches_of_kafka(codec);
        let mut offset = 0;
        for batch in &sent {
            offset = produce(channel.clone(), (topic_id.clone(), partition), batch, offset).await;
        }
        let stored = fetch(channel.clone(), topic_id.clone(), partition).await;
        assert_eq!(stored.len(), sent.len(), "{codec}");
        for (sent, stored) in sent.iter().zip(&stored) {
            assert_eq!(of_the_producer(sent), of_the_producer(stored), "{codec}");
        }
        let together = |batches: &[Bytes]| decode(batches.concat().into()).unwrap();
        assert_eq!(together(&sent), together(&stored), "{codec}");
    }
}

/// The batches of a segment file.
fn batches_of_kafka(codec: &str) -> Vec<Bytes> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/tests/data");
    let mut rest = Bytes::from(std::fs::read(folder.join(format!("batches-{codec}.log"))).unwrap());
    let mut batches = Vec::new();
    while !rest.is_empty() {
        batches.push(split_batch(&mut rest));
    }
    batches
}

fn split_batch(rest: &mut Bytes) -> Bytes {
    let length = u32::from_be_bytes(rest[LENGTH].try_into().unwrap());
    rest.split_to(LENGTH.end + usize::try_from(length).unwrap())
}

/// The batch without what the log decides.
fn of_the_producer(batch: &Bytes) -> Bytes {
    let mut batch = BytesMut::from(&batch[..]);
    batch[BASE_OFFSET].fill(0);
    batch[LEADER_EPOCH].fill(0);
    batch.freeze()
}

async fn topic_id(channel: Channel) -> Bytes {
    let topic = TopicRef { name: TOPIC.to_owned(), ..TopicRef::default() };
    let request = DescribeTopicsRequest { topics: vec![topic] };
    let answer = TopicServiceClient::new(channel).describe_topics(request).await.unwrap();
    answer.into_inner().topics.remove(0).topic_id
}

/// Sends one batch; returns the offset after it.
async fn produce(channel: Channel, to: (Bytes, i32), batch: &Bytes, expected: i64) -> i64 {
    let batch = ProduceBatch {
        topic_id: to.0,
        partition: Some(to.1),
        batch: batch.clone(),
        ..ProduceBatch::default()
    };
    let request = ProduceRequest { batches: vec![batch], ..ProduceRequest::default() };
    let answer = ProduceServiceClient::new(channel).produce(request).await.unwrap().into_inner();
    let receipt = &answer.receipts[0];
    assert!(receipt.failure.is_none(), "{receipt:?}");
    assert_eq!(receipt.base_offset, Some(expected));
    expected + i64::from(receipt.record_count)
}

async fn fetch(channel: Channel, topic_id: Bytes, partition: i32) -> Vec<Bytes> {
    let position = FetchPosition {
        topic_id,
        partition: Some(partition),
        offset: Some(0),
        ..FetchPosition::default()
    };
    let request = FetchRequest { positions: vec![position], ..FetchRequest::default() };
    let answer = FetchServiceClient::new(channel).fetch(request).await.unwrap().into_inner();
    let data = &answer.data[0];
    assert!(data.failure.is_none(), "{data:?}");
    let mut rest = data.batches.clone();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        batches.push(split_batch(&mut rest));
    }
    batches
}
