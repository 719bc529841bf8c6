//! Owns the question "here?": which shard a partition or a group lives in, and whether this node may serve it now.

use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::failure::{Failure, FailureCode, LeaderHint};
use waymark_proto::ids::{NodeId, ShardId, TopicPartition};

use super::Core;
use super::refusal::{failure, no_leader, unproposed};
use crate::consensus::{ProposeError, Shard};
use crate::state::Catalog;
use crate::state::catalog::TopicPhase;

/// Time that a quorum has to confirm the leadership; a caller that is refused asks again.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);

impl Core {
    /// Looks at the catalog as this node knows it.
    pub(super) fn catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> Result<T, Failure> {
        let shard = self.consensus.shard(ShardId::CATALOG);
        let seen = shard.and_then(|shard| shard.read(|state| state.catalog().map(look)));
        seen.ok_or_else(|| no_leader("the cluster is not formed yet"))
    }

    pub(super) fn shard_of(&self, at: TopicPartition) -> Result<ShardId, Failure> {
        self.catalog(|catalog| {
            let Some(topic) = catalog.topic(at.topic) else {
                // A replica of the catalog that is still catching up has not heard of it: only a linearizable look may
                // say that it does not exist, and the caller's next lookup by name takes one.
                return Err(no_leader("the topic is not known to this node yet"));
            };
            if topic.phase == TopicPhase::Deleting {
                return Err(failure(FailureCode::TopicNotFound, "the topic is being deleted"));
            }
            let missing = || failure(FailureCode::PartitionNotFound, "no such partition");
            topic.shard_of(at.partition).ok_or_else(missing)
        })?
    }

    /// The replica here, if it leads and has applied an entry of its own term.
    pub(super) fn serving(&self, shard: ShardId) -> Result<Shard, Failure> {
        let Some(replica) = self.consensus.shard(shard) else {
            return Err(self.elsewhere(shard, FailureCode::NotLeader));
        };
        let now = replica.leadership();
        match now.leader {
            Some(leader) if leader == self.node && now.ready => Ok(replica),
            Some(leader) if leader == self.node => Err(no_leader("the leader is not ready yet")),
            Some(leader) => Err(self.led_by(leader, FailureCode::NotLeader)),
            None => Err(no_leader("no leader is known")),
        }
    }

    pub(super) fn serving_partition(&self, at: TopicPartition) -> Result<Shard, Failure> {
        let shard = self.shard_of(at)?;
        self.serving(shard).map_err(|failure| self.with_epoch(shard, at, failure))
    }

    /// As [`Core::serving_partition`]; that a partition does not exist is only said behind a barrier, because this node may
    /// not have heard of it yet.
    pub(super) async fn serving_known(&self, at: TopicPartition) -> Result<Shard, Failure> {
        match self.serving_partition(at) {
            Err(_) if !self.knows(at) => Err(self.missing(at).await),
            known => known,
        }
    }

    /// Whether the catalog here lists a partition; without a catalog nothing can be said.
    pub(super) fn knows(&self, at: TopicPartition) -> bool {
        let listed = |catalog: &Catalog| catalog.topic(at.topic)?.shard_of(at.partition);
        self.catalog(|catalog| listed(catalog).is_some()).unwrap_or(true)
    }

    /// Why a partition that is not in the catalog here cannot be served.
    pub(super) async fn missing(&self, at: TopicPartition) -> Failure {
        if let Err(failure) = self.catalog_barrier(Instant::now() + CONFIRM_PATIENCE).await {
            return failure;
        }
        if self.knows(at) {
            return no_leader("this node has only just heard of the partition");
        }
        let topic = self.catalog(|catalog| catalog.topic(at.topic).is_some());
        match topic {
            Ok(true) => failure(FailureCode::PartitionNotFound, "no such partition"),
            _ => failure(FailureCode::TopicNotFound, "no such topic"),
        }
    }

    /// Returns once a quorum still follows this leader and it has applied all that was committed before. One that was
    /// deposed and does not know it yet holds an older end of the log: told as "out of range", a reset policy would repeat
    /// or skip records (S14). Callers of a shard share its rounds.
    pub(super) async fn confirm_leader(&self, shard: &Shard) -> Result<(), Failure> {
        let deadline = Instant::now() + 2 * CONFIRM_PATIENCE;
        let confirmed = self.barriers.pass(shard, CONFIRM_PATIENCE, deadline).await;
        confirmed.map_err(|error| no_leader(error.to_string()))
    }

