//! Owns why segments, tables and checkpoints say no. Never decides what follows from it.

use waymark_proto::ids::TopicPartition;

/// Why the store says no.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The disk's own words.
        source: std::io::Error,
    },
    /// Damage: never served (G6).
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The partition has no files here.
    #[error("partition {0} is not stored here")]
    NoPartition(TopicPartition),
    /// The offset lies outside what is stored.
    #[error("offset {offset} is outside {start}..{end}")]
    OutOfRange {
        /// Asked for.
        offset: i64,
        /// First offset stored.
        start: i64,
        /// Offset after the last one stored.
        end: i64,
    },
}
