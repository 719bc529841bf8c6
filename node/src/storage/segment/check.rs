//! Owns the look at a whole run of frames, without giving one out: at start (what a checkpoint names must be there) and
//! before a pulled segment is installed. Never changes a file.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use waymark_proto::ids::TopicPartition;

use super::frame::{Decoded, decode};
use super::manifest::{FileExtent, Files};
use super::reader::left;
use super::replica::{Replica, io_error};
use crate::storage::disk::{DiskFile, OpenMode};
use crate::storage::shard_store::StoreError;

/// Bytes of one look.
const LOOK: usize = 1 << 20;

/// What is not as it was written, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) position: u64,
    pub(super) what: String,
}

/// A run of frames in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Its first byte, where a frame begins.
    pub(super) from: u64,
    /// The byte after its last one, where a frame ends.
    pub(super) to: u64,
    /// The offset at `from`, if it is known.
    pub(super) first: Option<i64>,
    /// The offset at `to`.
    pub(super) next: i64,
}

/// A frame that stands where another offset belongs, though its checksum is right: a write that went astray.
pub(super) fn astray(found: i64, expected: i64) -> String {
    format!("offset {found} stands where {expected} must")
}

impl Run {
    /// Reads all of it. `Ok(Err(…))`: the first flaw.
    async fn check(
        self,
        file: &Arc<dyn DiskFile>,
        mut saw: impl FnMut(i64, u64),
    ) -> std::io::Result<Result<(), Flaw>> {
        let (mut position, mut expected, mut least) = (self.from, self.first, LOOK);
        while position < self.to {
            let left = left(position, self.to);
            let asked = least.min(left);
            let bytes = file.read_at(position, asked).await?;
            let mut used = 0;
            let flaw = |used: usize, what: &str| {
                let position = position + used as u64;
                Ok(Err(Flaw { position, what: what.to_owned() }))
            };
            loop {
                match decode(&bytes[used..]) {
                    Decoded::Whole(stored) => {
                        let found = stored.place.base_offset;
                        if let Some(expected) = expected.filter(|it| *it != found) {
                            return flaw(used, &astray(found, expected));
                        }
                        saw(found, position + used as u64);
                        expected = Some(stored.place.next_offset);
                        used += stored.len;
                    }
                    Decoded::Short(need) if used < left && need > left - used => {
                        return flaw(used, "it ends inside a frame");
                    }
                    Decoded::Short(need) => {
                        least = need.max(LOOK);
                        break;
                    }
                    Decoded::Damaged(what) => return flaw(used, what),
                }
            }
            if used == 0 && bytes.len() < asked {
                return flaw(0, "it is shorter than what was written");
            }
            position += used as u64;
        }
        match expected.filter(|it| *it != self.next) {
            Some(found) => Ok(Err(Flaw { position: self.to, what: astray(found, self.next) })),
            None => Ok(Ok(())),
        }
    }
}

impl Replica {
    /// Whether a run of a segment is what was written.
    pub(super) async fn flaw_in(
        &self,
        (at, base): (TopicPartition, i64),
        run: Run,
    ) -> Result<Option<Flaw>, StoreError> {
        let path = self.path(at, base);
        let file = self.shelf.disk.open(&path, OpenMode::Read).await.map_err(io_error(&path))?;
        let saw = |offset, position| self.saw((at, base), offset, position);
        let outcome = run.check(&file, saw).await.map_err(io_error(&path))?;
        Ok(outcome.err())
    }

    /// Reads the newest segments before anything is believed of them, as far as the node's budget goes: damage is told at
    /// start rather than to a reader. What lies beyond the budget is checked when it is read.
    pub(super) async fn check_newest(&self, files: &Files) -> Result<(), StoreError> {
        let mut aged: Vec<(usize, TopicPartition, &FileExtent)> = Vec::new();
        for (at, extents) in files {
            aged.extend(extents.iter().rev().enumerate().map(|(age, it)| (age, *at, it)));
        }
        aged.sort_by_key(|(age, at, _)| (*age, *at));
        for (_, at, extent) in aged {
            let budget = &self.shelf.check_at_start;
            let less = |left: u64| left.checked_sub(extent.bytes);
            if budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
                continue;
            }
            let first = Some(extent.base);
            let run = Run { from: 0, to: extent.bytes, first, next: extent.next };
            if let Some(Flaw { position, what }) = self.flaw_in((at, extent.base), run).await? {
                let path = self.path(at, extent.base);
                return Err(StoreError::Damaged { path, offset: position, what });
            }
        }
        Ok(())
    }
}
