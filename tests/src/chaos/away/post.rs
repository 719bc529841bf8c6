//! What arrives while a node is away: records whose every byte follows from the seed, their partition and their number. Owns
//! writing them, and how many each partition was given. All of them are acknowledged, or the run ends; it never reads one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use futures::future::try_join_all;
use indicatif::ProgressBar;
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng};
use tokio::time::{Instant, sleep};
use waymark_client::{
    Client, ClientConfig, NewTopic, Producer, ProducerConfig, ProducerRecord, SendFuture,
};

use super::super::course::in_time;
use crate::waymark::translation::failed;

pub(super) const TOPIC: &str = "arrivals";
/// More than there are shards, so that some shards have two of them.
pub(super) const PARTITIONS: u32 = 12;
/// Bytes of a record's value.
pub(super) const VALUE: usize = 4 << 10;
/// Segments of each partition, so that many are there; not smaller than the smallest that there are.
const SEGMENTS: u64 = 24;
const SMALLEST_SEGMENT: u64 = 64 << 10;
/// Records of one partition on the way at once: two full batches for each that the client has in flight.
const WINDOW: usize = 512;
/// Between two records of a partition while the node catches up.
const PAUSE: Duration = Duration::from_millis(200);
/// Until a record is given up: longer than any interruption.
const DELIVERY: Duration = Duration::from_secs(180);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The value of a record.
pub(super) fn value(seed: u64, partition: u32, number: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(VALUE, 0);
    let own = seed ^ (u64::from(partition) << 48) ^ number;
    SmallRng::seed_from_u64(own).fill_bytes(&mut value[size_of::<u64>()..]);
    value
}

/// Who writes.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) client: Client,
    producer: Producer,
    seed: u64,
    /// Records that each partition was given.
    pub(super) given: Vec<u64>,
}

/// What was written while the node caught up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trickle {
    pub(super) records: u64,
    /// The longest that one of them waited for its acknowledgement.
    pub(super) longest: Duration,
}

impl Post {
    /// Makes the topic, as long as it takes the cluster to be born.
    pub(super) async fn open(bootstrap: Vec<String>, seed: u64, bytes: u64) -> io::Result<Self> {
        let opened = async {
            loop {
                match Self::try_open(bootstrap.clone(), seed, bytes).await {
                    Ok(post) => return post,
                    Err(error) => tracing::debug!(%error, "asked in vain"),
                }
                sleep(ASK_AGAIN).await;
            }
        };
        in_time("the cluster is not born", opened).await
    }

    async fn try_open(bootstrap: Vec<String>, seed: u64, bytes: u64) -> io::Result<Self> {
        let client = Client::connect(ClientConfig::new(bootstrap)).await.map_err(failed)?;
        let segment = (bytes / u64::from(PARTITIONS) / SEGMENTS).max(SMALLEST_SEGMENT);
        let topic = NewTopic::new(TOPIC).config("segment.bytes", segment.to_string());
        let topic = topic.partitions(number(PARTITIONS)).replication_factor(3);
        client.admin().create_topic(topic).await.map_err(failed)?;
        let config = ProducerConfig::default().delivery_timeout(DELIVERY).max_block(DELIVERY);
        let producer = client.producer(config).await.map_err(failed)?;
        Ok(Self { client, producer, seed, given: vec![0; PARTITIONS as usize] })
    }

    /// Writes so many bytes, and returns once all are acknowledged.
    ///
    /// # Errors
    /// When a record is not.
    pub(super) async fn write(&mut self, bytes: u64, bar: &ProgressBar) -> io::Result<()> {
        let each = bytes.div_ceil(u64::from(PARTITIONS) * VALUE as u64);
        try_join_all(self.lanes().map(|lane| lane.write(each, bar))).await.map(drop)
    }

    /// Writes a little, and goes on until it is told to end.
    ///
    /// # Errors
    /// When a record is not acknowledged.
    pub(super) async fn trickle(&mut self, is_over: &Cell<bool>) -> io::Result<Trickle> {
        let trickles = try_join_all(self.lanes().map(|lane| lane.trickle(is_over))).await?;
        let records = trickles.iter().map(|it| it.records).sum();
        let longest = trickles.iter().map(|it| it.longest).max().unwrap_or_default();
        Ok(Trickle { records, longest })
    }

    fn lanes(&mut self) -> impl Iterator<Item = Lane<'_>> {
        let (producer, seed) = (&self.producer, self.seed);
        (0..).zip(&mut self.given).map(move |(partition, given)| Lane {
            producer,
            seed,
            partition,
            given,
        })
    }
}

/// One partition's writer.
struct Lane<'a> {
    producer: &'a Producer,
    seed: u64,
    partition: u32,
    given: &'a mut u64,
}

impl Lane<'_> {
    async fn write(mut self, records: u64, bar: &ProgressBar) -> io::Result<()> {
        let mut waiting = VecDeque::new();
        for _ in 0..records {
            if waiting.len() == WINDOW {
                acknowledged(waiting.pop_front(), bar).await?;
            }
            waiting.push_back(self.send().await?);
        }
        while !waiting.is_empty() {
            acknowledged(waiting.pop_front(), bar).await?;
        }
        Ok(())
    }

    async fn trickle(mut self, is_over: &Cell<bool>) -> io::Result<Trickle> {
        let mut trickle = Trickle::default();
        while !is_over.get() {
            let begun = Instant::now();
            self.send().await?.await.map_err(lost)?;
            trickle.records += 1;
            trickle.longest = trickle.longest.max(begun.elapsed());
            sleep(PAUSE).await;
        }
        Ok(trickle)
    }

    async fn send(&mut self) -> io::Result<SendFuture> {
        let value = value(self.seed, self.partition, *self.given);
        let record = ProducerRecord::new(TOPIC).partition(number(self.partition)).value(value);
        let sent = self.producer.send(record).await.map_err(lost)?;
        *self.given += 1;
        Ok(sent)
    }
}

async fn acknowledged(sent: Option<SendFuture>, bar: &ProgressBar) -> io::Result<()> {
    let Some(sent) = sent else { return Ok(()) };
    sent.await.map_err(lost)?;
    bar.inc(VALUE as u64);
    Ok(())
}

fn lost(error: impl Display) -> io::Error {
    io::Error::other(format!("a record was not acknowledged: {error}"))
}

pub(super) fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}
