//! Owns the simulated world of one run: nodes and clients on hosts of one network, time, and the faults that happen to
//! them. It never judges and never knows what a node does.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::spawn_local;
use turmoil::Sim;

use crate::det;
use crate::links::{Cause, Links, Wrong};
use crate::subject::{DiskCondition, Hosts, Rot, Seat, Subject, host};
use crate::view::{View, Wrongs};

/// Longest simulated life of a run: a profile that is not done by then hangs.
const DURATION: Duration = Duration::from_secs(600);
/// Half-open connections per host; a crash loop leaves many, and running out ends the run.
const CONNECTIONS: usize = 4096;

/// A node panicked, or the network ended with an error.
#[derive(Debug)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Broken {}

impl Hosts for Cluster {
    fn host(&mut self, life: impl Future<Output = ()> + 'static) {
        self.client(life);
    }

    fn draw(&mut self, from: u64, below: u64) -> u64 {
        Self::draw(self, from, below)
    }
}

/// The life of a client.
type Client = Pin<Box<dyn Future<Output = ()>>>;

/// Clients that begin between two steps: those of a load, of a flood and an operator's.
const MOST_NEWCOMERS: usize = 64;

/// The host of all clients but the members of groups, which die and are cut off one by one.
const CLIENTS: &str = "clients";

/// Nodes and clients in one simulation. The driver moves time; between two steps it may do anything to anyone.
pub struct Cluster {
    sim: Sim<'static>,
    subject: Arc<dyn Subject>,
    nodes: u32,
    /// Hosts of clients.
    clients: Vec<String>,
    newcomers: Sender<Client>,
    random: SmallRng,
    links: Links,
    causes: Cause,
    /// What is wrong with the links of a host until it is healed; and of a machine without power, until that is back.
    broken: BTreeMap<String, Vec<Cause>>,
    without_power: BTreeMap<u32, Cause>,
    view: View,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Cluster({} nodes, {} clients, {:?})",
            self.nodes,
            self.clients.len(),
            self.sim.elapsed()
        )
    }
}

impl Cluster {
    /// Starts `nodes` nodes. Latencies, tick and the order of hosts within a tick follow from the seed.
    #[must_use]
    pub fn start(subject: Arc<dyn Subject>, nodes: u32, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let seed_of_order = random.random();
        let longest_latency = Duration::from_millis(random.random_range(2..10));
        let mut builder = turmoil::Builder::new();
        builder
            .epoch(UNIX_EPOCH + Duration::from_secs(det::EPOCH_SECONDS))
            .rng_seed(seed_of_order)
            .simulation_duration(DURATION)
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(longest_latency)
            .tcp_capacity(CONNECTIONS)
            .enable_random_order();
        let mut sim = builder.build();
        for node in 1..=nodes {
            let subject = Arc::clone(&subject);
            let seeds = AtomicU64::new(random.random());
            sim.host(host(node), move || {
                let seed = seeds.fetch_add(1, Ordering::Relaxed);
                subject.start(Seat { node, nodes, seed })
            });
        }
        let links = Links::new(longest_latency);
        let (broken, without_power) = (BTreeMap::new(), BTreeMap::new());
        let (newcomers, mut coming) = channel::<Client>(MOST_NEWCOMERS);
        sim.client(CLIENTS, async move {
            while let Some(client) = coming.recv().await {
                spawn_local(client);
            }
            Ok(())
        });
        let clients = vec![CLIENTS.to_owned()];
        let (causes, view) = (0, View::default());
        Self {
            sim,
            subject,
            nodes,
            clients,
            newcomers,
            random,
            links,
            causes,
            broken,
            without_power,
            view,
        }
    }

    /// Starts a client. All of them share one host: links to clients break together, and every host costs time in each step.
    ///
    /// # Panics
    /// When the clients' host has ended, or too many begin between two steps.
    pub fn client(&mut self, life: impl Future<Output = ()> + 'static) {
        self.newcomers
            .try_send(Box::pin(life))
            .expect("the clients' host takes them in every step");
    }

