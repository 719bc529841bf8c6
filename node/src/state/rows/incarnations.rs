//! Owns the rows of incarnations: tag 13, node, on shard 0.

use waymark_proto::ids::{NodeId, ShardId};
use waymark_proto::stored::{IncarnationsRow, StoredSwap};

use super::key::{INCARNATIONS, KeyReader, KeyWriter};
use super::{RowError, read, row};
use crate::state::catalog::{Catalog, Incarnations, Swap};
use crate::state::reply::Row;

const FAMILY: &str = "incarnations";

pub(super) fn drain(catalog: &mut Catalog, rows: &mut Vec<Row>) {
    for node in std::mem::take(&mut catalog.dirty.incarnations) {
        let key = KeyWriter::new(INCARNATIONS).uint32(node.0).finish();
        rows.push(row(key, catalog.incarnations.get(&node).map(to_stored)));
    }
}

fn to_stored(known: &Incarnations) -> IncarnationsRow {
    let swap = |(shard, swap): (&ShardId, &Swap)| StoredSwap {
        shard: shard.0,
        old_incarnation: swap.old,
        new_incarnation: swap.new,
    };
    IncarnationsRow {
        greatest: known.greatest,
        disk: known.disk,
        journal: known.journal,
        catalog: known.catalog,
        swaps: known.swaps.iter().map(swap).collect(),
    }
}

pub(super) fn load(catalog: &mut Catalog, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let mut reader = KeyReader::new(FAMILY, key);
    let node = NodeId(reader.uint32()?);
    reader.finish()?;
    let message: IncarnationsRow = read(FAMILY, value)?;
    let swap = |it: StoredSwap| {
        (ShardId(it.shard), Swap { old: it.old_incarnation, new: it.new_incarnation })
    };
    let known = Incarnations {
        greatest: message.greatest,
        disk: message.disk,
        journal: message.journal,
        catalog: message.catalog,
        swaps: message.swaps.into_iter().map(swap).collect(),
    };
    catalog.incarnations.insert(node, known);
    Ok(())
}
