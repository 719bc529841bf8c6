//! Owns the order of a checkpoint (S6), what a restart believes (S5), and when files go (S7). Never decides when.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use waymark_proto::ids::{ReplicaKey, TopicPartition};

use super::damage::ASIDE;
use super::manifest::{self, FileExtent, Files, Manifest, Rows};
use super::partition::{Partition, Segment};
use super::replica::{Doomed, Known, Replica, Shelf, io_error};
use super::rows::refused;
use super::staged::NOTE;
use super::walk::Flaw;
use crate::mutants;
use crate::state::rows::PartitionExtent;
use crate::storage::disk::OpenMode;
use crate::storage::shard_store::{Checkpoint, Cut, StoreError};

/// The folder of all replicas' folders.
pub(super) const SHARDS: &str = "shards";

pub(super) fn folder_of(key: ReplicaKey) -> String {
    format!("{SHARDS}/{}-{}", key.shard.0, key.incarnation)
}

impl Shelf {
    /// Removes the folder and the rows of a replica that is not open.
    pub(in crate::storage) async fn remove_replica(
        &self,
        key: ReplicaKey,
    ) -> Result<(), StoreError> {
        self.tables.clear_shard(key).map_err(refused)?;
        let folder = folder_of(key);
        self.disk.remove_dir(&folder).await.map_err(io_error(&folder))?;
        self.disk.sync_dir(SHARDS).await.map_err(io_error(SHARDS))
    }
}

impl Replica {
    /// Loads the checkpoint and cuts everything back to it (S5).
    pub(in crate::storage) async fn open(
        shelf: Arc<Shelf>,
        key: ReplicaKey,
    ) -> Result<Self, StoreError> {
        shelf.trusted()?;
        let replica = Self::new(shelf, key);
        let loaded = replica.load().await?;
        if loaded.is_some() && !mutants::planted!("found-name-not-synced") {
            // The life that renamed it may have ended before its name was durable. From here on the log is let go below it.
            replica.sync_folders().await.map_err(io_error(&replica.checkpoint_path()))?;
        }
        let (checkpoint, rows, files) = match loaded {
            Some(it) => (Some(it.checkpoint), it.rows, it.files),
            None => (None, Rows::new(), Files::new()),
        };
        let unfinished = replica.unfinished_pull(checkpoint.as_ref()).await?;
        replica.refill(&rows)?;
        {
            let mut known = replica.known();
            known.partitions = believed(&files);
            known.checkpoint = checkpoint;
        }
        let pulled = unfinished.as_ref().map(|it| &it.files);
        replica.cut_back(&files, pulled.unwrap_or(&Files::new())).await?;
        if let Some(unfinished) = unfinished {
            replica.resume_pull(unfinished, &files).await?;
        }
        replica.check_newest(&files).await?;
        Ok(replica)
    }

    pub(super) fn checkpoint_path(&self) -> String {
        format!("{}/checkpoint", self.folder())
    }