    /// Starts a process on a host of its own, which may die and begin again.
    pub fn member<F>(&mut self, name: &str, life: impl Fn() -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        self.sim.host(name, move || {
            let life = life();
            async move {
                life.await;
                Ok(())
            }
        });
        self.clients.push(name.to_owned());
    }

    /// The next life of such a process.
    pub fn restart_member(&mut self, name: &str) {
        self.sim.bounce(name);
    }

    /// It dies; its peers are told that their connections are closed.
    pub fn crash_member(&mut self, name: &str) {
        self.sim.crash(name);
    }

    /// Cuts it off from all nodes. Connections in use stay silent.
    pub fn isolate_member(&mut self, name: &str) {
        let cause = self.cause_of(name);
        for node in self.nodes() {
            self.break_both((&host(node), name), Wrong::Lost, cause);
        }
    }

    /// Joins it to all nodes again.
    pub fn heal_member(&mut self, name: &str) {
        self.heal_host(name);
    }

    /// A number from the run's seed, for the driver's decisions.
    pub fn draw(&mut self, from: u64, below: u64) -> u64 {
        self.random.random_range(from..below)
    }

    /// Simulated time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Lets the world run for this long.
    ///
    /// # Errors
    /// When a task panicked or a host ended with an error.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Broken> {
        self.run_until(time, || false).map(drop)
    }

    /// Lets the world run until the condition holds, at most for this long; tells whether it held.
    ///
    /// # Errors
    /// When a task panicked or a host ended with an error.
    pub fn run_until(
        &mut self,
        most: Duration,
        mut holds: impl FnMut() -> bool,
    ) -> Result<bool, Broken> {
        let end = self.sim.elapsed() + most;
        while self.sim.elapsed() < end {
            if holds() {
                return Ok(true);
            }
            let stepped = det::step(self.sim.elapsed(), || self.sim.step());
            stepped.map_err(|error| Broken(format!("a host ended: {error}")))?;
            let it = &self.subject;
            let (durable, bound) = (it.wrongly_held_for_durable(), it.beyond_bounds());
            self.view.look(&it.sights(), &it.acks(), Wrongs { durable, bound });
            if let Some(found) = self.view.found().first() {
                return Err(Broken(found.to_string()));
            }
            match det::panics() {
                0 => {}
                panics => {
                    return Err(Broken(format!("{panics} panics at {:?}", self.sim.elapsed())));
                }
            }
        }
        Ok(holds())
    }

    /// The view from above; what it has found ends a run at once.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The nodes of the cluster.
    pub fn nodes(&self) -> RangeInclusive<u32> {
        1..=self.nodes
    }

    /// Cuts a node off from everyone. Connections in use stay silent: nothing is told to either side.
    pub fn isolate(&mut self, node: u32) {
        let cause = self.cause_of(&host(node));
        self.break_off(node, Wrong::Lost, cause);
    }

    /// Cuts a node off from the other nodes; clients still reach it.
    pub fn cut_from_peers(&mut self, node: u32) {
        let cause = self.cause_of(&host(node));
        self.peers(node).for_each(|peer| self.break_link(node, peer, Wrong::Lost, cause));
    }

    /// Loses what a node sends to the other nodes; what they send still arrives.
    pub fn mute(&mut self, node: u32) {
        let cause = self.cause_of(&host(node));
        for peer in self.peers(node) {
            self.break_way((&host(node), &host(peer)), Wrong::Lost, cause);
        }
    }

    /// Joins a node to everyone again.
    pub fn heal(&mut self, node: u32) {
        self.heal_host(&host(node));
    }

    /// Delays all that a node sends and is sent, until [`Cluster::heal`] lets it arrive together.
    pub fn hold(&mut self, node: u32) {
        let cause = self.cause_of(&host(node));
        self.break_off(node, Wrong::Held, cause);
    }

    /// A name for what is wrong with some links, until [`Cluster::mend`] ends it.
    pub(crate) fn new_cause(&mut self) -> Cause {
        self.causes += 1;
        self.causes
    }

    /// Something is wrong with every link of a node.
    pub(crate) fn break_off(&mut self, node: u32, wrong: Wrong, cause: Cause) {
        self.peers(node).for_each(|peer| self.break_link(node, peer, wrong, cause));
        for client in self.clients.clone() {
            self.break_both((&host(node), &client), wrong, cause);
        }
    }

    /// Something is wrong with the link of two nodes.
    pub(crate) fn break_link(&mut self, node: u32, other: u32, wrong: Wrong, cause: Cause) {
        self.break_both((&host(node), &host(other)), wrong, cause);
    }

    fn break_both(&mut self, (one, other): (&str, &str), wrong: Wrong, cause: Cause) {
        self.break_way((one, other), wrong, cause);
        self.break_way((other, one), wrong, cause);
    }

    /// Something is wrong with the way from one host to another.
    pub(crate) fn break_way(&mut self, way: (&str, &str), wrong: Wrong, cause: Cause) {
        self.links.begin(&self.sim, way, cause, wrong);
    }

    /// Nothing is wrong any more because of this.
    pub(crate) fn mend(&mut self, cause: Cause) {
        self.links.end(&self.sim, cause);
    }

    fn cause_of(&mut self, host: &str) -> Cause {
        let cause = self.new_cause();
        self.broken.entry(host.to_owned()).or_default().push(cause);
        cause
    }

    fn heal_host(&mut self, host: &str) {
        for cause in self.broken.remove(host).unwrap_or_default() {
            self.mend(cause);
        }
    }

    /// Something on a node's disk rots, in several places, if there is anything that may.
    pub fn rot(&mut self, node: u32, what: Rot) {
        for _ in 0..self.draw(1, 4) {
            let seed = self.random.random();
            self.subject.rot(node, what, seed);
        }
    }

    /// How a node's disk behaves from now on.
    pub fn set_disk(&mut self, node: u32, condition: DiskCondition) {
        self.subject.set_disk(node, condition);
    }

    /// The process of a node dies. All that it wrote is there for the next one, synced or not, and its peers are told that
    /// their connections are closed.
    pub fn crash(&mut self, node: u32) {
        self.subject.power_off(node);
        self.sim.crash(host(node));
    }

    /// All these nodes lose power in one tick: nothing they send or write from here on counts, and of what they had not
    /// synced an arbitrary part survives.
    pub fn power_loss(&mut self, nodes: &[u32]) {
        for node in nodes {
            self.subject.power_off(*node);
        }
        for node in nodes {
            let cause = self.new_cause();
            self.without_power.insert(*node, cause);
            self.break_off(*node, Wrong::Lost, cause);
        }
        for node in nodes {
            self.sim.crash(host(*node));
            self.lose_unsynced(*node);
        }
    }

    /// Bits of journals flip while their nodes are down. Returns how many were hit.
    pub(crate) fn rot_journals(&mut self, nodes: &[u32]) -> usize {
        let seed = self.random.random();
        self.subject.rot_journals(nodes, seed)
    }

    /// A machine whose process is down loses power.
    pub(crate) fn lose_unsynced(&mut self, node: u32) {
        let seed = self.random.random();
        self.subject.lose_unsynced(node, seed);
    }

    /// The machine of a node that is down gets an empty disk.
    pub(crate) fn lose_disk(&mut self, node: u32) {
        self.subject.lose_disk(node);
    }

    /// The next lives of nodes that died; who lost power has it again.
    pub fn restart(&mut self, nodes: &[u32]) {
        for node in nodes {
            if let Some(cause) = self.without_power.remove(node) {
                self.mend(cause);
            }
        }
        for node in nodes {
            self.sim.bounce(host(*node));
        }
    }

    fn peers(&self, node: u32) -> impl Iterator<Item = u32> + use<> {
        self.nodes().filter(move |peer| *peer != node)
    }
}
