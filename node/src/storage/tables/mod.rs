//! Owns the contract of the applied tables: rows by key, per shard, the working copy and never an authority (S5). Never
//! makes anything durable: the checkpoint does.

mod memory;
mod sled;

use std::fmt::Debug;

use waymark_proto::ids::ReplicaKey;

pub use self::memory::MemoryTables;
pub use self::sled::SledTables;
use crate::state::Row;

/// A table engine refused.
#[derive(Debug, thiserror::Error)]
#[error("tables: {0}")]
pub struct TableError(pub String);

/// All rows of one shard, sorted by key.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Where rows live. Two engines keep this contract, held to one suite.
pub trait TableEngine: Send + Sync + Debug + 'static {
    /// Which tables these are: others after `renew`, with nothing in them. Whether `clear` changes it too is the engine's to
    /// decide: nobody has filled any yet.
    fn generation(&self) -> u64;
    /// Makes them anew, empty, after an engine has refused: it may not work again. Nothing happens when that was done since
    /// this generation.
    ///
    /// # Errors
    /// When what is there cannot be removed.
    fn renew(&self, generation: u64) -> Result<(), TableError>;
    /// Forgets every row of every shard, before anybody uses them: what an earlier life of the node left is not believed.
    ///
    /// # Errors
    /// When the engine refuses.
    fn clear(&self) -> Result<(), TableError>;
    /// Forgets a shard's rows.
    ///
    /// # Errors
    /// When the engine refuses.
    fn clear_shard(&self, key: ReplicaKey) -> Result<(), TableError>;
    /// Applies changes to a shard's rows, all or none.
    ///
    /// # Errors
    /// When the engine refuses.
    fn write(&self, key: ReplicaKey, rows: &[Row]) -> Result<(), TableError>;
    /// One row.
    ///
    /// # Errors
    /// When the engine refuses.
    fn get(&self, key: ReplicaKey, row: &[u8]) -> Result<Option<Vec<u8>>, TableError>;
    /// A shard's rows whose key begins with `prefix`, sorted by key.
    ///
    /// # Errors
    /// When the engine refuses.
    fn scan(&self, key: ReplicaKey, prefix: &[u8]) -> Result<Rows, TableError>;
}
