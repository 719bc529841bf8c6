//! Owns a replica's rows in the tables: filled from its checkpoint, and filled again when the tables had to be made anew,
//! because an engine that met a full disk may never work again. Never believes rows of tables that were made anew meanwhile.

use std::sync::atomic::Ordering;

use super::replica::Replica;
use crate::mutants;
use crate::state::Row;
use crate::storage::shard_store::StoreError;
use crate::storage::tables::{Rows, TableError};

/// The second one after the tables were made anew.
const ATTEMPTS: usize = 2;

impl Replica {
    /// These are all its rows now.
    pub(super) fn refill(&self, rows: &Rows) -> Result<(), StoreError> {
        self.in_new_tables(|| self.fill(rows))
    }

    /// What the checkpoint has, with these changes: all rows.
    pub(super) fn changed_rows(&self, changes: &[Row]) -> Result<Rows, StoreError> {
        self.in_new_tables(|| {
            let tables = &self.shelf.tables;
            let generation = tables.generation();
            let whole = self.filled.load(Ordering::SeqCst) == generation;
            if !whole && !mutants::planted!("empty-tables-believed") {
                self.fill(&self.checkpoint_rows())?;
            }
            tables.write(self.key, changes)?;
            let rows = tables.scan(self.key, &[])?;
            // Emptied meanwhile, for another replica: what was read may be a part.
            let same = tables.generation() == generation;
            if same { Ok(rows) } else { Err(TableError("they were made anew".to_owned())) }
        })
    }

    fn fill(&self, rows: &Rows) -> Result<(), TableError> {
        let tables = &self.shelf.tables;
        let generation = tables.generation();
        tables.clear_shard(self.key)?;
        let row = |(key, value): &(Vec<u8>, Vec<u8>)| Row {
            key: key.clone(),
            value: Some(value.clone()),
        };
        let rows: Vec<Row> = rows.iter().map(row).collect();
        tables.write(self.key, &rows)?;
        self.filled.store(generation, Ordering::SeqCst);
        Ok(())
    }

    fn in_new_tables<T>(&self, work: impl Fn() -> Result<T, TableError>) -> Result<T, StoreError> {
        let tables = &self.shelf.tables;
        let mut attempt = 1;
        loop {
            let generation = tables.generation();
            match work() {
                Ok(done) => return Ok(done),
                Err(error) if attempt == ATTEMPTS => return Err(refused(error)),
                Err(error) => {
                    tracing::warn!(%error, "the tables are made anew");
                    tables.renew(generation).map_err(refused)?;
                }
            }
            attempt += 1;
        }
    }
}

pub(super) fn refused(error: TableError) -> StoreError {
    StoreError::Io { path: "tables".to_owned(), source: std::io::Error::other(error) }
}
