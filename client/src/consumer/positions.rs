//! Owns finding out where to begin: committed offsets first, then the reset policy, in one call each for all partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::answers::{self, Spot};
use crate::client::Client;
use crate::config::{ConsumerConfig, OffsetReset};
use crate::error::{Error, Result};
use crate::record::{OffsetAndMetadata, OffsetAndTimestamp, TopicPartition};
use crate::retry::Repeat;

/// Where newly assigned partitions begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the group's committed offset; without one, as `auto.offset.reset` says.
    Committed,
    /// At the first record the log still has.
    Beginning,
    /// After the last record.
    End,
    /// At this offset.
    Offset(i64),
    /// At the first record whose timestamp is at or after this time (Unix ms); the end if there is none.
    Time(i64),
}

/// The id of a partition's topic, if the partition exists.
pub(super) async fn topic_id(client: &Client, at: &TopicPartition) -> Result<[u8; 16]> {
    let allowed = client.config().api_timeout;
    let topic = client.topic(&at.topic, allowed).await.map_err(|e| e.about_topic(&at.topic))?;
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    if !(0..partitions).contains(&at.partition) {
        return Err(Error::UnknownPartition { at: at.clone(), partitions });
    }
    Ok(topic.id)
}

/// The offset of each partition.
pub(super) async fn resolve(
    client: &Client,
    config: &ConsumerConfig,
    partitions: &[TopicPartition],
    start: StartAt,
) -> Result<BTreeMap<TopicPartition, i64>> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    match start {
        StartAt::Offset(offset) => Ok(partitions.iter().map(|at| (at.clone(), offset)).collect()),
        StartAt::Beginning => list(client, partitions, Spot::Earliest).await,
        StartAt::End => list(client, partitions, Spot::Latest).await,
        StartAt::Time(time_ms) => list(client, partitions, Spot::AtTime(time_ms)).await,
        StartAt::Committed => from_committed(client, config, partitions).await,
    }
}

async fn from_committed(
    client: &Client,
    config: &ConsumerConfig,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, i64>> {
    let known = match config.group_id.as_deref() {
        Some(group) => committed(client, group, partitions).await?,
        None => BTreeMap::new(),
    };
    let mut starts: BTreeMap<_, _> = known.into_iter().map(|(at, o)| (at, o.offset)).collect();
    let others: Vec<TopicPartition> =
        partitions.iter().filter(|at| !starts.contains_key(at)).cloned().collect();
    let Some(first) = others.first() else { return Ok(starts) };
    let spot = match config.auto_offset_reset {
        OffsetReset::Earliest => Spot::Earliest,
        OffsetReset::Latest => Spot::Latest,
        OffsetReset::None => {
            let reason = match &config.group_id {
                Some(group) => format!("group {group:?} has committed none"),
                None => "there is no group".to_owned(),
            };
            return Err(Error::NoOffset { at: first.clone(), reason: reason.into() });
        }
    };
    starts.extend(list(client, &others, spot).await?);
    Ok(starts)
}

/// Where partitions without a committed offset begin; under the policy `none`, each says so for itself.
pub(super) async fn by_policy(
    client: &Client,
    config: &ConsumerConfig,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Result<i64>>> {
    let spot = match config.auto_offset_reset {
        OffsetReset::Earliest => Spot::Earliest,
        OffsetReset::Latest => Spot::Latest,
        OffsetReset::None => {
            let group = config.group_id.as_deref().unwrap_or_default();
            let reason: Arc<str> = format!("group {group:?} has committed none").into();
            let none = |at: &TopicPartition| {
                let error = Error::NoOffset { at: at.clone(), reason: Arc::clone(&reason) };
                (at.clone(), Err(error))
            };
            return Ok(partitions.iter().map(none).collect());
        }
    };
    let found = list(client, partitions, spot).await?;
    Ok(found.into_iter().map(|(at, offset)| (at, Ok(offset))).collect())
}

/// The offset of the first record, or after the last one.
pub(super) async fn ends(
    client: &Client,
    partitions: &[TopicPartition],
    spot: Spot,
) -> Result<BTreeMap<TopicPartition, i64>> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    list(client, partitions, spot).await
}

/// Each partition's first record, in offset order, at or after a time; `None` where there is none.
pub(super) async fn at_times(
    client: &Client,
    times: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>> {
    let mut by_time: BTreeMap<i64, Vec<TopicPartition>> = BTreeMap::new();
    for (at, time_ms) in times {
        by_time.entry(*time_ms).or_default().push(at.clone());
    }
    let mut found = BTreeMap::new();
    for (time_ms, partitions) in &by_time {
        let spot = Spot::AtTime(*time_ms);
        let answers = client
            .call("listing offsets", Repeat::Harmless, |link, timeout| async move {
                answers::list_offsets(&link, (partitions, spot), timeout).await
            })
            .await?;
        found.extend(answers.into_iter().map(|answer| {
            let place = answer.offset.map(|offset| OffsetAndTimestamp {
                offset,
                timestamp_ms: answer.timestamp_ms,
                leader_epoch: answer.leader_epoch,
            });
            (answer.at, place)
        }));
    }
    Ok(found)
}

/// The end stands in where no record is as young as the time asked for.
async fn list(
    client: &Client,
    partitions: &[TopicPartition],
    spot: Spot,
) -> Result<BTreeMap<TopicPartition, i64>> {
    let mut found = BTreeMap::new();
    let mut none = Vec::new();
    for (at, answer) in list_offsets(client, partitions, spot).await? {
        match answer {
            Some(offset) => drop(found.insert(at, offset)),
            None => none.push(at),
        }
    }
    if !none.is_empty() {
        let ends = list_offsets(client, &none, Spot::Latest).await?;
        found.extend(ends.into_iter().map(|(at, end)| (at, end.unwrap_or(0))));
    }
    Ok(found)
}

async fn list_offsets(
    client: &Client,
    partitions: &[TopicPartition],
    spot: Spot,
) -> Result<BTreeMap<TopicPartition, Option<i64>>> {
    let answers = client
        .call("listing offsets", Repeat::Harmless, |link, timeout| async move {
            answers::list_offsets(&link, (partitions, spot), timeout).await
        })
        .await?;
    Ok(answers.into_iter().map(|found| (found.at, found.offset)).collect())
}

/// What the group has committed; what it has not is left out.
pub(super) async fn committed(
    client: &Client,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>> {
    let group: Arc<str> = group.into();
    let group = &group;
    let all = client
        .call("reading committed offsets", Repeat::Harmless, |link, timeout| async move {
            answers::committed(&link, (group, partitions), timeout).await
        })
        .await?;
    Ok(all.into_iter().map(|committed| (committed.at, committed.position)).collect())
}
