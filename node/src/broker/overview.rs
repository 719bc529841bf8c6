//! The cluster as this node sees it: who is alive, who leads, which replicas are up to date, and whether they are the same.
//! Owns the questions to other nodes; every answer is as of a moment ago.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{NodeId, PartitionId, ShardId, TopicId, TopicPartition};

use super::admin::{
    Admin, Change, Committed, EpochEnd, Found, NamedTopic, NewConfigs, NewTopic, NodeState,
    NodeView, PartitionPlace, Problem, Spot, Topic, Verdict,
};
use super::refusal::{failure, no_leader, unproposed};
use super::{Broker, Core};
use crate::consensus::{Inspection, Look, Shard};
use crate::state::command::CommitOffsets;

/// How often leaders elsewhere are asked how their followers are.
const ASK_AGAIN: Duration = Duration::from_millis(500);
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// A node that was silent for longer is taken for dead; heartbeats come several times a second.
const SILENCE_MS: i64 = 3000;
/// Replicas are compared anew while one of them has not applied enough.
const COMPARE_AGAIN: Duration = Duration::from_millis(50);

/// Keeps what is known of replicas elsewhere fresh, for ever.
pub(super) async fn ask_leaders(core: &Arc<Core>) {
    loop {
        sleep(ASK_AGAIN).await;
        let others = core.consensus.shards().into_iter().filter_map(|shard| {
            let leader = shard.leadership().leader?;
            (leader != core.node).then_some((shard.id(), leader))
        });
        let asked = others.map(|(shard, leader)| async move {
            let look = Look { shard, at: None, digest_of: None };
            let seen = core.consensus.inspect(leader, look, Instant::now() + ANSWER_TIME).await;
            (shard, seen.map(|it| it.in_sync).unwrap_or_default())
        });
        let answers = join_all(asked).await;
        let mut known = core.in_sync.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(answers);
    }
}

impl Core {
    fn is_alive(&self, node: NodeId) -> bool {
        let now = self.env.clock.now_ms();
        let heard = self.consensus.peer_vitals();
        node == self.node
            || heard.iter().any(|(it, vitals)| *it == node && now - vitals.clock_ms < SILENCE_MS)
    }

    fn view(&self, node: NodeId) -> NodeView {
        let found = self.nodes.iter().find(|it| it.node == node);
        NodeView {
            node,
            rack: found.map(|it| it.rack.clone()).unwrap_or_default(),
            address: self.address(node),
        }
    }

    async fn in_sync(&self, shard: &Shard) -> Vec<NodeId> {
        let look = Look { shard: shard.id(), at: None, digest_of: None };
        let seen = self.consensus.inspect(self.node, look, Instant::now() + ANSWER_TIME).await;
        seen.map(|it| it.in_sync).unwrap_or_default()
    }

