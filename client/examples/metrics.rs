//! Metrics: many small measurements; a group adds them up per host and minute, beginning an hour ago, and an administrator
//! watches it catch up.
//!
//! ```sh
//! waymark dev                                                      # a cluster to talk to
//! cargo run -p waymark-client --example metrics [HOSTS]
//! ```
//!
//! What to see: a record carries the time of its measurement, and a time can be turned into offsets; a group can be placed
//! there before its members start; lag says how far behind it is; offsets are committed by themselves, after what is
//! finished.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use waymark_client::{
    Admin, AutoCommit, Client, Clock, CommitAfter, ConsumerConfig, ConsumerRecord, GroupLag,
    OffsetReset, ProducerConfig, ProducerRecord, SystemClock, TopicPartition,
};

mod stage;
use stage::{Outcome, ensure};

const PARTITIONS: i32 = 4;
const MEMBERS: usize = 2;
const MINUTE_MS: i64 = 60_000;
/// There are measurements of two hours; the group wants the last one.
const MEASURED_MINUTES: i64 = 120;
const WANTED_MINUTES: i64 = 60;
const PER_MINUTE: i64 = 6;

/// What was measured on one host in one minute.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Window {
    measurements: u64,
    sum: i64,
    highest: i64,
}

impl Window {
    fn add(&mut self, load: i64) {
        self.measurements += 1;
        self.sum += load;
        self.highest = self.highest.max(load);
    }
}

/// By minute (Unix ms of its beginning) and host.
type Windows = BTreeMap<(i64, String), Window>;

#[tokio::main]
async fn main() -> ExitCode {
    stage::run(watch_hosts()).await
}

async fn watch_hosts() -> Outcome {
    let hosts = i64::from(stage::size_or(20)?);
    let this_minute = SystemClock.now_ms() / MINUTE_MS * MINUTE_MS;
    let hour_ago = this_minute - WANTED_MINUTES * MINUTE_MS;
    let client = Client::connect(stage::cluster()).await?;
    let topic = stage::fresh_topic(&client, "metrics", PARTITIONS).await?;
    let sent = measure(&client, &topic, hosts, this_minute).await?;
    println!("{sent} measurements of {hosts} hosts, over {MEASURED_MINUTES} minutes");

    let (group, admin) = (format!("{topic}-windows"), client.admin());
    place(&client, &group, &topic, hour_ago).await?;
    let lag = lag_of(&admin, &group).await?;
    let wanted = hosts * WANTED_MINUTES * PER_MINUTE;
    println!("the group begins an hour ago: {} records behind", lag.records);
    ensure(lag.records == wanted && lag.unknown() == 0, || {
        format!("of the last hour are {wanted} measurements, and the lag says {}", lag.records)
    })?;

    let done = CancellationToken::new();
    let members: Vec<_> =
        (0..MEMBERS).map(|_| start_member(&client, &group, &topic, &done)).collect();
    loop {
        let lag = lag_of(&admin, &group).await?;
        println!(
            "  {} records behind, the oldest for {:.1} s",
            lag.records,
            lag.behind.as_secs_f64()
        );
        if lag.records == 0 && lag.unknown() == 0 {
            break;
        }
        sleep(Duration::from_millis(300)).await;
    }
    done.cancel();
    let mut windows = Windows::new();
    for member in members {
        // A host's measurements are in one partition; a window that moved with it lies with two members.
        for (of, part) in member.await?? {
            let window = windows.entry(of).or_default();
            window.measurements += part.measurements;
            window.sum += part.sum;
            window.highest = window.highest.max(part.highest);
        }
    }
    check(&windows, hosts, hour_ago)?;
    println!(
        "{} windows of one minute and host, each complete and none older than an hour",
        windows.len()
    );
    Ok(())
}

/// The load of a host, in percent.
fn load(host: i64, time_ms: i64) -> i64 {
    (time_ms / 10_000 * 7 + host * 31) % 100
}

fn times_of(minute_ms: i64) -> impl Iterator<Item = i64> {
    (0..PER_MINUTE).map(move |nth| minute_ms + nth * MINUTE_MS / PER_MINUTE)
}

