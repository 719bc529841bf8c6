//! Owns the measure `max`, a closed loop: a record is sent as soon as one of those in flight has its acknowledgement; and
//! the account of acknowledgements that `rate` shares.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Load, LoadArguments, Measured, in_words, measured, megabytes, seconds};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::measure::{Latencies, per_second, whole};

/// Acknowledgements of the first seconds are not counted.
pub(super) const WARM_UP: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Args)]
pub struct MaxArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// Records in flight
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    inflight: u32,
    /// Seconds that are counted, after 3 s of warm-up
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    secs: u32,
    /// How long a batch may wait for more records
    #[arg(long, default_value = "5ms", value_parser = humantime::parse_duration)]
    linger: Duration,
}

/// What was acknowledged while it counts. Filled in the producer's task.
#[derive(Debug)]
pub(super) struct Account {
    from: Instant,
    until: Instant,
    acked: AtomicU64,
    failed: AtomicU64,
    counted: AtomicU64,
    latencies: Mutex<Latencies>,
}

impl Account {
    pub(super) fn new(start: Instant, counted: Duration) -> Arc<Self> {
        let from = start + WARM_UP;
        Arc::new(Self {
            from,
            until: from + counted,
            acked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            latencies: Mutex::new(Latencies::new()),
        })
    }

    pub(super) fn is_over(&self, at: Instant) -> bool {
        at > self.until
    }

    pub(super) fn verdict<T>(&self, due: Instant, verdict: &Result<T, crate::Error>) {
        if let Err(error) = verdict {
            if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                eprintln!("produce: {error}");
            }
            return;
        }
        self.acked.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if now > self.from && now < self.until {
            self.counted.fetch_add(1, Ordering::Relaxed);
            let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.add(now.saturating_duration_since(due));
        }
    }

    pub(super) fn result(&self, counted: Duration, size: usize) -> Measured {
        let rate = per_second(self.counted.load(Ordering::Relaxed), counted);
        let latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        measured([
            ("records_s", json!(whole(rate))),
            ("MBs", megabytes(rate, size)),
            ("acked", json!(self.acked.load(Ordering::Relaxed))),
            ("failed", json!(self.failed.load(Ordering::Relaxed))),
            ("ms", in_words(&latencies)),
        ])
    }
}

pub(super) async fn run(
    arguments: MaxArguments,
    context: &Context<'_>,
) -> Result<Measured, Failure> {
    let (load, producer) = Load::with_producer(&arguments.load, arguments.linger, context).await?;
    let room = Arc::new(Semaphore::new(arguments.inflight as usize));
    let counted = seconds(arguments.secs);
    let account = Account::new(Instant::now(), counted);
    for turn in 0_u64.. {
        // Never closed: the permit comes when an acknowledgement does.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let due = Instant::now();
        if account.is_over(due) {
            break;
        }
        let told = Arc::clone(&account);
        let callback = move |verdict: Result<_, crate::Error>| {
            drop(permit);
            told.verdict(due, &verdict);
        };
        if let Err(error) = producer.send_with_callback(load.record(turn), callback).await {
            account.verdict::<()>(due, &Err(error));
        }
    }
    producer.flush().await?;
    Ok(account.result(counted, arguments.load.size))
}
