//! The stories that a cluster is put through: load, a fault, healing, and reading everything back. A scenario decides what
//! happens and when; what was promised is the oracle's business. To add one: a variant, its name, its faults.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::cluster::{Broken, Cluster};
use crate::history::{Event, History};
use crate::oracle::{Violation, judge};
use crate::subject::{Appended, LogClient, Subject};

const NODES: u32 = 3;
const PRODUCERS: u32 = 3;
/// Pause of a producer between two records.
const THINK: Duration = Duration::from_millis(5);
/// After the last fault, everything must be readable within this.
const SETTLE: Duration = Duration::from_secs(30);

/// A story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// No fault at all: what breaks here is broken.
    Calm,
    /// The leader of a partition is cut off under load, and joined again.
    LeaderPartition,
    /// All nodes lose power in one tick, with torn and reordered unsynced writes; several times.
    PowerLossAll,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Self; 3] = [Self::Calm, Self::LeaderPartition, Self::PowerLossAll];

    /// As it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::LeaderPartition => "leader-partition",
            Self::PowerLossAll => "power-loss-all",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        found.ok_or_else(|| format!("no scenario {name:?}; there are {all}"))
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Verdict {
    /// Appends acknowledged: a run without any proves nothing.
    pub acknowledged: usize,
    /// Promises broken.
    pub violations: Vec<Violation>,
    /// Simulated time.
    pub elapsed: Duration,
}

/// Runs a scenario on a subject. Call it inside [`crate::det::run`].
///
/// # Errors
/// When a node fell over, or the cluster did not serve again after the faults.
pub fn run(scenario: Scenario, subject: &Arc<dyn Subject>, seed: u64) -> Result<Verdict, Broken> {
    let mut cluster = Cluster::start(Arc::clone(subject), NODES, seed);
    let history = History::default();
    let load = Load::start(&mut cluster, subject, &history);
    cluster.run_for(Duration::from_secs(2))?;
    match scenario {
        Scenario::Calm => cluster.run_for(Duration::from_secs(3))?,
        Scenario::LeaderPartition => leader_partition(&mut cluster, subject)?,
        Scenario::PowerLossAll => power_loss_all(&mut cluster)?,
    }
    cluster.run_for(Duration::from_secs(1))?;
    load.stop(&mut cluster)?;
    settle(&mut cluster, subject, &history)?;
    let violations = judge(&history.snapshot());
    Ok(Verdict { acknowledged: history.acknowledged(), violations, elapsed: cluster.elapsed() })
}

fn leader_partition(cluster: &mut Cluster, subject: &Arc<dyn Subject>) -> Result<(), Broken> {
    for _ in 0..3 {
        let partition = u32::try_from(cluster.draw(0, subject.partitions().into())).unwrap_or(0);
        let Some(leader) = subject.leader(partition) else {
            return Err(Broken(format!("partition {partition} has no leader")));
        };
        cluster.isolate(leader);
        let cut = Duration::from_millis(cluster.draw(500, 4000));
        cluster.run_for(cut)?;
        cluster.heal(leader);
        cluster.run_for(Duration::from_secs(2))?;
    }
    Ok(())
}

fn power_loss_all(cluster: &mut Cluster) -> Result<(), Broken> {
    let all: Vec<u32> = (1..=NODES).collect();
    for _ in 0..3 {
        let load = Duration::from_millis(cluster.draw(50, 1500));
        cluster.run_for(load)?;
        cluster.power_loss(&all);
        let dark = Duration::from_millis(cluster.draw(1, 500));
        cluster.run_for(dark)?;
        cluster.restart(&all);
        cluster.run_for(Duration::from_secs(2))?;
    }
    Ok(())
}

/// The producers of a run.
struct Load {
    stop: Arc<AtomicBool>,
    running: Arc<AtomicU32>,
}

impl Load {
    fn start(cluster: &mut Cluster, subject: &Arc<dyn Subject>, history: &History) -> Self {
        let load = Self { stop: Arc::default(), running: Arc::new(AtomicU32::new(PRODUCERS)) };
        for producer in 1..=PRODUCERS {
            let client = subject.client(cluster.draw(0, u64::MAX));
            let stop = Arc::clone(&load.stop);
            let running = Arc::clone(&load.running);
            let history = history.clone();
            let partitions = subject.partitions();
            cluster.client(&format!("producer-{producer}"), async move {
                produce(client, producer, partitions, &history, &stop).await;
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        load
    }

    fn stop(&self, cluster: &mut Cluster) -> Result<(), Broken> {
        self.stop.store(true, Ordering::SeqCst);
        let running = Arc::clone(&self.running);
        match cluster.run_until(SETTLE, || running.load(Ordering::SeqCst) == 0)? {
            true => Ok(()),
            false => {
                Err(Broken("a producer still waits for an answer, without a deadline".to_owned()))
            }
        }
    }
}

async fn produce(
    mut client: Box<dyn LogClient>,
    producer: u32,
    partitions: u32,
    history: &History,
    stop: &AtomicBool,
) {
    let mut sequence = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        let partition = u32::try_from(sequence % u64::from(partitions)).unwrap_or(0);
        let value = (u64::from(producer) << 32) | sequence;
        sequence += 1;
        history.note(Event::AppendInvoked { partition, producer, value });
        history.note(match client.append(partition, value).await {
            Appended::At(offset) => Event::AppendOk { partition, offset, value },
            Appended::Refused => Event::AppendFailed { partition, value },
            Appended::Unknown => Event::AppendUnknown { partition, value },
        });
        tokio::time::sleep(THINK).await;
    }
}

/// Reads every partition back, as long as it takes, up to [`SETTLE`].
fn settle(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    history: &History,
) -> Result<(), Broken> {
    let mut client = subject.client(cluster.draw(0, u64::MAX));
    let partitions = subject.partitions();
    let done = Arc::new(AtomicBool::new(false));
    let (told, seen) = (Arc::clone(&done), history.clone());
    cluster.client("auditor", async move {
        for partition in 0..partitions {
            let records = loop {
                match client.read_all(partition).await {
                    Ok(records) => break records,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            };
            seen.note(Event::Settled { partition, records });
        }
        told.store(true, Ordering::SeqCst);
    });
    match cluster.run_until(SETTLE, || done.load(Ordering::SeqCst))? {
        true => Ok(()),
        false => Err(Broken(format!("not everything can be read {SETTLE:?} after the last fault"))),
    }
}
