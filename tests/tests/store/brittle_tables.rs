//! Tables whose engine refuses everything from some moment on, as one does that met a full disk: they are made anew, and no
//! checkpoint of any replica lacks a row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use waymark_node::mutants;
use waymark_node::state::Row;
use waymark_node::storage::shard_store::{Cut, Store};
use waymark_node::storage::tables::{MemoryTables, Rows, TableEngine, TableError};
use waymark_proto::ids::ReplicaKey;
use waymark_tests::disk::SimDisk;

use crate::model::{KEY, Logs, open, options, simulated};

/// Works until it is broken, and again after it was made anew.
#[derive(Debug, Default)]
struct Brittle {
    rows: MemoryTables,
    is_broken: AtomicBool,
    generation: AtomicU64,
}

impl Brittle {
    fn work(&self) -> Result<&MemoryTables, TableError> {
        match self.is_broken.load(Ordering::SeqCst) {
            true => Err(TableError("no space left".to_owned())),
            false => Ok(&self.rows),
        }
    }
}

impl TableEngine for Brittle {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn renew(&self, generation: u64) -> Result<(), TableError> {
        if self.generation() == generation {
            self.generation.fetch_add(1, Ordering::SeqCst);
            self.rows.clear()?;
            self.is_broken.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), TableError> {
        self.work()?.clear()
    }

    fn clear_shard(&self, key: ReplicaKey) -> Result<(), TableError> {
        self.work()?.clear_shard(key)
    }

    fn write(&self, key: ReplicaKey, rows: &[Row]) -> Result<(), TableError> {
        self.work()?.write(key, rows)
    }

    fn get(&self, key: ReplicaKey, row: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.work()?.get(key, row)
    }

    fn scan(&self, key: ReplicaKey, prefix: &[u8]) -> Result<Rows, TableError> {
        self.work()?.scan(key, prefix)
    }
}

/// Whether everything is there after a checkpoint with broken tables, and one of another replica whose rows went with them.
fn keeps_all_rows() -> bool {
    simulated(async {
        let (disk, tables) = (SimDisk::new(1), Arc::new(Brittle::default()));
        let store = Store::open(Arc::new(disk.attach()), Arc::clone(&tables) as _, options());
        let store = store.await.unwrap();
        let breaking = store.open_shard(ReplicaKey { incarnation: 1, ..KEY }).await.unwrap();
        let shard = store.open_shard(KEY).await.unwrap();
        let mut logs = Logs::default();
        for fill in 0..8 {
            shard.append(logs.0[0].append(fill, 300));
        }
        shard.write_checkpoint(logs.cut(1)).await.unwrap();
        let unchanged = |index| Cut { rows: Vec::new(), ..logs.cut(index) };
        tables.is_broken.store(true, Ordering::SeqCst);
        breaking.write_checkpoint(unchanged(2)).await.unwrap();
        shard.write_checkpoint(unchanged(3)).await.unwrap();
        drop((breaking, shard, store));
        let (_store, shard) = open(&disk).await.unwrap();
        logs.check(&shard).await.is_ok()
    })
}

#[test]
fn a_checkpoint_after_the_tables_were_made_anew_lacks_no_row() {
    let _sound = mutants::seclude();
    assert!(keeps_all_rows());
}

#[test]
fn believing_tables_that_were_made_anew_is_caught() {
    let _bug = mutants::plant("empty-tables-believed");
    assert!(!keeps_all_rows());
}