/// Sends what was measured up to now. The producer gathers small records into large batches.
async fn measure(client: &Client, topic: &str, hosts: i64, this_minute: i64) -> Outcome<usize> {
    let producer = client.producer(ProducerConfig::default()).await?;
    let mut acknowledgements = Vec::new();
    for minute in (1..=MEASURED_MINUTES).rev().map(|back| this_minute - back * MINUTE_MS) {
        for time_ms in times_of(minute) {
            for host in 0..hosts {
                let record = ProducerRecord::new(topic)
                    .key(format!("host-{host}"))
                    .value(load(host, time_ms).to_string())
                    .timestamp_ms(time_ms);
                acknowledgements.push(producer.send(record).await?);
            }
        }
    }
    Ok(try_join_all(acknowledgements).await?.len())
}

/// Commits for a group without members where each partition was at a time.
async fn place(client: &Client, group: &str, topic: &str, time_ms: i64) -> Outcome {
    let partitions: Vec<TopicPartition> =
        (0..PARTITIONS).map(|partition| (topic, partition).into()).collect();
    // Asking for offsets needs neither a group nor partitions of one's own.
    let asking = client.consumer(ConsumerConfig::default())?;
    let times = partitions.iter().map(|at| (at.clone(), time_ms));
    let found = asking.offsets_for_times(times).await?;
    let ends = asking.end_offsets(partitions).await?;
    // Where nothing is as young as that, the group begins after the last record.
    let offsets = ends.into_iter().map(|(at, end)| {
        let first = found.get(&at).copied().flatten();
        (at, first.map_or(end, |first| first.offset))
    });
    Ok(client.admin().commit_group_offsets(group, offsets).await?)
}

async fn lag_of(admin: &Admin, group: &str) -> Outcome<GroupLag> {
    let answer = admin.group_lag([group]).await?.into_iter().next();
    Ok(answer.ok_or("no answer about the group's lag")??)
}

/// Adds up measurements until told to stop.
fn start_member(
    client: &Client,
    group: &str,
    topic: &str,
    done: &CancellationToken,
) -> JoinHandle<Outcome<Windows>> {
    let (client, group, topic) = (client.clone(), group.to_owned(), topic.to_owned());
    let done = done.clone();
    tokio::spawn(async move {
        let config = ConsumerConfig::default()
            .group_id(group)
            // Each time it asks for more, what it had before is committed, without a wait for the answer.
            .auto_commit(AutoCommit::After(CommitAfter::Each))
            .auto_offset_reset(OffsetReset::None);
        let consumer = client.consumer(config)?;
        consumer.subscribe([topic]).await?;
        let mut windows = Windows::new();
        while !done.is_cancelled() {
            for record in consumer.poll(Duration::from_millis(100)).await? {
                add(&mut windows, &record)?;
            }
        }
        consumer.close(Duration::from_secs(10)).await?;
        Ok(windows)
    })
}

/// Puts a measurement into the window of its own time, whenever it arrives.
fn add(windows: &mut Windows, record: &ConsumerRecord) -> Outcome {
    let host = record.key.as_ref().ok_or("a measurement without a host")?;
    let load = record.value.as_ref().ok_or("a measurement without a value")?;
    let minute = record.timestamp_ms - record.timestamp_ms.rem_euclid(MINUTE_MS);
    let window = windows.entry((minute, std::str::from_utf8(host)?.to_owned())).or_default();
    window.add(std::str::from_utf8(load)?.parse()?);
    Ok(())
}

/// Every host has a whole window for each minute since then, and nothing else is there.
fn check(windows: &Windows, hosts: i64, since_ms: i64) -> Outcome {
    let mut expected = Windows::new();
    for minute in (0..WANTED_MINUTES).map(|nth| since_ms + nth * MINUTE_MS) {
        for host in 0..hosts {
            let window = expected.entry((minute, format!("host-{host}"))).or_default();
            times_of(minute).for_each(|time_ms| window.add(load(host, time_ms)));
        }
    }
    for (of, window) in &expected {
        ensure(windows.get(of) == Some(window), || {
            format!("the window {of:?} is {:?} instead of {window:?}", windows.get(of))
        })?;
    }
    let older = windows.keys().find(|of| !expected.contains_key(*of));
    ensure(older.is_none(), || format!("there is a window that should not be: {older:?}"))
}
