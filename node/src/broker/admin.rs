//! What the services of topics, offsets and the cluster ask of the layer below, in domain types: the seam to the broker.
//! Every call works on any node unless it says otherwise. Never a generated type.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use waymark_proto::failure::Failure;
use waymark_proto::ids::{NodeId, PartitionId, TopicId, TopicPartition};

pub use crate::consensus::Stand;
use crate::state::command::CommitOffsets;
use crate::state::groups::Actor;

/// A topic by name, by id or by both; both must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTopic {
    /// Its name.
    pub name: Option<String>,
    /// Its id.
    pub id: Option<TopicId>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its replication factor.
    pub replication: i32,
    /// Raised by each change.
    pub version: i64,
    /// Settings that differ from the defaults.
    pub configs: BTreeMap<String, String>,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name, already checked.
    pub name: String,
    /// Made by the caller, so that the call can be repeated; `None`: made by the node.
    pub id: Option<TopicId>,
    /// `None`: the cluster's default.
    pub partitions: Option<i32>,
    /// `None`: the cluster's default.
    pub replication: Option<i32>,
    /// Settings, key and value.
    pub configs: Vec<(String, String)>,
}

/// How a change is made.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Check all, change nothing.
    pub validate_only: bool,
    /// The outcome is told by then.
    pub deadline: Instant,
}

/// New settings of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewConfigs {
    /// The topic.
    pub topic: TopicId,
    /// Key and value; `None`: back to the default.
    pub ops: Vec<(String, Option<String>)>,
    /// Only if the topic has this version.
    pub expected_version: Option<i64>,
}

/// Where a partition lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionPlace {
    /// Which.
    pub partition: PartitionId,
    /// `None`: not known, or none.
    pub leader: Option<NodeId>,
    /// As far as this node knows.
    pub leader_epoch: i32,
    /// All voting replicas.
    pub voters: Vec<NodeId>,
    /// Those that are up to date.
    pub in_sync: Vec<NodeId>,
    /// Those that cannot be reached.
    pub offline: Vec<NodeId>,
}

/// A node, as clients are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub node: NodeId,
    /// Its rack, may be empty.
    pub rack: String,
    /// `host:port` for clients.
    pub address: String,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Which.
    pub view: NodeView,
    /// Heard of lately.
    pub alive: bool,
    /// Partitions that it leads.
    pub leaders: i32,
    /// Replicas of partitions that it holds.
    pub replicas: i32,
    /// The version of its software; empty while it does not answer.
    pub version: String,
}

/// Something an operator should know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// "topic/partition", "node 2".
    pub subject: String,
    /// What is wrong.
    pub message: String,
}

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// The log start.
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record, in offset order, with at least this timestamp.
    AtTime(i64),
    /// The record with the largest timestamp.
    MaxTimestamp,
}

/// An offset that was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// `None`: no record is that new.
    pub offset: Option<i64>,
    /// The record's timestamp, where one was looked for.
    pub timestamp_ms: Option<i64>,
    /// The epoch of that record.
    pub leader_epoch: Option<i32>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub at: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// The epoch of the record before it.
    pub leader_epoch: Option<i32>,
    /// The application's own words.
    pub metadata: Option<String>,
    /// When it was committed, Unix ms.
    pub commit_time_ms: i64,
    /// The assignment that it was committed under.
    pub fencing_epoch: Option<i64>,
}

/// Where a leader epoch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch not above the one asked about.
    pub epoch: i32,
    /// The offset after its last record.
    pub end_offset: i64,
}

/// What the replicas of a partition hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The partition.
    pub at: TopicPartition,
    /// The offsets that were compared: from, to.
    pub range: (i64, i64),
    /// Each replica's digest in hexadecimal, or why there is none.
    pub replicas: Vec<(NodeId, Result<String, Failure>)>,
}

