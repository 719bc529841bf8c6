//! Owns which replicas run on this node: those that the local catalog places here. Starts them, bears the unborn ones that
//! this node may initialize (S12), and restarts from disk what has died. Never moves a replica.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, stream};
use openraft::errors::Fatal;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use waymark_proto::ids::{ReplicaId, ReplicaKey, ShardId};

use super::birth;
use super::checkpointer::Checkpointer;
use super::leadership;
use super::log::RaftLog;
use super::machine::{Ground, Machine};
use super::member::Member;
use super::restore;
use super::shard::Shard;
use super::types::{Raft, RaftNode};
use crate::state::command::ShardEntry;

/// Replicas started at the same time: each reads its checkpoint and the end of its log.
const STARTS_AT_ONCE: usize = 8;
/// The catalog is looked at this often even when nothing wakes the runner.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const RESTART_PAUSE: Duration = Duration::from_millis(500);
const RESTART_PAUSE_MOST: Duration = Duration::from_secs(30);
/// A replica that died this often in a row cannot be helped by a restart.
const MOST_RESTARTS: u32 = 5;
/// Living this long ends a row of restarts.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Starts shard 0, then follows the catalog for ever.
pub(super) async fn run(member: &Arc<Member>) {
    let all = member.nodes.iter().map(|it| ReplicaId { node: it.node, incarnation: 0 }).collect();
    let catalog = ShardEntry {
        shard: ShardId::CATALOG,
        replicas: all,
        initializer: member.founder(),
        born: false,
        replication: u32::try_from(member.nodes.len()).unwrap_or(u32::MAX),
    };
    let starting = Arc::clone(member);
    let start = async move { ensure(&starting, &catalog).await };
    restore::beside(member, ShardId::CATALOG, start).await;
    let mut births = FuturesUnordered::new();
    let mut announcing: BTreeSet<ShardId> = BTreeSet::new();
    loop {
        let Some(shard0) = member.shard(ShardId::CATALOG) else {
            sleep(LOOK_AGAIN).await;
            continue;
        };
        let placed: Vec<ShardEntry> = shard0.read(|state| {
            let all = state.catalog().into_iter().flat_map(|catalog| catalog.shards());
            all.filter(|it| replica_here(member, it).is_some()).cloned().collect()
        });
        let start = |entry: ShardEntry| {
            let (shard, starting) = (entry.shard, Arc::clone(member));
            let start = async move { ensure(&starting, &entry).await };
            restore::beside(member, shard, start)
        };
        stream::iter(placed.clone()).for_each_concurrent(STARTS_AT_ONCE, start).await;
        for entry in placed.iter().filter(|it| !it.born && it.initializer == member.node) {
            if announcing.insert(entry.shard) {
                births.push(birth::announce(member, entry.shard));
            }
        }
        tokio::select! {
            Some(again) = births.next(), if !births.is_empty() => {
                if let Some(shard) = again {
                    announcing.remove(&shard);
                }
            }
            () = member.catalog_changed.notified() => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }
}

fn replica_here(member: &Member, entry: &ShardEntry) -> Option<ReplicaId> {
    entry.replicas.iter().copied().find(|it| it.node == member.node)
}

/// Starts the replica unless it runs, and initializes it if that is this node's task.
async fn ensure(member: &Arc<Member>, entry: &ShardEntry) {
    let Some(replica) = replica_here(member, entry) else { return };
    if member.shard(entry.shard).is_none() {
        let urged = {
            let mut started = member.started.lock().unwrap_or_else(PoisonError::into_inner);
            if started.contains_key(&entry.shard) {
                return;
            }
            let urged = Arc::new(Notify::new());
            started.insert(entry.shard, Arc::clone(&urged));
            urged
        };
        let key = ReplicaKey { shard: entry.shard, incarnation: replica.incarnation };
        let lived = member.parts.journal.keys().contains(&key);
        match open(member, entry.shard, replica).await {
            Ok(shard) => {
                tokio::spawn(keep(Arc::clone(member), shard, urged));
                if lived {
                    tokio::spawn(birth::awaken(Arc::clone(member), entry.clone()));
                }
            }
            Err(reason) => return member.fail(reason),
        }
    }
    if !entry.born && entry.initializer == member.node {
        birth::initialize(member, entry).await;
    }
}

/// Builds a replica from disk and makes it reachable.
async fn open(member: &Member, shard: ShardId, replica: ReplicaId) -> Result<Shard, String> {
    let key = ReplicaKey { shard, incarnation: replica.incarnation };
    let failed = |what: &str| format!("shard {shard} cannot start here: {what}");
    let store = restore::open_store(member, key).await;
    let journal = member.parts.journal.clone();
    let store = store.map_err(|error| failed(&error))?;
    let purged = journal.shard(key).last_purged();
    if purged > store.checkpoint().map(|it| it.applied) {
        return Err(failed(
            "the journal was cut above the newest checkpoint, so the replica must be replaced",
        ));
    }
    let log = RaftLog::new(journal.shard(key), member.options.append_bytes);
    let ground = Ground {
        shard,
        replica,
        journal,
        store,
        observer: Arc::clone(&member.parts.observer),
        catalog_changed: Arc::clone(&member.catalog_changed),
    };
    let machine = Machine::open(ground).map_err(|error| failed(&error.to_string()))?;
    let applied = Arc::clone(&machine.applied);
    let network = member.network.factory(shard, replica);
    let config = Arc::clone(&member.raft_config);
    let raft = Raft::new(RaftNode(replica), config, network, log, machine).await;
    let raft = raft.map_err(|error| failed(&error.to_string()))?;
    let shard = Shard::new(applied, raft, member.options.election_max * 2);
    member.shards.write().unwrap_or_else(PoisonError::into_inner).insert(shard.id(), shard.clone());
    Ok(shard)
}

/// Keeps one replica alive until the node stops: publishes its leadership, checkpoints it, restarts it.
async fn keep(member: Arc<Member>, first: Shard, urged: Arc<Notify>) {
    let (id, replica) = (first.id(), first.replica());
    let mut shard = first;
    let mut restarts = 0;
    loop {
        let born = Instant::now();
        let checkpointer = Checkpointer::new(shard.clone(), &member.options);
        let died = tokio::select! {
            () = member.stopping.cancelled() => return,
            reason = checkpointer.run(&urged) => return member.fail(reason),
            died = leadership::publish(&shard) => died,
        };
        if member.stopping.is_cancelled() || matches!(died, Fatal::Stopped) {
            return;
        }
        tracing::error!(shard = %id, %replica, %died, "replica died, restarting it from disk");
        restarts = if born.elapsed() > HEALTHY_AFTER { 1 } else { restarts + 1 };
        if restarts > MOST_RESTARTS {
            return member.fail(format!("shard {id} died again and again: {died}"));
        }
        member.shards.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let _ = shard.core.raft.shutdown().await;
        let pause = RESTART_PAUSE * 2_u32.saturating_pow(restarts - 1);
        sleep(pause.min(RESTART_PAUSE_MOST)).await;
        shard = match open(&member, id, replica).await {
            Ok(shard) => shard,
            Err(reason) => return member.fail(reason),
        };
    }
}
