//! Owns `consume`: which partitions, from where, until when, and how records are written. Fetching is the consumer's.
//!
//! - `reader` prints and commits what it printed
//! - `member` reads as a member of a group, which shares the partitions out; here they are named by hand

mod member;
mod reader;

use std::time::Duration;

use clap::Args;

use super::Context;
use super::exit::{EXIT_CODES, Exit, Failure};
use super::format::{Format, TOKENS};
use super::spot::{SPOTS, Spot};
use crate::admin::OffsetSpec;
use crate::client::Client;
use crate::record::TopicPartition;
use reader::Reader;

/// Prints records until it is stopped, until --count, or with --exit-at-end until the end as it was at the start.
///
/// With --group it reads as a member: the group shares the partitions out among all who read for it, and what was printed is
/// committed. With --partition too it is no member: it reads these partitions, whoever else does.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ConsumeArguments {
    #[arg(required_unless_present = "pattern")]
    topic: Option<String>,
    /// All topics whose whole name matches, those made later among them (RE2 syntax)
    #[arg(long, value_name = "REGEX", requires = "group", conflicts_with_all = ["partition", "exit_at_end"])]
    pattern: Option<String>,
    #[arg(long, value_name = "WHERE", help = format!("Where to begin: {SPOTS} [default: beginning, with --group committed]"))]
    from: Option<Spot>,
    /// Only these partitions
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    #[arg(short, long, value_parser = Format::parse, default_value = "%v\\n", help = format!("How a record is written as text: {TOKENS}"))]
    format: Format,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Stop where the log ended at the start; a member stops there in the partitions that it has then
    #[arg(short = 'e', long)]
    exit_at_end: bool,
    /// Read as a member of this group; with --partition only start from its committed offsets
    #[arg(short, long)]
    group: Option<String>,
    /// Commit for the group what was printed; a member does unless told otherwise
    #[arg(long, requires = "group", conflicts_with = "no_commit")]
    commit: bool,
    /// Commit nothing: the next owner of a partition prints its records again
    #[arg(long, requires = "group")]
    no_commit: bool,
    /// The seat in the group that a restarted process takes again without a rebalance
    #[arg(long, value_name = "NAME", requires = "group", conflicts_with = "partition")]
    instance: Option<String>,
    /// How the group shares partitions out [default: as it did, sticky for a new group]
    #[arg(long, value_name = "HOW", requires = "group", conflicts_with = "partition", value_parser = ["range", "roundrobin", "sticky"])]
    assignor: Option<String>,
    /// After so long without a word, the group goes on without this member [default: 45s]
    #[arg(long, value_name = "DURATION", requires = "group", conflicts_with = "partition", value_parser = humantime::parse_duration)]
    session_timeout: Option<Duration>,
    /// Do not say on standard error which partitions come and go
    #[arg(short, long)]
    quiet: bool,
}

impl ConsumeArguments {
    /// The group shares the partitions out; nobody named them.
    fn is_member(&self) -> bool {
        self.group.is_some() && self.partition.is_empty()
    }

    fn commits(&self) -> bool {
        self.commit || (self.is_member() && !self.no_commit)
    }

    /// Settings of the consumer; `-X` stands over them.
    fn settings(&self) -> Vec<(&'static str, String)> {
        // Only what was printed may be committed, which the consumer cannot know: we commit.
        let mut settings = vec![("enable.auto.commit", "false".to_owned())];
        settings.push(("max.poll.records", "1000".to_owned()));
        settings.push(("auto.offset.reset", "earliest".to_owned()));
        settings.extend(self.group.clone().map(|group| ("group.id", group)));
        settings.extend(self.instance.clone().map(|name| ("group.instance.id", name)));
        settings.extend(self.assignor.clone().map(|name| ("partition.assignment.strategy", name)));
        let session = self.session_timeout.map(|timeout| timeout.as_millis().to_string());
        settings.extend(session.map(|ms| ("session.timeout.ms", ms)));
        settings
    }
}

pub(super) async fn run(
    arguments: ConsumeArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let (client, config) = context.global.connect_consumer(&arguments.settings()).await?;
    if arguments.is_member() {
        return member::run(arguments, (client, config), context).await;
    }
    let now_ms = client.config().clock.now_ms();
    let partitions = partitions(&client, &arguments).await?;
    let default = if arguments.group.is_some() { Spot::Committed } else { Spot::Beginning };
    let from = arguments.from.unwrap_or(default);
    if from == Spot::Committed && arguments.group.is_none() {
        return Err(Failure::unusable("--from committed needs --group"));
    }
    let ends = if arguments.exit_at_end { ends(&client, &partitions).await? } else { Vec::new() };
    let consumer = client.consumer(config)?;
    consumer.assign_from(partitions, from.start(now_ms)).await?;
    let mut reader = Reader::new(consumer, arguments, ends);
    let read = reader.read(context).await;
    // What was printed is committed even where reading failed or the pipe was closed, or it would be printed twice.
    let flushed = context.out.flush();
    let committed = reader.commit_last().await;
    read.and(flushed)?;
    committed?;
    ended(context)
}

/// Stopped by the user or finished by itself.
fn ended(context: &Context<'_>) -> Result<Exit, Failure> {
    if context.interrupt.is_cancelled() { Err(Failure::interrupted()) } else { Ok(Exit::Done) }
}

async fn partitions(
    client: &Client,
    arguments: &ConsumeArguments,
) -> Result<Vec<TopicPartition>, Failure> {
    let topic = arguments.topic.as_deref().unwrap_or_default();
    let at = |partition: i32| TopicPartition::new(topic, partition);
    if !arguments.partition.is_empty() {
        return Ok(arguments.partition.iter().copied().map(at).collect());
    }
    partition_count(client, topic).await.map(|count| (0..count).map(at).collect())
}

/// How many partitions a topic has.
pub(super) async fn partition_count(client: &Client, topic: &str) -> Result<i32, Failure> {
    let allowed = client.config().api_timeout;
    let found = client.topic(&topic.into(), allowed).await;
    let found = found.map_err(|error| Failure::about_topic(topic, &error))?;
    Ok(i32::try_from(found.partitions.len()).unwrap_or(i32::MAX))
}

async fn ends(
    client: &Client,
    partitions: &[TopicPartition],
) -> Result<Vec<(TopicPartition, i64)>, Failure> {
    let listed = client.admin().list_offsets(partitions.to_vec(), OffsetSpec::Latest).await?;
    Ok(listed.into_iter().map(|end| (end.at, end.offset.unwrap_or(0))).collect())
}