    /// As [`Core::confirm_leader`], for a group's coordinator and within the caller's own time.
    pub(super) async fn confirm_coordinator(
        &self,
        shard: &Shard,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let confirmed = self.barriers.pass(shard, CONFIRM_PATIENCE, deadline).await;
        confirmed.map_err(|error| moved_coordinator(unproposed(&error)))
    }

    /// The leader epoch of a partition under the leader that this node knows. A leader counts once its first entry is
    /// applied, which raises the epoch by 1: until then it is known to be at least that much higher.
    pub(super) fn leader_epoch(&self, shard: &Shard, at: TopicPartition) -> Option<i32> {
        let now = shard.leadership();
        shard.read(|state| {
            let epoch = state.partition(at)?.leader_epoch;
            let counted = state.last_leader();
            let known = now.leader.is_none_or(|leader| {
                counted.is_some_and(|(term, last)| term == now.term && last.node == leader)
            });
            Some(if known { epoch } else { epoch.saturating_add(1) })
        })
    }

    /// The failure, whose hint says under which epoch that leader leads the partition.
    pub(super) fn with_epoch(
        &self,
        shard: ShardId,
        at: TopicPartition,
        mut failure: Failure,
    ) -> Failure {
        if let Some(hint) = &mut failure.leader {
            let epoch = self.consensus.shard(shard).and_then(|it| self.leader_epoch(&it, at));
            hint.leader_epoch = epoch.unwrap_or_else(|| self.epoch_elsewhere(at));
        }
        failure
    }

    /// Why a proposal here was not written, or may have been.
    pub(super) fn unwritten(&self, error: &ProposeError) -> Failure {
        match error {
            ProposeError::NotLeader { leader: Some(leader), .. } => {
                self.led_by(*leader, FailureCode::NotLeader)
            }
            _ => unproposed(error),
        }
    }

    /// The replica here that coordinates a group.
    pub(super) fn coordinating(&self, group: &str) -> Result<Shard, Failure> {
        let shard = self.group_shard(group)?;
        self.serving(shard).map_err(moved_coordinator)
    }

    pub(super) fn group_shard(&self, group: &str) -> Result<ShardId, Failure> {
        let shard = self.catalog(|catalog| catalog.group_shard(group))?;
        shard.ok_or_else(|| no_leader("there are no shards for groups yet"))
    }

    /// No replica is here: what the leader told of itself counts, else any replica knows more than this node.
    fn elsewhere(&self, shard: ShardId, code: FailureCode) -> Failure {
        let place = self.shard_places().remove(&shard).unwrap_or_default();
        match place.leader.or_else(|| place.voters.first().copied()) {
            Some(node) => self.led_by(node, code),
            None => no_leader("no leader is known"),
        }
    }

    pub(super) fn led_by(&self, node: NodeId, code: FailureCode) -> Failure {
        let mut failure = failure(code, format!("node {node} leads"));
        failure.leader = Some(LeaderHint { node, leader_epoch: 0, address: self.address(node) });
        failure
    }

    pub(super) fn address(&self, node: NodeId) -> String {
        let found = self.nodes.iter().find(|it| it.node == node);
        found.map(|it| it.client_address.clone()).unwrap_or_default()
    }

    /// The caller's view of the leadership must be this node's, which leads.
    pub(super) fn check_epoch(&self, given: Option<i32>, now: i32) -> Result<(), Failure> {
        let code = match given {
            Some(epoch) if epoch < now => FailureCode::LeaderEpochOld,
            Some(epoch) if epoch > now => FailureCode::LeaderEpochAhead,
            _ => return Ok(()),
        };
        let mut failure = failure(code, format!("the leader epoch is {now}"));
        if code == FailureCode::LeaderEpochOld {
            let address = self.address(self.node);
            failure.leader = Some(LeaderHint { node: self.node, leader_epoch: now, address });
        }
        Err(failure)
    }
}

/// What a shard's leader is to partitions, its coordinator is to groups.
pub(super) fn moved_coordinator(mut failure: Failure) -> Failure {
    match failure.code {
        FailureCode::NotLeader => failure.code = FailureCode::NotCoordinator,
        FailureCode::NoLeader => failure.code = FailureCode::CoordinatorLoading,
        _ => {}
    }
    failure
}
