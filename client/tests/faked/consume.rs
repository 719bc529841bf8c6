//! The consumer against a fake node: order, credit, seeks that overtake frames, positions, commits.

use std::time::Duration;

use futures::StreamExt as _;
use waymark_client::{
    Compression, Consumer, ConsumerConfig, Error, OffsetReset, ProducerConfig, ProducerRecord,
};

use crate::fake::{Fake, TOPIC};

async fn filled(partitions: i32, records: i32) -> Fake {
    let fake = Fake::start(partitions);
    let config = ProducerConfig::default().linger(Duration::ZERO).compression(Compression::Lz4);
    let producer = fake.client().await.producer(config).await.unwrap();
    for i in 0..records {
        let record = ProducerRecord::new(TOPIC).partition(i % partitions).value(format!("v{i}"));
        drop(producer.send(record).await.unwrap());
    }
    producer.close(Duration::from_secs(10)).await.unwrap();
    fake
}

fn config() -> ConsumerConfig {
    ConsumerConfig::default()
        .group_id("g")
        .auto_commit(false)
        .auto_offset_reset(OffsetReset::Earliest)
}

async fn consumer(fake: &Fake, config: ConsumerConfig) -> Consumer {
    fake.client().await.consumer(config).unwrap()
}

async fn values(consumer: &Consumer, count: usize) -> Vec<(i32, i64, String)> {
    let mut all = Vec::new();
    while all.len() < count {
        let record = tokio::time::timeout(Duration::from_secs(10), consumer.recv()).await;
        let record = record.expect("records come").unwrap();
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        all.push((record.partition, record.offset, value));
    }
    all
}

#[tokio::test]
async fn every_record_comes_once_in_order_per_partition() {
    let fake = filled(3, 300).await;
    let consumer = consumer(&fake, config()).await;
    consumer.assign([(TOPIC, 0), (TOPIC, 1), (TOPIC, 2)]).await.unwrap();
    let mut next = [0; 3];
    for (partition, offset, value) in values(&consumer, 300).await {
        let at = usize::try_from(partition).unwrap();
        assert_eq!(offset, next[at]);
        assert_eq!(value, format!("v{}", offset * 3 + i64::from(partition)));
        next[at] += 1;
    }
    assert_eq!(next, [100; 3]);
    assert_eq!(consumer.position((TOPIC, 1)).unwrap(), 100);
}

#[tokio::test]
async fn frames_from_before_a_seek_are_never_handed_out() {
    let fake = filled(1, 100).await;
    fake.lock().stale_after_remove = true;
    let consumer = consumer(&fake, config()).await;
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    for target in [90, 10, 50, 99, 0] {
        consumer.seek((TOPIC, 0), target).unwrap();
        let got = values(&consumer, 1).await;
        assert_eq!(got[0].1, target, "the first record after a seek is the one sought");
        assert_eq!(consumer.position((TOPIC, 0)).unwrap(), target + 1);
    }
}

#[tokio::test]
async fn the_node_never_sends_more_than_credit_and_one_batch() {
    let fake = Fake::start(1);
    let producer = fake.client().await.producer(ProducerConfig::default()).await.unwrap();
    for _ in 0..100 {
        let value = "x".repeat(10 << 10);
        producer.send_and_wait(ProducerRecord::new(TOPIC).partition(0).value(value)).await.unwrap();
    }
    let consumer = consumer(&fake, config().fetch_bytes(100 << 10)).await;
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let ahead = fake.lock().sent_bytes;
    assert!(ahead >= 90 << 10, "it reads ahead: {ahead}");
    assert!(ahead <= 111 << 10, "but no further than fetch.max.bytes and a batch: {ahead}");
    assert_eq!(values(&consumer, 100).await.len(), 100, "consuming grants more");
}

#[tokio::test]
async fn a_paused_partition_waits_and_does_not_starve_the_other() {
    let fake = filled(2, 200).await;
    let consumer = consumer(&fake, config()).await;
    consumer.assign([(TOPIC, 0), (TOPIC, 1)]).await.unwrap();
    consumer.pause((TOPIC, 0)).unwrap();
    assert!(values(&consumer, 100).await.iter().all(|(partition, _, _)| *partition == 1));
    assert!(consumer.poll(Duration::from_millis(50)).await.unwrap().is_empty());
    consumer.resume((TOPIC, 0)).unwrap();
    assert_eq!(values(&consumer, 100).await[0], (0, 0, "v0".to_owned()));
}

#[tokio::test]
async fn reading_goes_on_at_the_committed_offset() {
    let fake = filled(1, 20).await;
    let first = consumer(&fake, config()).await;
    first.assign([(TOPIC, 0)]).await.unwrap();
    values(&first, 7).await;
    first.commit_sync().await.unwrap();
    first.close(Duration::from_secs(5)).await.unwrap();
    let second = consumer(&fake, config()).await;
    second.assign([(TOPIC, 0)]).await.unwrap();
    assert_eq!(values(&second, 1).await[0].1, 7);
    let committed = second.committed([(TOPIC, 0)]).await.unwrap();
    assert_eq!(committed[&(TOPIC, 0).into()].offset, 7);
}

