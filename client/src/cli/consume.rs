//! Owns `consume`: which partitions, from where, until when, and how records are written. Fetching is the consumer's.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::Context;
use super::exit::{EXIT_CODES, Exit, Failure};
use super::format::{Format, JsonRecord, TOKENS};
use super::spot::{SPOTS, Spot};
use crate::admin::OffsetSpec;
use crate::client::Client;
use crate::consumer::Consumer;
use crate::record::{ConsumerRecord, TopicPartition};

/// How long one look for records waits before it looks at the end and the clock.
const LOOK: Duration = Duration::from_millis(200);
/// How often offsets are committed while records come.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long the last commit may take.
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// Prints records until it is stopped, until --count, or with --exit-at-end until the end as it was at the start.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ConsumeArguments {
    topic: String,
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
    /// Stop where the log ended at the start
    #[arg(short = 'e', long)]
    exit_at_end: bool,
    /// Whose committed offsets to start from
    #[arg(short, long)]
    group: Option<String>,
    /// Commit for the group what was printed
    #[arg(long, requires = "group")]
    commit: bool,
}

pub(super) async fn run(
    arguments: ConsumeArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    // Only what was printed may be committed, which the consumer cannot know: we commit.
    let mut settings = vec![("enable.auto.commit", "false".to_owned())];
    settings.push(("max.poll.records", "1000".to_owned()));
    settings.push(("auto.offset.reset", "earliest".to_owned()));
    settings.extend(arguments.group.clone().map(|group| ("group.id", group)));
    let (client, config) = context.global.connect_consumer(&settings).await?;
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
    let mut reader = Reader { consumer, arguments, ends, printed: 0, next: BTreeMap::new() };
    let read = reader.read(context).await;
    // What was printed is committed even where reading failed or the pipe was closed, or it would be printed twice.
    let flushed = context.out.flush();
    let committed = reader.commit_last().await;
    read.and(flushed)?;
    committed?;
    if context.interrupt.is_cancelled() {
        return Err(Failure::interrupted());
    }
    Ok(Exit::Done)
}

async fn partitions(
    client: &Client,
    arguments: &ConsumeArguments,
) -> Result<Vec<TopicPartition>, Failure> {
    let topic = &arguments.topic;
    let at = |partition: i32| TopicPartition::new(topic.as_str(), partition);
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

/// One run of `consume`.
#[derive(Debug)]
struct Reader {
    consumer: Consumer,
    arguments: ConsumeArguments,
    /// Partitions that have not reached their end yet; used with --exit-at-end only.
    ends: Vec<(TopicPartition, i64)>,
    printed: u64,
    /// The offset after the last printed record, of partitions with something to commit.
    next: BTreeMap<TopicPartition, i64>,
}

impl Reader {
    async fn read(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let mut committed_at = Instant::now();
        let mut text = Vec::new();
        while !self.is_finished()? {
            let records = tokio::select! {
                records = self.consumer.poll(LOOK) => records?,
                () = context.interrupt.cancelled() => return Ok(()),
            };
            let idle = records.is_empty();
            for record in records {
                if !self.wants(&record) {
                    continue;
                }
                self.print(&record, &mut text, context)?;
            }
            if idle {
                context.out.flush()?;
            }
            if self.arguments.commit && committed_at.elapsed() >= COMMIT_EVERY {
                // Printed means handed on: what is still buffered here is not.
                context.out.flush()?;
                self.commit().await?;
                committed_at = Instant::now();
            }
        }
        Ok(())
    }

    /// The consumer hands out some more than asked for: past the count, and past the end as it was.
    fn wants(&self, record: &ConsumerRecord) -> bool {
        if self.arguments.count.is_some_and(|count| self.printed >= count) {
            return false;
        }
        if !self.arguments.exit_at_end {
            return true;
        }
        let here =
            |at: &TopicPartition| at.partition == record.partition && *at.topic == *record.topic;
        self.ends.iter().any(|(at, end)| here(at) && record.offset < *end)
    }

    fn print(
        &mut self,
        record: &ConsumerRecord,
        text: &mut Vec<u8>,
        context: &mut Context<'_>,
    ) -> Result<(), Failure> {
        if context.out.is_json() {
            context.out.json(&JsonRecord::from(record))?;
        } else {
            text.clear();
            self.arguments.format.write(record, text);
            context.out.bytes(text)?;
        }
        self.printed += 1;
        if self.arguments.commit {
            self.next.insert(record.topic_partition(), record.offset + 1);
        }
        Ok(())
    }

    fn is_finished(&mut self) -> Result<bool, Failure> {
        if self.arguments.count.is_some_and(|count| self.printed >= count) {
            return Ok(true);
        }
        if !self.arguments.exit_at_end {
            return Ok(false);
        }
        let mut left = Vec::new();
        for (at, end) in std::mem::take(&mut self.ends) {
            if self.consumer.position(at.clone())? < end {
                left.push((at, end));
            }
        }
        self.ends = left;
        Ok(self.ends.is_empty())
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        let offsets = std::mem::take(&mut self.next);
        if offsets.is_empty() {
            return Ok(());
        }
        Ok(self.consumer.commit_offsets(offsets).await?)
    }

    async fn commit_last(&mut self) -> Result<(), Failure> {
        match tokio::time::timeout(LAST_COMMIT, self.commit()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(
                Exit::Unreachable,
                "offsets of the last records were not committed in time; they will be printed again",
            )),
        }
    }
}
