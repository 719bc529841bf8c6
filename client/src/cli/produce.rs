//! Owns `produce`: lines in, records out, and an honest account of what was acknowledged. Batching, retries and order are
//! the producer's; taking lines apart is `line_input`'s.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};
use tokio::time::Instant;

use super::Context;
use super::exit::{EXIT_CODES, Exit, Failure};
use super::global::key_value;
use super::line_input::{Split, without_line_feed};
use super::measure::Tally;
use crate::producer::Producer;
use crate::record::ProducerRecord;

/// After Ctrl-C, how long records on their way may still take to be acknowledged.
const LAST_ACKS: Duration = Duration::from_secs(5);
/// Bytes read from the input at once.
const READ_AHEAD: usize = 256 << 10;
/// Standard input, where the system gives it a name.
const STANDARD_INPUT: &str = "/dev/stdin";
/// Lines between two looks at progress and failures: often for a person, seldom for a processor.
const LOOK_EVERY: u64 = 256;

/// Sends a record for each line.
///
/// A line's bytes are the record's value, without the line feed. Records of one key go to one partition, in the order of
/// their lines. The command ends at the first record that was not acknowledged.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ProduceArguments {
    topic: String,
    /// The file to read; "-" for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// A key for all records
    #[arg(long, group = "keyed")]
    key: Option<String>,
    /// What is before the first of these in a line is the key, what is after it the value; \t for a tab
    #[arg(long, value_name = "TEXT", group = "keyed")]
    key_separator: Option<String>,
    /// The key is what this regular expression finds: its group named "key", or its first group, or all; the value is the
    /// whole line
    #[arg(long, value_name = "REGEX", group = "keyed")]
    key_regex: Option<String>,
    /// The partition for all records, instead of one by key
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// A header for all records; may be repeated
    #[arg(short = 'H', long, value_name = "KEY=VALUE", value_parser = key_value)]
    header: Vec<(String, String)>,
    /// The codec of batches
    #[arg(short = 'z', long, value_parser = ["none", "gzip", "snappy", "lz4", "zstd"])]
    compression: Option<String>,
    /// How safe a record is when it is acknowledged, as Kafka's acks: all or 1
    #[arg(long, value_parser = ["all", "-1", "1", "0"], allow_hyphen_values = true)]
    acks: Option<String>,
}

/// What every line needs.
#[derive(Debug)]
struct Sender {
    producer: Producer,
    topic: Arc<str>,
    split: Split,
    partition: Option<i32>,
    headers: Vec<(Bytes, Bytes)>,
    tally: Arc<Tally>,
}

pub(super) async fn run(
    arguments: ProduceArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let split = Split::new(
        arguments.key.as_deref(),
        arguments.key_separator.as_deref(),
        arguments.key_regex.as_deref(),
    )?;
    let (mut input, size) = open(&arguments.file).await?;
    let mut settings = Vec::new();
    settings.extend(arguments.compression.map(|codec| ("compression.type", codec)));
    settings.extend(arguments.acks.map(|acks| ("acks", acks)));
    let (client, config) = context.global.connect_producer(&settings).await?;
    let producer = client.producer(config).await?;
    let about = |error| Failure::about_topic(&arguments.topic, &error);
    producer.partitions_for(&arguments.topic).await.map_err(about)?;
    let bytes = |text: String| Bytes::from(text.into_bytes());
    let sender = Sender {
        producer,
        topic: arguments.topic.as_str().into(),
        split,
        partition: arguments.partition,
        headers: arguments.header.into_iter().map(|(k, v)| (bytes(k), bytes(v))).collect(),
        tally: Arc::new(Tally::new()),
    };
    let progress = progress(size);
    let started = Instant::now();
    let sent = send_all(&sender, &mut input, &progress, context).await;
    let last = finish(&sender, context).await;
    progress.finish_and_clear();
    let interrupted = context.interrupt.is_cancelled();
    let summary = sender.tally.summary(started.elapsed(), interrupted);
    context.out.either(&summary, super::measure::Summary::text)?;
    context.out.flush()?;
    if let Some((line, error)) = sender.tally.first_failure() {
        let why = Failure::about_topic(&arguments.topic, &error);
        let told = format!("line {line} was not acknowledged: {why}");
        return Err(Failure::new(why.exit(), told));
    }
    sent?;
    if interrupted {
        return Err(Failure::interrupted());
    }
    last.map(|()| Exit::Done)
}

