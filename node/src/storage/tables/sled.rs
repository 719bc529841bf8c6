//! Tables in sled. Never flushed and never believed after a restart (S5), so none of its durability matters.

use std::path::Path;

use waymark_proto::ids::ReplicaKey;

use super::{Rows, TableEngine, TableError};
use crate::state::Row;

/// Bytes of sled's own cache.
const CACHE: u64 = 16 << 20;

/// Rows of all shards in one sled database.
#[derive(Debug)]
pub struct SledTables {
    db: sled::Db,
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn refused(error: sled::Error) -> TableError {
    TableError(error.to_string())
}

fn prefix(key: ReplicaKey) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix[..4].copy_from_slice(&key.shard.0.to_be_bytes());
    prefix[4..].copy_from_slice(&key.incarnation.to_be_bytes());
    prefix
}

fn whole(key: ReplicaKey, row: &[u8]) -> Vec<u8> {
    [&prefix(key), row].concat()
}

impl SledTables {
    /// Opens or creates the database in a folder.
    ///
    /// # Errors
    /// When sled refuses.
    pub fn open(folder: &Path) -> Result<Self, TableError> {
        let config = sled::Config::new().path(folder).cache_capacity(CACHE).flush_every_ms(None);
        Ok(Self { db: config.open().map_err(refused)? })
    }
}

impl TableEngine for SledTables {
    fn clear(&self) -> Result<(), TableError> {
        self.db.clear().map_err(refused)
    }

    fn clear_shard(&self, key: ReplicaKey) -> Result<(), TableError> {
        let mut batch = sled::Batch::default();
        for row in self.db.scan_prefix(prefix(key)).keys() {
            batch.remove(row.map_err(refused)?);
        }
        self.db.apply_batch(batch).map_err(refused)
    }

    fn write(&self, key: ReplicaKey, rows: &[Row]) -> Result<(), TableError> {
        let mut batch = sled::Batch::default();
        for row in rows {
            match &row.value {
                Some(value) => batch.insert(whole(key, &row.key), value.as_slice()),
                None => batch.remove(whole(key, &row.key)),
            }
        }
        self.db.apply_batch(batch).map_err(refused)
    }

    fn get(&self, key: ReplicaKey, row: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let found = self.db.get(whole(key, row)).map_err(refused)?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, key: ReplicaKey, wanted: &[u8]) -> Result<Rows, TableError> {
        let skip = prefix(key).len();
        let rows = self.db.scan_prefix(whole(key, wanted)).map(|row| {
            let (row, value) = row.map_err(refused)?;
            Ok((row[skip..].to_vec(), value.to_vec()))
        });
        rows.collect()
    }
}
