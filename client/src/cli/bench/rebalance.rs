//! Owns the measure `rebalance`: records flow at a fixed rate through a group while members join, leave and crash. What was
//! read twice, what was not read, who read a partition that was another's, and how long each partition stood still are
//! counted from the records themselves. Ends with failure when a promise is broken.

mod book;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use self::book::{Book, Reset};
use super::{Load, LoadArguments, Measured, in_words, measured, seconds};
use crate::admin::{GroupReset, OffsetSpec, ResetTo};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::measure::Latencies;
use crate::client::Client;
use crate::config::{ConsumerConfig, OffsetReset};
use crate::consumer::Consumer;
use crate::environment::Random;

/// How long a member waits for records at a time.
const POLL: Duration = Duration::from_millis(100);
/// How long the last records may take to be read.
const LAST_READS: Duration = Duration::from_secs(60);
/// Records that a reset goes back.
const RESET_BY: i64 = 1_000;
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Args)]
pub struct RebalanceArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// The group
    #[arg(long, default_value = "bench-rebalance")]
    group: String,
    /// Records per second
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Members at the beginning
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    members: u32,
    /// Planned changes: members that join, and members that leave, in turn
    #[arg(long, default_value_t = 100)]
    changes: u32,
    /// Members that end without a word, each replaced at once; what they had not committed is read again
    #[arg(long, default_value_t = 0)]
    kills: u32,
    /// Live resets of all partitions, each by 1,000 records back; members must go on exactly there
    #[arg(long, default_value_t = 0)]
    resets: u32,
    /// Time between two changes
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pause: Duration,
    /// Seconds without a change before the first one, to compare with
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    calm: u32,
    /// After how long a silent member is expelled
    #[arg(long, default_value = "6s", value_parser = humantime::parse_duration)]
    session: Duration,
}

type Shared = Arc<Mutex<Book>>;

fn lock(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A consumer and the task that reads with it.
struct Member {
    consumer: Arc<Consumer>,
    reading: JoinHandle<()>,
}

impl Member {
    async fn join(
        client: &Client,
        config: &ConsumerConfig,
        topic: &str,
        book: &Shared,
    ) -> Result<Self, Failure> {
        let consumer = Arc::new(client.consumer(config.clone())?);
        consumer.subscribe([topic]).await?;
        let (reader, book) = (Arc::clone(&consumer), Arc::clone(book));
        let reading = tokio::spawn(async move {
            while let Ok(records) = reader.poll(POLL).await {
                let now = Instant::now();
                let mut book = lock(&book);
                records.iter().for_each(|record| book.read(record, now));
            }
        });
        Ok(Self { consumer, reading })
    }

    /// Leaves as a program does that is stopped in an orderly way.
    async fn leave(self) -> Result<(), Failure> {
        self.consumer.close(CLOSE_WITHIN).await?;
        self.reading.abort();
        Ok(())
    }

    /// Ends without a word.
    async fn crash(self) {
        self.reading.abort();
        let _ = self.reading.await;
        drop(self.consumer);
    }
}

pub(super) async fn run(
    arguments: RebalanceArguments,
    context: &Context<'_>,
) -> Result<Measured, Failure> {
    let linger = Duration::from_millis(5);
    let (load, producer) = Load::with_producer(&arguments.load, linger, context).await?;
    let ends = load.client.admin();
    let book = Shared::default();
    let config = ConsumerConfig::default()
        .group_id(&arguments.group)
        .auto_offset_reset(OffsetReset::Earliest)
        .auto_commit_interval(Duration::from_secs(1))
        .session_timeout(arguments.session);
    let mut members = Vec::new();
    for _ in 0..arguments.members {
        members.push(Member::join(&load.client, &config, &load.topic, &book).await?);
    }
    let (stop, stopped) = watch::channel(false);
    let load = Arc::new(load);
    let sending = tokio::spawn(send(Arc::clone(&load), producer, arguments.rate, stopped));
    sleep(seconds(arguments.calm)).await;
    let began = Instant::now();
    let members = changes(&arguments, &load, (&config, &book), members).await?;
    let _ = stop.send(true);
    let sent = sending.await.map_err(|error| Failure::unusable(error.to_string()))??;
    read_to_the_end(&ends, &load, &book).await?;
    for member in members {
        member.leave().await?;
    }
    result(&arguments, &book, (began, sent))
}

/// The planned changes, then the crashes.
async fn changes(
    arguments: &RebalanceArguments,
    load: &Load,
    (config, book): (&ConsumerConfig, &Shared),
    mut members: Vec<Member>,
) -> Result<Vec<Member>, Failure> {
    let random = Random::from_os();
    for change in 0..arguments.changes {
        let pause = Instant::now() + arguments.pause;
        if change % 2 == 0 {
            members.push(Member::join(&load.client, config, &load.topic, book).await?);
        } else {
            members.swap_remove(choose(&random, members.len())).leave().await?;
        }
        sleep_until(pause).await;
    }
    for _ in 0..arguments.kills {
        let pause = Instant::now() + arguments.pause;
        members.swap_remove(choose(&random, members.len())).crash().await;
        members.push(Member::join(&load.client, config, &load.topic, book).await?);
        sleep_until(pause).await;
    }
    for _ in 0..arguments.resets {
        let pause = Instant::now() + arguments.pause;
        reset(&load.client, &arguments.group, book).await?;
        // One after the other: a reset upon a reset says nothing about either.
        let is_over = || lock(book).reset.as_ref().is_none_or(Reset::is_over);
        while !is_over() && Instant::now() < pause + LAST_READS {
            sleep(POLL).await;
        }
        lock(book).end_reset();
        sleep_until(pause).await;
    }
    Ok(members)
}

/// Moves the running group back.
async fn reset(client: &Client, group: &str, book: &Shared) -> Result<(), Failure> {
    let asked = Instant::now();
    lock(book).reset = Some(Reset { asked, targets: None, went_on: BTreeMap::new() });
    let back = GroupReset::all(ResetTo::Shift(-RESET_BY));
    let done = client.admin().reset_group_offsets(group, &back).await?;
    let target = |it: &crate::admin::OffsetMove| (it.at.partition, it.after.unwrap_or_default());
    if let Some(reset) = &mut lock(book).reset {
        reset.targets = Some(done.moves.iter().map(target).collect());
    }
    Ok(())
}

fn choose(random: &Random, among: usize) -> usize {
    let among = u64::try_from(among.max(1)).unwrap_or(1);
    usize::try_from(random.next_u64() % among).unwrap_or_default()
}

/// Sends at the rate until it is told to stop; how many were sent. Every one of them must be acknowledged.
async fn send(
    load: Arc<Load>,
    producer: crate::Producer,
    rate: u32,
    stopped: watch::Receiver<bool>,
) -> Result<u64, Failure> {
    let start = Instant::now();
    let refused: Arc<Mutex<Option<crate::Error>>> = Arc::default();
    let mut turn = 0_u64;
    while !*stopped.borrow() {
        let due = start + Duration::from_nanos(turn * 1_000_000_000 / u64::from(rate.max(1)));
        if due > Instant::now() {
            sleep_until(due).await;
        }
        let told = Arc::clone(&refused);
        let callback = move |verdict: Result<_, crate::Error>| {
            if let Err(error) = verdict {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        };
        producer.send_with_callback(load.record(turn), callback).await?;
        turn += 1;
    }
    producer.flush().await?;
    match refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error.into()),
        None => Ok(turn),
    }
}

