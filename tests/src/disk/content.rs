//! What one simulated file holds: bytes in view, bytes that are durable, and the changes between the two. Owns what a crash
//! leaves of unsynced changes; it never knows a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;

use super::missing::Missing;

/// A power cut tears writes at this grain.
pub(super) const SECTOR: usize = 512;
const PAGE: usize = 4096;

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) len: u64,
    /// Pages that are not all zero; view and durable content share those that are equal.
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

impl Content {
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        self.len = self.len.max(offset + data.len() as u64);
        let mut at = 0;
        while at < data.len() {
            let (page, from) = locate(offset + at as u64);
            let count = (PAGE - from).min(data.len() - at);
            let part = &data[at..at + count];
            if self.pages.contains_key(&page) || part.iter().any(|byte| *byte != 0) {
                let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
                Arc::make_mut(page)[from..from + count].copy_from_slice(part);
            }
            at += count;
        }
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let len = len.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut out = vec![0; len];
        let mut at = 0;
        while at < len {
            let (page, from) = locate(offset + at as u64);
            let count = (PAGE - from).min(len - at);
            if let Some(page) = self.pages.get(&page) {
                out[at..at + count].copy_from_slice(&page[from..from + count]);
            }
            at += count;
        }
        out
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let (page, from) = locate(len);
        if len < self.len {
            self.pages.split_off(&(page + 1));
            // What a shorter file cut off must not come back when it grows.
            if let Some(page) = self.pages.get_mut(&page) {
                Arc::make_mut(page)[from..].fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(offset, data) => self.write(*offset, data),
            Change::SetLen(len) => self.set_len(*len),
        }
    }
}

fn locate(offset: u64) -> (u64, usize) {
    let page = PAGE as u64;
    (offset / page, usize::try_from(offset % page).expect("less than a page"))
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(u64, Bytes),
    SetLen(u64),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) view: Content,
    pub(super) durable: Content,
    /// Changes not synced yet, oldest first.
    pub(super) dirty: Vec<Change>,
    /// Changes that left `dirty` through syncs: with it each change has a number.
    pub(super) drained: usize,
    /// What was written and never came to the disk.
    pub(super) missing: Missing,
    /// It has rotted.
    pub(super) rotten: bool,
}

impl Inode {
    /// A change comes to the disk.
    pub(super) fn settle(&mut self, change: &Change) {
        match change {
            Change::Write(offset, data) => {
                self.missing.arrived(&(*offset..offset + data.len() as u64));
            }
            Change::SetLen(len) if *len < self.durable.len => {
                self.missing.arrived(&(*len..u64::MAX));
            }
            Change::SetLen(_) => {}
        }
        self.durable.apply(change);
    }

    /// A change will never come to the disk.
    pub(super) fn miss(&mut self, change: &Change, generation: u64) {
        let range = match change {
            Change::Write(offset, data) => *offset..offset + data.len() as u64,
            Change::SetLen(len) => *len.min(&self.durable.len)..*len.max(&self.durable.len),
        };
        self.missing.note(range, generation);
    }

    /// Whether its first bytes, so many, are on the disk as they were written. What an earlier life failed to bring there is
    /// in view all the same, and a file may be shorter on the disk for it.
    pub(super) fn has_durable(&self, bytes: u64, generation: u64) -> bool {
        let is_behind = |change: &Change| match change {
            Change::Write(offset, _) => *offset >= bytes,
            Change::SetLen(len) => *len.min(&self.durable.len) >= bytes,
        };
        self.view.len >= bytes
            && !self.missing.is_below(bytes, generation)
            && self.dirty.iter().all(is_behind)
    }
}

pub(super) fn keep_prefix(durable: &mut Content, dirty: &[Change], rng: &mut StdRng) {
    let kept = rng.random_range(0..=dirty.len());
    for change in &dirty[..kept] {
        durable.apply(change);
    }
    if let Some(Change::Write(offset, data)) = dirty.get(kept) {
        let sectors = data.len().div_ceil(SECTOR);
        let cut = (rng.random_range(0..=sectors) * SECTOR).min(data.len());
        durable.write(*offset, &data[..cut]);
    }
}

pub(super) fn keep_some(durable: &mut Content, dirty: &[Change], rng: &mut StdRng) {
    for change in dirty {
        match change {
            Change::SetLen(_) if rng.random_bool(0.5) => durable.apply(change),
            Change::SetLen(_) => {}
            Change::Write(offset, data) => {
                for (sector, bytes) in data.chunks(SECTOR).enumerate() {
                    if rng.random_bool(0.5) {
                        durable.write(offset + (sector * SECTOR) as u64, bytes);
                    }
                }
            }
        }
    }
}
