//! Owns the stored form of the commands that only shard 0 knows.

use std::fmt;

use bytes::Bytes;
use waymark_proto::ids::{ClusterId, NodeId, ReplicaId, ShardId};
use waymark_proto::stored::{self, stored_command::Kind};

use super::DecodeError;
use super::values::{node, replica, stored_node, stored_replica, topic, topic_bytes};
use crate::state::command::CatalogCommand;

pub(super) fn to_stored(command: &CatalogCommand) -> Option<Kind> {
    Some(match command {
        CatalogCommand::FoundCluster { cluster, producer_salt, nodes } => {
            Kind::FoundCluster(stored::FoundCluster {
                cluster_id: Bytes::copy_from_slice(&cluster.0),
                producer_salt: *producer_salt,
                nodes: nodes.iter().map(stored_node).collect(),
                ..stored::FoundCluster::default()
            })
        }
        CatalogCommand::CreatePool { replication, shards } => {
            Kind::CreatePool(stored::CreatePool {
                replication: *replication,
                shards: shards.iter().map(stored_new_shard).collect(),
            })
        }
        CatalogCommand::ShardBorn { shard } => {
            Kind::ShardBorn(stored::ShardBorn { shard: shard.0 })
        }
        CatalogCommand::TopicStep { topic, version } => {
            Kind::TopicStep(stored::TopicStep { topic_id: topic_bytes(*topic), version: *version })
        }
        CatalogCommand::AddPartitions { topic, total } => {
            let topic_id = topic_bytes(*topic);
            Kind::AddPartitions(stored::AddPartitionsEntry { topic_id, total: *total })
        }
        CatalogCommand::DeleteTopic { topic } => {
            Kind::DeleteTopic(stored::DeleteTopicEntry { topic_id: topic_bytes(*topic) })
        }
        CatalogCommand::AllocateProducerIds { node, count } => {
            let (node, count) = (node.0, *count);
            Kind::AllocateProducerIds(stored::AllocateProducerIds { node, count })
        }
        CatalogCommand::PreferLeader { shard, node } => {
            Kind::PreferLeader(stored::PreferLeader { shard: shard.0, node: node.0 })
        }
        CatalogCommand::AdmitDisk { node, journal } => {
            Kind::AdmitDisk(stored::AdmitDisk { node: node.0, journal: *journal })
        }
        CatalogCommand::ReplaceReplica { shard, old, votes } => {
            let (shard, old, votes) = (shard.0, Some(stored_replica(*old)), *votes);
            Kind::ReplaceReplica(stored::ReplaceReplica { shard, old, votes })
        }
        CatalogCommand::ReplicaReplaced { shard, replica } => {
            let (shard, replica) = (shard.0, Some(stored_replica(*replica)));
            Kind::ReplicaReplaced(stored::ReplicaReplaced { shard, replica })
        }
        CatalogCommand::CreateTopic { .. } => Kind::CreateTopic(stored_create(command)?),
        CatalogCommand::AlterTopic { .. } => Kind::AlterTopic(stored_alter(command)?),
    })
}

fn stored_new_shard((replicas, initializer): &(Vec<ReplicaId>, NodeId)) -> stored::StoredShard {
    stored::StoredShard {
        replicas: replicas.iter().copied().map(stored_replica).collect(),
        initializer: initializer.0,
        ..stored::StoredShard::default()
    }
}

fn stored_create(command: &CatalogCommand) -> Option<stored::CreateTopicEntry> {
    let CatalogCommand::CreateTopic { topic, name, partitions, replication, configs, time_ms } =
        command
    else {
        return None;
    };
    let config = |(key, value): &(String, String)| stored::StoredConfig {
        key: key.clone(),
        value: value.clone(),
    };
    Some(stored::CreateTopicEntry {
        topic_id: topic_bytes(*topic),
        name: name.clone(),
        partitions: *partitions,
        replication: *replication,
        configs: configs.iter().map(config).collect(),
        time_ms: *time_ms,
    })
}

fn stored_alter(command: &CatalogCommand) -> Option<stored::AlterTopicEntry> {
    let CatalogCommand::AlterTopic { topic, ops, expected_version } = command else {
        return None;
    };
    let op = |(key, value): &(String, Option<String>)| stored::alter_topic_entry::Op {
        key: key.clone(),
        value: value.clone(),
    };
    Some(stored::AlterTopicEntry {
        topic_id: topic_bytes(*topic),
        ops: ops.iter().map(op).collect(),
        // Versions count changes: no topic lives to see 2^63 of them.
        expected_version: expected_version.map(|it| i64::try_from(it).unwrap_or(i64::MAX)),
        ..stored::AlterTopicEntry::default()
    })
}

