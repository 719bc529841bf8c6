//! The real node as a subject: its own composition, over the simulated network, disk, clock and randomness. Owns what
//! survives a crash (the disks) and the view from above; what a node or a client does is the product's code.

pub(crate) mod client;
mod journal_rot;
mod machine;
mod member;
mod operator;
pub(crate) mod real;
mod segment_rot;
mod settings;
pub(crate) mod translation;
mod whole;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::time::sleep;
use waymark_node::consensus::Consensus;
use waymark_node::env::{Env, Random};
use waymark_node::node::{Doors, NodeError};
use waymark_node::storage::tables::MemoryTables;
use waymark_proto::ids::{PartitionId, ShardId, TopicPartition};
use waymark_proto::transport::Purpose;

use self::client::WaymarkClient;
use self::machine::Machine;
use self::member::Member;
use self::operator::Operator;
use crate::acks::{Ack, Acks};
use crate::disk::{Point, SimDisk};
use crate::group::seam::{GroupMember, GroupOperator, Manner, Told};
use crate::net::relay::CallFaults;
use crate::net::{SimDial, incoming};
use crate::subject::{
    Clients, DiskCondition, End, Harm, Life, LogClient, Rot, Seat, Sight, Subject, host,
};

/// Where a node listens on its simulated host.
const CLIENT_PORT: u16 = 7001;
const PEER_PORT: u16 = 7101;
/// Clients are not told apart where calls go wrong.
const CLIENTS: &str = "client";
/// The topic of the workload.
const TOPIC: &str = "load";
/// More than there are shards, so that some share one.
const PARTITIONS: u32 = 5;
/// Of each partition, where real processes run it.
const REPLICAS: u32 = 3;
/// Entries on the way while records flow.
const CLOSE: u64 = 64;
/// Between two starts of a node that finds no room to start in.
const START_AGAIN: Duration = Duration::from_millis(500);
/// A cluster of real nodes.
#[derive(Debug)]
pub struct Waymark {
    seed: u64,
    /// Logs are kept below checkpoints for as long as a run lasts.
    keeps_logs: bool,
    machines: Vec<Arc<Machine>>,
    /// What goes wrong with calls; `None`: nothing ever does, and connections have nothing in between.
    calls: Option<CallFaults>,
    acks: Acks,
}

impl Waymark {
    /// As many machines with empty disks. The seed decides how fast the disks are, how wrong the clocks are, and how the nodes are configured.
    #[must_use]
    pub fn new(nodes: u32, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let count = nodes as usize;
        let machines = (0..nodes).map(|_| Arc::new(Machine::new(count, &mut random))).collect();
        Self { seed, keeps_logs: false, machines, calls: None, acks: Acks::default() }
    }

    /// Nodes that keep their logs below checkpoints, so that peers have what damage takes.
    #[must_use]
    pub fn keeping_logs(self) -> Self {
        Self { keeps_logs: true, ..self }
    }

    /// Calls can go wrong.
    #[must_use]
    pub fn with_faulty_calls(self) -> Self {
        Self { calls: Some(CallFaults::new(self.seed)), ..self }
    }

    /// Nodes whose acks are heard: here they are told of.
    #[must_use]
    pub fn heard_by(self, acks: &Acks) -> Self {
        Self { acks: acks.clone(), ..self }
    }

    fn dial(&self, from: &str, purpose: Purpose) -> SimDial {
        SimDial::new(from, purpose, self.calls.clone())
    }

    /// The node that leads in the latest term.
    fn latest(&self, leads: impl Fn(&Machine) -> Option<u64>) -> Option<u32> {
        let leaders = (1..).zip(&self.machines);
        let leaders = leaders.filter_map(|(node, machine)| Some((leads(machine)?, node)));
        leaders.max().map(|(_, node)| node)
    }

    fn new_client(&self, seed: u64) -> WaymarkClient {
        WaymarkClient::new(1..=self.nodes(), seed, self.dial(CLIENTS, Purpose::Client))
    }

    /// Every node runs, and every replica has all that its leader has but so many entries.
    fn is_within(&self, entries: u64) -> bool {
        let running = self.machines.iter().map(|machine| machine.replicas().clone());
        let nodes = running.collect::<Option<Vec<Consensus>>>();
        nodes.is_some_and(|nodes| whole::is_whole(&nodes, entries))
    }

    fn nodes(&self) -> u32 {
        u32::try_from(self.machines.len()).expect("a cluster has a handful of nodes")
    }

    fn disks(&self) -> Vec<SimDisk> {
        self.machines.iter().map(|it| it.disk.clone()).collect()
    }

    fn machine(&self, node: u32) -> &Arc<Machine> {
        &self.machines[node as usize - 1]
    }
}

impl Clients for Waymark {
    fn partitions(&self) -> u32 {
        PARTITIONS
    }

    fn replicas(&self) -> u32 {
        settings::replication(self.nodes(), self.seed)
    }

    fn client(&self, seed: u64) -> Box<dyn LogClient> {
        Box::new(self.new_client(seed))
    }
}

impl Subject for Waymark {
    fn client_at(&self, node: u32, seed: u64) -> Box<dyn LogClient> {
        Box::new(WaymarkClient::new(node..=node, seed, self.dial(CLIENTS, Purpose::Client)))
    }

