//! Owns the state as rows of the tables, and the way back. One file per key family; a key is a tag, then big-endian
//! fields, so that keys sort as what they name. Rows are encoded when they are drained, once per change of many, never
//! while an entry is applied. Never writes one: storage does.
//!
//! | tag | key | row | lives |
//! |---|---|---|---|
//! | 1 | – | leaders seen | from the first entry |
//! | 2 | topic, partition | a partition | while the partition is open |
//! | 3 | topic, partition, producer | what a producer appended | until idle, or the partition is closed |
//! | 4 | group, topic, partition | a committed offset | until deleted or forgotten |
//! | 5 | – | the catalog's root | shard 0, from its founding |
//! | 6 | topic | a topic | shard 0, until its deletion is done |
//! | 7 | shard | a shard | shard 0 |
//! | 8 | topic | a topic's deletion | until many others came after it |
//! | 9 | – | how many groups were ever made | from the first group |
//! | 10 | group | its members and who holds what | until it is deleted |
//! | 11 | group, number | an event | until newer ones came |
//! | 12 | group, topic, partition, sequence | a change of a committed offset | by the ledger's rule |
//! | 13 | node | the incarnations of a node that ever lost a replica | shard 0 |
//!
//! Tags from 64 on are not the state's.

mod catalog;
mod deleted;
mod group;
mod group_history;
mod incarnations;
mod key;
mod leaders;
mod offset;
mod partition;
mod producer;
mod shard_entry;
mod topic;

pub use partition::PartitionExtent;
use waymark_proto::ids::ShardId;

use super::codec::DecodeError;
use super::reply::Row;
use super::shard::ShardState;
use super::topic_config::ConfigError;

/// Rows that no state wrote: damage, or another version's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// No family has this tag.
    #[error("a row of family {0:?} is not known")]
    UnknownFamily(Option<u8>),
    /// The key is not one of its family.
    #[error("the key of a {0} row is malformed")]
    Key(&'static str),
    /// The value is not one of its family.
    #[error("a {family} row is malformed: {source}")]
    Value {
        /// The family.
        family: &'static str,
        /// What is wrong.
        source: DecodeError,
    },
    /// The value breaks a rule that every state keeps.
    #[error("a {family} row is not possible: {what}")]
    Impossible {
        /// The family.
        family: &'static str,
        /// Which rule.
        what: &'static str,
    },
    /// A topic's configuration is not legal any more.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ShardState {
    /// Rows changed since the last call, each once with its value now, sorted by key.
    pub fn drain_rows(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        leaders::drain(&mut self.leaders, &mut rows);
        partition::drain(&mut self.partitions, &mut rows);
        producer::drain(&mut self.partitions, &mut rows);
        offset::drain(&mut self.groups.offsets, &mut rows);
        if let Some(state) = &mut self.catalog {
            catalog::drain(state, &mut rows);
            topic::drain(state, &mut rows);
            shard_entry::drain(state, &mut rows);
        }
        deleted::drain(&mut self.deleted, &mut rows);
        group::drain(&mut self.groups, &mut rows);
        group_history::drain(&mut self.groups, &mut rows);
        if let Some(state) = &mut self.catalog {
            incarnations::drain(state, &mut rows);
        }
        rows
    }

    /// The state whose rows these are: all that were ever drained, the last value of each, in any order.
    ///
    /// # Errors
    /// When a row is not one that a state of this version writes.
    pub fn from_rows(shard: ShardId, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, RowError> {
        let mut state = Self::new(shard);
        // By key: partitions come before their producers, the root before its topics.
        let mut sorted: Vec<&(Vec<u8>, Vec<u8>)> = rows.iter().collect();
        sorted.sort();
        for (key, value) in sorted {
            state.load_row(key, value)?;
        }
        if let Some(catalog) = &mut state.catalog {
            shard_entry::complete(catalog);
        }
        Ok(state)
    }

    fn load_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let Some((tag, key)) = key.split_first() else { return Err(RowError::UnknownFamily(None)) };
        let misplaced = RowError::Impossible { family: "catalog", what: "only shard 0 has one" };
        match (*tag, &mut self.catalog) {
            (key::LEADERS, _) => leaders::load(&mut self.leaders, key, value),
            (key::PARTITION, _) => partition::load(&mut self.partitions, key, value),
            (key::PRODUCER, _) => producer::load(&mut self.partitions, key, value),
            (key::DELETED, _) => deleted::load(&mut self.deleted, key, value),
            (key::OFFSET, _) => offset::load(&mut self.groups.offsets, key, value),
            (key::GROUPS, _) => group::load_counter(&mut self.groups, key, value),
            (key::GROUP, _) => group::load(&mut self.groups, key, value),
            (key::GROUP_EVENT, _) => group_history::load_event(&mut self.groups, key, value),
            (key::FACT, _) => group_history::load_fact(&mut self.groups, key, value),
            (key::CATALOG, Some(state)) => catalog::load(state, key, value),
            (key::TOPIC, Some(state)) => topic::load(state, key, value),
            (key::SHARD_ENTRY, Some(state)) => shard_entry::load(state, key, value),
            (key::INCARNATIONS, Some(state)) => incarnations::load(state, key, value),
            (key::CATALOG | key::TOPIC | key::SHARD_ENTRY | key::INCARNATIONS, None) => {
                Err(misplaced)
            }
            (other, _) => Err(RowError::UnknownFamily(Some(other))),
        }
    }
}

/// A row's value read as its message.
fn read<M: prost::Message + Default>(family: &'static str, value: &[u8]) -> Result<M, RowError> {
    let malformed = |source| RowError::Value { family, source };
    M::decode(value).map_err(|error| malformed(DecodeError::Malformed(error)))
}

/// A row that holds this message, or that goes because what it described is gone.
fn row<M: prost::Message>(key: Vec<u8>, message: Option<M>) -> Row {
    Row { key, value: message.map(|message| message.encode_to_vec()) }
}

#[cfg(test)]
mod tests;
