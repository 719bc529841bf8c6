//! What the layers above are told of damage to segments, and how a repair begins. Owns the words only: finding is done by
//! who reads, repairing by `segment`.

use waymark_proto::ids::TopicPartition;

use super::segment::Rebuild;
use super::shard_store::{ShardStore, StoreError};

/// Bytes of a segment that are not what was written: refused to readers until a peer has given them again (G6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// The partition.
    pub at: TopicPartition,
    /// The segment.
    pub base_offset: i64,
    /// Its file.
    pub path: String,
    /// First byte that is damaged.
    pub from_byte: u64,
    /// Byte after the last one that may be.
    pub to_byte: u64,
    /// Offsets that may be concerned: from, to.
    pub offsets: (i64, i64),
    /// What is wrong.
    pub what: String,
}

impl ShardStore {
    /// All damage that is not repaired yet.
    #[must_use]
    pub fn damaged(&self) -> Vec<DamagedRange> {
        self.replica.damaged()
    }
    /// Begins to put a damaged segment together anew; one at a time. `None`: the segment is not here any more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn rebuild(
        &self,
        at: TopicPartition,
        base_offset: i64,
    ) -> Result<Option<Rebuild>, StoreError> {
        self.replica.rebuild((at, base_offset)).await
    }
}
