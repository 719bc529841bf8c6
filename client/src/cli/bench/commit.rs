//! Owns the measure `commit`: groups at once, each commits one offset at a time, over the partitions in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Load, LoadArguments, Measured, in_words, measured, seconds};
use crate::admin::Admin;
use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::measure::Latencies;

/// Commits of the first seconds are not counted.
const WARM_UP: Duration = Duration::from_secs(4);
/// The pause after a commit that failed.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Args)]
pub struct CommitArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// Groups that commit at the same time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    groups: u32,
    /// Commits a second of all groups together; without it, as many as there are answers
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Seconds that are counted, after 4 s of warm-up
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    secs: u32,
}

/// What all groups have in common.
#[derive(Debug)]
struct Commits {
    admin: Admin,
    topic: Arc<str>,
    partitions: i32,
    /// Between two commits of one group; zero: none.
    pause: Duration,
    warm: Instant,
    end: Instant,
    counted: AtomicU64,
    failed: AtomicU64,
    latencies: Mutex<Latencies>,
}

pub(super) async fn run(
    arguments: CommitArguments,
    context: &Context<'_>,
) -> Result<Measured, Failure> {
    let client = context.global.connect().await?;
    let load = Load::new(client, &arguments.load).await?;
    let warm = Instant::now() + WARM_UP;
    let commits = Arc::new(Commits {
        admin: load.client.admin(),
        topic: Arc::clone(&load.topic),
        partitions: load.partitions,
        pause: arguments
            .rate
            .map_or(Duration::ZERO, |rate| Duration::from_secs(u64::from(arguments.groups)) / rate),
        warm,
        end: warm + seconds(arguments.secs),
        counted: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        latencies: Mutex::new(Latencies::new()),
    });
    let mut groups = JoinSet::new();
    for group in 0..arguments.groups {
        // Spread over the time between two commits of one group.
        let first = commits.pause / arguments.groups * group;
        groups.spawn(Arc::clone(&commits).one_group(format!("g{group}"), first));
    }
    while let Some(ended) = groups.join_next().await {
        ended.map_err(|error| Failure::new(Exit::Refused, format!("a group ended: {error}")))?;
    }
    let rate = commits.counted.load(Ordering::Relaxed) / u64::from(arguments.secs);
    let latencies = commits.latencies.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(measured([
        ("commits_s", json!(rate)),
        ("bad", json!(commits.failed.load(Ordering::Relaxed))),
        ("ms", in_words(&latencies)),
    ]))
}

impl Commits {
    async fn one_group(self: Arc<Self>, group: String, first: Duration) {
        let mut due = Instant::now() + first;
        for offset in 0_i64.. {
            if !self.pause.is_zero() {
                tokio::time::sleep_until(due).await;
                due += self.pause;
            }
            let sent = Instant::now();
            if sent >= self.end {
                return;
            }
            let partition = i32::try_from(offset % i64::from(self.partitions)).unwrap_or(0);
            let at = (Arc::clone(&self.topic), partition);
            if let Err(error) = self.admin.commit_group_offsets(&group, [(at, offset)]).await {
                if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                    eprintln!("{error}");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            if sent > self.warm {
                self.counted.fetch_add(1, Ordering::Relaxed);
                let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                latencies.add(sent.elapsed());
            }
        }
    }
}
