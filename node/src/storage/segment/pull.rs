//! Owns the taking side of a manifest (S9): which bytes are lacking, where pulled ones go, and the switch. What was pulled
//! counts for nothing until the manifest is installed. Never talks to another node.

use bytes::Bytes;
use waymark_proto::ids::TopicPartition;

use super::checkpoint::believed;
use super::frame::{Decoded, decode};
use super::manifest::{self, FileExtent, Files, Manifest};
use super::replica::{Doomed, Replica, io_error};
use crate::mutants;
use crate::storage::disk::OpenMode;
use crate::storage::shard_store::{Checkpoint, MissingRange, StoreError};

/// Bytes of one look while frames are checked.
const LOOK: usize = 1 << 20;

/// Bytes of one segment that a pull brought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulled {
    from: u64,
    to: u64,
    checked: bool,
}

impl Replica {
    fn open_manifest(&self, encoded: &Bytes) -> Result<Manifest, StoreError> {
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

    /// Whether the pulled bytes are whole frames; if not, they are forgotten and pulled again.
    async fn check_pulled(
        &self,
        at: TopicPartition,
        extent: &FileExtent,
    ) -> Result<bool, StoreError> {
        let pulled = self.known().pulled.get(&(at, extent.base)).copied();
        let Some(pulled) = pulled.filter(|it| !it.checked) else { return Ok(true) };
        let good = mutants::active("install-without-verify")
            || self.frames_are_good(at, extent, pulled.from).await?;
        let mut known = self.known();
        if good {
            if let Some(entry) = known.pulled.get_mut(&(at, extent.base)) {
                entry.checked = true;
            }
        } else {
            known.pulled.remove(&(at, extent.base));
        }
        Ok(good)
    }

    async fn frames_are_good(
        &self,
        at: TopicPartition,
        extent: &FileExtent,
        from: u64,
    ) -> Result<bool, StoreError> {
        let path = self.path(at, extent.base);
        let file = self.shelf.disk.open(&path, OpenMode::Read).await.map_err(io_error(&path))?;
        let (mut position, mut least) = (from, LOOK);
        while position < extent.bytes {
            let left = usize::try_from(extent.bytes - position).unwrap_or(usize::MAX);
            let bytes = file.read_at(position, least.min(left)).await.map_err(io_error(&path))?;
            let mut used = 0;
            loop {
                match decode(&bytes[used..]) {
                    Decoded::Whole(stored) => used += stored.len,
                    Decoded::Short(need) => {
                        least = need.max(LOOK);
                        break;
                    }
                    Decoded::Damaged(_) => return Ok(false),
                }
            }
            if used == 0 && bytes.len() == left {
                return Ok(false);
            }
            position += used as u64;
        }
        Ok(true)
    }

    pub(in crate::storage) async fn write_pulled(
        &self,
        range: &MissingRange,
        data: Bytes,
    ) -> Result<(), StoreError> {
        let (at, base) = (range.at, range.base_offset);
        let (folder, path) = (self.partition_folder(at), self.path(at, base));
        let len = data.len() as u64;
        let disk = &self.shelf.disk;
        disk.create_dir(&folder).await.map_err(io_error(&folder))?;
        let file = disk.open(&path, OpenMode::Write).await.map_err(io_error(&path))?;
        file.write_at(range.from_byte, vec![data]).await.map_err(io_error(&path))?;
        let (from, to) = (range.from_byte, range.from_byte + len);
        let mut known = self.known();
        known.new_names.insert(folder);
        known.new_names.insert(self.folder());
        let fresh = Pulled { from, to, checked: false };
        let entry = known.pulled.entry((at, base)).or_insert(fresh);
        if entry.to == from {
            (entry.to, entry.checked) = (to, false);
        } else if entry.to < from || from < entry.from {
            *entry = fresh;
        }
        Ok(())
    }

    pub(in crate::storage) async fn read_segment(
        &self,
        at: TopicPartition,
        base: i64,
        from: u64,
        most: usize,
    ) -> Result<Bytes, StoreError> {
        let path = self.path(at, base);
        let file = self.file(at, base, OpenMode::Read).await?;
        file.read_at(from, most).await.map_err(io_error(&path))
    }

    pub(in crate::storage) async fn install(
        &self,
        encoded: Bytes,
    ) -> Result<Checkpoint, StoreError> {
        let manifest = self.open_manifest(&encoded)?;
        if let Some(lacking) = self.missing(&encoded).await?.first() {
            return Err(StoreError::Damaged {
                path: self.path(lacking.at, lacking.base_offset),
                offset: lacking.from_byte,
                what: "the manifest was not pulled to its end".to_owned(),
            });
        }
        let _turn = self.io.lock().await;
        self.shelf.trusted()?;
        self.write_in_turn(1).await?;
        self.sync_pulled(&manifest.files).await?;
        self.sync().await?;
        let checkpoint = self.publish(encoded).await?;
        self.refill(&manifest.rows)?;
        let gone = {
            let mut known = self.known();
            let before = std::mem::replace(&mut known.partitions, believed(&manifest.files));
            known.pulled.clear();
            for partition in before.values() {
                self.forget_handles(partition.segments.iter());
            }
            before
        };
        let mut doomed = Vec::new();
        for (at, partition) in &gone {
            match manifest.files.get(at) {
                None => doomed.push(Doomed::Folder(self.partition_folder(*at))),
                Some(extents) => {
                    let first = extents.first().map_or(i64::MAX, |extent| extent.base);
                    let old = partition.segments.iter().filter(|it| it.base < first);
                    doomed.extend(old.map(|it| Doomed::File(self.path(*at, it.base))));
                }
            }
        }
        self.known().doomed.extend(doomed);
        self.retire(&manifest.files).await;
        Ok(checkpoint)
    }

    async fn sync_pulled(&self, files: &Files) -> Result<(), StoreError> {
        let pulled: Vec<(TopicPartition, i64)> = self.known().pulled.keys().copied().collect();
        for (at, base) in pulled.into_iter().filter(|(at, _)| files.contains_key(at)) {
            let path = self.path(at, base);
            let file =
                self.shelf.disk.open(&path, OpenMode::Write).await.map_err(io_error(&path))?;
            self.shelf.synced(file.sync().await).map_err(io_error(&path))?;
        }
        Ok(())
    }
}
