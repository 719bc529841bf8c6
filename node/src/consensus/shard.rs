//! Owns one replica as the broker sees it: proposals, their outcomes (S15), reads of what was applied, and handing the
//! leadership over (S13). Never decides what a command means.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ClientWriteError, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError,
};
use openraft::raft::ClientWriteResponse;
use tokio::sync::{RwLock, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use waymark_proto::ids::{NodeId, ReplicaId, ShardId};

use super::acked::acked;
use super::kept_log::KeptLog;
use super::machine::Applied;
use super::network::ReplicaDoor;
use super::types::{C, LogId, OnComplete, Payload, Raft, RaftNode, from_raft_log_id};
use super::{Committed, Leadership, ProposeError};
use crate::metrics::Counter;
use crate::mutants;
use crate::reached::reached;
use crate::state::{Command, ShardState};
use crate::storage::shard_store::ShardStore;

/// A new leader has no lease for about one round trip; a proposal waits this long for it before it is refused.
const LEASE_PATIENCE: Duration = Duration::from_millis(500);
const LEASE_PAUSE: Duration = Duration::from_millis(10);

/// Told of a proposal's outcome, exactly once.
pub type Done = Box<dyn FnOnce(Result<Committed, ProposeError>) + Send>;

/// One replica. A clone is the same.
#[derive(Clone)]
pub struct Shard {
    pub(super) core: Arc<Core>,
}

impl Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shard({} as {})", self.core.applied.shard, self.core.applied.replica)
    }
}

pub(super) struct Core {
    pub(super) applied: Arc<Applied>,
    pub(super) raft: Raft,
    pub(super) door: Arc<dyn ReplicaDoor>,
    pub(super) kept_log: Arc<KeptLog>,
    pub(super) leadership: watch::Sender<Leadership>,
    /// Proposals hold it shared while they are handed over, a transfer exclusively: nothing may follow the entry that the
    /// new leader must have (S13).
    gate: RwLock<()>,
    transfer_patience: Duration,
    /// Leaders that came, as this replica saw it.
    pub(super) leader_changes: Counter,
}

impl Shard {
    pub(super) fn new(applied: Arc<Applied>, raft: Raft, transfer_patience: Duration) -> Self {
        let unknown = Leadership { leader: None, term: 0, ready: false };
        let door: Arc<dyn ReplicaDoor> = Arc::new(raft.clone());
        let leadership = watch::channel(unknown).0;
        let core = Core {
            applied,
            raft,
            door,
            kept_log: Arc::default(),
            leadership,
            gate: RwLock::new(()),
            transfer_patience,
            leader_changes: Counter::default(),
        };
        Self { core: Arc::new(core) }
    }

