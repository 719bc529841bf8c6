//! STUB: interface only.

use waymark_proto::ids::{ReplicaId, ShardId};

pub mod command;
pub mod reply;

pub use command::{CatalogCommand, Command};
pub use reply::{Effect, Receipt, Refusal, Reply, Row, StampedBatch};

/// Bytes that a segment frame adds to a batch; `state` counts them to decide where a segment rolls (S8).
pub const FRAME_OVERHEAD: usize = 32;

/// Where an entry stands in the shard's Raft log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryAt {
    /// Raft index.
    pub index: u64,
    /// Raft term.
    pub term: u64,
    /// The leader that wrote it.
    pub leader: ReplicaId,
}

/// The outcome of one entry.
#[derive(Debug)]
pub struct Applied {
    /// For the proposer.
    pub reply: Reply,
    /// For storage and the waiters.
    pub effects: Vec<Effect>,
}

/// The state of one shard.
#[derive(Debug)]
pub struct ShardState(());

impl ShardState {
    /// An unborn shard's state.
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        let _ = shard;
        todo!()
    }
    /// Applies one command. Total: no content makes it fail (S17).
    pub fn apply(&mut self, at: EntryAt, command: Command) -> Applied {
        let _ = (at, command);
        todo!()
    }
    /// A blank or membership entry: only counts leaders.
    pub fn observe(&mut self, at: EntryAt) -> Applied {
        let _ = at;
        todo!()
    }
    /// Rows changed since the last call, each once with its value now, sorted by key.
    pub fn drain_rows(&mut self) -> Vec<Row> {
        todo!()
    }
}
