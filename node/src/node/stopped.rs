//! Owns a node's disk while the node does not run: what an operator does to it then. Never serves, and never starts a
//! replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waymark_proto::ids::{NodeId, ShardId, TopicId};
use waymark_proto::transport::Dial;

use super::{NodeError, options};
use crate::config::Config;
use crate::consensus::{
    ConfiguredNode, Ground, Identity, NetworkOptions, Recovery, RecoveryError, StartError,
    recognise, topic_names,
};
use crate::env::Env;
use crate::storage::journal::Journal;
use crate::storage::shard_store::Store;

/// The opened disk of a node that does not run.
#[derive(Debug)]
pub struct Stopped {
    identity: Identity,
    nodes: Vec<ConfiguredNode>,
    network: NetworkOptions,
    dial: Arc<dyn Dial>,
    journal: Journal,
    store: Store,
}

impl Stopped {
    /// Opens what the node has, as its next start would.
    ///
    /// # Errors
    /// When the disk belongs to nobody, or to another node, or cannot be opened.
    pub async fn open(config: &Config, env: Env) -> Result<Self, NodeError> {
        let (node, nodes) = (NodeId(config.node.id), options::nodes(config));
        let identity = recognise(env.disk.as_ref(), node, &nodes).await?;
        let nobody = || StartError(format!("the disk of node {node} is empty: nothing is on it"));
        let identity = identity.ok_or_else(nobody)?;
        let expected = Identity::expected_journal(Some(&identity));
        let journal = options::journal(config, &env.random, expected);
        let journal = Journal::open(Arc::clone(&env.disk), journal).await?;
        let store = Store::open(env.disk, env.tables, options::store(config)).await?;
        let network = options::consensus(config).network;
        Ok(Self { identity, nodes, network, dial: env.dial, journal, store })
    }

    /// The shards that have a replica here, sorted.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        let shards: BTreeSet<ShardId> = self.journal.keys().iter().map(|key| key.shard).collect();
        shards.into_iter().collect()
    }

    /// Looks whether a shard may go on without its lost replicas, and what that costs.
    ///
    /// # Errors
    /// When it must not, or not here.
    pub async fn look(
        &self,
        shard: ShardId,
        gone: &BTreeSet<NodeId>,
    ) -> Result<Recovery, RecoveryError> {
        Recovery::look(&self.ground(), shard, gone).await
    }

    /// The names of topics, as far as the catalog here knows them.
    pub async fn topic_names(&self) -> BTreeMap<TopicId, String> {
        topic_names(&self.ground()).await
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            identity: &self.identity,
            journal: &self.journal,
            store: &self.store,
            nodes: &self.nodes,
            dial: Arc::clone(&self.dial),
            network: self.network.clone(),
        }
    }

    /// Leaves the disk as the next start wants it.
    pub async fn close(self) {
        self.store.shutdown().await;
        self.journal.shutdown().await;
    }
}
