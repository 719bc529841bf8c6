//! Owns what all tasks of consensus share: the replicas on this node, who this node is, the latch that ends it. Never
//! decides; see `formation`, `runner`, `balancer`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use openraft::Config;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use waymark_proto::ids::{ClusterId, NodeId, ReplicaId, ReplicaKey, ShardId};

use super::growth::Growths;
use super::identity::Identity;
use super::network::{Network, Vitals};
use super::room::{DiskRoom, Level};
use super::shard::Shard;
use super::{ConfiguredNode, ConsensusOptions, Heard, Parts};
use crate::metrics::Counter;

/// A replica that is being started or runs.
#[derive(Debug, Clone)]
pub(super) struct Started {
    pub(super) replica: ReplicaId,
    /// Asks it to checkpoint.
    pub(super) urged: Arc<Notify>,
    /// Ends it, for another one that comes instead.
    pub(super) stop: CancellationToken,
}

impl Started {
    pub(super) fn new(replica: ReplicaId) -> Self {
        Self { replica, urged: Arc::default(), stop: CancellationToken::new() }
    }
}

pub(super) struct Member {
    pub(super) node: NodeId,
    /// In the order of the configuration; the first one founds the cluster.
    pub(super) nodes: Vec<ConfiguredNode>,
    pub(super) options: ConsensusOptions,
    pub(super) parts: Parts,
    pub(super) network: Network,
    pub(super) raft_config: Arc<Config>,
    /// Persisted before it is set here.
    pub(super) cluster: watch::Sender<Option<ClusterId>>,
    /// What the disk says of itself; as `cluster`.
    identity: RwLock<Option<Identity>>,
    /// One change of what the disk says of itself at a time: a founder's offer, a floor that rises.
    pub(super) marking: tokio::sync::Mutex<()>,
    /// Replicas on this disk that must not run on (S11).
    pub(super) doubtful: Mutex<BTreeSet<ReplicaKey>>,
    pub(super) shards: RwLock<BTreeMap<ShardId, Shard>>,
    /// Shards whose replica is being started or runs; never removed while its tasks live.
    pub(super) started: Mutex<BTreeMap<ShardId, Started>>,
    /// Replicas of shards led here that took another one's place, since this node started.
    pub(super) replaced: Counter,
    /// Followers of shards led here that had lost what they acknowledged, since this node started.
    pub(super) reversions: Counter,
    /// Those of them that are yet to be replaced.
    pub(super) reverted: Mutex<BTreeSet<(ShardId, ReplicaId)>>,
    /// Shards whose replica cannot start before a peer has given what damage took, and what that is.
    pub(super) waiting: watch::Sender<BTreeMap<ShardId, String>>,
    /// The local catalog changed.
    pub(super) catalog_changed: Arc<Notify>,
    /// The first reason wins.
    fatal: watch::Sender<Option<String>>,
    pub(super) stopping: CancellationToken,
    /// Every replica has stopped: what leaders owe their followers until then ends too.
    pub(super) ended: CancellationToken,
    /// How full this node's disk is (S19); nothing before the first look.
    pub(super) disk: watch::Sender<Option<Arc<DiskRoom>>>,
    pub(super) heard: Mutex<BTreeMap<NodeId, Heard>>,
    /// How fast the partitions grow that were asked about.
    pub(super) growths: Mutex<Growths>,
}

impl Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consensus(node {})", self.node)
    }
}

impl Member {
    pub(super) fn new(
        node: NodeId,
        nodes: Vec<ConfiguredNode>,
        options: ConsensusOptions,
        parts: Parts,
        raft_config: Arc<Config>,
    ) -> Self {
        let dial = Arc::clone(&parts.env.dial);
        let network = Network::new(node, nodes.clone(), dial, options.network.clone());
        Self {
            node,
            nodes,
            options,
            parts,
            network,
            raft_config,
            cluster: watch::channel(None).0,
            identity: RwLock::default(),
            marking: tokio::sync::Mutex::new(()),
            doubtful: Mutex::default(),
            shards: RwLock::default(),
            started: Mutex::default(),
            replaced: Counter::default(),
            reversions: Counter::default(),
            reverted: Mutex::default(),
            waiting: watch::channel(BTreeMap::new()).0,
            catalog_changed: Arc::new(Notify::new()),
            fatal: watch::channel(None).0,
            stopping: CancellationToken::new(),
            ended: CancellationToken::new(),
            disk: watch::channel(None).0,
            heard: Mutex::default(),
            growths: Mutex::default(),
        }
    }

