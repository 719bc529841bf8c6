//! Owns the question "here?": which shard a partition or a group lives in, and whether this node may serve it now.

use waymark_proto::failure::{Failure, FailureCode, LeaderHint};
use waymark_proto::ids::{NodeId, ShardId, TopicPartition};

use super::Core;
use super::refusal::{failure, no_leader};
use crate::consensus::Shard;
use crate::state::Catalog;
use crate::state::catalog::TopicPhase;

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
        self.serving(self.shard_of(at)?)
    }

    /// The replica here that coordinates a group.
    pub(super) fn coordinating(&self, group: &str) -> Result<Shard, Failure> {
        let shard = self.group_shard(group)?;
        self.serving(shard).map_err(|mut failure| {
            match failure.code {
                FailureCode::NotLeader => failure.code = FailureCode::NotCoordinator,
                FailureCode::NoLeader => failure.code = FailureCode::CoordinatorLoading,
                _ => {}
            }
            failure
        })
    }

    pub(super) fn group_shard(&self, group: &str) -> Result<ShardId, Failure> {
        let shard = self.catalog(|catalog| catalog.group_shard(group))?;
        shard.ok_or_else(|| no_leader("there are no shards for groups yet"))
    }

    fn elsewhere(&self, shard: ShardId, code: FailureCode) -> Failure {
        let replica = self.catalog(|catalog| {
            catalog.shard(shard).and_then(|it| it.replicas.first().map(|id| id.node))
        });
        match replica {
            Ok(Some(node)) => self.led_by(node, code),
            _ => no_leader("no leader is known"),
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

    /// The caller's view of the leadership must be this node's.
    pub(super) fn check_epoch(given: Option<i32>, now: i32) -> Result<(), Failure> {
        let code = match given {
            Some(epoch) if epoch < now => FailureCode::LeaderEpochOld,
            Some(epoch) if epoch > now => FailureCode::LeaderEpochAhead,
            _ => return Ok(()),
        };
        Err(failure(code, format!("the leader epoch is {now}")))
    }
}
