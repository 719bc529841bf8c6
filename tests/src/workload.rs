//! What clients do in every profile: produce in bursts, follow and commit, and at the end read everything back. They write
//! down what they were told; nothing is judged here, and nothing breaks here.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::cluster::{Broken, Cluster};
use crate::history::{Event, History};
use crate::subject::{Appended, LogClient, Subject};

/// Most records of a burst: more than a producer may have on the way, so that some wait.
const BURST: u64 = 8;
/// After the last fault, everything must be served again within this.
pub(crate) const SETTLE: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The group of the follower.
const GROUP: u32 = 1;

/// The making of the partitions that everything else uses.
pub(crate) struct Preparation {
    ready: Arc<AtomicBool>,
}

impl Preparation {
    pub(crate) fn start(cluster: &mut Cluster, subject: &Arc<dyn Subject>) -> Self {
        let mut client = subject.client(cluster.draw(0, u64::MAX));
        let ready = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ready);
        cluster.client("operator", async move {
            until_ok(&mut client, async |client| client.prepare().await).await;
            told.store(true, Ordering::SeqCst);
        });
        Self { ready }
    }

    pub(crate) fn finish(&self, cluster: &mut Cluster) -> Result<(), Broken> {
        match cluster.run_until(SETTLE, || self.ready.load(Ordering::SeqCst))? {
            true => Ok(()),
            false => Err(Broken("the cluster never began to serve".to_owned())),
        }
    }
}

/// Asks until there is an answer.
async fn until_ok<T>(
    client: &mut Box<dyn LogClient>,
    ask: impl AsyncFn(&mut Box<dyn LogClient>) -> io::Result<T>,
) -> T {
    loop {
        match ask(client).await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::debug!(%error, "asked in vain");
                sleep(ASK_AGAIN).await;
            }
        }
    }
}

/// Who produces and reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    producers: u32,
    /// Longest pause of a producer between two bursts.
    pause_ms: u64,
    followed: bool,
}

impl Pace {
    /// Something is always on the way, and somebody follows.
    pub(crate) const BUSY: Self = Self { producers: 3, pause_ms: 40, followed: true };
    /// A group reads, for longer: there is something new whenever it looks.
    pub(crate) const STEADY: Self = Self { producers: 2, pause_ms: 120, followed: false };
}

/// The clients of a run while faults happen.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    running: Arc<AtomicU32>,
}