    fn known_in_sync(&self, shard: ShardId) -> Vec<NodeId> {
        let known = self.in_sync.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&shard).cloned().unwrap_or_default()
    }

    fn places(&self, topic: TopicId) -> Vec<PartitionPlace> {
        let placed = self.catalog(|catalog| {
            let entry = catalog.topic(topic)?;
            let shards = entry.partition_shards.iter().map(|shard| {
                let entry = catalog.shard(*shard);
                let voters = entry.map(|it| it.replicas.iter().map(|id| id.node).collect());
                (*shard, voters.unwrap_or_default())
            });
            Some(shards.collect::<Vec<(ShardId, Vec<NodeId>)>>())
        });
        let placed = placed.ok().flatten().unwrap_or_default();
        let place = |(number, (shard, voters)): (i32, (ShardId, Vec<NodeId>))| {
            let at = TopicPartition { topic, partition: PartitionId(number) };
            self.place(at, shard, voters)
        };
        (0..).zip(placed).map(place).collect()
    }

    fn place(&self, at: TopicPartition, shard: ShardId, voters: Vec<NodeId>) -> PartitionPlace {
        let replica = self.consensus.shard(shard);
        let leader = replica.as_ref().and_then(|it| it.leadership().leader);
        let epoch = replica
            .as_ref()
            .and_then(|it| it.read(|state| state.partition(at).map(|view| view.leader_epoch)));
        let here = leader == Some(self.node);
        let in_sync = match &replica {
            // Looking at the own replica never waits.
            Some(replica) if here => {
                futures::FutureExt::now_or_never(self.in_sync(replica)).unwrap_or_default()
            }
            _ => self.known_in_sync(shard),
        };
        let offline = voters.iter().copied().filter(|node| !self.is_alive(*node)).collect();
        PartitionPlace {
            partition: at.partition,
            leader,
            leader_epoch: epoch.unwrap_or(0),
            voters,
            in_sync,
            offline,
        }
    }

    fn node_states(&self) -> Result<Vec<NodeState>, Failure> {
        let (mut leaders, mut replicas) = (BTreeMap::new(), BTreeMap::new());
        let topics: Vec<TopicId> =
            self.catalog(|catalog| catalog.topics().map(|it| it.id).collect())?;
        for place in topics.into_iter().flat_map(|topic| self.places(topic)) {
            if let Some(leader) = place.leader {
                *leaders.entry(leader).or_insert(0) += 1;
            }
            for voter in place.voters {
                *replicas.entry(voter).or_insert(0) += 1;
            }
        }
        let state = |node: NodeId| NodeState {
            view: self.view(node),
            alive: self.is_alive(node),
            leaders: leaders.get(&node).copied().unwrap_or(0),
            replicas: replicas.get(&node).copied().unwrap_or(0),
        };
        Ok(self.nodes.iter().map(|it| state(it.node)).collect())
    }

    fn problems(&self) -> Result<Vec<Problem>, Failure> {
        let mut problems = Vec::new();
        for node in self.nodes.iter().filter(|it| !self.is_alive(it.node)) {
            let message = "it has not been heard of for some seconds".to_owned();
            problems.push(Problem { subject: format!("node {}", node.node), message });
        }
        let topics: Vec<(TopicId, String)> =
            self.catalog(|catalog| catalog.topics().map(|it| (it.id, it.name.clone())).collect())?;
        for (topic, name) in topics {
            for place in self.places(topic) {
                let subject = format!("{name}/{}", place.partition.0);
                if place.leader.is_none() {
                    let message = "it has no leader".to_owned();
                    problems.push(Problem { subject, message });
                } else if place.in_sync.len() < place.voters.len() {
                    let (up, all) = (place.in_sync.len(), place.voters.len());
                    let message = format!("{up} of {all} replicas are up to date");
                    problems.push(Problem { subject, message });
                }
            }
        }
        Ok(problems)
    }

    async fn verify(&self, topic: &Topic, deadline: Instant) -> Result<Vec<Verdict>, Failure> {
        let mut verdicts = Vec::new();
        for place in self.places(topic.id) {
            let at = TopicPartition { topic: topic.id, partition: place.partition };
            verdicts.push(self.compare(at, &place.voters, deadline).await?);
        }
        Ok(verdicts)
    }

    /// Compares over what all replicas have: from the greatest log start to the least high watermark, again while one has
    /// moved on meanwhile (S21).
    async fn compare(
        &self,
        at: TopicPartition,
        voters: &[NodeId],
        deadline: Instant,
    ) -> Result<Verdict, Failure> {
        let shard = self.shard_of(at)?;
        loop {
            let look = Look { shard, at: Some(at), digest_of: None };
            let seen = self.ask_all(voters, look, deadline).await;
            let here = seen.iter().filter_map(|(_, it)| it.as_ref().ok().filter(|it| it.here));
            let extents: Vec<(i64, i64)> =
                here.map(|it| (it.log_start, it.high_watermark)).collect();
            if extents.len() < voters.len() && Instant::now() + COMPARE_AGAIN < deadline {
                sleep(COMPARE_AGAIN).await;
                if Instant::now() + ANSWER_TIME < deadline {
                    continue;
                }
            }
            let from = extents.iter().map(|it| it.0).max().unwrap_or(0);
            let to = extents.iter().map(|it| it.1).min().unwrap_or(0).max(from);
            let look = Look { shard, at: Some(at), digest_of: Some((from, to)) };
            let digests = self.ask_all(voters, look, deadline).await;
            let replicas = digests.into_iter().map(|(node, it)| (node, digest(it))).collect();
            return Ok(Verdict { at, range: (from, to), replicas });
        }
    }

    async fn ask_all(
        &self,
        nodes: &[NodeId],
        look: Look,
        deadline: Instant,
    ) -> Vec<(NodeId, Result<Inspection, String>)> {
        let ask = |node: NodeId| async move {
            (node, self.consensus.inspect(node, look, deadline).await)
        };
        join_all(nodes.iter().map(|node| ask(*node))).await
    }

    async fn transfer(&self, at: TopicPartition, to: NodeId) -> Result<(), Failure> {
        let shard = self.serving_partition(at)?;
        if to == self.node {
            return Ok(());
        }
        shard.transfer_to(to).await.map_err(|error| unproposed(&error))
    }
}

