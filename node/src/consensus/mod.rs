//! STUB: the surface that broker and node use.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use waymark_proto::ids::{ClusterId, NodeId, ReplicaId, ShardId};

use crate::env::Env;
use crate::state::{Command, Effect, Reply, ShardState};
use crate::storage::journal::Journal;
use crate::storage::raft_record::LogId;
use crate::storage::shard_store::{ShardStore, Store};

pub mod membership;
pub mod network;
pub mod types;

/// Timers and limits of consensus.
#[derive(Debug, Clone)]
pub struct ConsensusOptions {
    /// Between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// A follower that heard nothing for `election_max` starts an election after a random time between these two.
    pub election_min: Duration,
    /// See `election_min`.
    pub election_max: Duration,
    /// Most bytes of entries in one append request; one entry always fits.
    pub append_bytes: usize,
    /// A replica is checkpointed at the latest after this many journal bytes …
    pub checkpoint_bytes: u64,
    /// … or this long after something was applied.
    pub checkpoint_interval: Duration,
    /// Entries kept below the checkpoint for slow followers, in journal bytes.
    pub kept_bytes: u64,
    /// How often leaders are moved back to their preferred nodes.
    pub balance_interval: Duration,
    /// Shards of a pool for each node.
    pub shards_per_node: u32,
    /// Replication factor of the first pool and the default of topics.
    pub default_replication: u32,
}

/// A node of the configured list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredNode {
    /// Its id.
    pub node: NodeId,
    /// Its rack.
    pub rack: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where peers reach it.
    pub peer_address: String,
}

/// Told of everything applied on this node, right after it was applied, in order per shard. Must not block.
pub trait ApplyObserver: Send + Sync + std::fmt::Debug + 'static {
    /// An entry of a shard was applied with these effects.
    fn applied(&self, shard: ShardId, index: u64, effects: &[Effect]);
    /// This node began or ceased to serve as a shard's ready leader, or the leader it knows changed.
    fn leadership(&self, shard: ShardId, now: Leadership);
}

/// Who leads a shard, as this node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// The leader's node, if known.
    pub leader: Option<NodeId>,
    /// Raft term.
    pub term: u64,
    /// This node leads and has applied an entry of its own term: it may serve (ARCHITECTURE §6).
    pub ready: bool,
}

/// Why a proposal has no reply (S15).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not written: another node leads.
    #[error("shard {shard} is led by {leader:?}")]
    NotLeader {
        /// The shard.
        shard: ShardId,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Not written: the shard has no leader, or its leader no quorum just now.
    #[error("shard {0} has no leader with a quorum")]
    NoQuorum(ShardId),
    /// Not written: the deadline passed before the proposal.
    #[error("the deadline passed before the proposal")]
    ExpiredUnsent,
    /// Perhaps written: the deadline, a lost leadership or a failure came after the proposal.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// Not written: this node does not run the shard, or is stopping.
    #[error("shard {0} does not run here")]
    NotHere(ShardId),
}

/// An applied proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The state's reply.
    pub reply: Reply,
    /// Where its entry stands.
    pub at: LogId,
    /// Replicas known to hold it durably at this moment: a lower bound (S21).
    pub durable_replicas: u32,
    /// Replicas of the shard.
    pub replicas: u32,
}

/// All replicas that run on this node. A clone is the same.
#[derive(Debug, Clone)]
pub struct Consensus(());

impl Consensus {
    /// Forms or joins the cluster (S12) and runs every replica that the catalog places on this node.
    ///
    /// # Errors
    /// When the disk belongs to another cluster or node, or is empty although the cluster knows this node.
    pub async fn start(
        node: NodeId,
        nodes: Vec<ConfiguredNode>,
        options: ConsensusOptions,
        parts: Parts,
    ) -> Result<Self, StartError> {
        let _ = (node, nodes, options, parts);
        todo!()
    }
    /// The cluster, once founded.
    #[must_use]
    pub fn cluster_id(&self) -> watch::Receiver<Option<ClusterId>> {
        todo!()
    }
    /// A replica on this node.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<Shard> {
        let _ = shard;
        todo!()
    }
    /// All replicas on this node, sorted by shard.
    #[must_use]
    pub fn shards(&self) -> Vec<Shard> {
        todo!()
    }
    /// Proposes to a shard wherever it is led: here, or by one hop to the leader's node; retried while that is certain not to
    /// have been written and the deadline allows.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose_anywhere(
        &self,
        shard: ShardId,
        command: Command,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        let _ = (shard, command, deadline);
        todo!()
    }
    /// gRPC routes of the internal peer service, to be served at the peer address.
    #[must_use]
    pub fn peer_routes(&self) -> tonic::service::Routes {
        todo!()
    }
    /// Resolves when the node must stop: a failed journal (S4) or a replica that cannot go on.
    pub async fn fatal(&self) -> String {
        todo!()
    }
    /// Hands leaderships over, checkpoints and stops every replica.
    pub async fn shutdown(&self) {
        todo!()
    }
}

/// What consensus is built from.
#[derive(Debug)]
pub struct Parts {
    /// The seams.
    pub env: Env,
    /// The opened journal.
    pub journal: Journal,
    /// The opened store.
    pub store: Store,
    /// Who is told of applied entries.
    pub observer: Arc<dyn ApplyObserver>,
}

/// Why a node may not join its cluster.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// One replica. A clone is the same.
#[derive(Debug, Clone)]
pub struct Shard(());

impl Shard {
    /// Its shard.
    #[must_use]
    pub fn id(&self) -> ShardId {
        todo!()
    }
    /// Its own id.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        todo!()
    }
    /// Who leads, and whether this node may serve.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        todo!()
    }
    /// Looks at the applied state. Short and without waiting: apply is held up meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&ShardState) -> T) -> T {
        let _ = look;
        todo!()
    }
    /// Segments and tables.
    #[must_use]
    pub fn store(&self) -> &ShardStore {
        todo!()
    }
    /// Proposes and waits until applied here.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        let _ = (command, deadline);
        todo!()
    }
    /// Proposes without waiting: entries are written in the order of the calls; `done` is called exactly once.
    /// No deadline of its own: the caller answers its clients in time and keeps `done` for the books.
    pub async fn submit(
        &self,
        command: Command,
        done: Box<dyn FnOnce(Result<Committed, ProposeError>) + Send>,
    ) {
        let _ = (command, done);
        todo!()
    }
    /// ReadIndex (S14): returns once this replica, the leader, has applied everything committed before the call.
    ///
    /// # Errors
    /// When another node leads, or no quorum answers in time.
    pub async fn read_barrier(&self, deadline: Instant) -> Result<(), ProposeError> {
        let _ = deadline;
        todo!()
    }
    /// Followers and their last matched index, on the leader; empty elsewhere.
    #[must_use]
    pub fn progress(&self) -> Vec<(ReplicaId, Option<u64>)> {
        todo!()
    }
    /// Raft index of the last applied entry.
    #[must_use]
    pub fn applied_index(&self) -> Option<u64> {
        todo!()
    }
    /// Hands the leadership to a replica that is up to date (S13).
    ///
    /// # Errors
    /// When this node does not lead, or the target lags.
    pub async fn transfer_to(&self, node: NodeId) -> Result<(), ProposeError> {
        let _ = node;
        todo!()
    }
}
