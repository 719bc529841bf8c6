//! Owns the rows of shards: tag 7, shard, on shard 0. Which shards a pool has follows from them.

use waymark_proto::ids::ShardId;
use waymark_proto::stored::StoredShard;

use super::key::{KeyReader, KeyWriter, SHARD_ENTRY};
use super::{RowError, read, row};
use crate::state::catalog::Catalog;
use crate::state::codec::values::{shard, stored_shard};
use crate::state::reply::Row;

const FAMILY: &str = "shard";

pub(super) fn drain(catalog: &mut Catalog, rows: &mut Vec<Row>) {
    for id in std::mem::take(&mut catalog.dirty.shards) {
        let key = KeyWriter::new(SHARD_ENTRY).uint32(id.0).finish();
        rows.push(row(key, catalog.shards.get(&id).map(stored_shard)));
    }
}

pub(super) fn load(catalog: &mut Catalog, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let mut reader = KeyReader::new(FAMILY, key);
    let id = ShardId(reader.uint32()?);
    reader.finish()?;
    let message: StoredShard = read(FAMILY, value)?;
    if message.shard != id.0 {
        return Err(RowError::Impossible { family: FAMILY, what: "it is what its key says" });
    }
    catalog.shards.insert(id, shard(message));
    Ok(())
}

/// Gives the pools their shards, once all are loaded.
pub(super) fn complete(catalog: &mut Catalog) {
    for shard in catalog.shards.values() {
        catalog.pools.entry(shard.replication).or_default().shards.push(shard.shard);
    }
}
