//! Owns the words of administration: what is asked for and what is told, as plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

use waymark_proto::ids::{ClusterId, TopicId};

use crate::record::{OffsetAndMetadata, TopicPartition};

/// A topic to create.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    pub(crate) name: String,
    pub(crate) partitions: Option<i32>,
    pub(crate) replication: Option<i32>,
    pub(crate) configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the cluster's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Sets the number of partitions, at least 1.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Sets the number of replicas, from 1 to the number of nodes.
    #[must_use]
    pub fn replication_factor(mut self, replicas: i32) -> Self {
        self.replication = Some(replicas);
        self
    }

    /// Sets one of Kafka's topic keys; which are legal is the cluster's to say.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(key.into(), value.into());
        self
    }
}

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicListing {
    /// Its name.
    pub name: String,
    /// Its id: another one when it is created again.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas each.
    pub replication: i32,
}

/// A topic in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// By number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition in detail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The node that leads it; `None` during an election.
    pub leader: Option<i32>,
    /// How often it has changed leaders.
    pub leader_epoch: i32,
    /// Nodes with a vote.
    pub voters: Vec<i32>,
    /// Those of them that keep up.
    pub in_sync: Vec<i32>,
    /// Those of them that cannot be reached.
    pub offline: Vec<i32>,
}

/// A key of a topic and its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name.
    pub key: String,
    /// What holds now.
    pub value: Option<String>,
    /// Where it comes from, in the contract's words, for example `TOPIC` or `DEFAULT`.
    pub source: String,
    /// Cannot be changed.
    pub read_only: bool,
    /// What is legal, and the unit.
    pub legal: String,
}

/// All keys of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicConfig {
    /// The topic.
    pub topic: String,
    /// Rises with every change; give it back to change only what was seen.
    pub version: i64,
    /// By key.
    pub entries: Vec<ConfigEntry>,
}

impl TopicConfig {
    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.key == key)?.value.as_deref()
    }
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Give it this value.
    Set(String, String),
    /// Back to the default.
    Delete(String),
    /// Add to a list.
    Append(String, String),
    /// Take from a list.
    Subtract(String, String),
}

/// Which records to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordsBefore {
    /// Those below this offset.
    Offset(i64),
    /// All that are there.
    HighWatermark,
}

/// Which offset to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// Of the first record that the log still has.
    Earliest,
    /// One beyond the last record.
    Latest,
    /// Of the first record whose timestamp is at or after this time, Unix ms.
    AtTime(i64),
}

/// An offset that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedOffset {
    /// Which partition.
    pub at: TopicPartition,
    /// `None`: no record is as young as the time asked for.
    pub offset: Option<i64>,
    /// Timestamp of that record, where it was asked for by time.
    pub timestamp_ms: Option<i64>,
    /// The leader epoch there.
    pub leader_epoch: Option<i32>,
}

/// An offset that a group has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// Which partition.
    pub at: TopicPartition,
    /// The next offset to read, and what was said with it.
    pub position: OffsetAndMetadata,
    /// When, Unix ms.
    pub commit_time_ms: i64,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// The cluster; `None` before it was founded.
    pub cluster_id: Option<ClusterId>,
    /// The node that answered.
    pub node_id: i32,
    /// Its version.
    pub version: String,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id; `None` before it was founded.
    pub cluster_id: Option<ClusterId>,
    /// Its nodes.
    pub nodes: Vec<NodeDescription>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeDescription {
    /// Its number.
    pub node_id: i32,
    /// Where it serves clients: `host:port`.
    pub address: Option<String>,
    /// Where it stands.
    pub rack: String,
    /// Whether the others hear it.
    pub alive: bool,
    /// How many partitions it leads.
    pub leaders: i32,
    /// How many replicas it has.
    pub replicas: i32,
    /// Its version, where known.
    pub version: String,
}

/// Whether all is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Every node answers, every partition has a leader and all its replicas.
    pub healthy: bool,
    /// What is not well: subject and words.
    pub problems: Vec<(String, String)>,
}

/// A comparison of a partition's replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionVerdict {
    /// Which partition.
    pub at: TopicPartition,
    /// Whether all replicas have the same bytes.
    pub identical: bool,
    /// The offsets compared: from the first to before the second.
    pub range: (i64, i64),
    /// What each replica has.
    pub replicas: Vec<ReplicaDigest>,
}

/// One replica's digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaDigest {
    /// Whose.
    pub node_id: i32,
    /// Of all bytes in the range, in hex.
    pub digest: String,
}

/// A partition whose leadership is to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderMove {
    /// Which partition.
    pub at: TopicPartition,
    /// Where to; `None`: the cluster chooses.
    pub to_node: Option<i32>,
}