impl Load {
    pub(crate) fn start(
        cluster: &mut Cluster,
        subject: &Arc<dyn Subject>,
        history: &History,
        pace: Pace,
    ) -> Self {
        let running = pace.producers + u32::from(pace.followed);
        let load = Self { stop: Arc::default(), running: Arc::new(AtomicU32::new(running)) };
        for number in 1..=pace.producers {
            let seed = cluster.draw(0, u64::MAX);
            let producer = Burster {
                client: subject.client(seed),
                producer: number,
                partitions: subject.partitions(),
                history: history.clone(),
                random: SmallRng::seed_from_u64(seed),
                pause_ms: pace.pause_ms,
                sent: 0,
            };
            let (stop, running) = (Arc::clone(&load.stop), Arc::clone(&load.running));
            cluster.client(&format!("producer-{number}"), async move {
                producer.run(&stop).await;
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        if !pace.followed {
            return load;
        }
        let client = subject.client(cluster.draw(0, u64::MAX));
        let history = history.clone();
        let (stop, running) = (Arc::clone(&load.stop), Arc::clone(&load.running));
        cluster.client("follower", async move {
            follow(client, &history, &stop).await;
            running.fetch_sub(1, Ordering::SeqCst);
        });
        load
    }

    /// Lets every client come to its end.
    pub(crate) fn stop(&self, cluster: &mut Cluster) -> Result<(), Broken> {
        self.stop.store(true, Ordering::SeqCst);
        match cluster.run_until(SETTLE, || self.running.load(Ordering::SeqCst) == 0)? {
            true => Ok(()),
            false => Err(Broken("a client still waits, without a deadline".to_owned())),
        }
    }
}

/// Sends bursts of values, each to one partition.
struct Burster {
    client: Box<dyn LogClient>,
    producer: u32,
    partitions: u32,
    history: History,
    random: SmallRng,
    pause_ms: u64,
    sent: u64,
}

impl Burster {
    async fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            self.burst().await;
            sleep(Duration::from_millis(self.random.random_range(0..self.pause_ms))).await;
        }
    }

    async fn burst(&mut self) {
        let partition = self.random.random_range(0..self.partitions);
        let count = self.random.random_range(1..=BURST);
        let first = (u64::from(self.producer) << 32) | self.sent;
        self.sent += count;
        let values: Vec<u64> = (first..first + count).collect();
        for value in values.iter().copied() {
            let producer = self.producer;
            self.history.note(Event::AppendInvoked { partition, producer, value });
        }
        let outcomes = self.client.append(partition, &values).await;
        for (value, outcome) in values.into_iter().zip(outcomes) {
            self.history.note(match outcome {
                Appended::At(offset) => Event::AppendOk { partition, offset, value },
                Appended::Refused => Event::AppendFailed { partition, value },
                Appended::Unknown => Event::AppendUnknown { partition, value },
            });
        }
    }
}

/// Reads all partitions from their beginning while records come, commits one partition's offset after every read, and looks
/// whether it counts.
async fn follow(mut client: Box<dyn LogClient>, history: &History, stop: &AtomicBool) {
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    let mut turn = 0;
    while !stop.load(Ordering::SeqCst) {
        let Ok(records) = client.follow().await else {
            sleep(ASK_AGAIN).await;
            continue;
        };
        for record in records {
            let (partition, offset, value) = (record.partition, record.offset, record.value);
            history.note(Event::Read { partition, offset, value });
            let end = ends.entry(partition).or_default();
            *end = (*end).max(offset + 1);
        }
        turn += 1;
        let chosen = ends.iter().nth(turn % ends.len().max(1));
        let Some((partition, offset)) = chosen.map(|(partition, end)| (*partition, *end)) else {
            continue;
        };
        history.note(match client.commit(partition, offset).await {
            true => Event::CommitOk { group: GROUP, partition, offset },
            false => Event::CommitUnknown { group: GROUP, partition, offset },
        });
        if let Ok(offset) = client.committed(partition).await {
            history.note(Event::CommittedSeen { group: GROUP, partition, offset });
        }
    }
}

/// After all faults: reads every partition back and compares its replicas, as long as it takes, up to [`SETTLE`].
pub(crate) fn settle(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    history: &History,
) -> Result<(), Broken> {
    let mut client = subject.client(cluster.draw(0, u64::MAX));
    let partitions = subject.partitions();
    let done = Arc::new(AtomicU32::new(0));
    let (told, seen) = (Arc::clone(&done), history.clone());
    cluster.client("auditor", async move {
        for partition in 0..partitions {
            let ask = async |client: &mut Box<dyn LogClient>| client.read_all(partition).await;
            let records = until_ok(&mut client, ask).await;
            let end = records.last().map_or(0, |(offset, _)| offset + 1);
            seen.note(Event::Settled { partition, records });
            let ask = async |client: &mut Box<dyn LogClient>| client.log_start(partition).await;
            let offset = until_ok(&mut client, ask).await;
            seen.note(Event::LogStart { partition, offset });
            if let Some(gone) = offset.checked_sub(1) {
                let ask =
                    async |client: &mut Box<dyn LogClient>| client.read_gone(partition, gone).await;
                let records = until_ok(&mut client, ask).await;
                seen.note(Event::ReadGone { partition, records });
            }
            let ask = async |client: &mut Box<dyn LogClient>| client.committed(partition).await;
            let offset = until_ok(&mut client, ask).await;
            seen.note(Event::CommittedSeen { group: GROUP, partition, offset });
            let ask = async |client: &mut Box<dyn LogClient>| client.digests(partition, end).await;
            let replicas = until_ok(&mut client, ask).await;
            seen.note(Event::Compared { partition, replicas });
            told.fetch_add(1, Ordering::SeqCst);
        }
    });
    match cluster.run_until(SETTLE, || done.load(Ordering::SeqCst) == partitions)? {
        true => Ok(()),
        false => Err(Broken(format!(
            "{SETTLE:?} after the last fault, partition {} cannot be read on all replicas",
            done.load(Ordering::SeqCst)
        ))),
    }
}
