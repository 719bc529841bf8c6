//! Consensus: every replica on this node, over openraft, which nothing outside of this folder names. Owns that a proposal
//! is committed once or its outcome said to be unknown, that leaders are ready before they serve, that checkpoints and the
//! log fit together, and how a cluster is born. Never looks into a command.
//!
//! | file | owns |
//! |---|---|
//! | `types`, `membership` | openraft's words and ours |
//! | `log`, `machine`, `snapshot` | the traits that openraft drives, over journal, state and store |
//! | `shard`, `proposal`, `propose`, `read_index` | proposals and their outcomes, and reads that must see them |
//! | `leadership`, `checkpointer` | what runs beside each replica |
//! | `pulse`, `balancer` | what runs for all replicas of the node: heartbeats, the places of leaders, the journal's size |
//! | `room`, `records_gate` | how full the disks are, and whether a leader may take records (S19) |
//! | `identity`, `formation`, `keeper`, `birth`, `runner` | birth of a cluster, and which replicas run here (S12) |
//! | `comeback`, `replacer` | new replicas for those that were lost: on the node that lost them, and at the shards' leaders (S10) |
//! | `numbers`, `log_stand`, `acked` | where each replica and its log stand, and what leaders call done, for whoever watches |
//! | `log_mend` | what damage to the journal leaves of a replica, and getting back what it took (S11) |
//! | `network`, `host`, `standing` | the other nodes, and what this one tells them of itself |
//! | `repair`, `restore`, `troubles` | damaged segments and checkpoints: taking them from peers, and saying what is wrong |
//! | `positions`, `growth` | where offsets stand in the partitions that this node leads, and how fast those grow |

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tokio::time::Instant;
use waymark_proto::ids::{ClusterId, NodeId, ShardId};

use crate::env::Env;
use crate::state::{Command, Effect};
use crate::storage::journal::Journal;
use crate::storage::shard_store::Store;

pub mod acked;
mod balancer;
mod birth;
mod checkpointer;
mod comeback;
mod formation;
mod growth;
mod host;
mod identity;
mod keeper;
mod kept_log;
mod leadership;
pub mod life;
pub mod log;
mod log_mend;
mod log_stand;
pub mod machine;
mod member;
pub mod membership;
pub mod network;
mod numbers;
mod opening;
mod positions;
mod proposal;
mod propose;
mod pulse;
mod read_index;
mod records_gate;
mod recovery;
mod repair;
mod replacer;
mod restore;
mod room;
mod runner;
mod shard;
mod shard_config;
pub mod snapshot;
mod standing;
mod troubles;
pub mod types;

pub use formation::recognise;
pub use identity::Identity;
pub use keeper::spread_pool;
pub use log_stand::LogStand;
pub use network::{
    Catching, Inspection, LedShard, Look, NetworkOptions, Question, Stand, Survey, Trouble, Vitals,
};
pub use network::{MOST_POSITIONS, OffsetStand, Outlook};
pub use numbers::{ReplicaNumbers, WaitingBytes};
pub use proposal::{Committed, ProposeError};
pub use records_gate::NoRoom;
pub use recovery::{Fate, Ground, Kept, Recovery, RecoveryError, topic_names};
pub use room::{DiskRoom, Level, RoomOptions};
pub use shard::{Done, Shard};

use member::Member;

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
    /// Where the room on this node's disk ends (S19).
    pub room: RoomOptions,
    /// The peer network's own limits.
    pub network: NetworkOptions,
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

/// When a peer was heard of last, and what it told.
#[derive(Debug, Clone)]
pub struct Heard {
    /// What it told.
    pub vitals: Vitals,
    /// When that arrived, by this node's own clock, which does not jump: the peer's may be wrong.
    pub at: Instant,
}

/// All replicas that run on this node. A clone is the same.
#[derive(Debug, Clone)]
pub struct Consensus {
    member: Arc<Member>,
}

impl Consensus {
    /// Forms or joins the cluster (S12) and runs every replica that the catalog places on this node. Returns at once: the
    /// peers must reach [`Consensus::peer_routes`] for the rest, whose failures come out of [`Consensus::fatal`].
    ///
    /// # Errors
    /// When the disk belongs to another cluster or node.
    pub async fn start(
        node: NodeId,
        nodes: Vec<ConfiguredNode>,
        options: ConsensusOptions,
        parts: Parts,
    ) -> Result<Self, StartError> {
        let config = shard_config::raft_config(&options)?;
        let member = Arc::new(Member::new(node, nodes, options, parts, config));
        formation::recognise_disk(&member).await?;
        let running = Arc::clone(&member);
        tokio::spawn(async move {
            let stopping = running.stopping.clone();
            stopping.run_until_cancelled(Box::pin(run(&running))).await;
        });
        // A task of its own: opening a replica may keep the other one busy for longer than followers are patient.
        let beating = Arc::clone(&member);
        tokio::spawn(async move {
            let ended = beating.ended.clone();
            ended.run_until_cancelled(pulse::beat(&beating)).await;
        });
        Ok(Self { member })
    }

