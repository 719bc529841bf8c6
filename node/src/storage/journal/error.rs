//! Owns why the journal says no. Never decides what follows from it.

use std::io;

use waymark_proto::ids::ReplicaKey;

use super::DIR;

/// Why a journal cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refused.
    #[error("journal {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The disk's own words.
        source: io::Error,
    },
    /// Damage: not a torn tail (S2).
    #[error("journal {path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// Written by a newer version of the program.
    #[error(
        "journal {path} has format {found}, and this program knows formats up to {known}: a newer version wrote it. \
         Nothing was changed: start that version again"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: u16,
        /// The highest format known here.
        known: u16,
    },
    /// This node has a journal, and it is gone.
    #[error(
        "the journal of this node is lost: its folder {DIR:?} {what}. What the node voted and acknowledged went with it, so \
         it must not run on. Nothing was changed: put the folder back as it was when the node ran last (never an older \
         copy), or empty the whole data directory and have the node's replicas replaced"
    )]
    Lost {
        /// What was found instead.
        what: &'static str,
    },
    /// The journal of another data directory.
    #[error(
        "the folder {DIR:?} holds journal {found:016x}, and this data directory belongs to journal {expected:016x}: it is of \
         another node, or of another life of this one. Nothing was changed: put this node's own folder back as it was when \
         the node ran last"
    )]
    Foreign {
        /// Its id.
        found: u64,
        /// The id that it must have.
        expected: u64,
    },
    /// Replicas in the journal of a disk that belongs to nobody.
    #[error(
        "the disk holds data but no identity, so nobody knows whose replicas the folder {DIR:?} holds. Nothing was changed: \
         put the file \"identity\" back, or empty the whole data directory and have the node's replicas replaced"
    )]
    Unowned,
    /// Append with a gap or over an existing index.
    #[error("shard {key:?}: entry {got} does not follow {expected}")]
    NotContiguous {
        /// Whose log.
        key: ReplicaKey,
        /// The index that must come next.
        expected: u64,
        /// The index that came.
        got: u64,
    },
    /// Entries asked for are gone or were never there.
    #[error("shard {key:?}: entries from {from} are not in the journal")]
    Missing {
        /// Whose log.
        key: ReplicaKey,
        /// First index asked for.
        from: u64,
    },
    /// An entry that would not fit a flush.
    #[error(
        "shard {key:?}: entry {index} has {len} bytes, at most {limit} fit the journal's files"
    )]
    TooLarge {
        /// Whose log.
        key: ReplicaKey,
        /// The entry.
        index: u64,
        /// Its bytes.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The replica was forgotten; its incarnation is never used again (S10).
    #[error("replica {key:?} was forgotten")]
    Forgotten {
        /// Which.
        key: ReplicaKey,
    },
    /// A flush failed: nothing more is accepted by this process (S4).
    #[error("the journal has failed: {0}")]
    Failed(String),
}

impl JournalError {
    /// The disk has no room for what was to be made.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}
