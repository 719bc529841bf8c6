//! Owns the measure `one`: a record, its acknowledgement, the next. Nothing waits for company.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::{Load, LoadArguments, Measured, in_words, measured, seconds};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::measure::Latencies;

/// Records of the first seconds are not counted.
const WARM_UP: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Args)]
pub struct OneArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// Seconds that are counted, after 2 s of warm-up
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    secs: u32,
}

pub(super) async fn run(
    arguments: OneArguments,
    context: &Context<'_>,
) -> Result<Measured, Failure> {
    let (load, producer) = Load::with_producer(&arguments.load, Duration::ZERO, context).await?;
    let mut latencies = Latencies::new();
    let mut count = 0_u64;
    let warm = Instant::now() + WARM_UP;
    let end = warm + seconds(arguments.secs);
    for turn in 0_u64.. {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        if let Err(error) = producer.send_and_wait(load.record(turn)).await {
            eprintln!("{error}");
            continue;
        }
        if sent > warm {
            count += 1;
            latencies.add(sent.elapsed());
        }
    }
    let rate = count / u64::from(arguments.secs);
    Ok(measured([("acks_s", json!(rate)), ("ms", in_words(&latencies))]))
}
