//! Owns what one shard knows, as a pure function of its own log (S16): partitions, producers, committed offsets and, on
//! shard 0, the catalog. The same entries give the same state, the same rows and the same effects on every replica.
//! Never reads a clock, draws a random number, iterates a hash map, waits, or touches a file.
//!
//! | file | owns |
//! |---|---|
//! | `command`, `reply` | what goes in, what comes out |
//! | `codec` | commands as bytes of a Raft entry |
//! | `shard` | the whole state, one line per command |
//! | `partitions`, `partition`, `batch`, `producer` | offsets, stamps, segments, idempotence |
//! | `groups`, `offsets` | consumer groups: members, hand-off, committed offsets and their history |
//! | `holds` | how far groups hold retention up |
//! | `deleted` | topics that are gone, so that a late command does not bring them back |
//! | `catalog`, `topic_config` | nodes, pools, topics and their configuration |
//! | `slot` | group → slot |
//! | `rows` | the state as rows of the tables, and back |

pub mod batch;
pub mod catalog;
pub mod codec;
pub mod command;
mod deleted;
pub mod groups;
mod holds;
pub mod offsets;
pub mod partition;
mod partitions;
pub mod producer;
pub mod reply;
pub mod rows;
mod shard;
pub mod slot;
pub mod topic_config;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use batch::STAMP_LEN;
pub use catalog::Catalog;
pub use codec::DecodeError;
pub use command::{CatalogCommand, Command, PartitionSettings};
pub use holds::Hold;
pub use offsets::CommittedOffset;
pub use partition::{EpochEnd, PartitionView};
pub use producer::PRODUCER_WINDOW;
pub use reply::{Effect, Receipt, Refusal, Reply, Row, StampedBatch};
pub use rows::RowError;
pub use shard::{Applied, EntryAt, ShardState};

/// Bytes that a segment frame adds to a batch; `state` counts them to decide where a segment rolls (S8).
pub const FRAME_OVERHEAD: usize = 32;