    /// The cluster, once founded.
    #[must_use]
    pub fn cluster_id(&self) -> watch::Receiver<Option<ClusterId>> {
        self.member.cluster.subscribe()
    }

    /// A replica on this node.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<Shard> {
        self.member.shard(shard)
    }

    /// All replicas on this node, sorted by shard.
    #[must_use]
    pub fn shards(&self) -> Vec<Shard> {
        self.member.all_shards()
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
        propose::anywhere(&self.member, shard, &command.encode(), deadline).await
    }

    /// The index that a read must have applied to see everything committed to the shard before the call (S14).
    ///
    /// # Errors
    /// When no leader with a quorum was found in time.
    pub async fn read_index_anywhere(
        &self,
        shard: ShardId,
        deadline: Instant,
    ) -> Result<u64, ProposeError> {
        read_index::anywhere(&self.member, shard, deadline).await
    }

    /// The shards that this node leads and serves.
    #[must_use]
    pub fn led(&self) -> Vec<LedShard> {
        standing::led(&self.member)
    }

    /// Asks a node, this one or another, what it is, leads and holds.
    ///
    /// # Errors
    /// When the node does not answer in time; the text says why.
    pub async fn survey(
        &self,
        node: NodeId,
        question: &Question,
        deadline: Instant,
    ) -> Result<Survey, String> {
        if node == self.member.node {
            return Ok(standing::answer(&self.member, question, deadline).await);
        }
        let asked = self.member.network.survey(node, question, deadline).await;
        asked.map_err(|error| error.to_string())
    }

    /// Looks at a node's replica of a partition: this node's, or another's within the deadline.
    ///
    /// # Errors
    /// When the node does not answer; the text says why.
    pub async fn inspect(
        &self,
        node: NodeId,
        look: Look,
        deadline: Instant,
    ) -> Result<Inspection, String> {
        if node != self.member.node {
            let asked = self.member.network.inspect(node, look, deadline).await;
            return asked.map_err(|error| error.to_string());
        }
        match self.member.shard(look.shard) {
            Some(shard) => Ok(host::inspect(&shard, look).await),
            None => Ok(Inspection::default()),
        }
    }

    /// gRPC routes of the internal peer service, to be served at the peer address.
    #[must_use]
    pub fn peer_routes(&self) -> tonic::service::Routes {
        self.member.network.routes(Arc::new(host::Host(Arc::clone(&self.member))))
    }

    /// What each peer last told of its clock and its room (S18, S19), and when; sorted by node.
    #[must_use]
    pub fn peers_heard(&self) -> Vec<(NodeId, Heard)> {
        let heard = self.member.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|(node, heard)| (*node, heard.clone())).collect()
    }

    /// Resolves when the node must stop: a failed journal (S4) or a replica that cannot go on.
    pub async fn fatal(&self) -> String {
        self.member.failed().await
    }

    /// Hands leaderships over, checkpoints and stops every replica.
    pub async fn shutdown(&self) {
        let shards = self.member.all_shards();
        join_all(shards.iter().map(balancer::hand_over)).await;
        self.member.stopping.cancel();
        for shard in &shards {
            if let Err(error) = shard.core.applied.checkpoint().await {
                tracing::debug!(shard = %shard.id(), %error, "no checkpoint at the end");
            }
        }
        join_all(shards.iter().map(|shard| shard.core.raft.shutdown())).await;
        self.member.ended.cancel();
    }
}

/// Everything that runs beside the replicas, until the node stops.
async fn run(member: &Arc<Member>) {
    let formed = async {
        match formation::form(member).await {
            Ok(()) => {
                futures::join!(runner::run(member).boxed(), keeper::complete_catalog(member));
            }
            Err(error) => member.fail(error.0),
        }
    };
    let journal = async { member.fail(member.parts.journal.failed().await.to_string()) };
    // Boxed: one future of all would be deeper than the compiler looks.
    let all: [BoxFuture<'_, ()>; 11] = [
        formed.boxed(),
        journal.boxed(),
        formation::leave_foreign_cluster(member).boxed(),
        repair::watch(member).boxed(),
        comeback::watch_replaced(member).boxed(),
        replacer::replace(member).boxed(),
        balancer::balance(member).boxed(),
        balancer::watch_journal(member).boxed(),
        balancer::reclaim_journal(member).boxed(),
        room::watch(member).boxed(),
        log_mend::watch(member).boxed(),
    ];
    join_all(all).await;
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
