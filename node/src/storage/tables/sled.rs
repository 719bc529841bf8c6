//! Tables in sled. Never flushed and never believed after a restart (S5), so none of its durability matters.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use waymark_proto::ids::ReplicaKey;

use super::{Rows, TableEngine, TableError};
use crate::state::Row;

/// Bytes of sled's own cache.
const CACHE: u64 = 16 << 20;

/// What sled keeps in its folder. Beside them it writes snapshots, whose names begin with `SNAPSHOT`.
const FILES: [&str; 3] = ["conf", "db", "blobs"];
const SNAPSHOT: &[u8] = b"snap.";

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

fn is_of_sled(name: &OsStr) -> bool {
    FILES.iter().any(|file| name == *file) || name.as_encoded_bytes().starts_with(SNAPSHOT)
}

/// Removes a database, unread. The folder stays, which may be a link or a file system of its own, and so does what somebody
/// else put into it: a data directory may be mistyped.
fn remove_database(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match is_of_sled(&entry.file_name()) {
            true if entry.file_type()?.is_dir() => std::fs::remove_dir_all(entry.path())?,
            true => std::fs::remove_file(entry.path())?,
            false => {}
        }
    }
    Ok(())
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
    /// directory must leave it as it was. What sled had there before goes with the first [`TableEngine::clear`].
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
        remove_database(&self.folder)
            .map_err(|error| TableError(format!("{}: {error}", self.folder.display())))
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

    const KEY: ReplicaKey = ReplicaKey { shard: ShardId(1), incarnation: 0 };

    /// What a life of a node leaves behind, and a file that is not sled's.
    fn an_earlier_life(folder: &Path) {
        let rows: Vec<Row> = (0..4_000_u32)
            .map(|row| Row { key: row.to_be_bytes().to_vec(), value: Some(vec![7; 40]) })
            .collect();
        let tables = SledTables::in_folder(folder.to_owned());
        rows.chunks(100).for_each(|some| tables.write(KEY, some).expect("written"));
        std::fs::write(folder.join("a_customers_table"), b"precious").expect("written");
    }

    fn rot(path: &Path, place: usize) {
        let mut bytes = std::fs::read(path).expect("read");
        bytes[place] ^= 0x10;
        std::fs::write(path, bytes).expect("written");
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries.map(|it| it.expect("one").file_name().into_string().expect("a name")).collect()
    }

    #[test]
    fn what_an_earlier_life_wrote_is_never_read_however_damaged_it_is() {
        let before = tempfile::tempdir().expect("a folder");
        an_earlier_life(before.path());
        for file in ["db", "conf"] {
            let length = std::fs::read(before.path().join(file)).expect("sled's file").len();
            for place in (0..length).step_by(length.div_ceil(20)) {
                let folder = tempfile::tempdir().expect("a folder");
                for name in ["db", "conf"] {
                    std::fs::copy(before.path().join(name), folder.path().join(name)).expect("it");
                }
                rot(&folder.path().join(file), place);
                let tables = SledTables::in_folder(folder.path().to_owned());
                tables.clear().expect("thrown away");
                assert_eq!(names(folder.path()), [""; 0], "gone before anything was opened");
                assert_eq!(tables.scan(KEY, b"").expect("a new one"), []);
            }
        }
    }

    #[test]
    fn nothing_is_removed_but_what_sled_wrote_where_the_folder_is_a_link_too() {
        let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        an_earlier_life(elsewhere.path());
        let link = data.path().join("tables");
        std::os::unix::fs::symlink(elsewhere.path(), &link).expect("a link");
        let tables = SledTables::in_folder(link.clone());
        tables.clear().expect("thrown away");
        assert_eq!(names(elsewhere.path()), ["a_customers_table"]);
        tables.write(KEY, &[Row { key: vec![1], value: Some(vec![2]) }]).expect("works");
        assert!(link.is_symlink() && elsewhere.path().join("db").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_emptied_is_named() {
        let data = tempfile::tempdir().expect("a folder");
        let path = data.path().join("tables");
        std::fs::write(&path, b"a file").expect("written");
        let told = SledTables::in_folder(path.clone()).clear().expect_err("it is no folder");
        assert!(told.to_string().contains(&path.display().to_string()), "{told}");
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
