//! The broker as the services of topics, offsets and the cluster see it. Owns nothing but the names: what each call means
//! stands with its subject.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use waymark_proto::failure::Failure;
use waymark_proto::ids::{NodeId, TopicId, TopicPartition};

use super::Broker;
use super::admin::{
    Admin, Change, Committed, EpochEnd, Found, NamedTopic, NewConfigs, NewTopic, NodeState,
    NodeView, PartitionPlace, Problem, Spot, Stand, Topic, Verdict,
};
use crate::state::command::CommitOffsets;
use crate::state::groups::Actor;

#[async_trait]
impl Admin for Broker {
    async fn topic(&self, named: &NamedTopic) -> Result<Topic, Failure> {
        self.core.topic(named).await
    }

    async fn newest_catalog(&self, deadline: Instant) -> Result<(), Failure> {
        self.core.catalog_barrier(deadline).await
    }

    fn topic_name(&self, topic: TopicId) -> Option<String> {
        self.core.topic_name(topic)
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

    async fn stands(
        &self,
        topics: &[TopicId],
        deadline: Instant,
    ) -> BTreeMap<TopicPartition, Stand> {
        self.core.stands(topics, deadline).await
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
        let outcome = self.core.commit_offsets(commit, deadline).await;
        self.core.numbers.committed(&outcome);
        outcome
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
        actor: Actor,
        deadline: Instant,
    ) -> Result<(), Failure> {
        self.core.delete_offsets(group, at, actor, deadline).await
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
        self.core.coordinator(group)
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
        deadline: Instant,
    ) -> Result<(), Failure> {
        self.core.transfer(at, to, deadline).await
    }
}
