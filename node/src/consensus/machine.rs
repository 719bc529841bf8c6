//! Owns the way of a committed entry: state, then storage, then observers, then its proposer; and the cut of a checkpoint
//! between two entries (S6). What it reports to openraft as applied at a start is the checkpoint and nothing above (S5).

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::DropGuard;
use waymark_proto::ids::{ReplicaId, ReplicaKey, ShardId};

use super::life::Life;
use super::membership::decode_stored_membership;
use super::snapshot::{Builder, SnapshotMeta, snapshot_of};
use super::types::{C, Entry, LogId, Manifest, Membership, from_raft_log_id, to_raft_log_id};
use super::{ApplyObserver, network};
use crate::state::{Effect, EntryAt, Reply, Row, ShardState};
use crate::storage::journal::Journal;
use crate::storage::raft_record as record;
use crate::storage::shard_store::{Checkpoint, ShardStore};

/// What was applied, and up to where. Changed by apply and install alone, each under one hold of the lock, so that a cut
/// taken between two holds is consistent: state, positions and what storage was handed.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) state: ShardState,
    pub(super) applied: Option<record::LogId>,
    pub(super) membership: Membership,
}

/// Term and leader of an entry: together they name one leadership.
pub(super) type Leading = (u64, ReplicaId);

/// What the state machine, checkpoints and readers of one replica share.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) shard: ShardId,
    pub(super) replica: ReplicaId,
    pub(super) journal: Journal,
    pub(super) store: ShardStore,
    observer: Arc<dyn ApplyObserver>,
    live: RwLock<Live>,
    /// Whose entry was applied last: a leader is ready once it is its own (ARCHITECTURE §6).
    pub(super) leading: watch::Sender<Option<Leading>>,
    /// Wakes who acts on the catalog.
    pub(super) catalog_changed: Arc<Notify>,
    /// Payload bytes applied since this replica was opened; only rises.
    pub(super) applied_bytes: AtomicU64,
    /// Wakes the checkpointer when `applied_bytes` has passed this.
    pub(super) checkpoint_at: AtomicU64,
    pub(super) checkpoint_due: Notify,
    /// Held while a checkpoint is written or a manifest installed: never both. Holds the rows of cuts that could not be
    /// written, which the next cut must carry.
    pub(super) writing: Mutex<BTreeMap<Vec<u8>, Row>>,
    /// The newest checkpoint was written and openraft is yet to hear of it.
    pub(super) unannounced: AtomicBool,
    pub(super) life: Life,
}

/// Why a replica's applied state cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard}: the checkpoint cannot be read: {reason}")]
pub struct Unreadable {
    shard: ShardId,
    reason: String,
}

/// What one replica is built on.
#[derive(Debug)]
pub struct Ground {
    /// Its shard.
    pub shard: ShardId,
    /// Its own id.
    pub replica: ReplicaId,
    /// The node's journal.
    pub journal: Journal,
    /// Its segments, tables and checkpoint.
    pub store: ShardStore,
    /// Who is told of applied entries.
    pub observer: Arc<dyn ApplyObserver>,
    /// Notified when the catalog changed.
    pub catalog_changed: Arc<Notify>,
}

impl Applied {
    /// The replica's applied side as its checkpoint tells it.
    pub(super) fn open(ground: Ground) -> Result<Self, Unreadable> {
        let live = load(ground.shard, &ground.store)?;
        Ok(Self {
            shard: ground.shard,
            replica: ground.replica,
            journal: ground.journal,
            store: ground.store,
            observer: ground.observer,
            leading: watch::channel(None).0,
            live: RwLock::new(live),
            catalog_changed: ground.catalog_changed,
            applied_bytes: AtomicU64::new(0),
            checkpoint_at: AtomicU64::new(u64::MAX),
            checkpoint_due: Notify::new(),
            writing: Mutex::default(),
            unannounced: AtomicBool::new(false),
            life: Life::default(),
        })
    }

    pub(super) fn key(&self) -> ReplicaKey {
        ReplicaKey { shard: self.shard, incarnation: self.replica.incarnation }
    }

    pub(super) fn look(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, entry: Entry) -> Reply {
        let id = from_raft_log_id(entry.log_id);
        let at = EntryAt { index: id.index, term: id.term, leader: id.leader };
        let mut bytes = 0;
        let (reply, effects) = {
            let mut live = self.change();
            let applied = match entry.payload {
                EntryPayload::Blank => live.state.observe(at),
                EntryPayload::Membership(membership) => {
                    live.membership = Membership::new(Some(entry.log_id), membership);
                    live.state.observe(at)
                }
                EntryPayload::Normal(command) => {
                    bytes = command.0.len() as u64;
                    live.state.apply_encoded(at, command.0)
                }
            };
            live.applied = Some(id);
            self.store_effects(&applied.effects);
            (applied.reply, applied.effects)
        };
        self.count(bytes);
        self.tell(id, &effects);
        reply
    }

