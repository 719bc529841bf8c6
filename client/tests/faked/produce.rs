//! The producer against a fake node with real sequence checks: acks, order, repetition, back-pressure.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use waymark_client::{
    Acks, Client, Compression, Error, ErrorClass, Producer, ProducerConfig, ProducerRecord,
};
use waymark_proto::v1::{FailureCode as Code, RetryClass as Class};

use crate::fake::{Fake, Fault, TOPIC, base_sequence, producer, record_count};

fn at_once() -> ProducerConfig {
    ProducerConfig::default().linger(Duration::ZERO)
}

async fn started(fake: &Fake, config: ProducerConfig) -> Producer {
    let producer = fake.client().await.producer(config).await.unwrap();
    assert!(producer.partitions_for(TOPIC).await.unwrap() > 0);
    producer
}

fn record(value: &str) -> ProducerRecord {
    ProducerRecord::new(TOPIC).partition(0).value(value.to_owned())
}

/// Sends one record per batch and waits for all.
async fn send_each(producer: &Producer, values: std::ops::Range<i32>) -> Vec<i64> {
    let mut acks = Vec::new();
    for value in values {
        acks.push(producer.send(record(&value.to_string())).await.unwrap());
    }
    let mut offsets = Vec::new();
    for ack in acks {
        offsets.push(ack.await.unwrap().offset.unwrap());
    }
    offsets
}

fn in_order(fake: &Fake, records: i64) {
    let inner = fake.lock();
    let log = &inner.logs[&0];
    assert_eq!(log.next_offset, records, "every record is in the log once");
    for pair in log.batches.windows(2) {
        let (one, two) = (&pair[0].1, &pair[1].1);
        if producer(one) == producer(two) {
            assert_eq!(base_sequence(one) + record_count(one), base_sequence(two));
        }
    }
}

#[tokio::test]
async fn records_are_acknowledged_with_their_own_offsets() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    assert_eq!(send_each(&producer, 0..500).await, (0..500).collect::<Vec<i64>>());
    in_order(&fake, 500);
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_the_topic_arrives_in_parts() {
    let fake = Fake::start(1);
    let producer = started(&fake, ProducerConfig::default().linger(Duration::from_secs(60))).await;
    fake.faults([
        Fault::Refuse(Code::BatchTooLarge, Class::Fix),
        Fault::Refuse(Code::BatchTooLarge, Class::Fix),
    ]);
    let mut acks = Vec::new();
    for value in 0..8 {
        acks.push(producer.send(record(&value.to_string())).await.unwrap());
    }
    producer.flush().await.unwrap();
    for (offset, ack) in (0i64..).zip(acks) {
        assert_eq!(ack.await.unwrap().offset, Some(offset));
    }
    in_order(&fake, 8);
    assert!(fake.lock().logs[&0].batches.len() > 1);
}

#[tokio::test]
async fn a_node_that_asks_for_quiet_is_sent_nothing_meanwhile() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    fake.lock().throttle_ms = 300;
    send_each(&producer, 0..1).await;
    fake.lock().throttle_ms = 0;
    let start = tokio::time::Instant::now();
    send_each(&producer, 0..1).await;
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_batch_whose_ack_was_lost_is_repeated_with_the_same_bytes() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once().max_in_flight(1)).await;
    send_each(&producer, 0..1).await;
    fake.faults([Fault::AppendAndBreak]);
    let receipt = producer.send_and_wait(record("once")).await.unwrap();
    assert!(receipt.batch.duplicate, "the second attempt found the first");
    assert_eq!(receipt.offset, Some(1));
    let arrived = fake.lock().arrived.clone();
    assert_eq!(arrived.len(), 3);
    assert_eq!(arrived[1].1, arrived[2].1, "the same bytes under the same sequence");
    in_order(&fake, 2);
}

#[tokio::test]
async fn streams_that_break_all_the_time_neither_lose_nor_double_nor_reorder() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    let faults = (0..40).map(|i| match i % 5 {
        0 => Fault::AppendAndBreak,
        1 => Fault::Break,
        2 => Fault::Refuse(Code::NoQuorum, Class::Retry),
        3 => Fault::Refuse(Code::NotLeader, Class::Reroute),
        _ => Fault::Refuse(Code::OutcomeUnknown, Class::UnknownOutcome),
    });
    fake.faults(faults);
    assert_eq!(send_each(&producer, 0..300).await, (0..300).collect::<Vec<i64>>());
    in_order(&fake, 300);
}

