//! Fuzz targets: whatever a client sends, it is read or refused in words, and never panics.

use bolero::check;
use prost::Message;
use tokio::time::Instant;
use waymark_proto::ids::{PartitionId, TopicId, TopicPartition};
use waymark_proto::v1;

use super::{fetch, groups, offsets, produce, records, topics};
use crate::broker::admin::Topic;

const AT: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: PartitionId(3) };

/// Reads a message, and what we make of it.
fn read<M: Message + Default, T>(bytes: &[u8], made: impl Fn(M) -> T) {
    if let Ok(message) = M::decode(bytes) {
        let _ = made(message);
    }
}

#[test]
fn no_record_and_no_fetch_makes_a_node_panic() {
    // A clock that is read, and decides nothing.
    let deadline = Instant::now();
    check!().for_each(|bytes: &[u8]| {
        read(bytes, |it: v1::ProduceRequest| produce::terms(&it).map(drop));
        read(bytes, |it| produce::append(it, deadline).map(drop));
        read(bytes, |it: v1::InitProducerRequest| produce::init_producer(&it));
        read(bytes, |it: v1::AppendRequest| records::append_head(&it));
        read(bytes, |it: v1::ProducerRef| records::producer(Some(&it)).map(drop));
        read(bytes, |it: v1::LogRecord| records::plain(&it, 1).map(drop));
        read(bytes, |it: v1::FetchRequest| fetch::request_limits(&it).map(drop));
        read(bytes, |it: v1::FetchControl| fetch::stream_limits(&it).map(drop));
        read(bytes, |it: v1::FetchPosition| fetch::position(&it).map(drop));
        read(bytes, |it| fetch::control(it).map(drop));
        read(bytes, |it: v1::Consistency| fetch::consistency(Some(&it)));
    });
}

#[test]
fn no_offset_and_no_member_makes_a_node_panic() {
    check!().for_each(|bytes: &[u8]| {
        read(bytes, |it: v1::OffsetQuery| offsets::spot(&it).map(drop));
        read(bytes, |it: v1::CommitOffsetsRequest| offsets::commit_head(&it));
        read(bytes, |it: v1::CommitOffsetsRequest| {
            offsets::commit(&it, Vec::new(), crate::broker::groups::seam::Actor::default())
        });
        read(bytes, |it: v1::OffsetCommit| offsets::commit_item(AT, &it).map(drop));
        read(bytes, |it| {
            groups::update(it, Vec::new(), crate::broker::groups::seam::Actor::default()).map(drop)
        });
    });
}

#[test]
fn no_topic_and_no_setting_makes_a_node_panic() {
    let lists = [("cleanup.policy".to_owned(), "delete".to_owned())];
    let topic = Topic {
        id: AT.topic,
        name: "orders".to_owned(),
        partitions: 4,
        replication: 3,
        version: 1,
        configs: lists.into(),
    };
    check!().for_each(|bytes: &[u8]| {
        read(bytes, |it| topics::new_topic(it).map(drop));
        read(bytes, |it: v1::ConfigChange| topics::config_op(&it, &topic));
        if let Ok(text) = std::str::from_utf8(bytes) {
            let _ = topics::page_after(text);
            let _ = topics::config_entries(&topic, &[text.to_owned()]);
        }
    });
}