    /// Its shard.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.core.applied.shard
    }

    /// Its own id.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.core.applied.replica
    }

    /// Who leads, and whether this node may serve.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        *self.core.leadership.borrow()
    }

    /// Changes of [`Shard::leadership`].
    #[must_use]
    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.core.leadership.subscribe()
    }

    /// Looks at the applied state. Short and without waiting: apply is held up meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&ShardState) -> T) -> T {
        look(&self.core.applied.look().state)
    }

    /// Segments and tables.
    #[must_use]
    pub fn store(&self) -> &ShardStore {
        &self.core.applied.store
    }

    /// Raft index of the last applied entry.
    #[must_use]
    pub fn applied_index(&self) -> Option<u64> {
        self.core.applied.look().applied.map(|id| id.index)
    }

    /// Raft index up to which the log was purged.
    #[must_use]
    pub fn purged_index(&self) -> Option<u64> {
        let applied = &self.core.applied;
        applied.journal.shard(applied.key()).last_purged().map(|id| id.index)
    }

    /// Proposes and waits until applied here.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        self.propose_encoded(command.encode(), deadline).await
    }

    pub(super) async fn propose_encoded(
        &self,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        let patience = deadline.min(Instant::now() + LEASE_PATIENCE);
        loop {
            if Instant::now() >= deadline {
                return Err(ProposeError::ExpiredUnsent);
            }
            let (tell, told) = oneshot::channel();
            let done: Done = Box::new(move |outcome| drop(tell.send(outcome)));
            let handed = timeout_at(deadline, self.hand_over(command.clone(), done)).await;
            if handed.is_err() {
                return Err(ProposeError::OutcomeUnknown("the replica is too busy".to_owned()));
            }
            let outcome = match timeout_at(deadline, told).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(stopped("the replica has stopped")),
                Err(_) => Err(stopped("the deadline passed after the proposal")),
            };
            let lease = matches!(outcome, Err(ProposeError::NoQuorum(_)));
            if !lease || Instant::now() >= patience {
                return outcome;
            }
            sleep(LEASE_PAUSE).await;
        }
    }

    /// Proposes without waiting: entries are written in the order of the calls; `done` is called exactly once, from the
    /// replica's own task, so it must be short. No deadline of its own: the caller answers its clients in time and keeps
    /// `done` for the books.
    pub async fn submit(&self, command: Command, done: Done) {
        self.hand_over(command.encode(), done).await;
    }

    async fn hand_over(&self, command: Bytes, done: Done) {
        let limit = self.core.applied.journal.payload_limit();
        if command.len() > limit {
            // An entry that the journal must refuse would take the replica down with it.
            return done(Err(ProposeError::TooLarge {
                bytes: command.len() as u64,
                limit: limit as u64,
            }));
        }
        let owed = Owed { done: Some(done), core: Arc::downgrade(&self.core) };
        let complete = OnComplete(Box::new(move |outcome| owed.complete(outcome)));
        let _gate = self.core.gate.read().await;
        // An error means that the replica has stopped; the responder was dropped with the request and told so.
        let _ = self.core.raft.client_write_ff(Payload(command), Some(complete)).await;
    }

    /// `ReadIndex` (S14): returns once this replica, the leader, has applied everything committed before the call.
    ///
    /// # Errors
    /// When another node leads, or no quorum answers in time.
    pub async fn read_barrier(&self, deadline: Instant) -> Result<(), ProposeError> {
        let no_quorum = || ProposeError::NoQuorum(self.id());
        let asked =
            timeout_at(deadline, self.core.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
        let linearizer = match asked.map_err(|_| no_quorum())? {
            Ok(linearizer) => linearizer,
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                return Err(self.core.forwarded(&to));
            }
            Err(RaftError::APIError(_)) => return Err(no_quorum()),
            Err(RaftError::Fatal(_)) => return Err(ProposeError::NotHere(self.id())),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match linearizer.try_await_ready(&self.core.raft, Some(left)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(no_quorum()),
            Err(_) => Err(ProposeError::NotHere(self.id())),
        }
    }

    /// The index that a read anywhere must have applied to see all that was committed before the call. At the leader.
    ///
    /// # Errors
    /// As [`Shard::read_barrier`].
    pub async fn read_index(&self, deadline: Instant) -> Result<u64, ProposeError> {
        self.read_barrier(deadline).await?;
        Ok(self.applied_index().unwrap_or(0))
    }

    /// The nodes that vote; two sets of them while the membership changes.
    #[must_use]
    pub fn voters(&self) -> Vec<Vec<NodeId>> {
        let metrics = self.core.raft.metrics();
        let metrics = metrics.borrow_watched();
        let sets = metrics.membership_config.membership().get_joint_config().iter();
        sets.map(|voters| voters.iter().map(|id| id.0.node).collect()).collect()
    }

    /// Followers that vote and their last matched index, on the leader; empty elsewhere.
    #[must_use]
    pub fn progress(&self) -> Vec<(ReplicaId, Option<u64>)> {
        let metrics = self.core.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: BTreeSet<RaftNode> = metrics.membership_config.voter_ids().collect();
        let all = metrics.replication.iter().flatten();
        let followers = all.filter(|(id, _)| id.0 != self.replica() && voters.contains(id));
        followers.map(|(id, matched)| (id.0, matched.map(|it| it.index))).collect()
    }

    /// The last entry that a member has, as far as this leader knows, and the leader's own last one.
    pub(super) fn behind(&self, replica: ReplicaId) -> (Option<u64>, u64) {
        let metrics = self.core.raft.metrics();
        let metrics = metrics.borrow_watched();
        let all = metrics.replication.as_ref();
        let matched = all.and_then(|all| all.get(&RaftNode(replica)).copied().flatten());
        (matched.map(|it| it.index), metrics.last_log_index.unwrap_or(0))
    }

    /// A newer replica of its node is a member, as applied here, and this one is none.
    pub(super) fn is_replaced(&self, replica: ReplicaId) -> bool {
        let live = self.core.applied.look();
        let members = live.membership.membership();
        let newer =
            |id: &RaftNode| id.0.node == replica.node && id.0.incarnation > replica.incarnation;
        let mut ids = members.nodes().map(|(id, _)| *id);
        ids.any(|id| newer(&id)) && members.get_node(&RaftNode(replica)).is_none()
    }

    /// Hands the leadership to a replica that is up to date (S13). Proposals wait meanwhile.
    ///
    /// # Errors
    /// When this node does not lead, or the target lags.
    pub async fn transfer_to(&self, node: NodeId) -> Result<(), ProposeError> {
        let core = &self.core;
        let members = self.progress();
        let Some((to, _)) = members.into_iter().find(|(id, _)| id.node == node) else {
            return Err(self.not_leader());
        };
        let _closed = core.gate.write().await;
        let level = timeout(core.transfer_patience, core.until_level(to)).await;
        if !matches!(level, Ok(true)) {
            return Err(self.not_leader());
        }
        tracing::info!(shard = %self.id(), to = %to, "handing the leadership over");
        let asked = core.raft.trigger().transfer_leader(RaftNode(to)).await;
        asked.map_err(|_| ProposeError::NotHere(self.id()))?;
        let mut leadership = core.leadership.subscribe();
        let moved = leadership.wait_for(|now| now.leader != Some(self.replica().node));
        match timeout(core.transfer_patience, moved).await {
            Ok(_) => {
                reached!("leader-handed-over");
                Ok(())
            }
            Err(_) => Err(ProposeError::NoQuorum(self.id())),
        }
    }

    fn not_leader(&self) -> ProposeError {
        ProposeError::NotLeader { shard: self.id(), leader: self.leadership().leader }
    }
}

