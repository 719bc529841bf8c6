//! What a scenario can be run on: the seam between the harness and the nodes under test. The harness knows nothing of what
//! a node does; a subject knows nothing of faults.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use async_trait::async_trait;

/// Where a node listens on its simulated host.
pub const PORT: u16 = 7000;

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

/// A client of the cluster under test.
#[async_trait]
pub trait LogClient: Send + Debug {
    /// Sends one value once; the client retries only where that cannot repeat it.
    async fn append(&mut self, partition: u32, value: u64) -> Appended;
    /// The whole partition up to its high watermark, as offsets and values.
    ///
    /// # Errors
    /// When it cannot be read now; the caller tries again.
    async fn read_all(&mut self, partition: u32) -> io::Result<Vec<(u64, u64)>>;
}

/// Nodes under test, with what survives their crashes: disks, and nothing else.
pub trait Subject: Send + Sync + Debug + 'static {
    /// Partitions that a workload may use: 0 to this, exclusive.
    fn partitions(&self) -> u32;
    /// Starts a node; called again after every crash.
    fn start(&self, seat: Seat) -> Life;
    /// A client that runs on its own host.
    fn client(&self, seed: u64) -> Box<dyn LogClient>;
    /// Which node leads a partition now, seen from above.
    fn leader(&self, partition: u32) -> Option<u32>;
    /// Takes the disk away from a node at once: from here on no write of its dying tasks counts.
    fn power_off(&self, node: u32);
    /// Decides which unsynced writes of a node that is off survive, torn and reordered; what was synced survives always.
    fn lose_unsynced(&self, node: u32, seed: u64);
}
