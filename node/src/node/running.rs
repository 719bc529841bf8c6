//! Owns the parts of a started node: their order of birth, from the disk upwards, and their order of death.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use waymark_proto::ids::NodeId;
use waymark_proto::transport::Purpose;

use super::door::Door;
use super::metrics::{Endpoint, Sources};
use super::{Doors, GOODBYE, HAND_OVER, NodeError, health, options};
use crate::api;
use crate::broker::{Broker, Wakes};
use crate::config::Config;
use crate::consensus::{Consensus, Identity, Parts, recognise};
use crate::env::Env;
use crate::storage::journal::Journal;
use crate::storage::shard_store::Store;

/// A started node. Dropped, it goes on until its runtime ends: only [`Running::run_until`] takes it down in order.
#[derive(Debug)]
pub struct Running {
    consensus: Consensus,
    journal: Journal,
    store: Store,
    clients: Door,
    peers: Door,
    metrics: Option<Endpoint>,
    /// Tells streams of clients that the end is near.
    draining: CancellationToken,
    background: CancellationToken,
}

impl Running {
    /// Starts a node: it recovers what its disk holds, and returns while it still joins its cluster.
    ///
    /// # Errors
    /// When what the disk holds cannot be opened or belongs to another node. A disk that is refused for what it holds is
    /// left as it was: what writes comes after what refuses.
    pub async fn start(config: &Config, env: Env, doors: Doors) -> Result<Self, NodeError> {
        let (node, nodes) = (NodeId(config.node.id), options::nodes(config));
        let identity = recognise(env.disk.as_ref(), node, &nodes).await?;
        let expected = Identity::expected_journal(identity.as_ref());
        let journal = options::journal(config, &env.random, expected);
        let journal = Journal::open(Arc::clone(&env.disk), journal).await?;
        let (disk, tables) = (Arc::clone(&env.disk), Arc::clone(&env.tables));
        let store = Store::open(disk, tables, options::store(config)).await?;
        let wakes = Arc::new(Wakes::default());
        let parts = Parts {
            env: env.clone(),
            journal: journal.clone(),
            store: store.clone(),
            observer: Arc::clone(&wakes) as _,
        };
        let timers = options::consensus(config);
        let consensus = Consensus::start(node, nodes.clone(), timers, parts).await?;
        let peers = Door::open("peer", Purpose::Peer, consensus.peer_routes(), doors.peer);
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let limits = options::broker(config);
        let broker = Broker::new(node, nodes, (consensus.clone(), env.clone()), wakes, limits);
        let draining = CancellationToken::new();
        let routes = api::routes(api::Parts {
            node,
            cluster: consensus.cluster_id(),
            logs: Arc::new(broker.clone()),
            admin: Arc::new(broker.clone()),
            groups: Arc::new(broker.clone()),
            dial: Arc::clone(&env.dial),
            random: Arc::clone(&env.random),
            clock: Arc::clone(&env.clock),
            draining: draining.clone(),
        });
        let routes = routes.add_service(health_service);
        health::begin(&reporter).await;
        let clients = Door::open("client", Purpose::Client, routes, doors.client);
        let background = CancellationToken::new();
        tokio::spawn(health::report(reporter, (node, consensus.clone()), draining.clone()));
        let metrics = doors.metrics.map(|door| {
            let sources = Sources {
                node,
                broker: broker.clone(),
                consensus: consensus.clone(),
                journal: journal.clone(),
                store: store.clone(),
                disk: Arc::clone(&env.disk),
                usage: door.usage,
                started: Instant::now(),
                draining: draining.clone(),
            };
            Endpoint::open(sources, door.incoming)
        });
        let upkeep = async move { broker.run().await };
        tokio::spawn(background.clone().run_until_cancelled_owned(upkeep));
        Ok(Self { consensus, journal, store, clients, peers, metrics, draining, background })
    }

    /// Its replicas, for whoever watches it from outside.
    #[must_use]
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Serves until `stop` resolves or it cannot go on, and takes it down.
    ///
    /// # Errors
    /// When it could not go on.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
        let ended = tokio::select! {
            () = stop => Ok(()),
            error = self.failed() => Err(error),
        };
        self.stop().await;
        ended
    }

    async fn failed(&mut self) -> NodeError {
        tokio::select! {
            why = self.consensus.fatal() => NodeError::Fatal(why),
            error = self.clients.failed() => error,
            error = self.peers.failed() => error,
        }
    }

    /// Takes everything down: clients first, so that nothing new comes; the peers' door last, because handing over
    /// leaderships needs them.
    async fn stop(mut self) {
        self.draining.cancel();
        self.background.cancel();
        self.clients.close(GOODBYE).await;
        if timeout(HAND_OVER, self.consensus.shutdown()).await.is_err() {
            tracing::warn!("stopping without the last checkpoints");
        }
        // Their streams never end by themselves, and nothing that they could still carry counts.
        self.peers.close(Duration::ZERO).await;
        if let Some(metrics) = self.metrics {
            metrics.close().await;
        }
        self.store.shutdown().await;
        self.journal.shutdown().await;
    }
}
