//! Owns the look at a whole run of frames, without giving one out: at start (what a checkpoint names must be there), before
//! a pulled segment is installed, and where a scrub passes. Never changes a file.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use waymark_proto::ids::TopicPartition;

use super::manifest::{FileExtent, Files};
use super::replica::{Replica, io_error};
use super::walk::{Flaw, Run, Step, Walk, astray};
use crate::storage::disk::{DiskFile, OpenMode};
use crate::storage::shard_store::StoreError;

/// Bytes of one look.
const LOOK: usize = 1 << 20;

impl Run {
    /// Reads all of it, up to an end where this offset follows. `Ok(Err(…))`: the first flaw.
    async fn check(
        self,
        file: &Arc<dyn DiskFile>,
        next: i64,
        mut saw: impl FnMut(i64, u64),
    ) -> std::io::Result<Result<(), Flaw>> {
        let mut walk = Walk::new(Arc::clone(file), self, LOOK);
        loop {
            match walk.step().await? {
                Step::Frame(frame) => saw(frame.place.base_offset, frame.position),
                Step::Flaw(flaw) => return Ok(Err(flaw)),
                Step::End => break,
            }
        }
        let (position, expected) = walk.place();
        match expected.filter(|it| *it != next) {
            Some(found) => {
                let what = astray(found, next);
                Ok(Err(Flaw { position, end: None, offset: Some(next), what }))
            }
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
        next: i64,
    ) -> Result<Option<Flaw>, StoreError> {
        let path = self.path(at, base);
        let file = self.shelf.disk.open(&path, OpenMode::Read).await.map_err(io_error(&path))?;
        let saw = |offset, position| self.saw((at, base), offset, position);
        let outcome = run.check(&file, next, saw).await.map_err(io_error(&path))?;
        Ok(outcome.err())
    }

    /// Reads the newest segments before anything is believed of them, as far as the node's budget goes: damage is known
    /// before a reader meets it. What lies beyond the budget is checked when it is read.
    pub(super) async fn check_newest(&self, files: &Files) -> Result<(), StoreError> {
        let mut aged: Vec<(usize, TopicPartition, &FileExtent)> = Vec::new();
        for (at, extents) in files {
            aged.extend(extents.iter().rev().enumerate().map(|(age, it)| (age, *at, it)));
        }
        aged.sort_by_key(|(age, at, _)| (*age, *at));
        for (_, at, extent) in aged {
            let budget = &self.shelf.check_at_start;
            let less = |left: u64| left.checked_sub(extent.bytes);
            let spent = budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
            if spent && !self.is_damaged(at, extent.base) {
                let run = Run { from: 0, to: extent.bytes, first: Some(extent.base) };
                if let Some(flaw) = self.flaw_in((at, extent.base), run, extent.next).await? {
                    self.note_damage((at, extent.base), flaw);
                }
            }
        }
        Ok(())
    }
}