#[tokio::test]
async fn a_forgotten_producer_raises_its_epoch_and_goes_on_from_sequence_zero() {
    let fake = Fake::start(1);
    let producer_handle = started(&fake, at_once()).await;
    send_each(&producer_handle, 0..10).await;
    fake.faults([Fault::ForgetProducer]);
    assert_eq!(send_each(&producer_handle, 10..20).await.len(), 10);
    in_order(&fake, 20);
    let inner = fake.lock();
    let last = &inner.logs[&0].batches.last().unwrap().1;
    assert_eq!(producer(last).1, 1, "the epoch rose once");
}

#[tokio::test]
async fn a_batch_refused_for_good_fails_alone_and_leaves_no_gap() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    send_each(&producer, 0..5).await;
    fake.faults([Fault::Refuse(Code::BatchTooLarge, Class::Fix)]);
    let error = producer.send_and_wait(record("refused")).await.unwrap_err();
    assert_eq!((error.code(), error.class()), (Some(Code::BatchTooLarge), ErrorClass::Rejected));
    assert_eq!(send_each(&producer, 5..10).await, (5..10).collect::<Vec<i64>>());
    in_order(&fake, 10);
}

#[tokio::test]
async fn a_fenced_producer_stops() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    fake.faults([Fault::Refuse(Code::ProducerFenced, Class::Fenced)]);
    let error = producer.send_and_wait(record("late")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fenced);
    let again = producer.send_and_wait(record("later")).await.unwrap_err();
    assert_eq!(again.class(), ErrorClass::Fenced);
    assert!(fake.lock().logs.get(&0).is_none_or(|log| log.next_offset == 0));
}

#[tokio::test]
async fn a_sequence_appended_long_ago_is_success_without_an_offset() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    fake.faults([Fault::Refuse(Code::DuplicateSequence, Class::Done)]);
    let receipt = producer.send_and_wait(record("old")).await.unwrap();
    assert_eq!((receipt.offset, receipt.batch.duplicate), (None, true));
}

#[tokio::test]
async fn a_full_buffer_refuses_at_once_or_waits_and_goes_on() {
    let fake = Fake::start(1);
    let config = at_once().buffer_bytes(1 << 20).max_block(Duration::from_millis(50));
    let producer = started(&fake, config).await;
    fake.lock().held = true;
    let big = || record(&"x".repeat(300 << 10));
    let mut acks = Vec::new();
    loop {
        match producer.send(big()).await {
            Ok(ack) => acks.push(ack),
            Err(error) => {
                assert!(matches!(error, Error::Timeout { .. }), "{error}");
                assert_eq!(error.class(), ErrorClass::Retryable);
                break;
            }
        }
    }
    assert_eq!(acks.len(), 3, "three of 300 KiB fit in 1 MiB");
    let refused = producer.try_send(big()).unwrap_err();
    assert!(matches!(refused.error, Error::BufferFull), "{refused}");
    fake.lock().held = false;
    for ack in acks {
        ack.await.unwrap();
    }
    producer.send(big()).await.unwrap().await.unwrap();
    assert_eq!(producer.buffer_available(), 1 << 20, "everything was given back");
}

#[tokio::test]
async fn a_batch_without_an_answer_goes_again_on_another_connection() {
    let fake = Fake::start(1);
    let config = fake.config().request_timeout(Duration::from_secs(2));
    let client = Client::connect(config).await.unwrap();
    let producer = client.producer(at_once()).await.unwrap();
    fake.faults([Fault::Swallow]);
    let answered =
        tokio::time::timeout(Duration::from_secs(15), producer.send_and_wait(record("a")));
    assert_eq!(answered.await.unwrap().unwrap().offset, Some(0));
    assert_eq!(fake.lock().arrived.len(), 2, "once swallowed, once taken");
}

