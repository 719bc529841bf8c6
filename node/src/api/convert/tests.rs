//! Whatever numbers and bytes a message holds, reading it ends with a value or a failure.

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;
use waymark_proto::ids::TopicPartition;
use waymark_proto::v1;

use super::{fields, offsets, produce, records, topics};

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), ".{0,8}", Just("x".repeat(2_000))]
}

fn topic_ref() -> impl Strategy<Value = Option<v1::TopicRef>> {
    prop::option::of((text(), bytes()).prop_map(|(name, topic_id)| v1::TopicRef { name, topic_id }))
}

fn log_record() -> impl Strategy<Value = v1::LogRecord> {
    let bytes = || prop::option::of(bytes());
    let header = (text(), bytes()).prop_map(|(key, value)| v1::Header { key, value });
    (bytes(), bytes(), prop::collection::vec(header, 0..3), any::<Option<i64>>()).prop_map(
        |(key, value, headers, timestamp_ms)| v1::LogRecord {
            key,
            value,
            headers,
            timestamp_ms,
            offset: None,
        },
    )
}

proptest! {
    #[test]
    fn topics(given in topic_ref(), name in text(), numbers in any::<(Option<i32>, Option<i32>, i32)>()) {
        let (partitions, replication_factor, number) = numbers;
        if let Ok(named) = fields::topic("topic", given.as_ref()) {
            prop_assert!(named.name.is_some() || named.id.is_some());
        }
        let topic_id = given.unwrap_or_default().topic_id;
        let new = v1::NewTopic { name: name.clone(), topic_id, partitions, replication_factor, configs: Vec::new() };
        if let Ok(new) = topics::new_topic(new) {
            prop_assert!(new.partitions.is_none_or(|count| count > 0));
        }
        let _ = (topics::page_size(number), topics::page_after(&name), topics::total(partitions));
    }

    #[test]
    fn batches(tag in any::<i64>(), topic_id in bytes(), batch in bytes(), numbers in any::<(Option<i32>, Option<i32>, Option<i64>)>()) {
        let (partition, leader_epoch, expected_base_offset) = numbers;
        let batch = v1::ProduceBatch { tag, topic_id, partition, leader_epoch, expected_base_offset, batch };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let _guard = runtime.as_ref().map(tokio::runtime::Runtime::enter);
        if let Ok(append) = produce::append(batch, Instant::now()) {
            prop_assert!(append.at.partition.0 >= 0);
            prop_assert!(append.expected_base_offset.is_none_or(|offset| offset >= 0));
        }
    }

    #[test]
    fn messages(durability in any::<i32>(), timeout_ms in any::<i32>(), producer in any::<(Option<i64>, Option<i32>)>()) {
        let request = v1::ProduceRequest { batches: Vec::new(), durability, timeout_ms };
        if let Ok(terms) = produce::terms(&request) {
            prop_assert!(!terms.timeout.is_zero() && terms.timeout <= produce::MAX_TIMEOUT);
        }
        let (producer_id, producer_epoch) = producer;
        let _ = produce::init_producer(&v1::InitProducerRequest { producer_id, producer_epoch });
    }

    #[test]
    fn commits(group_id in text(), numbers in any::<(Option<i64>, Option<i32>, Option<i64>, i64, i32)>(), metadata in prop::option::of(text())) {
        let (offset, leader_epoch, expected_offset, commit_seq, cause) = numbers;
        let item = v1::OffsetCommit { offset, leader_epoch, expected_offset, metadata, ..Default::default() };
        if let Ok(item) = offsets::commit_item(TopicPartition::default(), &item) {
            prop_assert!(item.offset >= 0);
        }
        let request = v1::CommitOffsetsRequest { group_id, commit_seq, cause, ..Default::default() };
        if offsets::commit_head(&request).is_ok() {
            prop_assert!(!request.group_id.is_empty() && commit_seq >= 0);
        }
    }

    #[test]
    fn queries(spec in any::<i32>(), time_ms in any::<Option<i64>>(), isolation in any::<i32>()) {
        let query = v1::OffsetQuery { spec, time_ms, isolation, ..v1::OffsetQuery::default() };
        let _ = offsets::spot(&query);
    }

    #[test]
    fn plain_records(
        given in prop::collection::vec(log_record(), 0..6),
        numbers in any::<(Option<i32>, i32, i32, i32)>(),
    ) {
        let (partition, partitions, keyless, compression) = numbers;
        let groups = records::by_partition(&given, partition, partitions, keyless);
        prop_assert_eq!(groups.iter().map(|(_, records)| records.len()).sum::<usize>(), given.len());
        let plain: Result<Vec<_>, _> = given.iter().map(|record| records::plain(record, 1)).collect();
        if let (Ok(plain), Ok(codec)) = (plain, records::compression(compression)) {
            let _ = waymark_proto::batch::encode(&plain, codec, None);
        }
        let _ = records::append_head(&v1::AppendRequest { partition, records: given, ..Default::default() });
    }
}