/// Every record gets its verdict, but after Ctrl-C only those that come soon.
async fn finish(sender: &Sender, context: &Context<'_>) -> Result<(), Failure> {
    let flushed = tokio::select! {
        flushed = sender.producer.flush() => flushed,
        () = context.interrupt.cancelled() => Ok(()),
    };
    let closed = sender.producer.close(LAST_ACKS).await;
    flushed.and(closed).map_err(Failure::from)
}

async fn send_all(
    sender: &Sender,
    input: &mut (dyn AsyncBufRead + Send + Unpin),
    progress: &ProgressBar,
    context: &Context<'_>,
) -> Result<(), Failure> {
    for number in 1_u64.. {
        let mut line = Vec::new();
        let read = tokio::select! {
            read = input.read_until(b'\n', &mut line) => read,
            () = context.interrupt.cancelled() => return Ok(()),
        };
        let read =
            read.map_err(|e| Failure::unusable(format!("cannot read line {number}: {e}")))?;
        if read == 0 {
            return Ok(());
        }
        progress.inc(read as u64);
        if number % LOOK_EVERY == 0 {
            progress.set_message(format!("{} acknowledged", sender.tally.records()));
            if sender.tally.first_failure().is_some() {
                return Ok(());
            }
        }
        let line = without_line_feed(line);
        tokio::select! {
            sent = sender.send(line, number) => sent.map_err(|error| {
                let why = Failure::about_topic(&sender.topic, &error);
                Failure::new(why.exit(), format!("line {number} was not sent: {why}"))
            })?,
            () = context.interrupt.cancelled() => return Ok(()),
        }
    }
    Ok(())
}

impl Sender {
    async fn send(&self, line: Bytes, number: u64) -> Result<(), crate::Error> {
        let parts = self.split.parts(line);
        let bytes = parts.key.as_ref().map_or(0, Bytes::len) + parts.value.len();
        let mut record = ProducerRecord::new(Arc::clone(&self.topic)).value(parts.value);
        if let Some(key) = parts.key {
            record = record.key(key);
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        for (key, value) in &self.headers {
            record = record.header(key.clone(), value.clone());
        }
        let (tally, started) = (Arc::clone(&self.tally), Instant::now());
        let callback = move |verdict: Result<_, crate::Error>| match verdict {
            Ok(_) => tally.acknowledged(bytes as u64, started.elapsed()),
            Err(error) => tally.failed(number, error),
        };
        self.producer.send_with_callback(record, callback).await
    }
}

/// The input, and how many bytes it has where that is known.
async fn open(file: &Path) -> Result<(Box<dyn AsyncBufRead + Send + Unpin>, Option<u64>), Failure> {
    // Opened by its name: the same reads as any file, without another thread for a terminal.
    let file = if file == Path::new("-") { Path::new(STANDARD_INPUT) } else { file };
    let unusable = |error| Failure::unusable(format!("cannot read {}: {error}", file.display()));
    let opened = tokio::fs::File::open(file).await.map_err(unusable)?;
    let about = opened.metadata().await.map_err(unusable)?;
    let size = about.is_file().then_some(about.len());
    Ok((Box::new(BufReader::with_capacity(READ_AHEAD, opened)), size))
}

/// A bar where a person watches standard error, nothing elsewhere. Without a size, and while lines are typed, it would be
/// in the way.
fn progress(size: Option<u64>) -> ProgressBar {
    let Some(size) = size.filter(|_| std::io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let bar = ProgressBar::new(size);
    let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
