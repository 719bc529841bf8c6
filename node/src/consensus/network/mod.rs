//! Owns how the replicas of a cluster reach each other: the peer service and its client. Nothing here decides about Raft;
//! it carries requests, keeps their order, and says `Unreachable` in time.
//!
//! Why not one call per request: a leader keeps many appends in flight to each follower, and a thousand shards must not
//! mean a thousand streams. So a pair of nodes has two connections in each direction:
//!
//! - **bulk**: one bidirectional stream with the append requests of all shards (`stream`, `mux`; served by `append`), and pulls;
//! - **control**: votes, coalesced heartbeats (`heartbeat`), transfers, proposals: never queued behind data.
//!
//! What is bounded by what: an append stream by its credit (requests and bytes, [`NetworkOptions`]), and all streams to a node by
//! a credit that they share (`mux`), so that the reader of
//! a connection never waits for one shard; heartbeats by the shards (each has one in flight per follower); pulls by
//! permits and a token bucket (`pull`, `source`); everything by deadlines.
//!
//! [`door`] is what this module needs of a replica and its files; [`wire`] and `outcome` turn our types into messages and
//! back; `link` is one peer's connections; `client` is what openraft calls; `service` is what peers call.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use waymark_proto::ids::{ClusterId, NodeId, ReplicaId, ShardId, TopicPartition};
use waymark_proto::peer;
use waymark_proto::peer::peer_server::PeerServer;
use waymark_proto::transport::{Dial, MAX_MESSAGE};

use super::{Committed, ConfiguredNode, DiskRoom, Level, ProposeError};
use crate::metrics::Counter;

mod acknowledged;
mod append;
mod client;
pub mod door;
mod entries;
#[cfg(test)]
mod fuzz;
mod heartbeat;
mod inspect;
mod link;
mod mux;
mod options;
mod outcome;
mod positions;
mod pull;
mod range;
mod service;
mod source;
mod stream;
mod survey;
mod throttle;
pub mod wire;

pub use client::{ShardNetwork, ShardNetworkFactory};
pub use door::{FilesHeld, PullHeld, ReplicaDoor, ReplicaStopped, SegmentFiles, Snapshot};

use link::{Links, Shared};

#[cfg(test)]
mod tests;

/// Why a peer gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The request certainly did not arrive.
    #[error("node {node} is unreachable: {reason}")]
    Unreachable {
        /// The peer.
        node: NodeId,
        /// What happened.
        reason: String,
    },
    /// The request may have arrived; its answer did not.
    #[error("node {node} did not answer: {reason}")]
    Unanswered {
        /// The peer.
        node: NodeId,
        /// What happened.
        reason: String,
    },
    /// The peer refuses this node: another cluster, or another node at that address (S12).
    #[error("node {node} refused: {reason}")]
    Refused {
        /// The peer.
        node: NodeId,
        /// In the peer's words.
        reason: String,
        /// The peer's cluster, when that is why.
        cluster: Option<ClusterId>,
    },
}

/// What a node says of itself (S12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloAnswer {
    /// Its id.
    pub node: NodeId,
    /// The cluster it belongs to, if any.
    pub cluster: Option<ClusterId>,
    /// Nothing of any shard is on its disk.
    pub empty: bool,
    /// With what incarnation the newest disk of whoever asks began, as far as it knows; 0: none was ever replaced.
    pub callers_disk: u32,
}

/// What nodes tell each other with heartbeats: removal by age needs clocks (S18), taking produce needs room (S19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vitals {
    /// Unix time in milliseconds, on its own clock.
    pub clock_ms: i64,
    /// How full its disk is; nothing before it has looked.
    pub disk: Option<Arc<DiskRoom>>,
}

impl Vitals {
    /// What its disk has room for.
    #[must_use]
    pub fn level(&self) -> Level {
        self.disk.as_ref().map_or(Level::Records, |disk| disk.level)
    }
}

pub use entries::{Given, Wanted};
pub use inspect::{Inspection, Look};
pub use options::NetworkOptions;
pub use positions::{MOST_POSITIONS, OffsetStand, Outlook};
pub use survey::{Catching, LedShard, Question, ReplicaFate, Stand, Survey, Trouble};

