//! Owns the measure `rate`, an open loop: records are due at fixed times, and a late one counts from when it was due. The
//! timer has a grain of 1 ms: a record may leave that much late, which counts as latency.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::max::Account;
use super::{Load, LoadArguments, Measured, seconds};
use crate::cli::Context;
use crate::cli::exit::Failure;

/// Closer than this to its time, a record goes at once.
const CLOSE: Duration = Duration::from_micros(50);

#[derive(Debug, Clone, Args)]
pub struct RateArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// Records per second
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Seconds that are counted, after 3 s of warm-up
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    secs: u32,
    /// How long a batch may wait for more records
    #[arg(long, default_value = "5ms", value_parser = humantime::parse_duration)]
    linger: Duration,
}

pub(super) async fn run(
    arguments: RateArguments,
    context: &Context<'_>,
) -> Result<Measured, Failure> {
    let (load, producer) = Load::with_producer(&arguments.load, arguments.linger, context).await?;
    let counted = seconds(arguments.secs);
    let start = Instant::now();
    let account = Account::new(start, counted);
    for turn in 0_u64.. {
        let due = start + after(turn, arguments.rate);
        if due.saturating_duration_since(Instant::now()) > CLOSE {
            tokio::time::sleep_until(due).await;
        }
        if account.is_over(due) {
            break;
        }
        let told = Arc::clone(&account);
        let callback = move |verdict: Result<_, crate::Error>| told.verdict(due, &verdict);
        if let Err(error) = producer.send_with_callback(load.record(turn), callback).await {
            account.verdict::<()>(due, &Err(error));
        }
    }
    producer.flush().await?;
    Ok(account.result(counted, arguments.load.size))
}

/// When a record is due, without an error that adds up.
fn after(turn: u64, rate: u32) -> Duration {
    let nanos = u128::from(turn) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_their_share_of_the_second() {
        assert_eq!(after(1, 20_000), Duration::from_micros(50));
        assert_eq!(after(3, 3), Duration::from_secs(1));
        assert_eq!(after(20_000 * 3600, 20_000), Duration::from_secs(3600));
    }
}
