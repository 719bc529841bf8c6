//! Tables in memory: for the simulation, which cannot run sled's threads, and for tests. Keeps the same contract.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use waymark_proto::ids::ReplicaKey;

use super::{Rows, TableEngine, TableError};
use crate::state::Row;

type AllRows = BTreeMap<ReplicaKey, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Rows of all shards, sorted.
#[derive(Debug, Default)]
pub struct MemoryTables {
    rows: Mutex<AllRows>,
}

impl MemoryTables {
    fn rows(&self) -> MutexGuard<'_, AllRows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableEngine for MemoryTables {
    /// Memory never refuses.
    fn generation(&self) -> u64 {
        0
    }

    fn renew(&self, _: u64) -> Result<(), TableError> {
        Ok(())
    }

    fn clear(&self) -> Result<(), TableError> {
        self.rows().clear();
        Ok(())
    }

    fn clear_shard(&self, key: ReplicaKey) -> Result<(), TableError> {
        self.rows().remove(&key);
        Ok(())
    }

    fn write(&self, key: ReplicaKey, rows: &[Row]) -> Result<(), TableError> {
        let mut all = self.rows();
        let shard = all.entry(key).or_default();
        for row in rows {
            match &row.value {
                Some(value) => shard.insert(row.key.clone(), value.clone()),
                None => shard.remove(&row.key),
            };
        }
        Ok(())
    }

    fn get(&self, key: ReplicaKey, row: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self.rows().get(&key).and_then(|shard| shard.get(row).cloned()))
    }

    fn scan(&self, key: ReplicaKey, prefix: &[u8]) -> Result<Rows, TableError> {
        let all = self.rows();
        let rows = all.get(&key).into_iter().flatten();
        let within = rows.filter(|(row, _)| row.starts_with(prefix));
        Ok(within.map(|(row, value)| (row.clone(), value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use waymark_proto::ids::ShardId;

    use super::super::SledTables;
    use super::*;

    fn key(shard: u32) -> ReplicaKey {
        ReplicaKey { shard: ShardId(shard), incarnation: 0 }
    }

    fn row(key: &[u8], value: Option<&[u8]>) -> Row {
        Row { key: key.to_vec(), value: value.map(<[u8]>::to_vec) }
    }

    /// What every engine must do.
    fn keeps_the_contract(tables: &dyn TableEngine) {
        tables.write(key(1), &[row(b"ab", Some(b"1")), row(b"a", Some(b"2"))]).unwrap();
        tables.write(key(2), &[row(b"ab", Some(b"3"))]).unwrap();
        let rows = |shard, prefix: &[u8]| tables.scan(key(shard), prefix).unwrap();
        assert_eq!(rows(1, b""), [(b"a".to_vec(), b"2".to_vec()), (b"ab".to_vec(), b"1".to_vec())]);
        assert_eq!(rows(1, b"ab").len(), 1);
        tables.write(key(1), &[row(b"a", None)]).unwrap();
        assert_eq!(tables.get(key(1), b"a").unwrap(), None);
        tables.clear_shard(key(1)).unwrap();
        assert_eq!(rows(1, b"").len(), 0);
        assert_eq!(tables.get(key(2), b"ab").unwrap(), Some(b"3".to_vec()));
        tables.clear().unwrap();
        assert_eq!(rows(2, b"").len(), 0);
    }

    #[test]
    fn both_engines_keep_the_same_contract() {
        keeps_the_contract(&MemoryTables::default());
        let folder = tempfile::tempdir().unwrap();
        keeps_the_contract(&SledTables::in_folder(folder.path().to_owned()));
    }
}
