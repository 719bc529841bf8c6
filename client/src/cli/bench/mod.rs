//! Owns what every measure shares: the topic, the load's records, settings of the client, the line of the result. The loads
//! are those that measured Waymark's peers, number for number, so that results stand side by side; a change of a default
//! here ends that.
//!
//! The result is one line of JSON, whatever `--output` says. Latencies are in ms.

mod commit;
mod gap;
mod max;
mod one;
mod rate;
mod read;
mod rebalance;

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Context;
use super::exit::{EXIT_CODES, Exit, Failure};
use super::measure::Latencies;
use crate::admin::NewTopic;
use crate::client::Client;
use crate::environment::Random;
use crate::error::FailureCode;
use crate::producer::Producer;

/// Different values of a load, used in turn; a power of two.
const VALUES: usize = 1024;
/// Different keys of a load, used in turn.
const KEYS: usize = 100_000;
/// Bytes of each.
const KEY: usize = "key-000000".len();
/// Most bytes of a batch, as the peers' client has it.
const BATCH: usize = 1_000_000;
/// Records that the producer may hold back before sending waits, whatever their number in flight.
const BUFFERED: usize = 100_000;

/// The measures.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    /// As many records as the cluster takes, a fixed number in flight; latency from the send
    Max(max::MaxArguments),
    /// One record, its acknowledgement, the next
    One(one::OneArguments),
    /// Records at a fixed rate; latency from the moment a record was due
    Rate(rate::RateArguments),
    /// Everything back from the start, all partitions
    Read(read::ReadArguments),
    /// Groups that commit one offset at a time each
    Commit(commit::CommitArguments),
    /// Records through a group whose members join, leave and crash; ends with failure when a promise is broken
    Rebalance(rebalance::RebalanceArguments),
    /// 1,000 records a second to one partition; the longest time without an acknowledgement
    Gap(gap::GapArguments),
}

/// What every measure takes.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct LoadArguments {
    /// Made if it does not exist
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Partitions of the topic, used in turn
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Replicas of the topic, if it is made
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..))]
    replication_factor: i32,
    /// Bytes of a value; random, so that nothing compresses
    #[arg(long, default_value_t = 1024, value_parser = size)]
    size: usize,
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(bytes) if bytes <= 1 << 20 => Ok(bytes),
        _ => Err("a whole number of bytes, at most 1048576".to_owned()),
    }
}

pub(super) async fn run(command: BenchCommand, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let (mode, result) = match command {
        BenchCommand::Max(arguments) => ("max", max::run(arguments, context).await?),
        BenchCommand::One(arguments) => ("one", one::run(arguments, context).await?),
        BenchCommand::Rate(arguments) => ("rate", rate::run(arguments, context).await?),
        BenchCommand::Read(arguments) => ("read", read::run(arguments, context).await?),
        BenchCommand::Commit(arguments) => ("commit", commit::run(arguments, context).await?),
        BenchCommand::Rebalance(arguments) => {
            ("rebalance", rebalance::run(arguments, context).await?)
        }
        BenchCommand::Gap(arguments) => ("gap", gap::run(arguments, context).await?),
    };
    let mut line = result;
    line.insert("system".to_owned(), json!("waymark"));
    line.insert("mode".to_owned(), json!(mode));
    context.out.json(&line)?;
    Ok(Exit::Done)
}

/// Fields of the result; keys come out sorted.
type Measured = Map<String, Value>;

