//! The real node as a subject: its own composition, over the simulated network, disk, clock and randomness. Owns what
//! survives a crash (the disks) and the view from above; what a node or a client does is the product's code.

mod client;
mod member;
mod operator;
mod settings;
mod whole;

use std::future::pending;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use waymark_node::config::Config;
use waymark_node::consensus::Consensus;
use waymark_node::env::{Env, Random};
use waymark_node::node::{Doors, NodeError, Running};
use waymark_node::state::ShardState;
use waymark_node::storage::tables::MemoryTables;
use waymark_proto::ids::{PartitionId, ShardId, TopicId, TopicPartition};

use self::client::WaymarkClient;
use self::member::Member;
use self::operator::Operator;
use crate::disk::{Crash, Faults, SimDisk};
use crate::group::seam::{GroupMember, GroupOperator, Manner, Told};
use crate::net::{SimClock, SimDial, incoming};
use crate::subject::{DiskCondition, Life, LogClient, Seat, Subject};

/// Where a node listens on its simulated host.
const CLIENT_PORT: u16 = 7001;
const PEER_PORT: u16 = 7101;
/// The topic of the workload.
const TOPIC: &str = "load";
/// More than there are shards, so that some share one.
const PARTITIONS: u32 = 5;
/// Unsynced writes survive a power loss in one of these ways.
const LOSSES: [Crash; 3] = [Crash::LoseAll, Crash::TornPrefix, Crash::Shuffle];

/// A sync of a disk that is slow, longer than an election takes.
const SLOW: Range<Duration> = Duration::from_millis(300)..Duration::from_secs(2);

/// Wall clocks are wrong by up to this; no promise depends on them.
const CLOCK_ERROR_MS: i64 = 60_000;

/// One machine: its disk, and the node on it while it lives.
#[derive(Debug)]
struct Machine {
    disk: SimDisk,
    sync_latency: Range<Duration>,
    clock: SimClock,
    /// Its disk fails, so that its node has to stop (S4).
    doomed: AtomicBool,
    /// Set by each start, taken by each power cut: nothing of a dead node may be kept alive.
    replicas: Mutex<Option<Consensus>>,
}

impl Machine {
    fn new(random: &mut SmallRng) -> Self {
        let disk = SimDisk::new(random.random());
        let slowest = Duration::from_micros(random.random_range(1_000..25_000));
        let sync_latency = Duration::from_micros(200)..slowest;
        let clock = SimClock::wrong_by(random.random_range(-CLOCK_ERROR_MS..=CLOCK_ERROR_MS));
        let (doomed, replicas) = (AtomicBool::new(false), Mutex::default());
        let machine = Self { disk, sync_latency, clock, doomed, replicas };
        machine.set_disk(DiskCondition::Healthy);
        machine
    }

    fn set_disk(&self, condition: DiskCondition) {
        let sync_latency = self.sync_latency.clone();
        let healthy = Faults { sync_latency, ..Faults::default() };
        let fails = matches!(condition, DiskCondition::SyncsFail | DiskCondition::WritesFail);
        self.doomed.store(fails, Ordering::SeqCst);
        self.disk.set_faults(match condition {
            DiskCondition::Healthy => healthy,
            DiskCondition::Slow => Faults { sync_latency: SLOW, ..healthy },
            DiskCondition::WritesFail => Faults { write_errors: 1.0, ..healthy },
            DiskCondition::SyncsFail => Faults { sync_errors: 1.0, ..healthy },
        });
    }

    async fn run(&self, config: &Config, env: Env, doors: Doors) -> Result<(), NodeError> {
        let node = Running::start(config, env, doors).await?;
        *self.replicas() = Some(node.consensus().clone());
        node.run_until(pending()).await
    }

    fn replicas(&self) -> MutexGuard<'_, Option<Consensus>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topic(&self) -> Option<TopicId> {
        let catalog = self.replicas().as_ref()?.shard(ShardId::CATALOG)?;
        catalog.read(|state| Some(state.catalog()?.topic_named(TOPIC)?.id))
    }

    /// The term in which it serves as the leader of what lives in such a shard.
    fn leads(&self, holds: impl Fn(&ShardState) -> bool) -> Option<u64> {
        let shards = self.replicas().as_ref()?.shards();
        let shard = shards.iter().find(|shard| shard.read(&holds))?;
        let leadership = shard.leadership();
        leadership.ready.then_some(leadership.term)
    }
}

