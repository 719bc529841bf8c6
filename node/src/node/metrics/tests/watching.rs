//! A node that is watched while it works.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use waymark_client::{
    ConsumerConfig, NewTopic, OffsetAndMetadata, ProducerConfig, ProducerRecord, StartAt,
    TopicPartition,
};

use super::bed::Bed;
use super::page::Page;
use crate::node::metrics::family::{self, Family, counter, histogram};

const TOPIC: &str = "orders";
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_parses_and_every_family_says_what_it_is() {
    let (bed, _client) = Bed::ready().await;
    let answer = bed.get("/metrics").await;
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"));
    let page = Page::parse(&answer.body);
    assert!(page.families.len() > 40, "{:?}", page.families.keys());
    for (name, declared) in &page.families {
        assert!(name.starts_with("waymark_"), "{name}");
        assert!(declared.help.len() > 7 && declared.help.ends_with('.'), "{name}: {declared:?}");
    }
    assert_eq!(page.value("waymark_node_ready", &[]), 1.0);
    assert_eq!(page.value("waymark_process_cpu_seconds_total", &[]), 1.5);
    assert!(
        page.value("waymark_disk_size_bytes", &[]) > page.value("waymark_disk_free_bytes", &[])
    );
    let build = &page.samples["waymark_build_info"][0].labels;
    assert_eq!((&*build["node"], &*build["version"]), ("1", env!("CARGO_PKG_VERSION")));
    assert_eq!(build["cluster"].len(), 22, "a cluster id: {build:?}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_follow_what_clients_do() {
    let (bed, client) = Bed::ready().await;
    let topic = NewTopic::new(TOPIC).partitions(2).replication_factor(1);
    client.admin().create_topic(topic).await.expect("a topic");
    let producer = client.producer(ProducerConfig::default()).await.expect("a producer");
    for number in 0..10 {
        let record = ProducerRecord::new(TOPIC).partition(number % 2).value(vec![b'v'; 100]);
        producer.send_and_wait(record).await.expect("acknowledged");
    }
    let consumer = client
        .consumer(ConsumerConfig::default().group_id("billing").auto_commit(false))
        .expect("a consumer");
    let at = TopicPartition::new(TOPIC, 1);
    consumer.assign_from([at.clone()], StartAt::Beginning).await.expect("assigned");
    for _ in 0..5 {
        consumer.recv().await.expect("a record");
    }
    let committed = consumer.commit_offsets([(at, OffsetAndMetadata::from(5))]).await;
    committed.expect("committed");
    let page = bed
        .page_with(|page| {
            page.sum("waymark_checkpoints_total") > 0.0 && page.sum("waymark_fetch_waiting") > 0.0
        })
        .await;
    let of_topic = |name: &str| page.value(name, &[("topic", TOPIC)]);
    assert_eq!(of_topic("waymark_produce_records_total"), 10.0);
    assert_eq!(of_topic("waymark_produce_batches_total"), 10.0);
    assert!(of_topic("waymark_produce_bytes_total") > 1000.0);
    assert_eq!(page.value("waymark_produce_duration_seconds_count", &[]), 10.0);
    assert_eq!(of_topic("waymark_fetch_records_total"), 5.0);
    assert!(of_topic("waymark_fetch_bytes_total") > 500.0);
    let first = [("topic", TOPIC), ("partition", "0")];
    assert_eq!(page.value("waymark_partition_high_watermark", &first), 5.0);
    assert_eq!(page.value("waymark_partition_log_start_offset", &first), 0.0);
    assert_eq!(page.value("waymark_partition_in_sync_replicas", &first), 1.0);
    assert!(page.value("waymark_partition_size_bytes", &first) > 500.0);
    assert_eq!(page.value("waymark_partitions_led", &[]), 2.0);
    assert_eq!(page.value("waymark_partitions_offline", &[]), 0.0);
    // A commit that its coordinator was not ready for is refused, counted, and asked for again.
    let refused = page.sum("waymark_offset_commit_failures_total");
    assert_eq!(page.sum("waymark_offset_commits_total") - refused, 1.0);
    assert!(page.sum("waymark_journal_flushes_total") >= 10.0);
    assert!(page.sum("waymark_raft_leader_changes_total") >= 2.0, "catalog and shards");
    assert_eq!(page.value("waymark_raft_leader", &[("shard", "0")]), 1.0);
    consumer.close(PATIENCE).await.expect("closed");
    client.admin().delete_topics([TOPIC]).await.expect("deleted");
    let gone = |page: &Page| page.value("waymark_partitions_hosted", &[]) == 0.0;
    let page = bed.page_with(gone).await;
    assert!(!page.samples.contains_key("waymark_produce_records_total"), "nor its counters");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_two_paths_and_they_are_only_read() {
    let (bed, _client) = Bed::ready().await;
    let health = bed.get("/health").await;
    assert_eq!((health.status, health.body.as_str()), (200, "ready\n"));
    assert_eq!(bed.get("/").await.status, 404);
    assert_eq!(bed.ask("POST", "/metrics").await.status, 404);
    let head = bed.ask("HEAD", "/metrics").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_not_started_to_serve_says_so() {
    let bed = Bed::start().await;
    // The first look comes long before a leader can be elected; were it late, the node would be ready.
    let health = bed.get("/health").await;
    assert!(health.status == 503 && health.body == "not ready\n", "{}", health.body);
    let page = bed.page().await;
    assert_eq!(page.samples["waymark_node_ready"].len(), 1, "there is a page all the same");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_a_thousand_partitions_is_bounded() {
    let (bed, client) = Bed::ready().await;
    let topic = NewTopic::new(TOPIC).partitions(1000).replication_factor(1);
    client.admin().create_topic(topic).await.expect("a topic");
    bed.page_with(|page| page.value("waymark_partitions_led", &[]) == 1000.0).await;
    let answer = bed.get("/metrics").await;
    assert!(answer.body.len() < 1 << 20, "{} bytes", answer.body.len());
    bed.stop().await;
}

/// One family with one series, whose label is as given.
#[derive(Debug)]
struct Labelled(&'static str);

static LABELLED: Family = counter("labelled", "A family of this test.").bytes();
static TIMED: Family = histogram("timed", "Another one.");

impl Collector for Labelled {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut page = family::Page::new(encoder);
        page.family(&LABELLED)?.counter(&[("topic", self.0), ("partition", "7")], 9)?;
        let timed = crate::metrics::Histogram::default();
        timed.observe(Duration::from_millis(3));
        page.histogram(&TIMED, &timed.read())
    }
}

#[test]
fn a_label_may_hold_anything() {
    for value in ["plain", "a \"quoted\" name", "two\nlines", r"back\slash\n", "{a=\"b\"} 1"] {
        let mut registry = Registry::with_prefix(family::PREFIX);
        registry.register_collector(Box::new(Labelled(value)));
        let mut written = String::new();
        text::encode(&mut written, &registry).expect("a page");
        let page = Page::parse(&written);
        let labels = [("topic", value), ("partition", "7")];
        assert_eq!(page.value("waymark_labelled_bytes_total", &labels), 9.0, "{written}");
        assert_eq!(page.value("waymark_timed_seconds_bucket", &[("le", "0.0025")]), 0.0);
        assert_eq!(page.value("waymark_timed_seconds_bucket", &[("le", "0.005")]), 1.0);
        assert_eq!(page.value("waymark_timed_seconds_bucket", &[("le", "+Inf")]), 1.0);
    }
}
