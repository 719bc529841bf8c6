//! Owns the taking side of a manifest (S9): which bytes are lacking, where pulled ones go, and the switch. What was pulled
//! counts for nothing until the manifest is installed. Never talks to another node.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use waymark_proto::ids::TopicPartition;

use super::checkpoint::believed;
use super::manifest::{self, FileExtent, Files, Manifest};
use super::replica::{Doomed, Replica, io_error};
use super::walk::Run;
use crate::mutants;
use crate::storage::disk::OpenMode;
use crate::storage::shard_store::{Checkpoint, MissingRange, StoreError};

/// Bytes of one segment that a pull brought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulled {
    /// Where a frame begins.
    pub(super) from: u64,
    pub(super) to: u64,
    /// Up to here they were found right.
    pub(super) checked: u64,
    /// The end of the file as far as pulls made it, what was thrown away since counted.
    pub(super) reached: u64,
    /// Up to here they are durable.
    pub(super) settled: u64,
}

impl Replica {
    pub(super) fn open_manifest(&self, encoded: &Bytes) -> Result<Manifest, StoreError> {
        manifest::decode(encoded.clone()).map_err(|error| StoreError::Damaged {
            path: format!("{} (manifest)", self.folder()),
            offset: 0,
            what: error.to_string(),
        })
    }

    pub(in crate::storage) async fn missing(
        &self,
        encoded: &Bytes,
    ) -> Result<Vec<MissingRange>, StoreError> {
        let manifest = self.open_manifest(encoded)?;
        let mut missing = Vec::new();
        for (at, extents) in &manifest.files {
            for extent in extents {
                let mut have = self.have(*at, extent.base);
                if have >= extent.bytes && !self.check_pulled(*at, extent).await? {
                    have = self.have(*at, extent.base);
                }
                if have < extent.bytes {
                    missing.push(MissingRange {
                        at: *at,
                        base_offset: extent.base,
                        from_byte: have,
                        to_byte: extent.bytes,
                    });
                }
            }
        }
        Ok(missing)
    }

    /// Bytes of a segment that are here, believed or pulled.
    fn have(&self, at: TopicPartition, base: i64) -> u64 {
        let known = self.known();
        let segment = known.partitions.get(&at).and_then(|it| it.segment(base));
        let believed = segment.map_or(0, |it| it.bytes);
        known.pulled.get(&(at, base)).map_or(believed, |it| it.to.max(believed))
    }

    /// Bytes of a segment that the log brought and that stand in its file.
    pub(super) fn written(&self, at: TopicPartition, base: i64) -> u64 {
        let known = self.known();
        let segment = known.partitions.get(&at).and_then(|it| it.segment(base));
        segment.map_or(0, |it| it.written)
    }

    /// Whether the pulled bytes are whole frames; if not, they are forgotten and pulled again.
    async fn check_pulled(
        &self,
        at: TopicPartition,
        extent: &FileExtent,
    ) -> Result<bool, StoreError> {
        let pulled = self.known().pulled.get(&(at, extent.base)).copied();
        let Some(pulled) = pulled.filter(|it| it.checked < extent.bytes) else { return Ok(true) };
        let first = (pulled.from == 0).then_some(extent.base);
        let run = Run { from: pulled.from, to: extent.bytes, first };
        let flaw = self.flaw_in((at, extent.base), run, extent.next).await?;
        let flaw = flaw.filter(|_| !mutants::planted!("install-without-verify"));
        let mut known = self.known();
        if let Some(entry) = known.pulled.get_mut(&(at, extent.base)) {
            entry.checked = match &flaw {
                None => extent.bytes,
                // What stands before it was found right; unless all was, and it does not end as it must.
                Some(flaw) if flaw.position < extent.bytes => flaw.position,
                Some(_) => entry.from,
            };
            if flaw.is_some() {
                (entry.to, entry.settled) = (entry.checked, entry.settled.min(entry.checked));
            }
        }
        Ok(flaw.is_none())
    }

