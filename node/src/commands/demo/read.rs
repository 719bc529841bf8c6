//! Owns the consumer of the demonstration: it reads up to the end of the log, and goes on where its group committed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use waymark_client::{
    Client, Consumer, ConsumerConfig, ConsumerRecord, OffsetReset, OffsetSpec, TopicPartition,
};

use super::super::Failure;
use super::input::{Input, TOPIC, place};
use super::tally::{Spot, Tally};

/// The group of the demonstration.
pub(super) const GROUP: &str = "demo";
const POLL: Duration = Duration::from_millis(200);
/// Nothing new for this long before the end means that the records will not come any more.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn partitions(count: i32) -> Vec<TopicPartition> {
    (0..count).map(|partition| TopicPartition::new(TOPIC, partition)).collect()
}

/// A consumer of the group, on all partitions.
pub(super) async fn consumer(client: &Client, all: &[TopicPartition]) -> Result<Consumer, Failure> {
    let config = ConsumerConfig::default()
        .group_id(GROUP)
        .auto_offset_reset(OffsetReset::Earliest)
        .auto_commit(false);
    let consumer = client.consumer(config).map_err(failed)?;
    consumer.assign(all.iter().cloned()).await.map_err(failed)?;
    Ok(consumer)
}

/// Where each partition ends now.
pub(super) async fn ends(
    client: &Client,
    all: &[TopicPartition],
) -> Result<BTreeMap<i32, i64>, Failure> {
    let asked = all.iter().cloned();
    let listed = client.admin().list_offsets(asked, OffsetSpec::Latest).await.map_err(failed)?;
    Ok(listed.into_iter().map(|end| (end.at.partition, end.offset.unwrap_or(0))).collect())
}

/// What was read, beside the tally: the values by their place.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<usize, Bytes>);

impl Values {
    pub(super) fn in_order(&self) -> impl Iterator<Item = Option<&Bytes>> {
        self.0.values().map(Some)
    }
}

/// Reads until every partition's position is at its end; every record goes into the tally and to `see`.
pub(super) async fn read_to(
    consumer: &Consumer,
    ends: &BTreeMap<i32, i64>,
    (input, tally, values): (&Input, &mut Tally, &mut Values),
    mut see: impl FnMut(&ConsumerRecord),
) -> Result<(), Failure> {
    let mut last = Instant::now();
    while !at_end(consumer, ends)? {
        let records = consumer.poll(POLL).await.map_err(failed)?;
        if !records.is_empty() {
            last = Instant::now();
        } else if last.elapsed() > PATIENCE {
            return Err(Failure(format!(
                "the consumer got nothing for {} s although the log goes on",
                PATIENCE.as_secs()
            )));
        }
        for record in &records {
            let ours = place(record).filter(|place| is_unaltered(input, *place, record));
            tally.read(ours, Spot { partition: record.partition, offset: record.offset });
            if let (Some(place), Some(value)) = (ours, &record.value) {
                values.0.insert(place, value.clone());
            }
            see(record);
        }
    }
    Ok(())
}

fn is_unaltered(input: &Input, place: usize, record: &ConsumerRecord) -> bool {
    record.value.as_ref() == input.value(place)
        && record.key.as_deref() == Some(input.key(place).as_bytes())
}

fn at_end(consumer: &Consumer, ends: &BTreeMap<i32, i64>) -> Result<bool, Failure> {
    for (partition, end) in ends {
        let position = consumer.position(TopicPartition::new(TOPIC, *partition));
        if position.map_err(failed)? < *end {
            return Ok(false);
        }
    }
    Ok(true)
}

fn failed(error: waymark_client::Error) -> Failure {
    Failure::because("consume", error)
}
