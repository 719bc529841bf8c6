//! Owns the stored form of what commands and rows share: ids, settings, nodes, shards. Never decides what is legal
//! beyond what a type can hold.

use bytes::Bytes;
use waymark_proto::ids::{NodeId, PartitionId, ReplicaId, ShardId, TopicId, TopicPartition};
use waymark_proto::stored;

use super::DecodeError;
use crate::state::command::{NodeEntry, PartitionSettings, ShardEntry};
use crate::state::groups::Actor;

/// `message.timestamp.type` as stored.
const LOG_APPEND_TIME: i32 = 1;
/// Any negative number stored as a limit means "never"; this one is written.
const NEVER: i64 = -1;

pub(in crate::state) fn topic(bytes: &[u8]) -> Result<TopicId, DecodeError> {
    Ok(TopicId::from_slice(bytes)?)
}

pub(in crate::state) fn topic_bytes(topic: TopicId) -> Bytes {
    Bytes::copy_from_slice(&topic.0)
}

pub(in crate::state) fn topic_partition(
    bytes: &[u8],
    partition: i32,
) -> Result<TopicPartition, DecodeError> {
    Ok(TopicPartition { topic: topic(bytes)?, partition: PartitionId(partition) })
}

pub(in crate::state) fn actor(stored: Option<stored::StoredActor>) -> Actor {
    let stored = stored.unwrap_or_default();
    Actor { member: stored.member_id, client_id: stored.client_id, address: stored.address }
}

pub(in crate::state) fn stored_actor(actor: &Actor) -> stored::StoredActor {
    stored::StoredActor {
        member_id: actor.member.clone(),
        client_id: actor.client_id.clone(),
        address: actor.address.clone(),
    }
}

pub(in crate::state) fn replica(stored: stored::StoredReplica) -> ReplicaId {
    ReplicaId { node: NodeId(stored.node), incarnation: stored.incarnation }
}

pub(in crate::state) fn stored_replica(replica: ReplicaId) -> stored::StoredReplica {
    stored::StoredReplica { node: replica.node.0, incarnation: replica.incarnation }
}

pub(in crate::state) fn settings(
    stored: Option<&stored::PartitionSettings>,
) -> Result<PartitionSettings, DecodeError> {
    let stored = stored.ok_or(DecodeError::Missing("settings"))?;
    let limit = |number: i64| (number >= 0).then_some(number);
    Ok(PartitionSettings {
        segment_bytes: stored.segment_bytes,
        segment_ms: stored.segment_ms,
        retention_bytes: limit(stored.retention_bytes),
        retention_ms: limit(stored.retention_ms),
        max_message_bytes: stored.max_message_bytes,
        log_append_time: stored.timestamp_type == LOG_APPEND_TIME,
        hold_groups: stored.hold_groups.clone(),
        hold_max_bytes: limit(stored.hold_max_bytes),
        version: stored.version,
    })
}

pub(in crate::state) fn stored_settings(settings: &PartitionSettings) -> stored::PartitionSettings {
    stored::PartitionSettings {
        segment_bytes: settings.segment_bytes,
        segment_ms: settings.segment_ms,
        retention_bytes: settings.retention_bytes.unwrap_or(NEVER),
        retention_ms: settings.retention_ms.unwrap_or(NEVER),
        max_message_bytes: settings.max_message_bytes,
        timestamp_type: i32::from(settings.log_append_time) * LOG_APPEND_TIME,
        hold_groups: settings.hold_groups.clone(),
        hold_max_bytes: settings.hold_max_bytes.unwrap_or(NEVER),
        version: settings.version,
    }
}

pub(in crate::state) fn node(stored: stored::StoredNode) -> NodeEntry {
    NodeEntry {
        node: NodeId(stored.node),
        rack: stored.rack,
        client_address: stored.client_address,
        peer_address: stored.peer_address,
    }
}

pub(in crate::state) fn stored_node(node: &NodeEntry) -> stored::StoredNode {
    stored::StoredNode {
        node: node.node.0,
        rack: node.rack.clone(),
        client_address: node.client_address.clone(),
        peer_address: node.peer_address.clone(),
    }
}

pub(in crate::state) fn shard(stored: stored::StoredShard) -> ShardEntry {
    ShardEntry {
        shard: ShardId(stored.shard),
        replicas: stored.replicas.into_iter().map(replica).collect(),
        initializer: NodeId(stored.initializer),
        born: stored.born,
        replication: stored.replication,
    }
}

pub(in crate::state) fn stored_shard(shard: &ShardEntry) -> stored::StoredShard {
    stored::StoredShard {
        shard: shard.shard.0,
        replicas: shard.replicas.iter().copied().map(stored_replica).collect(),
        initializer: shard.initializer.0,
        born: shard.born,
        replication: shard.replication,
    }
}

pub(in crate::state) fn stored_config((key, value): (&String, &String)) -> stored::StoredConfig {
    stored::StoredConfig { key: key.clone(), value: value.clone() }
}
