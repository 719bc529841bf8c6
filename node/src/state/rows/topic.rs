//! Owns the rows of topics: tag 6, topic, on shard 0.

use waymark_proto::ids::ShardId;
use waymark_proto::stored::TopicRow;

use super::key::{KeyReader, KeyWriter, TOPIC};
use super::{RowError, read, row};
use crate::state::catalog::{Catalog, TopicEntry, TopicPhase};
use crate::state::codec::values::stored_config;
use crate::state::reply::Row;
use crate::state::topic_config::TopicConfig;

const FAMILY: &str = "topic";

pub(super) fn drain(catalog: &mut Catalog, rows: &mut Vec<Row>) {
    for id in std::mem::take(&mut catalog.dirty.topics) {
        let key = KeyWriter::new(TOPIC).topic(id).finish();
        rows.push(row(key, catalog.topics.get(&id).map(to_stored)));
    }
}

fn to_stored(topic: &TopicEntry) -> TopicRow {
    TopicRow {
        name: topic.name.clone(),
        replication: topic.replication,
        configs: topic.configs.iter().map(stored_config).collect(),
        partition_shards: topic.partition_shards.iter().map(|shard| shard.0).collect(),
        phase: match topic.phase {
            TopicPhase::Creating => 1,
            TopicPhase::Ready => 2,
            TopicPhase::Altering => 3,
            TopicPhase::Deleting => 4,
        },
        version: topic.version,
        created_ms: topic.created_ms,
    }
}

pub(super) fn load(catalog: &mut Catalog, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let mut reader = KeyReader::new(FAMILY, key);
    let id = reader.topic()?;
    reader.finish()?;
    let message: TopicRow = read(FAMILY, value)?;
    let phase = match message.phase {
        1 => TopicPhase::Creating,
        2 => TopicPhase::Ready,
        3 => TopicPhase::Altering,
        4 => TopicPhase::Deleting,
        _ => return Err(RowError::Impossible { family: FAMILY, what: "it is in a known phase" }),
    };
    let configs = message.configs.iter().map(|it| (it.key.as_str(), it.value.as_str()));
    let entry = TopicEntry {
        id,
        config: TopicConfig::parse(configs)?,
        name: message.name,
        replication: message.replication,
        configs: message.configs.into_iter().map(|it| (it.key, it.value)).collect(),
        partition_shards: message.partition_shards.into_iter().map(ShardId).collect(),
        phase,
        version: message.version,
        created_ms: message.created_ms,
    };
    let named = phase != TopicPhase::Deleting;
    if named && catalog.names.insert(entry.name.clone(), id).is_some() {
        return Err(RowError::Impossible { family: FAMILY, what: "its name is its own" });
    }
    catalog.topics.insert(id, entry);
    Ok(())
}
