//! Owns the shapes of what Raft keeps on disk, in words of our own, so that neither the journal nor a stored byte ever
//! depends on the consensus library's types. It never interprets a payload.

use bytes::Bytes;
use waymark_proto::ids::ReplicaId;

/// A position in a shard's Raft log: the leader that wrote it, and where.
///
/// Ordered as Raft orders logs: by term, then leader, then index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The Raft term.
    pub term: u64,
    /// The leader of that term (several may win one term, one after the other).
    pub leader: ReplicaId,
    /// The index, from 0.
    pub index: u64,
}

/// A vote: whom this replica follows, and whether a quorum has granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vote {
    /// The Raft term.
    pub term: u64,
    /// The candidate or leader voted for.
    pub voted_for: ReplicaId,
    /// A quorum granted this vote.
    pub committed: bool,
}

impl Vote {
    /// Votes only ever grow in this order: of all votes found in a journal, the greatest counts, not the last (S3).
    #[must_use]
    pub fn rank(&self) -> (u64, ReplicaId, bool) {
        (self.term, self.voted_for, self.committed)
    }
}

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A new leader's first entry.
    Blank,
    /// An encoded command of the state machine.
    Command,
    /// An encoded membership.
    Membership,
}

/// One entry of a shard's Raft log. A clone shares the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub id: LogId,
    /// What it is for.
    pub kind: EntryKind,
    /// Its bytes; empty for a blank entry.
    pub payload: Bytes,
}
