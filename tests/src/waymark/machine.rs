//! Owns one simulated machine: its disk and what is wrong with it, its clock, and the life of the node on it. It is told what to
//! suffer and never decides it.

use std::future::pending;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::advance;
use waymark_node::config::Config;
use waymark_node::consensus::{Consensus, Shard};
use waymark_node::env::Env;
use waymark_node::node::{Doors, NodeError, Running};
use waymark_node::state::ShardState;
use waymark_proto::ids::{ShardId, TopicId};

use super::TOPIC;
use crate::disk::{Crash, Faults, SimDisk};
use crate::net::SimClock;
use crate::subject::{DiskCondition, Sight};

/// What waits for the journal at most, bytes: what this node takes in (`broker.pending_bytes`), what each other one may send
/// before it hears that it is on disk (`network.node_window_bytes`) …
const MOST_OF_EACH_NODE: usize = 1 << 20;
/// … and beyond that one request of each of seven shards, as large as the largest batch of a flood.
const MOST_OF_ALL_SHARDS: usize = 7 * (256 << 10);
/// What waits for segments at most, bytes: as many as let appliers stand still (`store.pending_bytes`), and what each replica's
/// has in hand just then.
const MOST_FOR_SEGMENTS: usize = (1 << 20) + (256 << 10);
/// Files that a node holds open at most: segments that are read (`store.open_files`), one that is written and one that is sent for
/// each of its replicas, and the journal's spare ones; beside those, two for each file that its journal needs. A node that dies
/// again and again begins such a file in each life.
const MOST_OPEN: usize = 96;
const OPEN_FOR_EACH: usize = 2;
/// Unsynced writes survive a power loss in one of these ways.
const LOSSES: [Crash; 3] = [Crash::LoseAll, Crash::TornPrefix, Crash::Shuffle];

/// A sync of a disk that is slow, longer than an election takes.
const SLOW: Range<Duration> = Duration::from_millis(300)..Duration::from_secs(2);

/// How often a write fails where some do.
const SOME: f64 = 0.02;

/// Wall clocks are wrong by up to this; no promise depends on them.
const CLOCK_ERROR_MS: i64 = 60_000;

/// One machine: its disk, and the node on it while it lives.
#[derive(Debug)]
pub(super) struct Machine {
    /// Machines of the cluster.
    nodes: usize,
    pub(super) disk: SimDisk,
    sync_latency: Range<Duration>,
    pub(super) clock: SimClock,
    /// Its disk says that it has synced, and has not.
    lies: AtomicBool,
    /// Lies may be lost with the power: just now, all others have what it lies about.
    exposed: AtomicBool,
    /// What it was believed to have may be gone, until it is seen to have all again.
    doubted: AtomicBool,
    /// Its disk fails now, so that its node may have to stop (S4).
    fails: AtomicBool,
    /// … or has failed in this life of its node.
    pub(super) doomed: AtomicBool,
    /// The node's life is over, and that is no fault of its own.
    pub(super) ended: AtomicBool,
    /// How far the node's timers are to jump; taken by the life that runs.
    pub(super) skip: watch::Sender<Duration>,
    /// Set by each start, taken by each power cut: nothing of a dead node may be kept alive.
    replicas: Mutex<Option<Consensus>>,
    /// Starts so far.
    lives: AtomicU32,
}

impl Machine {
    pub(super) fn new(nodes: usize, random: &mut SmallRng) -> Self {
        let disk = SimDisk::new(random.random());
        let slowest = Duration::from_micros(random.random_range(1_000..25_000));
        let sync_latency = Duration::from_micros(200)..slowest;
        let clock = SimClock::wrong_by(random.random_range(-CLOCK_ERROR_MS..=CLOCK_ERROR_MS));
        let (lies, exposed, doubted, fails, doomed, ended) = Default::default();
        let (skip, replicas) = (watch::channel(Duration::ZERO).0, Mutex::default());
        let lives = AtomicU32::new(0);
        let machine = Self {
            nodes,
            disk,
            sync_latency,
            clock,
            lies,
            exposed,
            doubted,
            fails,
            doomed,
            ended,
            skip,
            replicas,
            lives,
        };
        machine.set_disk(DiskCondition::Healthy);
        machine
    }

    pub(super) fn set_disk(&self, condition: DiskCondition) {
        let sync_latency = self.sync_latency.clone();
        let healthy = Faults { sync_latency, ..Faults::default() };
        self.tell_truth_unless(condition == DiskCondition::Lies);
        let fails = condition.may_end_a_node();
        self.fails.store(fails, Ordering::SeqCst);
        self.doomed.fetch_or(fails, Ordering::SeqCst);
        self.disk.set_faults(match condition {
            DiskCondition::Healthy => healthy,
            DiskCondition::Lies => Faults { sync_lies: 1.0, ..healthy },
            DiskCondition::Slow => Faults { sync_latency: SLOW, ..healthy },
            DiskCondition::Full { free } => {
                Faults { capacity: Some(self.disk.used() + free), ..healthy }
            }
            DiskCondition::WritesFail => Faults { write_errors: 1.0, ..healthy },
            DiskCondition::SyncsFail => Faults { sync_errors: 1.0, ..healthy },
            DiskCondition::SomeWritesFail => Faults { write_errors: SOME, ..healthy },
            DiskCondition::ShortWrites => Faults { short_writes: SOME, ..healthy },
            DiskCondition::ReadsFail { percent } => {
                Faults { read_errors: f64::from(percent) / 100.0, ..healthy }
            }
            DiskCondition::Stalled { ms } => {
                Faults { journal_stall: Duration::from_millis(ms.into()), ..healthy }
            }
        });
    }