    async fn load(&self) -> Result<Option<Manifest>, StoreError> {
        let (folder, path) = (self.folder(), self.checkpoint_path());
        let names = self.shelf.disk.list(&folder).await.map_err(io_error(&folder))?;
        if !names.iter().any(|name| name == "checkpoint") {
            return Ok(None);
        }
        let file = self.shelf.disk.open(&path, OpenMode::Read).await.map_err(io_error(&path))?;
        let len = usize::try_from(file.len().await.map_err(io_error(&path))?).unwrap_or(usize::MAX);
        let bytes = file.read_at(0, len).await.map_err(io_error(&path))?;
        let damaged = |what: String| StoreError::Damaged { path: path.clone(), offset: 0, what };
        let encoded = manifest::from_file(&bytes).map_err(|error| damaged(error.to_string()))?;
        manifest::decode(encoded).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Files end where the checkpoint says, and what it does not name is gone; but for what was pulled.
    async fn cut_back(&self, files: &Files, pulled: &Files) -> Result<(), StoreError> {
        for (at, extents) in files {
            let pulled: BTreeSet<i64> =
                pulled.get(at).into_iter().flatten().map(|it| it.base).collect();
            for extent in extents {
                self.cut_file(*at, extent, pulled.contains(&extent.base)).await?;
            }
        }
        let (disk, folder) = (&self.shelf.disk, self.folder());
        let named = files.keys().chain(pulled.keys());
        let folders: BTreeMap<String, TopicPartition> =
            named.map(|at| (self.partition_folder(*at), *at)).collect();
        for name in disk.list(&folder).await.map_err(io_error(&folder))? {
            let path = format!("{folder}/{name}");
            if name == "checkpoint" || name == ASIDE || (name == NOTE && !pulled.is_empty()) {
                continue;
            }
            let Some(at) = folders.get(&path) else {
                if name.starts_with("checkpoint") || name.starts_with(NOTE) {
                    disk.remove(&path).await.map_err(io_error(&path))?;
                } else {
                    disk.remove_dir(&path).await.map_err(io_error(&path))?;
                }
                continue;
            };
            let extents = files.get(at).into_iter().chain(pulled.get(at)).flatten();
            let named: BTreeSet<String> = extents.map(|it| self.path(*at, it.base)).collect();
            for name in disk.list(&path).await.map_err(io_error(&path))? {
                let file = format!("{path}/{name}");
                if !named.contains(&file) {
                    disk.remove(&file).await.map_err(io_error(&file))?;
                }
            }
        }
        Ok(())
    }

    async fn cut_file(
        &self,
        at: TopicPartition,
        extent: &FileExtent,
        pulled: bool,
    ) -> Result<(), StoreError> {
        let path = self.path(at, extent.base);
        let disk = &self.shelf.disk;
        let damaged = |position: u64, found: &str| {
            let what = format!("the checkpoint names {} bytes, {found}", extent.bytes);
            let offset = Some(extent.base);
            self.note_damage((at, extent.base), Flaw { position, end: None, offset, what });
            Ok(())
        };
        // To read: a file that is missing must not be there afterwards, or nobody can tell that it was.
        let file = match disk.open(&path, OpenMode::Read).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return damaged(0, "the file is missing");
            }
            file => file.map_err(io_error(&path))?,
        };
        let len = file.len().await.map_err(io_error(&path))?;
        if len < extent.bytes {
            return damaged(len, "the file is shorter");
        }
        if len > extent.bytes && !pulled && !mutants::planted!("trust-above-checkpoint") {
            let cut =
                async { disk.open(&path, OpenMode::Write).await?.set_len(extent.bytes).await };
            cut.await.map_err(io_error(&path))?;
        }
        Ok(())
    }

    pub(in crate::storage) fn checkpoint_rows(&self) -> Rows {
        let newest = self.checkpoint();
        // What is kept was taken apart before, so it can be again.
        newest
            .and_then(|it| manifest::decode(it.encoded).ok())
            .map(|it| it.rows)
            .unwrap_or_default()
    }

    pub(in crate::storage) async fn write_checkpoint(
        &self,
        cut: Cut,
    ) -> Result<Checkpoint, StoreError> {
        self.shelf.trusted()?;
        self.write_waiting(1).await?;
        let lost = usize::from(mutants::planted!("table-row-lost") && cut.rows.len() > 1);
        let rows = self.changed_rows(&cut.rows[lost..])?;
        let extents: Extents = rows.iter().filter_map(extent_of).collect();
        let files = self.files_of(&extents);
        if !mutants::planted!("checkpoint-without-sync") {
            self.sync().await?;
        }
        if mutants::planted!("unlink-before-checkpoint") {
            self.retire(&extents).await;
        }
        let encoded = manifest::encode(self.key, &cut, &rows, &files);
        let checkpoint = self.publish(encoded).await?;
        if !mutants::planted!("never-unlink") {
            self.retire(&extents).await;
        }
        Ok(checkpoint)
    }

    /// The files that hold what the rows speak of: later appends may have reached them already.
    fn files_of(&self, extents: &Extents) -> Files {
        let known = self.known();
        let files = extents.iter().map(|(at, row)| {
            let partition = known.partitions.get(at);
            let segments = partition.into_iter().flat_map(|it| it.segments.iter());
            let extents = segments.filter_map(|segment| extent(segment, row));
            (*at, extents.collect())
        });
        files.collect()
    }

    /// From here on a restart believes this checkpoint.
    pub(super) async fn publish(&self, encoded: Bytes) -> Result<Checkpoint, StoreError> {
        let _turn = self.publishing.lock().await;
        self.publish_in_turn(&encoded).await?;
        let path = self.checkpoint_path();
        let damaged = |error: manifest::Unreadable| StoreError::Damaged {
            path: path.clone(),
            offset: 0,
            what: error.to_string(),
        };
        let checkpoint = manifest::decode(encoded).map_err(damaged)?.checkpoint;
        self.known().checkpoint = Some(checkpoint.clone());
        Ok(checkpoint)
    }

    /// As `publish`, for one who holds `publishing`.
    pub(super) async fn publish_in_turn(&self, encoded: &Bytes) -> Result<(), StoreError> {
        let (folder, path) = (self.folder(), self.checkpoint_path());
        let fresh = format!("{path}.new");
        let disk = &self.shelf.disk;
        let write = async {
            disk.create_dir(&folder).await?;
            let file = disk.open(&fresh, OpenMode::Write).await?;
            file.set_len(0).await?;
            file.write_at(0, vec![manifest::to_file(encoded)]).await?;
            self.shelf.synced(file.sync().await)?;
            disk.rename(&fresh, &path).await?;
            self.sync_folders().await
        };
        write.await.map_err(io_error(&path))
    }

    /// Names in this replica's folder are durable afterwards, that of the folder included.
    pub(super) async fn sync_folders(&self) -> io::Result<()> {
        for folder in [self.folder().as_str(), SHARDS, ""] {
            self.shelf.synced(self.shelf.disk.sync_dir(folder).await)?;
        }
        Ok(())
    }

    /// Takes what the newest checkpoint does not name out of sight, and removes it unless a pull holds it (S7).
    async fn retire(&self, extents: &Extents) {
        let _turn = self.io.lock().await;
        {
            let mut known = self.known();
            let gone = self.take_unnamed(&mut known, extents);
            known.doomed.extend(gone);
        }
        self.remove_doomed().await;
    }

    /// Removes what nothing names any more, unless a pull holds it.
    pub(super) async fn remove_doomed(&self) {
        if self.holds.load(Ordering::SeqCst) > 0 {
            return;
        }
        let doomed = std::mem::take(&mut self.known().doomed);
        for gone in doomed {
            let removed = match &gone {
                Doomed::File(path) => self.shelf.disk.remove(path).await,
                Doomed::Folder(path) => self.shelf.disk.remove_dir(path).await,
            };
            if let Err(error) = removed {
                // A restart removes what no checkpoint names.
                tracing::warn!(?gone, %error, "what is no longer needed stays on disk");
            }
        }
    }

    fn take_unnamed(&self, known: &mut Known, extents: &Extents) -> Vec<Doomed> {
        let mut doomed = Vec::new();
        known.partitions.retain(|at, partition| {
            let Some(row) = extents.get(at) else {
                if partition.closed {
                    self.forget_handles(partition.segments.iter());
                    doomed.push(Doomed::Folder(self.partition_folder(*at)));
                }
                return !partition.closed;
            };
            while partition.segments.front().is_some_and(|it| passed(it, row)) {
                let gone = partition.segments.pop_front();
                self.forget_handles(gone.iter());
                doomed.extend(gone.map(|it| Doomed::File(self.path(*at, it.base))));
            }
            true
        });
        doomed
    }
}

