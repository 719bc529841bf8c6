//! Tables in sled. Never flushed and never believed after a restart (S5), so none of its durability matters.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use waymark_proto::ids::ReplicaKey;

use super::{Rows, TableEngine, TableError};
use crate::state::Row;

/// Bytes of sled's own cache.
const CACHE: u64 = 16 << 20;

/// Rows of all shards in one sled database.
#[derive(Debug)]
pub struct SledTables {
    folder: PathBuf,
    /// `None` until it is used. Whoever uses it holds the lock, so that who renews it is alone: sled locks its files.
    db: RwLock<Option<sled::Db>>,
    generation: AtomicU64,
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
        Self { folder, db: RwLock::default(), generation: AtomicU64::new(1) }
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, TableError> {
        if let Some(db) = self.db.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return work(db).map_err(refused);
        }
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        if db.is_none() {
            let config = sled::Config::new().path(&self.folder).cache_capacity(CACHE);
            *db = Some(config.flush_every_ms(None).open().map_err(refused)?);
        }
        db.as_ref().map_or_else(
            || Err(TableError("they are not open".to_owned())),
            |db| work(db).map_err(refused),
        )
    }
}

impl TableEngine for SledTables {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn renew(&self, generation: u64) -> Result<(), TableError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        if self.generation() != generation {
            return Ok(());
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
        drop(db.take());
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(TableError(error.to_string())),
            _ => Ok(()),
        }
    }

    /// Nothing in it is believed after a restart, so it is thrown away unread: sled panics at some damage of its files, and
    /// clears a database by reading it.
    fn clear(&self) -> Result<(), TableError> {
        self.renew(self.generation())
    }

    fn clear_shard(&self, key: ReplicaKey) -> Result<(), TableError> {
        self.with(|db| {
            let mut batch = sled::Batch::default();
            for row in db.scan_prefix(prefix(key)).keys() {
                batch.remove(row?);
            }
            db.apply_batch(batch)
        })
    }

    fn write(&self, key: ReplicaKey, rows: &[Row]) -> Result<(), TableError> {
        let mut batch = sled::Batch::default();
        for row in rows {
            match &row.value {
                Some(value) => batch.insert(whole(key, &row.key), value.as_slice()),
                None => batch.remove(whole(key, &row.key)),
            }
        }
        self.with(|db| db.apply_batch(batch))
    }

    fn get(&self, key: ReplicaKey, row: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let found = self.with(|db| db.get(whole(key, row)))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, key: ReplicaKey, wanted: &[u8]) -> Result<Rows, TableError> {
        let skip = prefix(key).len();
        self.with(|db| {
            let rows = db.scan_prefix(whole(key, wanted)).map(|row| {
                let (row, value) = row?;
                Ok((row[skip..].to_vec(), value.to_vec()))
            });
            rows.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use waymark_proto::ids::ShardId;

    use super::*;

    #[test]
    fn what_an_earlier_life_wrote_is_never_read_however_damaged_it_is() {
        let key = ReplicaKey { shard: ShardId(1), incarnation: 0 };
        let rows: Vec<Row> = (0..4_000_u32)
            .map(|row| Row { key: row.to_be_bytes().to_vec(), value: Some(vec![7; 40]) })
            .collect();
        let before = tempfile::tempdir().expect("a folder");
        let tables = SledTables::in_folder(before.path().to_owned());
        rows.chunks(100).for_each(|some| tables.write(key, some).expect("written"));
        drop(tables);
        let written = std::fs::read(before.path().join("db")).expect("sled's log");
        for place in (0..written.len()).step_by(written.len() / 40) {
            let folder = tempfile::tempdir().expect("a folder");
            let path = |name: &str| folder.path().join(name);
            std::fs::copy(before.path().join("conf"), path("conf")).expect("copied");
            let mut damaged = written.clone();
            damaged[place] ^= 0x10;
            std::fs::write(path("db"), damaged).expect("rot");
            let tables = SledTables::in_folder(folder.path().to_owned());
            tables.clear().expect("thrown away");
            assert_eq!(tables.scan(key, b"").expect("a new one"), []);
        }
    }

    #[test]
    fn tables_that_are_made_anew_are_empty_and_work() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = SledTables::in_folder(folder.path().join("tables"));
        let key = ReplicaKey { shard: ShardId(1), incarnation: 0 };
        let row = Row { key: b"a".to_vec(), value: Some(b"1".to_vec()) };
        tables.write(key, std::slice::from_ref(&row)).expect("written");
        let before = tables.generation();
        tables.renew(before).expect("made anew");
        tables.renew(before).expect("once is enough");
        assert_eq!(tables.generation(), before + 1);
        assert_eq!(tables.scan(key, b"").expect("works"), []);
        tables.write(key, &[row]).expect("works");
        assert_eq!(tables.scan(key, b"").expect("works").len(), 1);
    }
}