    /// A disk that ends to lie writes back all that it has not, late.
    fn tell_truth_unless(&self, lies: bool) {
        if self.lies.swap(lies, Ordering::SeqCst) && !lies {
            self.disk.write_back();
            self.doubted.store(false, Ordering::SeqCst);
        }
        self.doubted.fetch_or(lies, Ordering::SeqCst);
    }

    pub(super) fn lies(&self) -> bool {
        self.lies.load(Ordering::SeqCst)
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::SeqCst)
    }

    pub(super) fn trust_again(&self) {
        self.doubted.store(false, Ordering::SeqCst);
    }

    /// The next power loss takes what its disk lies about.
    pub(super) fn expose_lies(&self) {
        self.exposed.store(true, Ordering::SeqCst);
    }

    /// Decides what a power loss leaves. Of a disk that lies all is there, unless it was exposed: with what others may not have,
    /// no promise could be kept.
    pub(super) fn lose_unsynced(&self, seed: u64) {
        if self.lies() && !self.exposed.swap(false, Ordering::SeqCst) {
            self.disk.write_back();
        } else {
            self.lies.store(false, Ordering::SeqCst);
        }
        let mode = SmallRng::seed_from_u64(seed).random_range(0..LOSSES.len());
        self.disk.crash(LOSSES[mode]);
    }

    /// The handle of a life that begins.
    pub(super) fn begin_life(&self) -> SimDisk {
        self.doomed.store(self.fails.load(Ordering::SeqCst), Ordering::SeqCst);
        self.ended.store(false, Ordering::SeqCst);
        if self.disk.sprung().is_some() {
            self.disk.set_trap(None);
        }
        self.disk.attach_anew()
    }

    /// Lets the timers of the life that runs jump when they are told to.
    pub(super) async fn skip_when_told(mut told: watch::Receiver<Duration>) {
        while told.changed().await.is_ok() {
            let by = *told.borrow_and_update();
            advance(by).await;
        }
    }

    pub(super) async fn run(
        &self,
        config: &Config,
        env: Env,
        doors: Doors,
    ) -> Result<(), NodeError> {
        let node = Running::start(config, env, doors).await?;
        self.lives.fetch_add(1, Ordering::SeqCst);
        *self.replicas() = Some(node.consensus().clone());
        node.run_until(pending()).await
    }

    pub(super) fn replicas(&self) -> MutexGuard<'_, Option<Consensus>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sights(&self, node: u32) -> Vec<Sight> {
        let life = self.lives.load(Ordering::SeqCst);
        let shards = self.replicas().as_ref().map(Consensus::shards).unwrap_or_default();
        let sight = |shard: Shard| {
            let (one, other, third) = (shard.clone(), shard.clone(), shard.clone());
            Sight {
                node,
                life,
                shard: shard.id(),
                replica: shard.replica(),
                stand: shard.log_stand(),
                entry: Box::new(move |index| one.entry_id(index)),
                on_disk: Box::new(move |id| other.has_on_disk(id)),
                state: Box::new(move || applied_state(&third)),
                honest_disk: !self.is_doubted(),
            }
        };
        shards.into_iter().map(sight).collect()
    }

    /// A file of the journal, and how much of it the journal holds for durable although it is not.
    pub(super) fn wrongly_held_for_durable(&self) -> Option<(String, u64)> {
        if self.is_doubted() {
            return None;
        }
        let files = self.replicas().as_ref().map(Consensus::durable_bytes)?;
        files.into_iter().find(|(path, bytes)| !self.disk.has_durable(path, *bytes))
    }

    /// What has outgrown its bound.
    pub(super) fn beyond_bounds(&self) -> Option<String> {
        let waiting = self.replicas().as_ref().map(Consensus::waiting_bytes)?;
        let queues = [
            ("journal", waiting.journal, self.nodes * MOST_OF_EACH_NODE + MOST_OF_ALL_SHARDS),
            ("segments", waiting.segments, MOST_FOR_SEGMENTS),
        ];
        if let Some((whose, bytes, most)) = queues.iter().find(|(_, bytes, most)| bytes > most) {
            return Some(format!("{bytes} bytes wait for its {whose}, at most {most} may"));
        }
        let files = self.disk.open_files();
        if files <= MOST_OPEN {
            return None;
        }
        let needed = self.replicas().as_ref().map_or(0, |it| it.durable_bytes().len());
        let most = MOST_OPEN + OPEN_FOR_EACH * needed;
        (files > most).then(|| format!("{files} files are open on its disk, at most {most} may be"))
    }

    pub(super) fn topic(&self) -> Option<TopicId> {
        let catalog = self.replicas().as_ref()?.shard(ShardId::CATALOG)?;
        catalog.read(|state| Some(state.catalog()?.topic_named(TOPIC)?.id))
    }

    /// The term in which it serves as the leader of what lives in such a shard.
    pub(super) fn leads(&self, holds: impl Fn(&ShardState) -> bool) -> Option<u64> {
        let shards = self.replicas().as_ref()?.shards();
        let shard = shards.iter().find(|shard| shard.read(&holds))?;
        let leadership = shard.leadership();
        leadership.ready.then_some(leadership.term)
    }
}

/// The state of a replica as its tables would tell it.
fn applied_state(shard: &Shard) -> ShardState {
    let mut state = shard.read(ShardState::clone);
    state.drain_rows();
    state
}
