//! Owns which replicas run on this node: those that the local catalog places here and the disk's own mark allows (S10).
//! Starts them, bears the unborn ones that this node may initialize (S12), restarts from disk what has died, and ends what
//! another one comes instead of. Never moves a replica.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, stream};
use openraft::errors::Fatal;
use tokio::time::{Instant, sleep};
use waymark_proto::ids::{NodeId, ReplicaId, ReplicaKey, ShardId};

use super::birth;
use super::checkpointer::Checkpointer;
use super::comeback;
use super::leadership;
use super::log::RaftLog;
use super::log_mend::{self, Mender, Standing};
use super::machine::{Ground, Machine};
use super::member::{Member, Started};
use super::restore;
use super::shard::Shard;
use super::types::{Raft, RaftNode};
use crate::mutants;
use crate::state::catalog::Catalog;
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
    ensure_beside(member, catalog_s_own(member)).await;
    if member.shard(ShardId::CATALOG).is_none() {
        // Its replica waits for peers or to be replaced; the others need not.
        for placed in known_replicas(member) {
            ensure_beside(member, placed).await;
        }
    }
    let mut births = FuturesUnordered::new();
    let mut announcing: BTreeSet<ShardId> = BTreeSet::new();
    loop {
        comeback::sweep(member).await;
        let Some(shard0) = member.shard(ShardId::CATALOG) else {
            // It may have been replaced meanwhile.
            ensure_beside(member, catalog_s_own(member)).await;
            sleep(LOOK_AGAIN).await;
            continue;
        };
        let (placed, disk) = shard0.read(|state| placed(state.catalog(), member.node));
        if comeback::is_replaced(member, disk) {
            return member.fail(comeback::replaced(member, disk));
        }
        match gives_way(member, &shard0).await {
            Ok(false) => {}
            Ok(true) => {
                sleep(LOOK_AGAIN).await;
                continue;
            }
            Err(reason) => return member.fail(reason),
        }
        let start = |placed: Placed| {
            let member = Arc::clone(member);
            async move { ensure_beside(&member, placed).await }
        };
        stream::iter(placed.clone()).for_each_concurrent(STARTS_AT_ONCE, start).await;
        for entry in placed.iter().map(|it| &it.entry) {
            if !entry.born && entry.initializer == member.node && announcing.insert(entry.shard) {
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

/// Whether the replica of shard 0 ends, and another one begins in the next turn: its leader has had it replaced, which it
/// reads in the catalog that it keeps itself.
async fn gives_way(member: &Arc<Member>, shard0: &Shard) -> Result<bool, String> {
    let newest = shard0.read(|state| {
        let replica = state.catalog()?.replica_on(ShardId::CATALOG, member.node);
        replica.map(|it| it.incarnation)
    });
    if let Some(newest) = newest.filter(|newest| *newest > member.floor(ShardId::CATALOG)) {
        member.raise_floor(ShardId::CATALOG, newest).await?;
    }
    let ends = shard0.replica().incarnation < member.floor(ShardId::CATALOG);
    if ends {
        ensure_beside(member, catalog_s_own(member)).await;
    }
    Ok(ends)
}

/// A shard with a replica on this node.
#[derive(Debug, Clone)]
struct Placed {
    entry: ShardEntry,
    replica: ReplicaId,
    /// It comes instead of another one of this node.
    is_new: bool,
}

/// Shard 0 is in no catalog of its own: the disk says which replica of it runs here.
fn catalog_s_own(member: &Member) -> Placed {
    let replica = |node| ReplicaId { node, incarnation: 0 };
    let floor = member.floor(ShardId::CATALOG);
    let entry = ShardEntry {
        shard: ShardId::CATALOG,
        replicas: member.nodes.iter().map(|it| replica(it.node)).collect(),
        initializer: member.founder(),
        born: false,
        replication: u32::try_from(member.nodes.len()).unwrap_or(u32::MAX),
    };
    let replica = ReplicaId { node: member.node, incarnation: floor };
    Placed { entry, replica, is_new: floor > 0 }
}

/// Replicas that the journal knows, for the time in which the catalog cannot be read here.
fn known_replicas(member: &Member) -> Vec<Placed> {
    let keys = member.parts.journal.keys();
    // Sorted: of each shard the highest incarnation comes last.
    let newest = keys.chunk_by(|one, next| one.shard == next.shard).filter_map(<[_]>::last);
    let placed = |key: &ReplicaKey| {
        let replica = ReplicaId { node: member.node, incarnation: key.incarnation };
        let entry = ShardEntry {
            shard: key.shard,
            replicas: vec![replica],
            initializer: member.node,
            born: true,
            replication: 1,
        };
        Placed { entry, replica, is_new: false }
    };
    newest.filter(|key| key.shard != ShardId::CATALOG).map(placed).collect()
}

/// The shards with a replica here, and the newest disk of this node, as the catalog knows them.
fn placed(catalog: Option<&Catalog>, node: NodeId) -> (Vec<Placed>, u32) {
    let Some(catalog) = catalog else { return (Vec::new(), 0) };
    let placed = catalog.shards().filter_map(|entry| {
        let replica = catalog.replica_on(entry.shard, node)?;
        let is_new = catalog.swap(entry.shard, node).is_some();
        Some(Placed { entry: entry.clone(), replica, is_new })
    });
    (placed.collect(), catalog.disk_of(node))
}

/// As `ensure`, but a replica that has to wait for peers keeps nobody waiting.
async fn ensure_beside(member: &Arc<Member>, placed: Placed) {
    let (shard, starting) = (placed.entry.shard, Arc::clone(member));
    // Boxed: what it holds while it starts is deeper than the compiler looks.
    let start = async move { ensure(&starting, &placed).await }.boxed();
    restore::beside(member, shard, start).await;
}

/// Starts the replica unless it runs, and initializes it if that is this node's task.
async fn ensure(member: &Arc<Member>, placed: &Placed) {
    let Placed { entry, replica, is_new } = placed;
    let (shard, replica) = (entry.shard, *replica);
    if !may_run(member, shard, replica) {
        return;
    }
    match member.started(shard) {
        Some(running) if running.replica.incarnation < replica.incarnation => {
            return running.stop.cancel();
        }
        // A catalog that is behind names an older one.
        Some(running) if running.replica != replica => return,
        Some(_) if member.shard(shard).is_none() => return,
        Some(_) => {}
        None => {
            if *is_new && let Err(reason) = member.raise_floor(shard, replica.incarnation).await {
                return member.fail(reason);
            }
            begin(member, entry, replica).await;
        }
    }
    if !entry.born && entry.initializer == member.node && !is_new {
        birth::initialize(member, entry).await;
    }
}

/// Starts a replica that damage left fit to run, now or once what is missing is fetched; has any other one replaced.
async fn begin(member: &Arc<Member>, entry: &ShardEntry, replica: ReplicaId) {
    let key = ReplicaKey { shard: entry.shard, incarnation: replica.incarnation };
    let started = Started::new(replica);
    let all = || member.started.lock().unwrap_or_else(PoisonError::into_inner);
    all().insert(entry.shard, started.clone());
    match log_mend::standing(member, key, entry.born).await {
        Ok(Standing::Fit) => start(member, entry, started).await,
        Ok(Standing::Doubtful) => {
            all().remove(&entry.shard);
            comeback::replace(member, key);
        }
        Ok(Standing::Lacking) => {
            let (member, entry) = (Arc::clone(member), entry.clone());
            tokio::spawn(async move {
                if log_mend::fill(&member, key).await {
                    start(&member, &entry, started).await;
                } else if !member.stopping.is_cancelled() {
                    let mut all = member.started.lock().unwrap_or_else(PoisonError::into_inner);
                    all.remove(&entry.shard);
                    drop(all);
                    comeback::replace(&member, key);
                }
            });
        }
        Err(reason) => member.fail(reason),
    }
}

/// Not one of which this disk cannot know what it voted, whatever a catalog says that may be behind (S10).
fn may_run(member: &Member, shard: ShardId, replica: ReplicaId) -> bool {
    let key = ReplicaKey { shard, incarnation: replica.incarnation };
    replica.incarnation >= member.floor(shard) && !member.is_doubtful(key)
}

async fn start(member: &Arc<Member>, entry: &ShardEntry, started: Started) {
    let (shard, replica) = (entry.shard, started.replica);
    let key = ReplicaKey { shard, incarnation: replica.incarnation };
    let lived = member.parts.journal.keys().contains(&key);
    match open(member, shard, replica).await {
        Ok(shard) => {
            tokio::spawn(keep(Arc::clone(member), shard, started));
            if lived {
                tokio::spawn(birth::awaken(Arc::clone(member), entry.clone()));
            }
        }
        Err(reason) => member.fail(reason),
    }
}

/// Builds a replica from disk and makes it reachable.
async fn open(member: &Member, shard: ShardId, replica: ReplicaId) -> Result<Shard, String> {
    let key = ReplicaKey { shard, incarnation: replica.incarnation };
    let failed = |what: &str| format!("shard {shard} cannot start here: {what}");
    let journal = member.parts.journal.clone();
    // Raft takes all that it reads here for durable, and a life before this one may have queued what is not on disk yet, or
    // what the disk refused (S4).
    if !mutants::planted!("reopened-before-sync") {
        journal.barrier().await.map_err(|error| failed(&error.to_string()))?;
    }
    let store = restore::open_store(member, key).await;
    let store = store.map_err(|error| failed(&error))?;
    let purged = journal.shard(key).last_purged();
    if purged > store.checkpoint().map(|it| it.applied) {
        return Err(failed(
            "the journal was cut above the newest checkpoint, so the replica must be replaced",
        ));
    }
    let log = RaftLog::new(journal.shard(key), member.options.append_bytes)
        .mended_by(Mender::new(member, key));
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

/// Keeps one replica alive until the node stops, or another one comes instead: publishes its leadership, checkpoints it,
/// restarts it.
async fn keep(member: Arc<Member>, first: Shard, started: Started) {
    let (id, replica) = (first.id(), first.replica());
    let mut shard = first;
    let mut restarts = 0;
    loop {
        let born = Instant::now();
        let checkpointer = Checkpointer::new(shard.clone(), &member.options);
        let died = tokio::select! {
            () = member.stopping.cancelled() => return,
            () = started.stop.cancelled() => return end(&member, &shard).await,
            reason = checkpointer.run(&started.urged) => return member.fail(reason),
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
        stop(&shard).await;
        let pause = RESTART_PAUSE * 2_u32.saturating_pow(restarts - 1);
        sleep(pause.min(RESTART_PAUSE_MOST)).await;
        shard = match open(&member, id, replica).await {
            Ok(shard) => shard,
            Err(reason) => return member.fail(reason),
        };
    }
}

/// Returns once a replica's raft has ended and nothing is applied any more: its log may be opened anew, or removed.
async fn stop(shard: &Shard) {
    let life = &shard.core.applied.life;
    life.end();
    let _ = shard.core.raft.shutdown().await;
    life.until_ended().await;
}

/// Ends a replica that another one of this node comes instead of.
async fn end(member: &Member, shard: &Shard) {
    let (id, replica) = (shard.id(), shard.replica());
    tracing::warn!(shard = %id, %replica, "this replica was replaced, it ends");
    member.shards.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    stop(shard).await;
    member.started.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    member.catalog_changed.notify_one();
}