    fn store_effects(&self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Append(batch) => self.store.append(batch.clone()),
                Effect::LogStart { at, offset } => self.store.set_log_start(*at, *offset),
                Effect::Closed(at) => self.store.close_partition(*at),
                Effect::Opened(_)
                | Effect::GroupChanged(_)
                | Effect::CatalogChanged
                | Effect::LeaderChanged => {}
            }
        }
    }

    fn count(&self, bytes: u64) {
        let total = self.applied_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if total >= self.checkpoint_at.load(Ordering::Relaxed) {
            self.checkpoint_due.notify_one();
        }
    }

    fn tell(&self, id: record::LogId, effects: &[Effect]) {
        self.observer.applied(self.shard, id.index, effects);
        let leading = Some((id.term, id.leader));
        self.leading.send_if_modified(|known| std::mem::replace(known, leading) != leading);
        if effects.contains(&Effect::CatalogChanged) {
            self.catalog_changed.notify_one();
        }
    }

    /// Replaces everything by what a manifest says, then tells it as the effects that lead there.
    pub(super) fn replace(&self, checkpoint: &Checkpoint) -> Result<(), Unreadable> {
        let fresh = load(self.shard, &self.store)?;
        let mut effects: Vec<Effect> = Vec::new();
        for (at, view) in fresh.state.partitions() {
            effects.push(Effect::Opened(at));
            effects.push(Effect::LogStart { at, offset: view.log_start });
        }
        if fresh.state.catalog().is_some() {
            effects.push(Effect::CatalogChanged);
        }
        *self.change() = fresh;
        self.tell(checkpoint.applied, &effects);
        Ok(())
    }

    pub(super) fn announce(&self, leadership: super::Leadership) {
        self.observer.leadership(self.shard, leadership);
    }
}

/// What a replica's checkpoint tells.
pub(super) fn load(shard: ShardId, store: &ShardStore) -> Result<Live, Unreadable> {
    let Some(checkpoint) = store.checkpoint() else {
        let membership = Membership::default();
        return Ok(Live { state: ShardState::new(shard), applied: None, membership });
    };
    let fail = |reason: String| Unreadable { shard, reason };
    let state = ShardState::from_rows(shard, &store.checkpoint_rows());
    let membership = decode_stored_membership(&checkpoint.membership);
    Ok(Live {
        state: state.map_err(|error| fail(error.to_string()))?,
        applied: Some(checkpoint.applied),
        membership: membership.map_err(|error| fail(error.to_string()))?,
    })
}

/// The state machine that openraft drives.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) applied: Arc<Applied>,
    /// Tells [`Life::until_ended`] when openraft drops it.
    _held: Arc<DropGuard>,
}

impl Machine {
    /// The state machine as its checkpoint tells it (S5).
    ///
    /// # Errors
    /// When the checkpoint's rows are not ones that this version writes.
    pub fn open(ground: Ground) -> Result<Self, Unreadable> {
        let applied = Arc::new(Applied::open(ground)?);
        let held = applied.life.guard();
        Ok(Self { applied, _held: held })
    }

    /// How it is ended.
    #[must_use]
    pub fn life(&self) -> Life {
        self.applied.life.clone()
    }
}

impl RaftStateMachine<C> for Machine {
    type SnapshotData = Manifest;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        let live = self.applied.look();
        Ok((live.applied.map(to_raft_log_id), live.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<C>, io::Error>> + Unpin + OptionalSend,
    {
        let all = async {
            while let Some(item) = entries.next().await {
                let (entry, responder) = item?;
                self.applied.store.make_room().await;
                let reply = self.applied.apply(entry);
                if let Some(responder) = responder {
                    responder.send(reply);
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            () = self.applied.life.until_ending() => Err(io::Error::other("this replica has ended")),
            done = all => done,
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let something = self.applied.look().applied.is_some();
        (force || something).then(|| Builder { applied: Arc::clone(&self.applied) })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { applied: Arc::clone(&self.applied) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        manifest: Bytes,
    ) -> Result<(), io::Error> {
        tracing::info!(shard = %self.applied.shard, upto = ?meta.last_log_id, "installing a manifest");
        self.applied.install(manifest).await.map_err(io::Error::other)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<network::Snapshot>, io::Error> {
        self.applied.store.checkpoint().map(|it| snapshot_of(&it)).transpose()
    }
}
