//! Owns `offsets list|show|commit`: offsets of partitions, and the table of what groups have committed. Never reads
//! records.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::consume::partition_count;
use super::exit::{EXIT_CODES, Exit, Failure};
use super::output::{or_dash, rendered, table, time};
use super::spot::{Moment, SPOTS, Spot};
use crate::admin::{Admin, GroupOffset, OffsetSpec};
use crate::client::Client;
use crate::record::TopicPartition;

/// The commands about offsets.
#[derive(Debug, Clone, Subcommand)]
pub enum OffsetsCommand {
    /// The first and the next offset of each partition of a topic
    List(ListArguments),
    /// What a group has committed, and how far it is behind
    Show(ShowArguments),
    /// Set what a group has committed; refused while the group has members
    Commit(CommitArguments),
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ListArguments {
    topic: String,
    /// Also the first offset of this time or later: RFC 3339, Unix ms, or a duration ago such as 90m
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ShowArguments {
    group: String,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct CommitArguments {
    group: String,
    topic: String,
    #[arg(long, value_name = "WHERE", help = format!("The next offset to read: {SPOTS} (not committed)"))]
    to: Spot,
    /// Only these partitions
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
}

pub(super) async fn run(
    command: OffsetsCommand,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let client = context.global.connect().await?;
    match command {
        OffsetsCommand::List(arguments) => list(&client, arguments, context).await,
        OffsetsCommand::Show(arguments) => show(&client, arguments, context).await,
        OffsetsCommand::Commit(arguments) => commit(&client, arguments, context).await,
    }
}

#[derive(Debug, Serialize)]
struct PartitionOffsets {
    partition: i32,
    earliest: Option<i64>,
    latest: Option<i64>,
    /// Absent unless asked for; null where no record is that young.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_time: Option<Option<i64>>,
}

#[derive(Debug, Serialize)]
struct TopicOffsets {
    topic: String,
    partitions: Vec<PartitionOffsets>,
}

async fn list(
    client: &Client,
    arguments: ListArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let topic = arguments.topic;
    let count = partition_count(client, &topic).await?;
    let all: Vec<_> = (0..count).map(|p| TopicPartition::new(topic.as_str(), p)).collect();
    let admin = client.admin();
    let earliest = found(&admin, &all, OffsetSpec::Earliest).await?;
    let latest = found(&admin, &all, OffsetSpec::Latest).await?;
    let at_time = match arguments.at {
        Some(moment) => {
            let ms = moment.unix_ms(client.config().clock.now_ms());
            Some(found(&admin, &all, OffsetSpec::AtTime(ms)).await?)
        }
        None => None,
    };
    let row = |at: &TopicPartition| PartitionOffsets {
        partition: at.partition,
        earliest: earliest.get(at).copied(),
        latest: latest.get(at).copied(),
        at_time: at_time.as_ref().map(|found| found.get(at).copied()),
    };
    let told = TopicOffsets { partitions: all.iter().map(row).collect(), topic };
    context.out.either(&told, |told| {
        let mut lines = table(["partition", "earliest", "latest", "records", "at time"]);
        for row in &told.partitions {
            let records = row.latest.zip(row.earliest).map(|(end, start)| end - start);
            lines.add_row([
                row.partition.to_string(),
                or_dash(row.earliest),
                or_dash(row.latest),
                or_dash(records),
                or_dash(row.at_time.flatten()),
            ]);
        }
        rendered(&lines)
    })?;
    Ok(Exit::Done)
}

async fn found(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let listed = admin.list_offsets(partitions.to_vec(), spec).await?;
    Ok(listed.into_iter().filter_map(|found| Some((found.at, found.offset?))).collect())
}

#[derive(Debug, Serialize)]
struct CommittedOffset {
    topic: String,
    partition: i32,
    committed: i64,
    /// Absent where the partition could not be asked: unknown is not zero.
    latest: Option<i64>,
    lag: Option<i64>,
    commit_time_ms: i64,
    metadata: Option<String>,
}

#[derive(Debug, Serialize)]
struct GroupOffsets {
    group: String,
    offsets: Vec<CommittedOffset>,
    /// Absent where the lag of a partition is not known.
    total_lag: Option<i64>,
}

async fn show(
    client: &Client,
    arguments: ShowArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let admin = client.admin();
    let wanted = |at: &TopicPartition| arguments.topic.as_deref().is_none_or(|t| t == &*at.topic);
    let all = admin.list_group_offsets(&arguments.group).await?;
    let committed: Vec<GroupOffset> = all.into_iter().filter(|o| wanted(&o.at)).collect();
    let mut offsets = Vec::new();
    for (topic, of_topic) in by_topic(committed) {
        let partitions: Vec<_> = of_topic.iter().map(|offset| offset.at.clone()).collect();
        // A topic that was deleted has no end; what was committed of it is shown all the same.
        let ends = found(&admin, &partitions, OffsetSpec::Latest).await.unwrap_or_default();
        offsets.extend(of_topic.into_iter().map(|offset| {
            let latest = ends.get(&offset.at).copied();
            CommittedOffset {
                topic: topic.clone(),
                partition: offset.at.partition,
                committed: offset.position.offset,
                latest,
                lag: latest.map(|end| (end - offset.position.offset).max(0)),
                commit_time_ms: offset.commit_time_ms,
                metadata: offset.position.metadata,
            }
        }));
    }
    let total_lag = offsets.iter().map(|offset| offset.lag).sum();
    let told = GroupOffsets { group: arguments.group, offsets, total_lag };
    context.out.either(&told, shown)?;
    Ok(Exit::Done)
}

fn by_topic(offsets: Vec<GroupOffset>) -> BTreeMap<String, Vec<GroupOffset>> {
    let mut topics: BTreeMap<String, Vec<GroupOffset>> = BTreeMap::new();
    for offset in offsets {
        topics.entry(offset.at.topic.to_string()).or_default().push(offset);
    }
    for of_topic in topics.values_mut() {
        of_topic.sort_by_key(|offset| offset.at.partition);
    }
    topics
}

fn shown(told: &GroupOffsets) -> String {
    if told.offsets.is_empty() {
        return format!("group {} has committed nothing", told.group);
    }
    let mut lines =
        table(["topic", "partition", "committed", "latest", "lag", "committed at", "metadata"]);
    for offset in &told.offsets {
        lines.add_row([
            offset.topic.clone(),
            offset.partition.to_string(),
            offset.committed.to_string(),
            or_dash(offset.latest),
            or_dash(offset.lag),
            time(offset.commit_time_ms),
            or_dash(offset.metadata.as_ref()),
        ]);
    }
    format!("group {}  lag {}\n{}", told.group, or_dash(told.total_lag), rendered(&lines))
}

#[derive(Debug, Serialize)]
struct SetOffset {
    partition: i32,
    offset: i64,
}

#[derive(Debug, Serialize)]
struct SetOffsets {
    group: String,
    topic: String,
    offsets: Vec<SetOffset>,
}

async fn commit(
    client: &Client,
    arguments: CommitArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let CommitArguments { group, topic, to, partition } = arguments;
    if to == Spot::Committed {
        return Err(Failure::unusable("--to committed would change nothing; give another place"));
    }
    let count = partition_count(client, &topic).await?;
    let numbers = if partition.is_empty() { (0..count).collect() } else { partition };
    let at: Vec<_> = numbers.into_iter().map(|p| TopicPartition::new(topic.as_str(), p)).collect();
    let offsets = targets(client, &at, to).await?;
    let admin = client.admin();
    admin.commit_group_offsets(&group, offsets.clone()).await?;
    let set = |(at, offset): (TopicPartition, i64)| SetOffset { partition: at.partition, offset };
    let told = SetOffsets { group, topic, offsets: offsets.into_iter().map(set).collect() };
    context.out.either(&told, |told| {
        let mut lines = table(["partition", "committed"]);
        for set in &told.offsets {
            lines.add_row([set.partition.to_string(), set.offset.to_string()]);
        }
        format!("group {}  topic {}\n{}", told.group, told.topic, rendered(&lines))
    })?;
    Ok(Exit::Done)
}

async fn targets(
    client: &Client,
    partitions: &[TopicPartition],
    to: Spot,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    if let Spot::Offset(offset) = to {
        return Ok(partitions.iter().map(|at| (at.clone(), offset)).collect());
    }
    let admin = client.admin();
    let Some(spec) = to.lookup(client.config().clock.now_ms()) else {
        return Ok(BTreeMap::new());
    };
    let mut offsets = found(&admin, partitions, spec).await?;
    // No record is that young: the end stands in.
    let missing: Vec<_> =
        partitions.iter().filter(|at| !offsets.contains_key(at)).cloned().collect();
    if !missing.is_empty() {
        offsets.extend(found(&admin, &missing, OffsetSpec::Latest).await?);
    }
    Ok(offsets)
}