    /// Whether a peer was heard of within so long.
    pub(super) fn has_heard(&self, node: NodeId, within: Duration) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&node).is_some_and(|it| it.at.elapsed() <= within)
    }

    pub(super) fn shard(&self, shard: ShardId) -> Option<Shard> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }

    pub(super) fn all_shards(&self) -> Vec<Shard> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The first node of the list founds the cluster and is the preferred leader of shard 0.
    pub(super) fn is_founder(&self) -> bool {
        self.founder() == self.node
    }

    pub(super) fn founder(&self) -> NodeId {
        self.nodes.first().map_or(self.node, |first| first.node)
    }

    pub(super) fn peers(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|it| it.node).filter(|it| *it != self.node).collect()
    }

    /// Nothing of any shard is on this disk.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.journal.is_blank()
    }

    /// Persists and publishes the cluster; the same one again is fine.
    pub(super) async fn join(&self, cluster: ClusterId) -> Result<(), String> {
        self.join_as(cluster, 0).await
    }

    /// As `join`, on a disk that begins with this incarnation.
    pub(super) async fn join_as(&self, cluster: ClusterId, incarnation: u32) -> Result<(), String> {
        let _one = self.marking.lock().await;
        let known = *self.cluster.borrow();
        match known {
            Some(known) if known == cluster => return Ok(()),
            Some(known) => return Err(format!("node {} belongs to cluster {known}", self.node)),
            None if !self.is_empty() => {
                return Err(format!("node {} has data but no identity", self.node));
            }
            None => {}
        }
        let (journal, floors) = (Some(self.parts.journal.id()), BTreeMap::new());
        self.mark(Identity { node: self.node, cluster, journal, incarnation, floors }).await?;
        Ok(())
    }

    /// From now on no older replica of the shard runs on this disk; durable on return.
    pub(super) async fn raise_floor(&self, shard: ShardId, to: u32) -> Result<(), String> {
        let _one = self.marking.lock().await;
        let Some(mut identity) = self.identity() else {
            return Err(format!("node {} has no identity", self.node));
        };
        if identity.floor(shard) < to {
            identity.floors.insert(shard, to);
            self.mark(identity).await?;
        }
        Ok(())
    }

    async fn mark(&self, identity: Identity) -> Result<(), String> {
        let saved = identity.save(self.parts.env.disk.as_ref()).await;
        saved.map_err(|error| format!("node {} cannot persist: {error}", self.node))?;
        self.recognised(identity);
        Ok(())
    }

    /// The disk's mark, as it stands there.
    pub(super) fn recognised(&self, identity: Identity) {
        let cluster = identity.cluster;
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Some(identity);
        self.network.set_cluster(cluster);
        if self.cluster.send_replace(Some(cluster)).is_none() {
            tracing::info!(node = %self.node, %cluster, "member of the cluster");
        }
    }

    fn identity(&self) -> Option<Identity> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What this disk began with; 0 for a node's first one.
    pub(super) fn disk(&self) -> u32 {
        self.identity().map_or(0, |it| it.incarnation)
    }

    /// The replica of a shard that is being started or runs.
    pub(super) fn started(&self, shard: ShardId) -> Option<Started> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }

    /// This replica must not run on.
    pub(super) fn doubt(&self, key: ReplicaKey) {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Another one comes instead of it, so nothing has to be kept from running.
    pub(super) fn end_doubt(&self, key: ReplicaKey) {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Whether a replica must not run on.
    pub(super) fn is_doubtful(&self, key: ReplicaKey) -> bool {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// The least incarnation of a shard's replica that may run on this disk.
    pub(super) fn floor(&self, shard: ShardId) -> u32 {
        self.identity().map_or(0, |it| it.floor(shard))
    }

    pub(super) fn fail(&self, reason: String) {
        if self.stopping.is_cancelled() {
            return;
        }
        tracing::error!(node = %self.node, reason, "this node must stop");
        self.fatal.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(reason);
            }
            first
        });
    }

    pub(super) async fn failed(&self) -> String {
        let mut fatal = self.fatal.subscribe();
        let reason = fatal.wait_for(Option::is_some).await.ok().and_then(|it| it.clone());
        reason.unwrap_or_else(|| "consensus is gone".to_owned())
    }

    /// Peers that this one has talked with since it started.
    pub(super) fn heard_of(&self) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn vitals_now(&self) -> Vitals {
        let clock_ms = self.parts.env.clock.now_ms();
        Vitals { clock_ms, disk: self.disk.borrow().clone() }
    }

    /// What this node's disk has room for.
    pub(super) fn level(&self) -> Level {
        self.disk.borrow().as_ref().map_or(Level::Records, |disk| disk.level)
    }

    /// What a node's disk has room for: this one's, or as another told last.
    pub(super) fn level_of(&self, node: NodeId) -> Level {
        if node == self.node {
            return self.level();
        }
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&node).map_or(Level::Records, |heard| heard.vitals.level())
    }
}
