//! Owns what outlives an interrupted pull (S9): a durable note of the manifest that is being pulled, and, after a restart,
//! the bytes that are here already. They still count for nothing before they are verified and the manifest is installed.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use waymark_proto::ids::{PartitionId, ReplicaKey, TopicPartition};

use super::manifest::{self, FileExtent, Files, Manifest, Rows};
use super::pull::Pulled;
use super::replica::{Replica, Shelf, io_error};
use crate::mutants;
use crate::storage::disk::OpenMode;
use crate::storage::shard_store::{Checkpoint, StoreError};

/// The file that says which manifest is being pulled.
pub(super) const NOTE: &str = "pulling";

impl Replica {
    fn note_path(&self) -> String {
        format!("{}/{NOTE}", self.folder())
    }

    /// From here on a restart keeps what was pulled for this manifest.
    pub(in crate::storage) async fn begin_pull(&self, encoded: &Bytes) -> Result<(), StoreError> {
        if self.known().pulling.as_ref() == Some(encoded) {
            return Ok(());
        }
        self.open_manifest(encoded)?;
        let (folder, path, disk) = (self.folder(), self.note_path(), &self.shelf.disk);
        let fresh = format!("{path}.new");
        let write = async {
            disk.create_dir(&folder).await?;
            let file = disk.open(&fresh, OpenMode::Write).await?;
            file.set_len(0).await?;
            file.write_at(0, vec![manifest::to_file(encoded)]).await?;
            self.shelf.synced(file.sync().await)?;
            disk.rename(&fresh, &path).await?;
            self.sync_folders().await
        };
        write.await.map_err(io_error(&path))?;
        self.known().pulling = Some(encoded.clone());
        Ok(())
    }

    /// What was pulled until now survives the machine.
    pub(in crate::storage) async fn settle_pulled(&self) -> Result<(), StoreError> {
        let unsettled = |it: &Pulled| it.settled < it.to;
        let due: Vec<((TopicPartition, i64), u64)> = {
            let known = self.known();
            let due = known.pulled.iter().filter(|(_, it)| unsettled(it));
            due.map(|(key, it)| (*key, it.to)).collect()
        };
        for ((at, base), to) in due {
            let path = self.path(at, base);
            let file = match self.shelf.disk.open(&path, OpenMode::Read).await {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file.map_err(io_error(&path))?,
            };
            self.alone(&path, async move { file.sync().await }).await?;
            if let Some(pulled) = self.known().pulled.get_mut(&(at, base)) {
                pulled.settled = to.min(pulled.to);
            }
        }
        self.sync_names().await
    }

    /// A note of what was installed says nothing any more: a start that still finds it passes it over.
    pub(super) async fn forget_note(&self) {
        let path = self.note_path();
        if let Err(error) = self.shelf.disk.remove(&path).await {
            tracing::debug!(path, %error, "the note of a pull stays");
        }
    }

    /// The manifest that was being pulled when this replica ended, unless its checkpoint has passed it.
    pub(super) async fn unfinished_pull(
        &self,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Option<Manifest>, StoreError> {
        let path = self.note_path();
        let file = match self.shelf.disk.open(&path, OpenMode::Read).await {
            _ if mutants::planted!("pull-starts-over") => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io_error(&path))?,
        };
        let len = usize::try_from(file.len().await.map_err(io_error(&path))?).unwrap_or(usize::MAX);
        let bytes = file.read_at(0, len).await.map_err(io_error(&path))?;
        // One that cannot be read costs a pull from the beginning, and nothing else.
        let noted = manifest::from_file(&bytes).and_then(manifest::decode).ok();
        let passed =
            |it: &Manifest| checkpoint.is_some_and(|own| own.applied >= it.checkpoint.applied);
        Ok(noted.filter(|it| !passed(it)))
    }

    /// Takes what is here of an unfinished pull for pulled, beyond what is believed.
    pub(super) async fn resume_pull(
        &self,
        unfinished: Manifest,
        believed: &Files,
    ) -> Result<(), StoreError> {
        for (at, extents) in &unfinished.files {
            for FileExtent { base, bytes, .. } in extents {
                let own = believed.get(at).and_then(|it| it.iter().find(|it| it.base == *base));
                let from = own.map_or(0, |it| it.bytes);
                self.take_for_pulled((*at, *base), from, *bytes).await?;
            }
        }
        self.known().pulling = Some(unfinished.checkpoint.encoded);
        Ok(())
    }

    /// What stands in a segment's file from a byte on counts as pulled, up to another one.
    async fn take_for_pulled(
        &self,
        (at, base): (TopicPartition, i64),
        from: u64,
        most: u64,
    ) -> Result<(), StoreError> {
        let path = self.path(at, base);
        let reached = match self.shelf.disk.open(&path, OpenMode::Read).await {
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            file => {
                let file = file.map_err(io_error(&path))?;
                file.len().await.map_err(io_error(&path))?
            }
        };
        if reached > from {
            let to = reached.min(most).max(from);
            let pulled = Pulled { from, to, checked: from, reached, settled: from };
            self.known().pulled.insert((at, base), pulled);
            if !mutants::planted!("pulled-name-not-synced") {
                // The life that pulled it may have ended before its name was durable.
                self.owe_names(at);
            }
        }
        Ok(())
    }

    /// A replica without a checkpoint to believe: all its segments count as pulled, for whichever manifest comes. Changes
    /// nothing on the disk: until a manifest is installed, the next start finds what this one found.
    pub(in crate::storage) async fn open_without_checkpoint(
        shelf: Arc<Shelf>,
        key: ReplicaKey,
    ) -> Result<Self, StoreError> {
        shelf.trusted()?;
        let replica = Self::new(shelf, key);
        replica.refill(&Rows::new())?;
        let (disk, folder) = (Arc::clone(&replica.shelf.disk), replica.folder());
        for name in disk.list(&folder).await.map_err(io_error(&folder))? {
            let Some(at) = partition_of(&name) else { continue };
            let inside = format!("{folder}/{name}");
            for file in disk.list(&inside).await.map_err(io_error(&inside))? {
                let base = file.strip_suffix(".log").and_then(|it| it.parse::<i64>().ok());
                if let Some(base) = base {
                    replica.take_for_pulled((at, base), 0, u64::MAX).await?;
                }
            }
        }
        Ok(replica)
    }
}

/// The partition whose folder has this name.
fn partition_of(folder: &str) -> Option<TopicPartition> {
    let (topic, number) = folder.rsplit_once('.')?;
    let partition = PartitionId(number.parse().ok()?);
    Some(TopicPartition { topic: topic.parse().ok()?, partition })
}
