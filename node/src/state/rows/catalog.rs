//! Owns the row of the catalog's root: tag 5, one, on shard 0.

use bytes::Bytes;
use waymark_proto::ids::{ClusterId, ShardId};
use waymark_proto::stored::{CatalogRow, PoolCursor};

use super::key::{CATALOG, KeyReader, KeyWriter};
use super::{RowError, read, row};
use crate::state::catalog::{Catalog, Founding, Pool};
use crate::state::codec::values::{node, stored_node};
use crate::state::reply::Row;

const FAMILY: &str = "catalog";

pub(super) fn drain(catalog: &mut Catalog, rows: &mut Vec<Row>) {
    if std::mem::take(&mut catalog.dirty.root) {
        let message = catalog.founding.map(|founding| to_stored(catalog, founding));
        rows.push(row(KeyWriter::new(CATALOG).finish(), message));
    }
}

fn to_stored(catalog: &Catalog, founding: Founding) -> CatalogRow {
    let cursor = |(replication, pool): (&u32, &Pool)| PoolCursor {
        replication: *replication,
        next: u32::try_from(pool.next).unwrap_or(0),
    };
    CatalogRow {
        cluster_id: Bytes::copy_from_slice(&founding.cluster.0),
        producer_salt: founding.producer_salt,
        next_producer_id: catalog.next_producer,
        metadata_version: catalog.metadata_version,
        next_shard: catalog.next_shard,
        nodes: catalog.nodes.values().map(stored_node).collect(),
        slot_shards: catalog.slot_shards.iter().map(|shard| shard.0).collect(),
        pools: catalog.pools.iter().map(cursor).collect(),
    }
}

pub(super) fn load(catalog: &mut Catalog, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    KeyReader::new(FAMILY, key).finish()?;
    let message: CatalogRow = read(FAMILY, value)?;
    let malformed = |source| RowError::Value { family: FAMILY, source };
    let cluster = ClusterId::from_slice(&message.cluster_id).map_err(|it| malformed(it.into()))?;
    let in_range = |number: i64, bits: u32| (0..=1 << bits).contains(&number);
    if !in_range(message.producer_salt, 23) || !in_range(message.next_producer_id, 40) {
        let what = "producer ids have 23 bits of salt and 40 of counter";
        return Err(RowError::Impossible { family: FAMILY, what });
    }
    catalog.founding = Some(Founding { cluster, producer_salt: message.producer_salt });
    catalog.next_producer = message.next_producer_id;
    catalog.metadata_version = message.metadata_version;
    catalog.next_shard = message.next_shard;
    let nodes = message.nodes.into_iter().map(node);
    catalog.nodes = nodes.map(|node| (node.node, node)).collect();
    catalog.slot_shards = message.slot_shards.into_iter().map(ShardId).collect();
    let pool = |it: PoolCursor| {
        (it.replication, Pool::new(Vec::new(), usize::try_from(it.next).unwrap_or(0)))
    };
    catalog.pools = message.pools.into_iter().map(pool).collect();
    Ok(())
}