async fn read_to_the_end(admin: &crate::Admin, load: &Load, book: &Shared) -> Result<(), Failure> {
    let deadline = Instant::now() + LAST_READS;
    let all = (0..load.partitions).map(|partition| (&*load.topic, partition));
    let listed = admin.list_offsets(all, OffsetSpec::Latest).await?;
    let ends: BTreeMap<i32, i64> =
        listed.into_iter().map(|it| (it.at.partition, it.offset.unwrap_or_default())).collect();
    loop {
        let behind = ends.iter().any(|(partition, end)| {
            *end > lock(book).partitions.get(partition).map_or(0, |page| page.next)
        });
        if !behind || Instant::now() > deadline {
            return Ok(());
        }
        sleep(POLL).await;
    }
}

fn result(
    arguments: &RebalanceArguments,
    book: &Shared,
    (began, sent): (Instant, u64),
) -> Result<Measured, Failure> {
    let book = lock(book);
    let read = book.sum(|page| u64::try_from(page.next).unwrap_or_default());
    let repeated = book.sum(|page| page.repeated);
    let missed = book.sum(|page| page.missed) + sent.saturating_sub(read);
    let stale = book.sum(|page| page.stale);
    let calm = book.gaps(|gap| gap.ended < began && !gap.moved);
    let stayed = book.gaps(|gap| gap.ended >= began && !gap.moved);
    let moved = book.gaps(|gap| gap.ended >= began && gap.moved);
    let mut reset_took = Latencies::new();
    book.reset_took.iter().for_each(|took| reset_took.add(*took));
    let mut line = measured([
        ("changes", json!(arguments.changes)),
        ("kills", json!(arguments.kills)),
        ("sent", json!(sent)),
        ("read", json!(read)),
        ("repeated", json!(repeated)),
        ("missed", json!(missed)),
        ("two_owners", json!(stale)),
        ("calm_gap_ms", in_words(&calm)),
        ("stayed_gap_ms", in_words(&stayed)),
        ("moved_gap_ms", in_words(&moved)),
    ]);
    if arguments.resets > 0 {
        line.insert("resets".to_owned(), json!(arguments.resets));
        line.insert("astray".to_owned(), json!(book.astray));
        line.insert("reset_ms".to_owned(), in_words(&reset_took));
    }
    // A crash may repeat what was not committed; nothing else may, and nothing may be missed.
    let planned = arguments.kills == 0;
    let broken = missed > 0 || stale > 0 || book.astray > 0 || (planned && repeated > 0);
    if broken {
        return Err(Failure::unusable(format!("a promise is broken: {}", json!(line))));
    }
    Ok(line)
}
