//! Owns checkpoints as openraft sees them: a snapshot is the newest checkpoint, its data the checkpoint's manifest (S9).
//! Takes the cut, writes it in the order of S6, and installs what a pull has brought. Never moves segment bytes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use openraft::RaftSnapshotBuilder;

use super::machine::{Applied, Unreadable};
use super::membership::{decode_stored_membership, encode_stored_membership};
use super::network::Snapshot;
use super::types::{C, Manifest, to_raft_log_id};
use crate::mutants;
use crate::reached::reached;
use crate::state::Row;
use crate::storage::journal::JournalError;
use crate::storage::shard_store::{Checkpoint, Cut, StoreError};

/// Position and membership of a snapshot.
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<C>;

/// Why there is no new checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Nothing was applied yet.
    #[error("nothing was applied yet")]
    Nothing,
    /// The journal did not sync.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was written does not read back.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// The checkpoint in openraft's words.
pub(super) fn snapshot_of(checkpoint: &Checkpoint) -> io::Result<Snapshot> {
    let last_membership =
        decode_stored_membership(&checkpoint.membership).map_err(io::Error::other)?;
    let last_log_id = Some(to_raft_log_id(checkpoint.applied));
    let meta = SnapshotMeta { last_log_id, last_membership };
    Ok(Snapshot { meta, snapshot: checkpoint.encoded.clone() })
}

impl Applied {
    /// Writes a checkpoint of what is applied now (S6). When it fails, the one before stays in force and the next cut
    /// carries this one's rows too.
    pub(super) async fn checkpoint(&self) -> Result<Checkpoint, CheckpointError> {
        let mut unwritten = self.writing.lock().await;
        let newest = self.store.checkpoint();
        if let Some(newest) = newest
            && self.look().applied == Some(newest.applied)
        {
            return Ok(newest);
        }
        let cut = self.cut(&mut unwritten)?;
        if !mutants::planted!("checkpoint-before-journal") {
            self.journal.barrier().await?;
        }
        let checkpoint = self.store.write_checkpoint(cut).await?;
        unwritten.clear();
        Ok(checkpoint)
    }

    /// Short: apply waits meanwhile.
    fn cut(&self, unwritten: &mut BTreeMap<Vec<u8>, Row>) -> Result<Cut, CheckpointError> {
        let mut live = self.change();
        let mut applied = live.applied.ok_or(CheckpointError::Nothing)?;
        if mutants::planted!("checkpoint-above-applied") {
            applied = self.journal.shard(self.key()).last().unwrap_or(applied);
        }
        let membership = encode_stored_membership(&live.membership);
        let rows = live.state.drain_rows();
        drop(live);
        unwritten.extend(rows.into_iter().map(|row| (row.key.clone(), row)));
        let rows = unwritten.values().cloned().collect();
        Ok(Cut { applied, membership, rows })
    }

    /// Makes a pulled manifest the truth here. Milliseconds, for the replica answers nobody meanwhile (S9).
    pub(super) async fn install(&self, manifest: Bytes) -> Result<(), CheckpointError> {
        let mut unwritten = self.writing.lock().await;
        let checkpoint = self.store.install(manifest).await?;
        reached!("manifest-install");
        unwritten.clear();
        self.replace(&checkpoint)?;
        Ok(())
    }
}

/// Builds what openraft calls a snapshot: announces the checkpoint that was just written, or writes one.
#[derive(Debug)]
pub struct Builder {
    pub(super) applied: Arc<Applied>,
}

impl RaftSnapshotBuilder<C> for Builder {
    type SnapshotData = Manifest;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        if self.applied.unannounced.swap(false, Ordering::SeqCst)
            && let Some(checkpoint) = self.applied.store.checkpoint()
        {
            return snapshot_of(&checkpoint);
        }
        match self.applied.checkpoint().await {
            Ok(checkpoint) => snapshot_of(&checkpoint),
            // Only the library's suite forces a snapshot of nothing; such a disk is refused before (`runner`).
            Err(CheckpointError::Nothing) => {
                Ok(Snapshot { meta: SnapshotMeta::default(), snapshot: Manifest::new() })
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}