/// Where the log of each partition stood at a cut.
type Extents = BTreeMap<TopicPartition, PartitionExtent>;

fn extent_of((key, value): &(Vec<u8>, Vec<u8>)) -> Option<(TopicPartition, PartitionExtent)> {
    PartitionExtent::of(key, value).map(|row| (row.at, row))
}

/// Nothing of it is left above the log start, and nothing will be added: a log without a byte begins anew, one with some
/// still grows its last segment.
fn passed(segment: &Segment, row: &PartitionExtent) -> bool {
    let grows = row.segment_bytes > 0 && segment.base >= row.segment_base;
    segment.next <= row.log_start && !grows
}

/// A segment as far as a row speaks of it.
fn extent(segment: &Segment, row: &PartitionExtent) -> Option<FileExtent> {
    if row.segment_bytes == 0 || segment.base > row.segment_base {
        return None;
    }
    if segment.base == row.segment_base {
        return Some(FileExtent {
            base: segment.base,
            next: row.next_offset,
            bytes: u64::try_from(row.segment_bytes).unwrap_or(0),
            max_timestamp: row.segment_max_timestamp,
        });
    }
    // Wholly below the log start: nobody reads it any more.
    let needed = segment.next > row.log_start;
    needed.then_some(FileExtent {
        base: segment.base,
        next: segment.next,
        bytes: segment.bytes,
        max_timestamp: segment.max_timestamp,
    })
}

/// Partitions as a checkpoint's files say.
pub(super) fn believed(files: &Files) -> BTreeMap<TopicPartition, Partition> {
    let partition = |extents: &Vec<FileExtent>| {
        let mut partition = Partition::default();
        for extent in extents {
            let (next, bytes) = (extent.next, extent.bytes);
            let segment = Segment::stored(extent.base, (next, bytes), extent.max_timestamp);
            if let Some(last) = partition.segments.back_mut() {
                last.sealed = true;
            }
            partition.segments.push_back(segment);
        }
        partition
    };
    files.iter().map(|(at, extents)| (*at, partition(extents))).collect()
}