    pub(in crate::storage) async fn write_pulled(
        &self,
        range: &MissingRange,
        mut data: Bytes,
    ) -> Result<(), StoreError> {
        let (at, base) = (range.at, range.base_offset);
        let (folder, path) = (self.partition_folder(at), self.path(at, base));
        let _turn = self.io.lock().await;
        // A repair has taken away what came before it: all of that is pulled again.
        if range.from_byte > self.have(at, base) {
            return Ok(());
        }
        // The log may have brought some of it meanwhile: unverified bytes must not take the place of good ones.
        let from = range.from_byte.max(self.written(at, base));
        let known = usize::try_from(from - range.from_byte).unwrap_or(usize::MAX);
        if known >= data.len() {
            return Ok(());
        }
        data.advance(known);
        let to = from + data.len() as u64;
        let disk = &self.shelf.disk;
        disk.create_dir(&folder).await.map_err(io_error(&folder))?;
        let file = disk.open(&path, OpenMode::Write).await.map_err(io_error(&path))?;
        file.write_at(from, vec![data]).await.map_err(io_error(&path))?;
        self.owe_names(at);
        let mut known = self.known();
        let fresh = Pulled { from, to, checked: from, reached: to, settled: from };
        let entry = known.pulled.entry((at, base)).or_insert(fresh);
        if (entry.from..=entry.to).contains(&from) {
            entry.to = entry.to.max(to);
            entry.checked = entry.checked.min(from);
            entry.settled = entry.settled.min(from);
        } else {
            *entry = Pulled { reached: entry.reached, ..fresh };
        }
        entry.reached = entry.reached.max(to);
        Ok(())
    }

    pub(in crate::storage) async fn install(
        &self,
        encoded: Bytes,
    ) -> Result<Checkpoint, StoreError> {
        let manifest = self.open_manifest(&encoded)?;
        // First the turn: a repair that ends takes what was pulled behind its segment away.
        let _turn = self.io.lock().await;
        if let Some(lacking) = self.missing(&encoded).await?.first() {
            return Err(StoreError::Damaged {
                path: self.path(lacking.at, lacking.base_offset),
                offset: lacking.from_byte,
                what: "the manifest was not pulled to its end".to_owned(),
            });
        }
        self.shelf.trusted()?;
        self.write_in_turn(1).await?;
        {
            // A sync ahead of this one that fails is told its failure alone: it has to be known before this one begins.
            let _alone = self.syncing.lock().await;
            self.shelf.trusted()?;
            self.sync_pulled(&manifest.files).await?;
        }
        self.sync().await?;
        let checkpoint = self.publish(encoded).await?;
        self.refill(&manifest.rows)?;
        self.switch(&manifest.files);
        if self.known().pulling.take().is_some() {
            self.forget_note().await;
        }
        self.remove_doomed().await;
        Ok(checkpoint)
    }

    /// From here on the manifest's files are what is known. What was here or was pulled for an older manifest, and has no
    /// name in this one, goes.
    fn switch(&self, files: &Files) {
        let mut known = self.known();
        let before = std::mem::replace(&mut known.partitions, believed(files));
        let pulled = std::mem::take(&mut known.pulled);
        for partition in before.values() {
            self.forget_handles(partition.segments.iter());
        }
        let held = before.iter().flat_map(|(at, partition)| {
            partition.segments.iter().map(move |segment| (*at, segment.base))
        });
        let there: BTreeSet<(TopicPartition, i64)> = held.chain(pulled.into_keys()).collect();
        let mut folders = BTreeSet::new();
        for (at, base) in there {
            match files.get(&at) {
                None => {
                    folders.insert(at);
                }
                Some(extents) if extents.iter().any(|extent| extent.base == base) => {}
                Some(_) => known.doomed.push(Doomed::File(self.path(at, base))),
            }
        }
        let folders = folders.into_iter().map(|at| Doomed::Folder(self.partition_folder(at)));
        known.doomed.extend(folders);
    }

    /// What was pulled is durable afterwards, and ends where the manifest says: more may have come for a newer one.
    async fn sync_pulled(&self, files: &Files) -> Result<(), StoreError> {
        for (at, extents) in files {
            for extent in extents {
                self.sync_one(*at, extent).await?;
            }
        }
        Ok(())
    }

    async fn sync_one(&self, at: TopicPartition, extent: &FileExtent) -> Result<(), StoreError> {
        let pulled = self.known().pulled.get(&(at, extent.base)).copied();
        let Some(pulled) = pulled else { return Ok(()) };
        let path = self.path(at, extent.base);
        let file = self.shelf.disk.open(&path, OpenMode::Write).await.map_err(io_error(&path))?;
        if pulled.reached > extent.bytes {
            file.set_len(extent.bytes).await.map_err(io_error(&path))?;
        }
        self.shelf.synced(file.sync().await).map_err(io_error(&path))
    }
}