/// Topics, placement, committed offsets and health.
#[async_trait]
pub trait Admin: Send + Sync + Debug + 'static {
    /// A topic. That it does not exist is said only after a linearizable look at the catalog.
    async fn topic(&self, named: &NamedTopic) -> Result<Topic, Failure>;

    /// Returns once what this node knows of the catalog has everything that was committed before the call (S14).
    async fn newest_catalog(&self, deadline: Instant) -> Result<(), Failure>;

    /// The name of a topic that this node knows.
    fn topic_name(&self, topic: TopicId) -> Option<String>;

    /// Topics by name, from the first one after `after`, at most `limit`.
    async fn topics(&self, after: &str, limit: usize) -> Result<Vec<Topic>, Failure>;

    /// Creates a topic; answers when every partition can be used.
    async fn create_topic(&self, topic: NewTopic, change: Change) -> Result<Topic, Failure>;

    /// Deletes a topic.
    async fn delete_topic(&self, topic: &NamedTopic, change: Change) -> Result<Topic, Failure>;

    /// Raises the number of partitions to a total.
    async fn add_partitions(
        &self,
        topic: &NamedTopic,
        total: i32,
        change: Change,
    ) -> Result<Topic, Failure>;

    /// Changes a topic's settings.
    async fn alter_configs(&self, configs: NewConfigs, change: Change) -> Result<Topic, Failure>;

    /// Where the partitions of a topic live, in order.
    fn places(&self, topic: TopicId) -> Vec<PartitionPlace>;

    /// Where the partitions of topics stand, as their leaders tell: those that answer before the deadline, and in any case
    /// soon.
    async fn stands(
        &self,
        topics: &[TopicId],
        deadline: Instant,
    ) -> BTreeMap<TopicPartition, Stand>;

    /// Raises a log start; `None`: to the high watermark. At the leader. Returns the log start.
    async fn delete_records(
        &self,
        at: TopicPartition,
        before: Option<i64>,
        deadline: Instant,
    ) -> Result<i64, Failure>;

    /// Finds an offset. At the leader.
    async fn find_offset(
        &self,
        at: TopicPartition,
        spot: Spot,
        leader_epoch: Option<i32>,
    ) -> Result<Found, Failure>;

    /// Where an epoch ended; `None`: before the log starts. At the leader.
    async fn epoch_end(
        &self,
        at: TopicPartition,
        epoch: i32,
        leader_epoch: Option<i32>,
    ) -> Result<Option<EpochEnd>, Failure>;

    /// Commits offsets of a group. At its coordinator. The commit time is set below.
    async fn commit_offsets(
        &self,
        commit: CommitOffsets,
        deadline: Instant,
    ) -> Result<Vec<Result<(), Failure>>, Failure>;

    /// A group's committed offsets: those asked for that exist, or all. Linearizable. At its coordinator.
    async fn fetch_offsets(
        &self,
        group: &str,
        at: Option<&[TopicPartition]>,
        deadline: Instant,
    ) -> Result<Vec<Committed>, Failure>;

    /// Forgets committed offsets; `None`: all of the group. At its coordinator.
    async fn delete_offsets(
        &self,
        group: &str,
        at: Option<Vec<TopicPartition>>,
        actor: Actor,
        deadline: Instant,
    ) -> Result<(), Failure>;

    /// Rises with each change of nodes, topics or leaders that this node knows of.
    fn metadata_version(&self) -> watch::Receiver<i64>;

    /// All nodes of the cluster, this one included; before it is formed, those that are configured.
    fn nodes(&self) -> Vec<NodeView>;

    /// How all nodes are.
    async fn node_states(&self) -> Result<Vec<NodeState>, Failure>;

    /// The node that coordinates a group.
    async fn coordinator(&self, group: &str) -> Result<NodeView, Failure>;

    /// What is wrong just now.
    async fn problems(&self) -> Result<Vec<Problem>, Failure>;

    /// Compares the replicas of a topic's partitions.
    async fn verify(&self, topic: &Topic, deadline: Instant) -> Result<Vec<Verdict>, Failure>;

    /// Moves the leadership of a partition, and of those that share its replica set.
    async fn transfer_leader(
        &self,
        at: TopicPartition,
        to: NodeId,
        deadline: Instant,
    ) -> Result<(), Failure>;
}

/// A shared handle to [`Admin`].
pub type SharedAdmin = Arc<dyn Admin>;