#[tokio::test]
async fn commits_carry_rising_numbers_and_the_last_stands() {
    let fake = filled(1, 20).await;
    let consumer = consumer(&fake, config()).await;
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    for _ in 0..10 {
        values(&consumer, 1).await;
        drop(consumer.commit_async());
    }
    consumer.commit_sync().await.unwrap();
    let inner = fake.lock();
    assert!(inner.commit_seqs.is_sorted_by(|one, two| one < two), "{:?}", inner.commit_seqs);
    assert_eq!(inner.committers.len(), 1, "numbers count within one member");
    assert!(inner.committers.iter().all(|member| member.len() == 36), "{:?}", inner.committers);
    assert_eq!(inner.committed[&("g".to_owned(), 0)], 10);
}

#[tokio::test]
async fn a_consumer_whose_clock_is_behind_commits_above_what_others_have() {
    let fake = filled(1, 20).await;
    let others = i64::MAX / 2;
    fake.lock().highest_seq = others;
    let consumer = consumer(&fake, config()).await;
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    values(&consumer, 1).await;
    consumer.commit_sync().await.unwrap();
    values(&consumer, 1).await;
    consumer.commit_sync().await.unwrap();
    let inner = fake.lock();
    assert_eq!(inner.commit_seqs, [others + 1, others + 2]);
    assert_eq!(inner.committed[&("g".to_owned(), 0)], 2);
}

#[tokio::test]
async fn automatic_commits_cover_only_what_is_finished() {
    let fake = filled(1, 20).await;
    let interval = Duration::from_millis(10);
    let consumer = consumer(&fake, config().auto_commit(true).auto_commit_interval(interval)).await;
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    values(&consumer, 5).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The fifth may still be in the works: the application has not asked for the sixth.
    assert_eq!(fake.lock().committed[&("g".to_owned(), 0)], 4);
    values(&consumer, 1).await;
    fake.until(|inner| inner.committed[&("g".to_owned(), 0)] == 5).await;
}

#[tokio::test]
async fn without_a_start_and_without_a_policy_assigning_says_so() {
    let fake = filled(1, 1).await;
    let consumer = consumer(&fake, config().auto_offset_reset(OffsetReset::None)).await;
    let error = consumer.assign([(TOPIC, 0)]).await.unwrap_err();
    assert!(matches!(error, Error::NoOffset { .. }), "{error}");
}

#[tokio::test]
async fn an_offset_that_is_gone_is_reset_by_policy() {
    let fake = filled(1, 100).await;
    let consumer = consumer(&fake, config()).await;
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    fake.lock().logs.get_mut(&0).unwrap().log_start = 40;
    consumer.seek((TOPIC, 0), 3).unwrap();
    assert_eq!(values(&consumer, 1).await[0].1, 40);
}

#[tokio::test]
async fn an_offset_that_is_gone_without_a_policy_stops_that_partition_only() {
    let fake = filled(2, 100).await;
    let consumer = consumer(&fake, config().auto_offset_reset(OffsetReset::None)).await;
    let both = [(TOPIC, 0), (TOPIC, 1)];
    consumer.assign_from(both, waymark_client::StartAt::Offset(0)).await.unwrap();
    consumer.seek((TOPIC, 0), 1000).unwrap();
    let (mut failed, mut records) = (0, 0);
    while records < 50 || failed == 0 {
        match consumer.recv().await {
            Ok(record) => {
                assert_eq!(record.partition, 1);
                records += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::NoOffset { .. }), "{error}");
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 1);
    consumer.seek((TOPIC, 0), 49).unwrap();
    assert_eq!(values(&consumer, 1).await[0], (0, 49, "v98".to_owned()));
}

#[tokio::test]
async fn a_cancelled_receive_loses_nothing() {
    let fake = filled(1, 50).await;
    let consumer = consumer(&fake, config()).await;
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    let mut next = 0;
    while next < 50 {
        let brief = Duration::from_micros(50);
        if let Ok(record) = tokio::time::timeout(brief, consumer.recv()).await {
            assert_eq!(record.unwrap().offset, next);
            next += 1;
        }
    }
}

#[tokio::test]
async fn records_come_as_a_stream_and_in_polls() {
    let fake = filled(1, 30).await;
    let consumer = consumer(&fake, config().max_poll_records(10)).await;
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    let streamed: Vec<_> = consumer.stream().take(5).collect().await;
    assert!(streamed.into_iter().all(|record| record.is_ok()));
    let polled = consumer.poll(Duration::from_secs(5)).await.unwrap();
    assert!((1..=10).contains(&polled.len()));
    assert_eq!(polled[0].offset, 5);
    consumer.seek_to_end((TOPIC, 0)).await.unwrap();
    assert_eq!(consumer.position((TOPIC, 0)).unwrap(), 30);
    assert_eq!(consumer.seek_to_beginning((TOPIC, 0)).await.unwrap(), 0);
    assert_eq!(values(&consumer, 1).await[0].1, 0);
}