/// Segment bytes between this node and others, since it started: what catching up and repairs cost.
#[derive(Debug, Default)]
pub struct PullNumbers {
    /// Received from other nodes, whether they were of use or not.
    pub pulled: Counter,
    /// Given to other nodes.
    pub given: Counter,
}

/// The replicas behind the peer service.
#[async_trait]
pub trait PeerHost: Send + Sync + 'static {
    /// The replica `to` of a shard; `None` answers "unavailable": not here, another incarnation, or not fit to take part.
    fn raft(&self, shard: ShardId, to: ReplicaId) -> Option<Arc<dyn ReplicaDoor>>;
    /// The files of this node's replica of a shard.
    fn store(&self, shard: ShardId) -> Option<Arc<dyn SegmentFiles>>;
    /// Keeps what a follower needs that pulls a manifest of this node's replica, which ends at an index.
    fn hold_for_pull(&self, shard: ShardId, index: u64) -> Option<PullHeld> {
        let _ = index;
        Some(PullHeld { kept: self.store(shard)?.hold(), grown: Box::new(|| 0) })
    }
    /// A replica that another one of its node has replaced: it takes no part any more, whoever still runs it (S10).
    fn is_replaced(&self, shard: ShardId, replica: ReplicaId) -> bool {
        let _ = (shard, replica);
        false
    }
    /// A follower of this node's replica lacks an entry although it had acknowledged, to the same leadership, all up to a
    /// higher one: the index acknowledged, and the one that it lacks.
    fn has_less(&self, shard: ShardId, follower: ReplicaId, indexes: (u64, u64)) {
        let _ = (shard, follower, indexes);
    }
    /// Who this node is, told to a node.
    fn identity(&self, caller: NodeId) -> HelloAnswer;
    /// Takes a cluster id that a founder offers; persisted before it returns. Taking the same one again is fine.
    async fn accept_cluster(&self, cluster: ClusterId) -> Result<(), String>;
    /// Proposes to the replica here, which is believed to lead.
    async fn propose_local(
        &self,
        shard: ShardId,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Committed, ProposeError>;
    /// Looks at this node's replica of a partition.
    async fn inspect(&self, look: Look) -> Inspection {
        let _ = look;
        Inspection::default()
    }
    /// What this node is, leads and holds.
    async fn survey(&self, question: Question, deadline: Instant) -> Survey {
        let _ = (question, deadline);
        Survey::default()
    }
    /// Where offsets stand in the partitions that this node leads and serves.
    async fn positions(
        &self,
        asked: Vec<(TopicPartition, i64)>,
        deadline: Instant,
    ) -> Vec<OffsetStand> {
        let _ = (asked, deadline);
        Vec::new()
    }
    /// The index that a read must have applied, if the replica here leads with a quorum.
    async fn read_index(&self, shard: ShardId, deadline: Instant) -> Result<u64, ProposeError> {
        let _ = deadline;
        Err(ProposeError::NotHere(shard))
    }
    /// Returns once everything that its replicas were given before is on its disk.
    async fn on_disk(&self) -> Result<(), String> {
        Ok(())
    }
    /// Why this node takes no entries of others just now (S19), and pulls nothing.
    fn refuses_entries(&self) -> Option<String> {
        None
    }

    /// Entries of this node's log of a shard, as they were read and verified.
    async fn entries(&self, wanted: Wanted) -> Given {
        let _ = wanted;
        Given::default()
    }
    /// What this node tells with heartbeats.
    fn vitals(&self) -> Vitals {
        Vitals { clock_ms: 0, disk: None }
    }
    /// A peer told its vitals. Must not block.
    fn heard(&self, node: NodeId, vitals: Vitals) {
        let _ = (node, vitals);
    }
}

/// The peers of a node. A clone is the same.
#[derive(Clone)]
pub struct Network {
    links: Arc<Links>,
}

impl Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network(node {})", self.links.shared.node)
    }
}

impl Network {
    /// The peers of `node`. Connects to nobody yet.
    #[must_use]
    pub fn new(
        node: NodeId,
        peers: Vec<ConfiguredNode>,
        dial: Arc<dyn Dial>,
        options: NetworkOptions,
    ) -> Self {
        Self { links: Arc::new(Links::new(Shared::new(node, options), peers, dial)) }
    }