#[tokio::test]
async fn never_more_batches_on_the_way_than_the_window() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    fake.faults((0..5).map(|_| Fault::Swallow));
    for i in 0..50 {
        drop(producer.send(record(&i.to_string())).await.unwrap());
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(fake.lock().arrived.len() <= 5, "{} batches", fake.lock().arrived.len());
}

#[tokio::test]
async fn lingering_gathers_records_into_one_batch() {
    let fake = Fake::start(1);
    let config = ProducerConfig::default().linger(Duration::from_secs(5)).acks(Acks::QuorumFsync);
    let producer = started(&fake, config).await;
    let mut acks = Vec::new();
    for i in 0..100 {
        acks.push(producer.send(record(&i.to_string())).await.unwrap());
    }
    producer.flush().await.unwrap();
    for ack in acks {
        assert_eq!(ack.await.unwrap().batch.achieved, "QUORUM_FSYNC");
    }
    let arrived = fake.lock().arrived.len();
    assert!(arrived <= 2, "flush sent what had gathered, in {arrived} batches");
}

#[tokio::test]
async fn callbacks_are_called_once_each_in_order() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once().compression(Compression::Zstd)).await;
    let offsets = Arc::new(Mutex::new(Vec::new()));
    for i in 0..50 {
        let offsets = Arc::clone(&offsets);
        let callback = move |receipt: waymark_client::Result<waymark_client::RecordReceipt>| {
            offsets.lock().unwrap().push(receipt.unwrap().offset.unwrap());
        };
        producer.send_with_callback(record(&i.to_string()), callback).await.unwrap();
    }
    producer.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(*offsets.lock().unwrap(), (0..50).collect::<Vec<i64>>());
}

#[tokio::test]
async fn closing_in_vain_says_so_and_fails_what_is_left() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    fake.faults([Fault::Swallow]);
    let ack = producer.send(record("lost")).await.unwrap();
    assert!(producer.close(Duration::from_millis(50)).await.is_err());
    assert!(matches!(ack.await, Err(Error::Closed(_))));
    assert!(matches!(producer.send(record("no")).await, Err(Error::Closed(_))));
}

#[tokio::test]
async fn dropping_the_producer_fails_what_is_left_without_blocking() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    fake.faults([Fault::Swallow]);
    let ack = producer.send(record("lost")).await.unwrap();
    drop(producer);
    let outcome = tokio::time::timeout(Duration::from_secs(5), ack).await.unwrap();
    assert!(matches!(outcome, Err(Error::Closed(_))));
}

#[tokio::test]
async fn a_topic_of_which_a_node_can_tell_nothing_now_is_not_forgotten() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    // The connection breaks, and whoever is asked for the leader has just lost sight of the catalog.
    fake.lock().untold = 3;
    fake.faults([Fault::Break]);
    let answered =
        tokio::time::timeout(Duration::from_secs(10), producer.send_and_wait(record("a")));
    assert_eq!(answered.await.unwrap().unwrap().offset, Some(0));
    assert_eq!(fake.lock().untold, 0, "it was asked until it could tell");
}

#[tokio::test]
async fn a_topic_that_was_made_anew_under_its_name_takes_the_records_after() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    assert_eq!(send_each(&producer, 0..3).await, [0, 1, 2]);
    fake.lock().made_anew = Some([8; 16]);
    fake.lock().logs.clear();
    // Meant for the topic before: nobody has it, and it is not put into another one.
    let meant_for_the_old = producer.send(record("old")).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), meant_for_the_old).await.unwrap();
    assert_eq!(told.unwrap_err().code(), Some(Code::TopicNotFound));
    let sent = tokio::time::timeout(Duration::from_secs(10), send_each(&producer, 3..6));
    assert_eq!(sent.await.unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_refused_at_once() {
    let fake = Fake::start(1);
    let producer = started(&fake, at_once()).await;
    let error = producer.send(ProducerRecord::new("nope").value("v")).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::TopicNotFound), "{error}");
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_named() {
    let fake = Fake::start(3);
    let producer = started(&fake, at_once()).await;
    let error = producer.send(ProducerRecord::new(TOPIC).partition(3)).await.unwrap_err();
    assert!(matches!(error, Error::UnknownPartition { partitions: 3, .. }), "{error}");
}
