//! Owns the measure `read`: every record of all partitions from the start, until none has come for half a second.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::{LoadArguments, Measured, measured, seconds};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::measure::{per_second, whole};
use crate::consumer::StartAt;

/// Nothing for this long, after something: the end.
const IDLE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Args)]
pub struct ReadArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// The longest it may take
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    secs: u32,
}

pub(super) async fn run(
    arguments: ReadArguments,
    context: &Context<'_>,
) -> Result<Measured, Failure> {
    // The peers' client is given the same limits.
    let settings = [
        ("max.partition.fetch.bytes", (1 << 20).to_string()),
        ("fetch.max.bytes", (50 << 20).to_string()),
        ("max.poll.records", "10000".to_owned()),
    ];
    let (client, config) = context.global.connect_consumer(&settings).await?;
    let topic = arguments.load.topic.as_str();
    let partitions = crate::cli::consume::partition_count(&client, topic).await?;
    let consumer = client.consumer(config)?;
    let begun = Instant::now();
    consumer.assign_from((0..partitions).map(|p| (topic, p)), StartAt::Beginning).await?;
    let (mut records, mut bytes) = (0_u64, 0_u64);
    let (mut first, mut last) = (None, begun);
    while begun.elapsed() < seconds(arguments.secs) {
        let batch = consumer.poll(IDLE).await?;
        if batch.is_empty() {
            if first.is_some() {
                break;
            }
            continue;
        }
        last = Instant::now();
        first.get_or_insert(last);
        records += batch.len() as u64;
        bytes += batch.iter().map(|r| r.value.as_ref().map_or(0, |v| v.len() as u64)).sum::<u64>();
    }
    let took = last.saturating_duration_since(first.unwrap_or(last));
    let megabytes = per_second(bytes, took) / 1e6;
    Ok(measured([
        ("records", json!(records)),
        ("records_s", json!(whole(per_second(records, took)))),
        ("MBs", json!(format!("{megabytes:.1}"))),
        ("took_s", json!(took.as_secs_f64())),
    ]))
}
