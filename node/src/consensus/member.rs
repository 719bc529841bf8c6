//! Owns what all tasks of consensus share: the replicas on this node, who this node is, the latch that ends it. Never
//! decides; see `formation`, `runner`, `balancer`.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use openraft::Config;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use waymark_proto::ids::{ClusterId, NodeId, ShardId};

use super::growth::Growths;
use super::identity::Identity;
use super::network::{Network, Vitals};
use super::shard::Shard;
use super::{ConfiguredNode, ConsensusOptions, Heard, Parts};

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
    /// One founder's offer at a time.
    pub(super) accepting: tokio::sync::Mutex<()>,
    pub(super) shards: RwLock<BTreeMap<ShardId, Shard>>,
    /// Shards whose replica is being started or runs; never removed while its tasks live.
    pub(super) started: Mutex<BTreeMap<ShardId, Arc<Notify>>>,
    /// Shards whose replica cannot start before a peer has given what damage took, and what that is.
    pub(super) waiting: watch::Sender<BTreeMap<ShardId, String>>,
    /// The local catalog changed.
    pub(super) catalog_changed: Arc<Notify>,
    /// The first reason wins.
    fatal: watch::Sender<Option<String>>,
    pub(super) stopping: CancellationToken,
    /// Every replica has stopped: what leaders owe their followers until then ends too.
    pub(super) ended: CancellationToken,
    /// S19: this node has room for more data.
    pub(super) has_room: AtomicBool,
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
            accepting: tokio::sync::Mutex::new(()),
            shards: RwLock::default(),
            started: Mutex::default(),
            waiting: watch::channel(BTreeMap::new()).0,
            catalog_changed: Arc::new(Notify::new()),
            fatal: watch::channel(None).0,
            stopping: CancellationToken::new(),
            ended: CancellationToken::new(),
            has_room: AtomicBool::new(true),
            heard: Mutex::default(),
            growths: Mutex::default(),
        }
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
        self.parts.journal.keys().is_empty()
    }

    /// Persists and publishes the cluster; the same one again is fine.
    pub(super) async fn join(&self, cluster: ClusterId) -> Result<(), String> {
        let _one = self.accepting.lock().await;
        let known = *self.cluster.borrow();
        match known {
            Some(known) if known == cluster => return Ok(()),
            Some(known) => return Err(format!("node {} belongs to cluster {known}", self.node)),
            None if !self.is_empty() => {
                return Err(format!("node {} has data but no identity", self.node));
            }
            None => {}
        }
        let journal = Some(self.parts.journal.id());
        let identity = Identity { node: self.node, cluster, journal };
        let saved = identity.save(self.parts.env.disk.as_ref()).await;
        saved.map_err(|error| format!("node {} cannot persist: {error}", self.node))?;
        self.set_cluster(cluster);
        Ok(())
    }

    pub(super) fn set_cluster(&self, cluster: ClusterId) {
        tracing::info!(node = %self.node, %cluster, "member of the cluster");
        self.network.set_cluster(cluster);
        self.cluster.send_replace(Some(cluster));
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
        Vitals { clock_ms, has_room: self.has_room.load(Ordering::Relaxed) }
    }
}