impl Core {
    /// Waits until a replica has everything that this leader has; false when it does not lead.
    async fn until_level(&self, to: ReplicaId) -> bool {
        loop {
            {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                if metrics.state != ServerState::Leader {
                    return false;
                }
                let all = metrics.replication.as_ref();
                let matched = all.and_then(|all| all.get(&RaftNode(to)).copied().flatten());
                if matched.map(|it| it.index) == metrics.last_log_index {
                    return true;
                }
            }
            sleep(LEASE_PAUSE).await;
        }
    }

    fn forwarded(&self, to: &ForwardToLeader<C>) -> ProposeError {
        let shard = self.applied.shard;
        let leader = to.leader_id.map(|id| id.0.node);
        match to.reason {
            ForwardReason::LeaseExpired => {
                reached!("lease-expired");
                ProposeError::NoQuorum(shard)
            }
            ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => {
                // It may name this very node when the leadership asked for is an older one of its own.
                let leader = leader.filter(|node| *node != self.applied.replica.node);
                ProposeError::NotLeader { shard, leader }
            }
        }
    }

    /// A lower bound of the replicas that have an applied entry on disk (S21): a quorum has, or it would not be applied,
    /// and whoever is known to match.
    fn durability(&self, index: u64) -> (u32, u32) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let configs = metrics.membership_config.membership().get_joint_config();
        let quorum = configs.iter().map(|voters| voters.len() / 2 + 1).max().unwrap_or(1);
        let all = metrics.replication.iter().flatten();
        let trusts_all = mutants::planted!("ack-counts-everyone");
        let has =
            |matched: &Option<LogId>| matched.is_some_and(|it| it.index >= index) || trusts_all;
        // The last one is what the members are going to be, of which a learner is none yet.
        let voters = configs.last();
        let votes = |id: &RaftNode| voters.is_some_and(|voters| voters.contains(id));
        let known = all.filter(|(id, matched)| has(matched) && votes(id)).count();
        let count = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
        (count(quorum.max(known)), count(voters.map_or(0, BTreeSet::len)))
    }
}

fn stopped(why: &str) -> ProposeError {
    ProposeError::OutcomeUnknown(why.to_owned())
}

/// Calls `done` once, whatever openraft does with the proposal: a replica that stops drops it without a word.
struct Owed {
    done: Option<Done>,
    /// Weak: the replica's own queue must not keep it alive.
    core: std::sync::Weak<Core>,
}

impl Owed {
    fn complete(mut self, outcome: Result<ClientWriteResponse<C>, ClientWriteError<C>>) {
        let Some(done) = self.done.take() else { return };
        let Some(core) = self.core.upgrade() else {
            return done(Err(stopped("the replica has stopped")));
        };
        done(match outcome {
            Ok(response) => {
                let at = from_raft_log_id(response.log_id);
                let (durable_replicas, replicas) = core.durability(at.index);
                acked(core.applied.shard, at, durable_replicas);
                Ok(Committed { reply: response.data, at, durable_replicas, replicas })
            }
            Err(ClientWriteError::ForwardToLeader(to)) => Err(core.forwarded(&to)),
            Err(ClientWriteError::LogEntryDiscarded(_)) => {
                Err(stopped("the leadership was lost before the entry was committed"))
            }
            Err(other) => Err(ProposeError::OutcomeUnknown(other.to_string())),
        });
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(stopped("the replica stopped before it answered")));
        }
    }
}
