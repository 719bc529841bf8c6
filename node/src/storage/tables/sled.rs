//! Tables in sled. Never flushed and never believed after a restart (S5), so none of its durability matters.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use waymark_proto::ids::ReplicaKey;

use super::{Rows, TableEngine, TableError};
use crate::state::Row;

/// Bytes of sled's own cache.
const CACHE: u64 = 16 << 20;

/// Rows of all shards in one sled database.
#[derive(Debug)]
pub struct SledTables {
    folder: PathBuf,
    db: OnceLock<sled::Db>,
    /// Held by the one who opens it.
    opening: Mutex<()>,
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
    /// The database in a folder. The first use opens or creates it: opening writes, and a node that may not have the data
    /// directory must leave it as it was.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder, db: OnceLock::new(), opening: Mutex::default() }
    }

    fn db(&self) -> Result<&sled::Db, TableError> {
        if let Some(db) = self.db.get() {
            return Ok(db);
        }
        let _alone = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(db) = self.db.get() {
            return Ok(db);
        }
        let config = sled::Config::new().path(&self.folder).cache_capacity(CACHE);
        let db = config.flush_every_ms(None).open().map_err(refused)?;
        Ok(self.db.get_or_init(|| db))
    }
}

impl TableEngine for SledTables {
    /// Nothing in it is believed after a restart, so a database that does not open is thrown away.
    fn clear(&self) -> Result<(), TableError> {
        if let Err(error) = self.db() {
            tracing::warn!(%error, "the tables do not open and are made anew");
            let removed = std::fs::remove_dir_all(&self.folder);
            removed.map_err(|error| TableError(error.to_string()))?;
        }
        self.db()?.clear().map_err(refused)
    }

    fn clear_shard(&self, key: ReplicaKey) -> Result<(), TableError> {
        let mut batch = sled::Batch::default();
        for row in self.db()?.scan_prefix(prefix(key)).keys() {
            batch.remove(row.map_err(refused)?);
        }
        self.db()?.apply_batch(batch).map_err(refused)
    }

    fn write(&self, key: ReplicaKey, rows: &[Row]) -> Result<(), TableError> {
        let mut batch = sled::Batch::default();
        for row in rows {
            match &row.value {
                Some(value) => batch.insert(whole(key, &row.key), value.as_slice()),
                None => batch.remove(whole(key, &row.key)),
            }
        }
        self.db()?.apply_batch(batch).map_err(refused)
    }

    fn get(&self, key: ReplicaKey, row: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let found = self.db()?.get(whole(key, row)).map_err(refused)?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, key: ReplicaKey, wanted: &[u8]) -> Result<Rows, TableError> {
        let skip = prefix(key).len();
        let rows = self.db()?.scan_prefix(whole(key, wanted)).map(|row| {
            let (row, value) = row.map_err(refused)?;
            Ok((row[skip..].to_vec(), value.to_vec()))
        });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_does_not_open_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = || SledTables::in_folder(folder.path().join("tables"));
        tables().clear().expect("a new database");
        std::fs::write(folder.path().join("tables/conf"), [7; 100]).expect("rot");
        assert!(tables().db().is_err(), "sled notices");
        tables().clear().expect("made anew");
    }
}
