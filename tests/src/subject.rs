//! What a profile can be run on: the seam between the harness and the nodes under test. The harness knows nothing of what
//! a node does; a subject knows nothing of faults.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use async_trait::async_trait;

use crate::group::seam::{GroupMember, GroupOperator, Manner, Told};

/// One start of one node.
#[derive(Debug, Clone)]
pub struct Seat {
    /// 1, 2, 3 …
    pub node: u32,
    /// Nodes of the cluster, 1 to this.
    pub nodes: u32,
    /// Differs for every node and every start, and follows from the seed of the run.
    pub seed: u64,
}

/// The name of a node's host on the simulated network.
#[must_use]
pub fn host(node: u32) -> String {
    format!("node-{node}")
}

/// The life of a node from start to crash; it ends only by an error.
pub type Life = Pin<Box<dyn Future<Output = Result<(), Box<dyn std::error::Error>>>>>;

/// What an append came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Acknowledged at this offset.
    At(u64),
    /// Refused, certainly not written.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Of which partition.
    pub partition: u32,
    /// At which offset.
    pub offset: u64,
    /// What it holds.
    pub value: u64,
}

/// What somebody does who looks after a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// The leadership of a partition goes to a node.
    MoveLeader {
        /// Which.
        partition: u32,
        /// To whom.
        to: u32,
    },
    /// A topic that nobody else uses is made, grows, takes a record and is deleted.
    TopicComesAndGoes {
        /// Names the topic.
        number: u32,
    },
}

impl Chore {
    /// Every name of a chore.
    pub const NAMES: [&str; 2] = ["leader-moved", "topic-came-and-went"];

    /// As in a batch's table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MoveLeader { .. } => Self::NAMES[0],
            Self::TopicComesAndGoes { .. } => Self::NAMES[1],
        }
    }
}

/// A client of the cluster under test. It connects when it is first used, on the host where that happens.
#[async_trait]
pub trait LogClient: Send + Debug {
    /// Makes the partitions, unless they are there. Returns once all of them can be used.
    ///
    /// # Errors
    /// When they cannot be made now; the caller tries again.
    async fn prepare(&mut self) -> io::Result<()>;
    /// Sends each value once, in this order and without waiting for one before the next. The client retries only where that
    /// cannot repeat it. One outcome per value.
    async fn append(&mut self, partition: u32, values: &[u64]) -> Vec<Appended>;
    /// Records of all partitions after those that it returned before, as they come; none after a while without any.
    ///
    /// # Errors
    /// When they cannot be read now; the caller tries again.
    async fn follow(&mut self) -> io::Result<Vec<Read>>;
    /// The whole partition up to its high watermark, as offsets and values.
    ///
    /// # Errors
    /// When it cannot be read now; the caller tries again.
    async fn read_all(&mut self, partition: u32) -> io::Result<Vec<(u64, u64)>>;
    /// Commits the offset of a group, the same of every client; returns whether that was acknowledged.
    async fn commit(&mut self, partition: u32, offset: u64) -> bool;
    /// The committed offset of the group; 0 without any.
    ///
    /// # Errors
    /// When it cannot be read now; the caller tries again.
    async fn committed(&mut self, partition: u32) -> io::Result<u64>;
    /// Does something for the cluster's sake.
    ///
    /// # Errors
    /// When it cannot be done now.
    async fn tend(&mut self, chore: Chore) -> io::Result<()>;
    /// What each replica of a partition holds from its start up to an offset, as one digest per node.
    ///
    /// # Errors
    /// When not every replica holds so much, or some cannot be asked now; the caller tries again.
    async fn digests(&mut self, partition: u32, end: u64) -> io::Result<Vec<(u32, String)>>;
}

/// How a disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskCondition {
    /// As always.
    Healthy,
    /// Every sync takes very long.
    Slow,
    /// Every write fails.
    WritesFail,
    /// Every sync fails, and what it covered will never reach the disk although reads still see it.
    SyncsFail,
}

/// Nodes under test, with what survives their crashes: disks, and nothing else.
pub trait Subject: Send + Sync + Debug + 'static {
    /// Partitions that a workload may use: 0 to this, exclusive.
    fn partitions(&self) -> u32;
    /// Starts a node; called again after every crash.
    fn start(&self, seat: Seat) -> Life;
    /// A client that runs on its own host.
    fn client(&self, seed: u64) -> Box<dyn LogClient>;
    /// A member of the run's group, which runs on its own host.
    fn member(&self, seed: u64, manner: Manner, told: Told) -> Box<dyn GroupMember>;
    /// Somebody who looks after that group.
    fn operator(&self, seed: u64) -> Box<dyn GroupOperator>;
    /// Which node coordinates that group now, seen from above.
    fn coordinator(&self) -> Option<u32>;
    /// Which node serves as a partition's leader now, seen from above; of several that think they do, the latest.
    fn leader(&self, partition: u32) -> Option<u32>;
    /// Takes the disk away from a node at once: from here on no write of its dying tasks counts. What it wrote is there for
    /// its next life, synced or not.
    fn power_off(&self, node: u32);
    /// Decides which unsynced writes of a node that is off survive, torn and reordered; what was synced survives always.
    fn lose_unsynced(&self, node: u32, seed: u64);
    /// A node that is off has an empty disk from now on: what was on the other one is lost.
    fn lose_disk(&self, node: u32);
    /// Every node runs, and all replicas vote and have what their leaders have, or nearly; seen from above.
    fn is_whole(&self) -> bool;
    /// How a node's disk behaves from now on. A node whose disk fails may end without breaking the run.
    fn set_disk(&self, node: u32, condition: DiskCondition);
    /// A node's wall clock jumps by so many milliseconds.
    fn shift_clock(&self, node: u32, by_ms: i64);
}