fn digest(seen: Result<Inspection, String>) -> Result<String, Failure> {
    let unavailable = |why: &str| failure(FailureCode::ReplicaBehind, why);
    match seen {
        Ok(Inspection { digest: Some(Ok(digest)), .. }) => {
            Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        Ok(Inspection { digest: Some(Err(why)), .. }) => {
            Err(failure(FailureCode::RangeDamaged, why))
        }
        Ok(Inspection { digest: None, .. }) => Err(unavailable("the partition is not here")),
        Err(why) => Err(unavailable(&why)),
    }
}

#[async_trait]
impl Admin for Broker {
    async fn topic(&self, named: &NamedTopic) -> Result<Topic, Failure> {
        self.core.topic(named).await
    }

    fn topic_name(&self, topic: TopicId) -> Option<String> {
        let name = self.core.catalog(|catalog| catalog.topic(topic).map(|it| it.name.clone()));
        name.ok().flatten()
    }

    async fn topics(&self, after: &str, limit: usize) -> Result<Vec<Topic>, Failure> {
        self.core.topics_after(after, limit)
    }

    async fn create_topic(&self, topic: NewTopic, change: Change) -> Result<Topic, Failure> {
        self.core.create_topic(topic, change).await
    }

    async fn delete_topic(&self, topic: &NamedTopic, change: Change) -> Result<Topic, Failure> {
        self.core.delete_topic(topic, change).await
    }

    async fn add_partitions(
        &self,
        topic: &NamedTopic,
        total: i32,
        change: Change,
    ) -> Result<Topic, Failure> {
        self.core.add_partitions(topic, total, change).await
    }

    async fn alter_configs(&self, configs: NewConfigs, change: Change) -> Result<Topic, Failure> {
        self.core.alter_configs(configs, change).await
    }

    fn places(&self, topic: TopicId) -> Vec<PartitionPlace> {
        self.core.places(topic)
    }

    async fn delete_records(
        &self,
        at: TopicPartition,
        before: Option<i64>,
        deadline: Instant,
    ) -> Result<i64, Failure> {
        self.core.delete_records(at, before, deadline).await
    }

    async fn find_offset(
        &self,
        at: TopicPartition,
        spot: Spot,
        leader_epoch: Option<i32>,
    ) -> Result<Found, Failure> {
        self.core.find_offset(at, spot, leader_epoch).await
    }

    async fn epoch_end(
        &self,
        at: TopicPartition,
        epoch: i32,
        leader_epoch: Option<i32>,
    ) -> Result<Option<EpochEnd>, Failure> {
        self.core.epoch_end(at, epoch, leader_epoch).await
    }

    async fn commit_offsets(
        &self,
        commit: CommitOffsets,
        deadline: Instant,
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        self.core.commit_offsets(commit, deadline).await
    }

    async fn fetch_offsets(
        &self,
        group: &str,
        at: Option<&[TopicPartition]>,
        deadline: Instant,
    ) -> Result<Vec<Committed>, Failure> {
        self.core.fetch_offsets(group, at, deadline).await
    }

    async fn delete_offsets(
        &self,
        group: &str,
        at: Option<Vec<TopicPartition>>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        self.core.delete_offsets(group, at, deadline).await
    }

    fn metadata_version(&self) -> watch::Receiver<i64> {
        self.core.wakes.metadata()
    }

    fn nodes(&self) -> Vec<NodeView> {
        self.core.nodes.iter().map(|it| self.core.view(it.node)).collect()
    }

    async fn node_states(&self) -> Result<Vec<NodeState>, Failure> {
        self.core.node_states()
    }

    async fn coordinator(&self, group: &str) -> Result<NodeView, Failure> {
        let shard = self.core.group_shard(group)?;
        let leader = self.core.consensus.shard(shard).and_then(|it| it.leadership().leader);
        let leader = leader.ok_or_else(|| no_leader("the group has no coordinator just now"))?;
        Ok(self.core.view(leader))
    }

    async fn problems(&self) -> Result<Vec<Problem>, Failure> {
        self.core.problems()
    }

    async fn verify(&self, topic: &Topic, deadline: Instant) -> Result<Vec<Verdict>, Failure> {
        self.core.verify(topic, deadline).await
    }

    async fn transfer_leader(
        &self,
        at: TopicPartition,
        to: NodeId,
        _: Instant,
    ) -> Result<(), Failure> {
        self.core.transfer(at, to).await
    }
}
