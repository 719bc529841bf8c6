//! What the layers above are told of damage, and how a repair begins. Owns the words only: finding is done by who reads,
//! repairing by `segment`.

use std::sync::Arc;

use bytes::Bytes;
use waymark_proto::ids::{ReplicaKey, TopicPartition};

use super::segment::{Rebuild, Replica, read_manifest};
use super::shard_store::{Checkpoint, ShardStore, Store, StoreError};

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

impl Store {
    /// A replica whose checkpoint is damaged: it believes nothing until a peer's manifest is installed, for which all that it
    /// has counts as pulled.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn open_without_checkpoint(&self, key: ReplicaKey) -> Result<ShardStore, StoreError> {
        let replica = Replica::open_without_checkpoint(Arc::clone(&self.shelf), key).await?;
        let replica = Arc::new(replica);
        self.replicas.add(&replica);
        Ok(ShardStore { replica })
    }

    /// Resolves when damage was found since the last time; for one who waits.
    pub async fn until_damaged(&self) {
        self.shelf.damage.notified().await;
    }

    /// Damaged ranges of all replicas that are not repaired yet.
    #[must_use]
    pub fn open_damage(&self) -> usize {
        self.replicas.damaged()
    }
}

impl Checkpoint {
    /// The checkpoint that a manifest tells of.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(manifest: Bytes) -> Result<Self, StoreError> {
        read_manifest(manifest)
    }
}

impl ShardStore {
    /// From here on a restart keeps what was pulled for this manifest (S9).
    ///
    /// # Errors
    /// When it is none, or the disk refuses.
    pub async fn begin_pull(&self, manifest: &Bytes) -> Result<(), StoreError> {
        self.replica.begin_pull(manifest).await
    }
    /// What was pulled until now survives the machine.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn settle_pulled(&self) -> Result<(), StoreError> {
        self.replica.settle_pulled().await
    }
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