    /// Its bounds and intervals.
    #[must_use]
    pub fn options(&self) -> &NetworkOptions {
        &self.links.shared.options
    }

    /// What pulls have moved.
    #[must_use]
    pub fn pull_numbers(&self) -> &PullNumbers {
        &self.links.shared.pulls
    }

    /// Replicas of this node that pull, and how many bytes each of them lacks.
    #[must_use]
    pub fn lacking(&self) -> Vec<(ShardId, u64)> {
        self.links.shared.lacking().iter().map(|(shard, bytes)| (*shard, *bytes)).collect()
    }

    /// What openraft needs to reach the other replicas of a shard.
    #[must_use]
    pub fn factory(&self, shard: ShardId, from: ReplicaId) -> ShardNetworkFactory {
        ShardNetworkFactory::new(Arc::clone(&self.links), shard, from)
    }

    /// The cluster this node belongs to, from now on sent with every call. Known from `routes` on if the host knows it.
    pub fn set_cluster(&self, cluster: ClusterId) {
        self.links.shared.set_cluster(cluster);
    }

    /// The server side, to be served at the peer address. The host is kept alive by the routes alone.
    #[must_use]
    pub fn routes(&self, host: Arc<dyn PeerHost>) -> tonic::service::Routes {
        if let Some(cluster) = host.identity(self.links.shared.node).cluster {
            self.set_cluster(cluster);
        }
        self.links.shared.set_host(&host);
        let server = PeerServer::new(service::PeerService::new(Arc::clone(&self.links), host))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        tonic::service::Routes::new(server)
    }

    /// Asks a node who it is.
    ///
    /// # Errors
    /// When it does not answer in time, or belongs to another cluster.
    pub async fn hello(&self, node: NodeId) -> Result<HelloAnswer, PeerError> {
        let link = self.links.get(node)?;
        let answer = link
            .call(self.timeout(), peer::HelloRequest {}, |mut client, request| async move {
                client.hello(request).await
            })
            .await?;
        wire::hello_from(&answer).map_err(|error| PeerError::Refused {
            node,
            reason: error.to_string(),
            cluster: None,
        })
    }

    /// Offers a founded cluster to a node (S12). The inner error is the node's refusal.
    ///
    /// # Errors
    /// When it does not answer in time, or belongs to another cluster.
    pub async fn offer_cluster(
        &self,
        node: NodeId,
        cluster: ClusterId,
    ) -> Result<Result<(), String>, PeerError> {
        let link = self.links.get(node)?;
        let offer = peer::AcceptClusterRequest { cluster_id: Bytes::copy_from_slice(&cluster.0) };
        let answer = link
            .call(self.timeout(), offer, |mut client, request| async move {
                client.accept_cluster(request).await
            })
            .await?;
        Ok(answer.refused.map_or(Ok(()), Err))
    }

    /// Proposes on another node, which is believed to lead the shard.
    ///
    /// # Errors
    /// [`PeerError::Unanswered`] leaves the outcome unknown (S15); the others mean that nothing was proposed.
    pub async fn propose(
        &self,
        node: NodeId,
        shard: ShardId,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Result<Committed, ProposeError>, PeerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(ProposeError::ExpiredUnsent));
        }
        let link = self.links.get(node)?;
        let large = command.len() > link::CONTROL_MESSAGE;
        let request =
            peer::ProposeRequest { shard: shard.0, command, timeout_ms: wire::millis(left) };
        let answer = link
            .call_on(large, left, request, |mut client, request| async move {
                client.propose(request).await
            })
            .await?;
        outcome::propose_from(answer)
            .map_err(|error| PeerError::Unanswered { node, reason: error.to_string() })
    }

    /// Looks at another node's replica of a partition.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn inspect(
        &self,
        node: NodeId,
        look: Look,
        deadline: Instant,
    ) -> Result<Inspection, PeerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = inspect::request(look, left);
        let link = self.links.get(node)?;
        let answer = link
            .call(left, request, |mut client, request| async move { client.inspect(request).await })
            .await?;
        Ok(inspect::inspection(answer))
    }

    fn timeout(&self) -> Duration {
        self.links.shared.options.call_timeout
    }
}
