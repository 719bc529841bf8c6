//! Owns sending at a steady pace while a leader dies, and the answer to how long nobody was served. Never kills anybody.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use waymark_client::{Client, Compression, Producer, ProducerConfig, RecordReceipt};

use super::super::Failure;
use super::input::{FIRST, Input};
use super::tally::{Spot, Tally};

/// Records leave in portions, this often.
const PORTION: Duration = Duration::from_millis(5);
/// Sending takes about this long, so that the kill falls into the middle of it.
const DURATION: Duration = Duration::from_secs(4);
/// At most this many wait for their acknowledgement; a file of any size fits.
const IN_FLIGHT: usize = 50_000;

/// When each partition acknowledged something.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    beats: BTreeMap<i32, Vec<Instant>>,
}

impl Pulse {
    fn beat(&mut self, partition: i32) {
        self.beats.entry(partition).or_default().push(Instant::now());
    }

    /// The longest time without an acknowledgement around or after `since`, in any of the partitions.
    pub(super) fn longest_pause(&self, partitions: &[i32], since: Instant) -> Duration {
        let of = |partition: &i32| {
            let beats = self.beats.get(partition).map_or(&[][..], Vec::as_slice);
            let pauses = beats.windows(2).filter(|pair| pair[1] > since);
            pauses.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        partitions.iter().map(of).max().unwrap_or_default()
    }
}

/// A producer that waits a few milliseconds for company, as most do.
pub(super) async fn producer(client: &Client) -> Result<Producer, Failure> {
    let config = ProducerConfig::default()
        .linger(Duration::from_millis(5))
        .compression(Compression::Lz4)
        .delivery_timeout(Duration::from_secs(60));
    client.producer(config).await.map_err(|error| Failure::because("producer", error))
}

pub(super) fn spot(receipt: &RecordReceipt) -> Option<Spot> {
    receipt.offset.map(|offset| Spot { partition: receipt.at.partition, offset })
}

/// Sends all but the first records; `acknowledged` counts along.
pub(super) async fn send_rest(
    producer: &Producer,
    input: &Input,
    tally: &mut Tally,
    acknowledged: &watch::Sender<usize>,
) -> Result<Pulse, Failure> {
    let mut pulse = Pulse::default();
    let mut waiting = FuturesUnordered::new();
    let mut places = FIRST..input.len();
    let portions = DURATION.as_millis() / PORTION.as_millis();
    let portion = (places.len() / usize::try_from(portions).unwrap_or(1)).max(1);
    let mut ticks = interval(PORTION);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !places.is_empty() || !waiting.is_empty() {
        tokio::select! {
            Some((place, partition, verdict)) = waiting.next(), if !waiting.is_empty() => {
                match verdict {
                    Ok(receipt) => {
                        tally.acknowledge(place, spot(&receipt));
                        pulse.beat(partition);
                        acknowledged.send_modify(|count| *count += 1);
                    }
                    Err(error) => {
                        let error: waymark_client::Error = error;
                        tracing::warn!(place, %error, "not acknowledged");
                        tally.refuse();
                    }
                }
            }
            _ = ticks.tick(), if !places.is_empty() && waiting.len() < IN_FLIGHT => {
                for place in places.by_ref().take(portion) {
                    let sent = producer.send(input.record(place)).await;
                    let sent = sent.map_err(|error| Failure::because("produce", error))?;
                    let partition = sent.topic_partition().partition;
                    waiting.push(async move { (place, partition, sent.await) });
                }
            }
        }
    }
    Ok(pulse)
}