/// A cluster of real nodes.
#[derive(Debug)]
pub struct Waymark {
    seed: u64,
    machines: Vec<Arc<Machine>>,
}

impl Waymark {
    /// As many machines with empty disks. The seed decides how fast the disks are, how wrong the clocks are, and how the nodes are configured.
    #[must_use]
    pub fn new(nodes: u32, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let machines = (0..nodes).map(|_| Arc::new(Machine::new(&mut random))).collect();
        Self { seed, machines }
    }

    /// The node that leads in the latest term.
    fn latest(&self, leads: impl Fn(&Machine) -> Option<u64>) -> Option<u32> {
        let leaders = (1..).zip(&self.machines);
        let leaders = leaders.filter_map(|(node, machine)| Some((leads(machine)?, node)));
        leaders.max().map(|(_, node)| node)
    }

    fn new_client(&self, seed: u64) -> WaymarkClient {
        let nodes = u32::try_from(self.machines.len()).expect("a cluster has a handful of nodes");
        WaymarkClient::new(nodes, seed)
    }

    fn machine(&self, node: u32) -> &Arc<Machine> {
        &self.machines[node as usize - 1]
    }
}

impl Subject for Waymark {
    fn partitions(&self) -> u32 {
        PARTITIONS
    }

    fn start(&self, seat: Seat) -> Life {
        let machine = Arc::clone(self.machine(seat.node));
        let config = settings::of(&seat, self.seed);
        Box::pin(async move {
            let env = Env {
                clock: Arc::new(machine.clock.clone()),
                random: Arc::new(Random::seeded(seat.seed)),
                disk: Arc::new(machine.disk.attach()),
                tables: Arc::new(MemoryTables::default()),
                dial: Arc::new(SimDial),
            };
            let doors = Doors {
                client: Box::pin(incoming(CLIENT_PORT)),
                peer: Box::pin(incoming(PEER_PORT)),
                metrics: None,
            };
            let ended = machine.run(&config, env, doors).await;
            if machine.doomed.load(Ordering::SeqCst) {
                tracing::info!(node = seat.node, ?ended, "a node with a failing disk stopped");
                machine.replicas().take();
                pending().await
            }
            Ok(ended?)
        })
    }

    fn client(&self, seed: u64) -> Box<dyn LogClient> {
        Box::new(self.new_client(seed))
    }

    fn member(&self, seed: u64, manner: Manner, told: Told) -> Box<dyn GroupMember> {
        Box::new(Member::new(self.new_client(seed), manner, told))
    }

    fn operator(&self, seed: u64) -> Box<dyn GroupOperator> {
        Box::new(Operator::new(self.new_client(seed)))
    }

    fn coordinator(&self) -> Option<u32> {
        self.latest(|machine| machine.leads(|state| state.group(operator::GROUP).is_some()))
    }

    fn leader(&self, partition: u32) -> Option<u32> {
        let topic = self.machines.iter().find_map(|machine| machine.topic())?;
        let partition = PartitionId(i32::try_from(partition).ok()?);
        let at = TopicPartition { topic, partition };
        self.latest(|machine| machine.leads(|state| state.partition(at).is_some()))
    }

    fn power_off(&self, node: u32) {
        let machine = self.machine(node);
        machine.disk.power_off();
        machine.replicas().take();
    }

    fn lose_unsynced(&self, node: u32, seed: u64) {
        let mode = SmallRng::seed_from_u64(seed).random_range(0..LOSSES.len());
        self.machine(node).disk.crash(LOSSES[mode]);
    }

    fn lose_disk(&self, node: u32) {
        self.machine(node).disk.replace();
    }

    fn is_whole(&self) -> bool {
        let running = self.machines.iter().map(|machine| machine.replicas().clone());
        running.collect::<Option<Vec<Consensus>>>().is_some_and(|nodes| whole::is_whole(&nodes))
    }

    fn set_disk(&self, node: u32, condition: DiskCondition) {
        self.machine(node).set_disk(condition);
    }

    fn shift_clock(&self, node: u32, by_ms: i64) {
        self.machine(node).clock.shift(by_ms);
    }
}
