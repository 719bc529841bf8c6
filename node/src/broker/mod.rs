//! What a request means on this node, in domain types: who leads, what may be taken, when a reader wakes. Owns the two
//! seams that the services are written against. Never names a generated type, so that another listener can call it.
//!
//! | file | owns |
//! |---|---|
//! | `logs`, `admin`, `administration` | what the services ask for |
//! | `place` | which shard, and whether this node may serve it |
//! | `door` | checks of a batch |
//! | `lane` | coalescing: small batches of a shard travel in one entry |
//! | `data` | appending and reading |
//! | `topics` | finding and changing topics, and their way through the shards |
//! | `offsets` | places in partitions, and what groups have committed |
//! | `groups` | consumer groups: members, hand-off, history |
//! | `cluster` | who is alive and leads, what is wrong, whether replicas are the same |
//! | `retention` | which records go by age and by size |
//! | `holds` | how far groups hold retention up |
//! | `barrier` | reads that must be fresh share their rounds |
//! | `wake` | readers that wait |
//! | `numbers` | what the broker counts of itself |
//! | `refusal` | the state's words as failures |

pub mod admin;
mod administration;
mod barrier;
mod cluster;
mod data;
mod door;
pub mod groups;
mod holds;
mod lane;
pub mod logs;
mod numbers;
mod offsets;
mod place;
mod refusal;
mod retention;
mod topics;
mod wake;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use waymark_proto::ids::{NodeId, ShardId, TopicPartition};

use crate::consensus::{ConfiguredNode, Consensus};
use crate::env::Env;

use barrier::Barriers;
use cluster::Told;
pub use cluster::{Census, HostedPartition, LedPartition};
use holds::Holds;
use lane::Lane;
pub use numbers::{Failures, Numbers, Room, TopicNumbers};
use topics::Barrier;
pub use wake::Wakes;

/// Limits of the broker.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Bytes of the whole node that wait: batches for their outcome, entries for the journal, committed batches for their
    /// segments. More are refused.
    pub pending_bytes: usize,
    /// Most bytes of batches in one entry, unless a single batch is larger.
    pub entry_bytes: usize,
    /// Large entries of one shard on the way at once. Small ones go one by one: meanwhile batches gather for the next.
    pub entries_in_flight: usize,
    /// Partitions of a topic that does not say how many it wants.
    pub default_partitions: i32,
    /// Replicas of a topic that does not say how many it wants, never more than there are nodes.
    pub default_replication: u32,
    /// Shards for each node in a pool that has to be made.
    pub shards_per_node: u32,
    /// How often a leader looks whether segments may go.
    pub retention_interval: Duration,
    /// A producer that appended nothing for this long is forgotten.
    pub producer_idle: Duration,
    /// Committed offsets of a group without members go after this long; `None`: they stay as long as their topics.
    pub offset_retention: Option<Duration>,
}

/// Requests of clients, on this node. A clone is the same.
#[derive(Debug, Clone)]
pub struct Broker {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    node: NodeId,
    nodes: Vec<ConfiguredNode>,
    consensus: Consensus,
    env: Env,
    options: BrokerOptions,
    wakes: Arc<Wakes>,
    /// Bytes that were taken and have no outcome yet.
    pending: AtomicUsize,
    lanes: Mutex<BTreeMap<ShardId, Arc<Lane>>>,
    barriers: Arc<Barriers>,
    /// What peers told last, by node.
    told: Mutex<BTreeMap<NodeId, Told>>,
    /// Leader epochs of partitions without a replica here.
    epochs: Mutex<BTreeMap<TopicPartition, i32>>,
    barrier: Barrier,
    coordination: groups::Coordination,
    /// The run of producer ids that this node hands out of: next, and the end.
    producer_ids: tokio::sync::Mutex<(i64, i64)>,
    holds: Holds,
    numbers: Numbers,
}

impl Broker {
    /// A broker over the replicas of this node, which tell `wakes` of what they apply.
    #[must_use]
    pub fn new(
        node: NodeId,
        nodes: Vec<ConfiguredNode>,
        (consensus, env): (Consensus, Env),
        wakes: Arc<Wakes>,
        options: BrokerOptions,
    ) -> Self {
        let core = Core {
            node,
            nodes,
            consensus,
            env,
            options,
            wakes,
            pending: AtomicUsize::new(0),
            lanes: Mutex::default(),
            barriers: Arc::default(),
            told: Mutex::default(),
            epochs: Mutex::default(),
            barrier: Barrier::default(),
            coordination: groups::Coordination::default(),
            producer_ids: tokio::sync::Mutex::new((0, 0)),
            holds: Holds::default(),
            numbers: Numbers::default(),
        };
        Self { core: Arc::new(core) }
    }

    /// Carries topics through the shards, asks around how replicas are, and gives old records up, for as long as it is polled.
    pub async fn run(&self) {
        futures::join!(
            topics::driver::drive(&self.core),
            cluster::survey::ask_peers(&self.core),
            cluster::survey::tell_metadata(&self.core),
            retention::keep(&self.core),
            groups::keep(&self.core),
            groups::measure(&self.core),
            holds::keep(&self.core),
        );
    }
}
