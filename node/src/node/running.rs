//! Owns the parts of a started node: their order of birth, from the disk upwards, and their order of death.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use waymark_proto::ids::NodeId;
use waymark_proto::transport::Purpose;

use super::door::Door;
use super::{Doors, GOODBYE, HAND_OVER, NodeError, health, options};
use crate::config::Config;
use crate::consensus::{Consensus, Parts};
use crate::env::Env;
use crate::storage::journal::Journal;
use crate::storage::shard_store::Store;

#[derive(Debug)]
struct Unobserved;
impl crate::consensus::ApplyObserver for Unobserved {
    fn applied(&self, _: waymark_proto::ids::ShardId, _: u64, _: &[crate::state::Effect]) {}
    fn leadership(&self, _: waymark_proto::ids::ShardId, _: crate::consensus::Leadership) {}
}

/// A started node.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) consensus: Consensus,
    journal: Journal,
    clients: Door,
    peers: Door,
    background: CancellationToken,
}

impl Running {
    pub(super) async fn start(config: &Config, env: Env, doors: Doors) -> Result<Self, NodeError> {
        let journal = options::journal(config, &env.random);
        let journal = Journal::open(Arc::clone(&env.disk), journal).await?;
        let (disk, tables) = (Arc::clone(&env.disk), Arc::clone(&env.tables));
        let store = Store::open(disk, tables, options::store(config)).await?;
        let parts = Parts { env, journal: journal.clone(), store, observer: Arc::new(Unobserved) };
        let (nodes, timers) = (options::nodes(config), options::consensus(config));
        let consensus = Consensus::start(NodeId(config.node.id), nodes, timers, parts).await?;
        let peers = Door::open("peer", Purpose::Peer, consensus.peer_routes(), doors.peer);
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let routes = Routes::new(health_service);
        let clients = Door::open("client", Purpose::Client, routes, doors.client);
        let background = CancellationToken::new();
        let reporting = health::report(reporter, consensus.clone());
        tokio::spawn(background.clone().run_until_cancelled_owned(reporting));
        Ok(Self { consensus, journal, clients, peers, background })
    }

    /// Resolves when this node cannot go on.
    pub(super) async fn failed(&mut self) -> NodeError {
        tokio::select! {
            why = self.consensus.fatal() => NodeError::Fatal(why),
            error = self.clients.failed() => error,
            error = self.peers.failed() => error,
        }
    }

    /// Takes everything down: clients first, so that nothing new comes; the peers' door last, because handing over
    /// leaderships needs them.
    pub(super) async fn stop(mut self) {
        self.background.cancel();
        self.clients.close(GOODBYE).await;
        if timeout(HAND_OVER, self.consensus.shutdown()).await.is_err() {
            tracing::warn!("stopping without the last checkpoints");
        }
        // Their streams never end by themselves, and nothing that they could still carry counts.
        self.peers.close(Duration::ZERO).await;
        self.journal.shutdown().await;
    }
}
