//! Owns what is durable of a replica's segments: syncs ahead of the checkpoint, run by run, so that the checkpoint finds
//! little left to sync and the journal's own small syncs never queue behind hundreds of mebibytes; and the sync of the
//! checkpoint itself, names included. Never decides what a checkpoint names.
//!
//! A sync covers what was written before it began. Writing goes on meanwhile.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use waymark_proto::ids::TopicPartition;

use super::partition::Segment;
use super::replica::{Replica, io_error};
use crate::storage::disk::OpenMode;
use crate::storage::shard_store::StoreError;

/// Above this many files one sync of everything is cheaper (S6).
const SINGLE_SYNCS: usize = 64;

/// A segment with bytes that no sync covers.
#[derive(Debug, Clone, Copy)]
struct Unsynced {
    at: TopicPartition,
    base: i64,
    /// How far it was written when this was noted.
    written: u64,
}

impl Replica {
    /// Segments with at least `least` bytes that no sync covers.
    fn unsynced(&self, least: u64) -> Vec<Unsynced> {
        let known = self.known();
        let all = known.partitions.iter();
        let segments = all.flat_map(|(at, it)| it.segments.iter().map(move |it| (*at, it)));
        let due = segments.filter(|(_, it)| it.unsynced() >= least.max(1));
        due.map(|(at, it)| Unsynced { at, base: it.base, written: it.written }).collect()
    }

    /// So far these are durable.
    fn note(&self, due: &[Unsynced]) {
        let mut known = self.known();
        for Unsynced { at, base, written } in due {
            let segment = known.partitions.get_mut(at).and_then(|it| it.segment_mut(*base));
            if let Some(segment) = segment {
                segment.durable = segment.durable.max((*written).min(segment.written));
            }
        }
    }

    /// One sync at a time, and none after one that failed: the system tells a failure to one sync of a file and lets the
    /// next one pass (S4). It runs to its end even if the caller goes away, or nobody would note its failure.
    pub(super) async fn alone(
        &self,
        path: &str,
        sync: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> Result<(), StoreError> {
        let turn = Arc::clone(&self.syncing).lock_owned().await;
        self.shelf.trusted()?;
        let shelf = Arc::clone(&self.shelf);
        let syncing = tokio::spawn(async move {
            let _turn = turn;
            shelf.synced(sync.await)
        });
        let synced = syncing.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        synced.map_err(io_error(path))
    }

    async fn sync_segment(&self, due: Unsynced) -> Result<(), StoreError> {
        let Unsynced { at, base, .. } = due;
        // Read mode: a file that retention has removed meanwhile must not be made again.
        let file = self.file(at, base, OpenMode::Read).await?;
        self.alone(&self.path(at, base), async move { file.sync().await }).await?;
        self.note(&[due]);
        Ok(())
    }

    async fn sync_everything(&self) -> Result<(), StoreError> {
        let shelf = Arc::clone(&self.shelf);
        let sync = async move {
            // All replicas share the handle that this goes through, and one of them is told of a failure.
            let _turn_of_all = shelf.syncing_all.lock().await;
            shelf.trusted().map_err(io::Error::other)?;
            shelf.disk.sync_all().await
        };
        self.alone("data directory", sync).await
    }

    /// Syncs the segments that have long runs of unsynced bytes, one after the other.
    pub(in crate::storage) async fn sync_long_runs(&self) -> Result<(), StoreError> {
        for due in self.unsynced(self.shelf.options.segment_sync_bytes as u64) {
            let outcome = self.sync_segment(due).await;
            let (at, base) = (due.at, due.base);
            let gone = self.known().partitions.get(&at).and_then(|it| it.segment(base)).is_none();
            if !gone || self.sync_failed() {
                outcome?;
            }
        }
        Ok(())
    }

    /// Everything written so far is durable afterwards, and every name.
    pub(super) async fn sync(&self) -> Result<(), StoreError> {
        let due = self.unsynced(1);
        if due.len() > SINGLE_SYNCS {
            self.sync_everything().await?;
            self.note(&due);
        } else {
            for due in due {
                self.sync_segment(due).await?;
            }
        }
        self.sync_names().await?;
        // One replica's failure is reported to it alone and says nothing good of the others' files.
        self.shelf.trusted()
    }

    /// Every new name is durable afterwards.
    pub(super) async fn sync_names(&self) -> Result<(), StoreError> {
        // Whoever finds nothing owed must know that it is durable, not that somebody is at it.
        let _turn = self.naming.lock().await;
        let mut owed = OwedNames::take(self);
        while let Some(folder) = owed.folders.first().cloned() {
            let outcome = self.shelf.disk.sync_dir(&folder).await;
            self.shelf.synced(outcome).map_err(io_error(&folder))?;
            owed.folders.remove(&folder);
        }
        Ok(())
    }
}

impl Segment {
    /// Written bytes that no sync covers.
    pub(super) fn unsynced(&self) -> u64 {
        self.written - self.durable
    }
}

/// Folders whose new names are being made durable. What was not synced, because a sync failed or the caller went away, is
/// owed again: otherwise the next checkpoint would name files that a power cut takes.
struct OwedNames<'a> {
    replica: &'a Replica,
    folders: BTreeSet<String>,
}

impl<'a> OwedNames<'a> {
    fn take(replica: &'a Replica) -> Self {
        let folders = std::mem::take(&mut replica.known().new_names);
        Self { replica, folders }
    }
}

impl Drop for OwedNames<'_> {
    fn drop(&mut self) {
        let folders = std::mem::take(&mut self.folders);
        if !folders.is_empty() {
            self.replica.known().new_names.extend(folders);
        }
    }
}