    fn start(&self, seat: Seat) -> Life {
        let machine = Arc::clone(self.machine(seat.node));
        let config = settings::of(&seat, self.seed, self.keeps_logs);
        let dial = self.dial(&host(seat.node), Purpose::Peer);
        // Not later: until then the life before seems to have ended just now.
        let disk = machine.begin_life();
        Box::pin(async move {
            tokio::spawn(Machine::skip_when_told(machine.skip.subscribe()));
            let env = Env {
                clock: Arc::new(machine.clock.clone()),
                random: Arc::new(Random::seeded(seat.seed)),
                disk: Arc::new(disk.clone()),
                tables: Arc::new(MemoryTables::default()),
                dial: Arc::new(dial),
            };
            let ended = loop {
                let doors = Doors {
                    client: Box::pin(incoming(CLIENT_PORT)),
                    peer: Box::pin(incoming(PEER_PORT)),
                    metrics: None,
                };
                match machine.run(&config, env.clone(), doors).await {
                    // Only a start ends so. Whatever watches over processes starts it again.
                    Err(NodeError::Journal(error)) if error.is_full_disk() => {
                        tracing::info!(node = seat.node, %error, "a node cannot start");
                        sleep(START_AGAIN).await;
                    }
                    ended => break ended,
                }
            };
            if machine.doomed.load(Ordering::SeqCst) || disk.is_off() {
                tracing::info!(node = seat.node, ?ended, "a node with a failing disk stopped");
                machine.replicas().take();
                machine.ended.store(true, Ordering::SeqCst);
                pending().await
            }
            Ok(ended?)
        })
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

    fn sights(&self) -> Vec<Sight> {
        let doubted = self.machines.iter().filter(|it| it.is_doubted() && !it.lies());
        // What it lost it has again.
        doubted.for_each(|machine| {
            if self.is_within(0) {
                machine.trust_again()
            }
        });
        (1..).zip(&self.machines).flat_map(|(node, machine)| machine.sights(node)).collect()
    }

    fn acks(&self) -> Vec<Ack> {
        self.acks.take()
    }

    fn wrongly_held_for_durable(&self) -> Option<String> {
        let mut machines = (1..).zip(&self.machines);
        machines.find_map(|(node, machine): (u32, _)| {
            let (path, bytes) = machine.wrongly_held_for_durable()?;
            Some(format!("node {node} holds the first {bytes} bytes of {path} for durable"))
        })
    }

    fn beyond_bounds(&self) -> Option<String> {
        let mut machines = (1..).zip(&self.machines);
        machines.find_map(|(node, machine): (u32, _)| {
            Some(format!("node {node}: {}", machine.beyond_bounds()?))
        })
    }

    fn power_off(&self, node: u32) {
        let machine = self.machine(node);
        machine.disk.power_off();
        machine.replicas().take();
    }

    fn lose_unsynced(&self, node: u32, seed: u64) {
        self.machine(node).lose_unsynced(seed);
    }

    fn expose_lies(&self, node: u32) -> bool {
        let loses = self.machine(node).lies() && self.is_level();
        if loses {
            self.machine(node).expose_lies();
        }
        loses
    }

    fn rot_journals(&self, nodes: &[u32], seed: u64) -> usize {
        let victims: Vec<usize> = nodes.iter().map(|node| *node as usize - 1).collect();
        journal_rot::rot_journals(&self.disks(), &victims, seed)
    }

    fn lose_disk(&self, node: u32) {
        self.machine(node).disk.replace();
    }

    fn spare(&self) -> usize {
        // Of the replicas of a partition, whichever nodes these are on; the catalog has one more on each node.
        (settings::replication(self.nodes(), self.seed) as usize - 1) / 2
    }

    fn is_whole(&self) -> bool {
        self.is_within(CLOSE)
    }

    fn has_rot(&self) -> bool {
        self.machines.iter().any(|it| segment_rot::has_rot(&it.disk))
    }

    fn is_level(&self) -> bool {
        self.is_within(0)
    }

    fn set_disk(&self, node: u32, condition: DiskCondition) {
        self.machine(node).set_disk(condition);
    }

    fn hangs(&self, node: u32) -> bool {
        self.machine(node).disk.hangs()
    }

    fn may_end(&self, node: u32) -> bool {
        self.machine(node).doomed.load(Ordering::SeqCst)
    }

    fn ended(&self, node: u32) -> Option<End> {
        let machine = self.machine(node);
        let stopped = || machine.ended.load(Ordering::SeqCst).then_some(End::Stopped);
        machine.disk.sprung().map(End::Trapped).or_else(stopped)
    }

    fn set_trap(&self, node: u32, at: Option<(Point, u32)>) {
        self.machine(node).disk.set_trap(at);
    }

    fn skip_time(&self, node: u32, by: Duration) {
        self.machine(node).skip.send_replace(by);
    }

    fn set_calls(&self, node: u32, percent: u8) {
        if let Some(faults) = &self.calls {
            faults.set(&host(node), percent);
        }
    }

    fn doubt_journal(&self, node: u32, seed: u64) -> Option<Harm> {
        journal_rot::put_in_doubt(&self.disks(), node as usize - 1, seed)
    }

    fn in_doubt(&self, node: u32) -> Vec<ShardId> {
        let replicas = self.machine(node).replicas().clone();
        let troubles = replicas.map(|it| it.troubles()).unwrap_or_default();
        troubles.into_iter().filter(|it| it.never_runs).map(|it| it.shard).collect()
    }

    fn rot(&self, node: u32, what: Rot, seed: u64) -> Option<Harm> {
        segment_rot::rot(&self.disks(), node, what, seed)
    }

    fn open_damage(&self) -> usize {
        let replicas = self.machines.iter().filter_map(|machine| machine.replicas().clone());
        let shards = replicas.flat_map(|it| it.shards());
        shards.map(|shard| shard.store().damaged().len()).sum()
    }

    fn shift_clock(&self, node: u32, by_ms: i64) {
        self.machine(node).clock.shift(by_ms);
    }
}