fn measured<const N: usize>(fields: [(&str, Value); N]) -> Measured {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn in_words(latencies: &Latencies) -> Value {
    let quantile = |share| latencies.quantile(share);
    let (p50, p99, p999) = (quantile(0.5), quantile(0.99), quantile(0.999));
    json!(format!("p50 {p50:.2} p99 {p99:.2} p999 {p999:.2} max {:.1}", latencies.max()))
}

/// A topic that is ready, and records for it.
#[derive(Debug)]
struct Load {
    client: Client,
    topic: std::sync::Arc<str>,
    partitions: i32,
    /// All keys, one after the other: made beforehand, so that making them is not measured.
    keys: Bytes,
    values: Vec<Bytes>,
}

impl Load {
    async fn new(client: Client, arguments: &LoadArguments) -> Result<Self, Failure> {
        let topic = NewTopic::new(&arguments.topic)
            .partitions(arguments.partitions)
            .replication_factor(arguments.replication_factor);
        match client.admin().create_topic(topic).await {
            Ok(_) => {}
            Err(error) if error.is(FailureCode::TopicExists) => {}
            Err(error) => return Err(Failure::about_topic(&arguments.topic, &error)),
        }
        let found = super::consume::partition_count(&client, &arguments.topic).await?;
        if found < arguments.partitions {
            return Err(Failure::unusable(format!(
                "topic {:?} has {found} partitions: give --partitions {found} or another --topic",
                arguments.topic
            )));
        }
        // As for the peers: leaders settle before the load begins.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Self {
            keys: keys(),
            values: values(arguments.size),
            topic: arguments.topic.as_str().into(),
            partitions: arguments.partitions,
            client,
        })
    }

    /// A producer beside the load; `linger`, the size of batches and room for the records in flight unless `-X` says otherwise.
    async fn with_producer(
        arguments: &LoadArguments,
        linger: Duration,
        context: &Context<'_>,
    ) -> Result<(Self, Producer), Failure> {
        // Key, headers of the record and of its batch: generous, since it is a bound and not an allocation.
        let room = (BUFFERED * (arguments.size + 128)).max(1 << 20);
        let settings = [
            ("linger.ms", linger.as_millis().to_string()),
            ("buffer.memory", room.to_string()),
            ("batch.size", BATCH.to_string()),
        ];
        let (client, config) = context.global.connect_producer(&settings).await?;
        let load = Self::new(client, arguments).await?;
        let producer = load.client.producer(config).await?;
        Ok((load, producer))
    }

    fn partition(&self, turn: u64) -> i32 {
        i32::try_from(turn % u64::from(self.partitions.unsigned_abs())).unwrap_or(0)
    }

    fn value(&self, turn: u64) -> Bytes {
        let index = usize::try_from(turn).unwrap_or(0) & (VALUES - 1);
        self.values.get(index).cloned().unwrap_or_default()
    }

    fn key(&self, turn: u64) -> Bytes {
        let at = usize::try_from(turn).unwrap_or(0) % KEYS * KEY;
        self.keys.slice(at..at + KEY)
    }

    fn record(&self, turn: u64) -> crate::ProducerRecord {
        crate::ProducerRecord::new(std::sync::Arc::clone(&self.topic))
            .partition(self.partition(turn))
            .key(self.key(turn))
            .value(self.value(turn))
    }
}

fn keys() -> Bytes {
    (0..KEYS).flat_map(|key| format!("key-{key:06}").into_bytes()).collect()
}

fn values(size: usize) -> Vec<Bytes> {
    let random = Random::from_os();
    let value = |_| {
        let words = (0..size.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes());
        Bytes::from(words.take(size).collect::<Vec<u8>>())
    };
    (0..VALUES).map(value).collect()
}

fn seconds(arguments: u32) -> Duration {
    Duration::from_secs(u64::from(arguments))
}

/// MB/s of 10^6 bytes, as text with one digit.
#[allow(clippy::cast_precision_loss, reason = "for people: one digit is shown")]
fn megabytes(records_per_second: f64, size: usize) -> Value {
    json!(format!("{:.1}", records_per_second * size as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_and_differ() {
        for size in [0, 1, 1023, 1024] {
            let values = values(size);
            assert_eq!(values.len(), VALUES);
            assert!(values.iter().all(|value| value.len() == size));
        }
        let values = values(64);
        assert_ne!(values[0], values[1]);
    }

    #[test]
    fn keys_stand_one_after_the_other() {
        let keys = keys();
        assert_eq!(keys.len(), KEYS * KEY);
        assert_eq!(&keys[12_345 * KEY..][..KEY], b"key-012345");
    }

    #[test]
    fn the_line_has_the_peers_words_in_the_peers_order() {
        let mut latencies = Latencies::new();
        latencies.add(Duration::from_millis(2));
        let mut line = measured([
            ("records_s", json!(5)),
            ("MBs", megabytes(1_000_000.0, 1024)),
            ("ms", in_words(&latencies)),
        ]);
        line.insert("system".to_owned(), json!("waymark"));
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"MBs":"1024.0","ms":"p50 2.00 p99 2.00 p999 2.00 max 2.0","records_s":5,"system":"waymark"}"#
        );
    }
}