pub(super) fn from_stored(kind: Kind) -> Result<CatalogCommand, DecodeError> {
    Ok(match kind {
        Kind::FoundCluster(it) => CatalogCommand::FoundCluster {
            cluster: ClusterId::from_slice(&it.cluster_id)?,
            producer_salt: it.producer_salt,
            nodes: it.nodes.into_iter().map(node).collect(),
        },
        Kind::CreatePool(it) => CatalogCommand::CreatePool {
            replication: it.replication,
            shards: it.shards.into_iter().map(new_shard).collect(),
        },
        Kind::ShardBorn(it) => CatalogCommand::ShardBorn { shard: ShardId(it.shard) },
        Kind::CreateTopic(it) => CatalogCommand::CreateTopic {
            topic: topic(&it.topic_id)?,
            name: it.name,
            partitions: it.partitions,
            replication: it.replication,
            configs: it.configs.into_iter().map(|config| (config.key, config.value)).collect(),
            time_ms: it.time_ms,
        },
        Kind::TopicStep(it) => {
            CatalogCommand::TopicStep { topic: topic(&it.topic_id)?, version: it.version }
        }
        Kind::AlterTopic(it) => CatalogCommand::AlterTopic {
            topic: topic(&it.topic_id)?,
            ops: it.ops.into_iter().map(|op| (op.key, op.value)).collect(),
            expected_version: it.expected_version.map(version).transpose()?,
        },
        Kind::AddPartitions(it) => {
            CatalogCommand::AddPartitions { topic: topic(&it.topic_id)?, total: it.total }
        }
        Kind::DeleteTopic(it) => CatalogCommand::DeleteTopic { topic: topic(&it.topic_id)? },
        Kind::PreferLeader(it) => {
            CatalogCommand::PreferLeader { shard: ShardId(it.shard), node: NodeId(it.node) }
        }
        Kind::AdmitDisk(it) => {
            CatalogCommand::AdmitDisk { node: NodeId(it.node), journal: it.journal }
        }
        Kind::ReplaceReplica(it) => {
            let old = it.old.map(replica).ok_or(DecodeError::Missing("replica"))?;
            CatalogCommand::ReplaceReplica { shard: ShardId(it.shard), old, votes: it.votes }
        }
        Kind::ReplicaReplaced(it) => {
            let replica = it.replica.map(replica).ok_or(DecodeError::Missing("replica"))?;
            CatalogCommand::ReplicaReplaced { shard: ShardId(it.shard), replica }
        }
        Kind::AllocateProducerIds(it) => {
            CatalogCommand::AllocateProducerIds { node: NodeId(it.node), count: it.count }
        }
        _ => return Err(DecodeError::UnknownCommand),
    })
}

fn new_shard(stored: stored::StoredShard) -> (Vec<ReplicaId>, NodeId) {
    (stored.replicas.into_iter().map(replica).collect(), NodeId(stored.initializer))
}

fn version(stored: i64) -> Result<u64, DecodeError> {
    u64::try_from(stored).map_err(|_| DecodeError::OutOfRange("the expected version"))
}

/// For logs: what and how much, never a configured value.
impl fmt::Display for CatalogCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FoundCluster { cluster, nodes, .. } => {
                write!(f, "found cluster {cluster} of {} nodes", nodes.len())
            }
            Self::CreatePool { replication, shards } => {
                write!(f, "create {} shards of {replication} replicas", shards.len())
            }
            Self::ShardBorn { shard } => write!(f, "shard {shard} is born"),
            Self::CreateTopic { topic, name, partitions, replication, .. } => {
                let size = format!("{partitions} partitions and {replication} replicas");
                write!(f, "create topic {name:?} {topic} of {size}")
            }
            Self::TopicStep { topic, version } => {
                write!(f, "topic {topic} took its step to version {version}")
            }
            Self::AlterTopic { topic, ops, .. } => {
                write!(f, "alter {} configs of topic {topic}", ops.len())
            }
            Self::AddPartitions { topic, total } => {
                write!(f, "raise topic {topic} to {total} partitions")
            }
            Self::DeleteTopic { topic } => write!(f, "delete topic {topic}"),
            Self::PreferLeader { shard, node } => write!(f, "node {node} leads shard {shard}"),
            Self::AdmitDisk { node, journal } => {
                write!(f, "admit the disk of node {node} with journal {journal:016x}")
            }
            Self::ReplaceReplica { shard, old, votes: _ } => {
                write!(f, "replace replica {old} of shard {shard}")
            }
            Self::ReplicaReplaced { shard, replica } => {
                write!(f, "replica {replica} of shard {shard} has taken its place")
            }
            Self::AllocateProducerIds { node, count } => {
                write!(f, "give node {node} {count} producer ids")
            }
        }
    }
}
