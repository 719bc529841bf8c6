//! Owns the look-up of a record's append time, which stands in its frame. Steps over frames by their heads alone, so that
//! asking for one record of each of many partitions does not read their batches. Never gives a batch out.

use std::sync::Arc;

use waymark_proto::ids::TopicPartition;

use super::frame::{HEAD, Head};
use super::reader::{Spot, Stretch, left, look};
use super::replica::Replica;
use super::walk::{Flaw, astray};
use crate::storage::disk::DiskFile;
use crate::storage::shard_store::StoreError;

/// Bytes of the first look into a file: a step of the offset index and the frame after it.
const FIRST_LOOK: usize = 8 << 10;
/// Each look is twice as long as the one before it, up to this: without an index the way may be long.
const LONGEST_LOOK: usize = 256 << 10;

impl Replica {
    pub(in crate::storage) async fn append_time(
        &self,
        at: TopicPartition,
        offset: i64,
    ) -> Result<Option<i64>, StoreError> {
        let stretch = match self.spot(at, offset)? {
            None => return Ok(None),
            Some(Spot::Waiting(frames)) => {
                return Ok(frames.first().map(|frame| frame.0.append_time_ms));
            }
            Some(Spot::Written(stretch)) => stretch,
        };
        let found = self.append_time_in_file(at, stretch, offset).await;
        if found.is_err() {
            // The log start may have passed it meanwhile, and its file is gone.
            self.spot(at, offset)?;
        }
        found.map_err(|error| match error {
            StoreError::Damaged { offset: position, what, .. } => {
                let flaw = Flaw { position, end: None, offset: None, what };
                self.met((at, stretch.base), flaw)
            }
            error => error,
        })
    }

    /// The append time of the last frame that begins at or before the offset.
    async fn append_time_in_file(
        &self,
        at: TopicPartition,
        stretch: Stretch,
        offset: i64,
    ) -> Result<Option<i64>, StoreError> {
        let path = self.path(at, stretch.base);
        let file = self.file_of_written((at, stretch.base)).await?;
        let mut window = Window { file, path, from: 0, bytes: bytes::Bytes::new(), asked: 0 };
        let (mut position, mut found) = (stretch.from, None);
        while position < stretch.to {
            let head = window.head(position, stretch.to).await?;
            if found.is_none() && head.base_offset != stretch.offset {
                let what = astray(head.base_offset, stretch.offset);
                return Err(window.damaged(position, what));
            }
            if head.base_offset > offset {
                break;
            }
            self.saw((at, stretch.base), head.base_offset, position);
            found = Some(head.append_time_ms);
            position += head.len;
        }
        Ok(found)
    }
}

/// The part of a file that was read last.
struct Window {
    file: Arc<dyn DiskFile>,
    path: String,
    from: u64,
    bytes: bytes::Bytes,
    /// Bytes asked for by the last look.
    asked: usize,
}

impl Window {
    /// The head of the frame at a position, read from the file if it is not at hand.
    async fn head(&mut self, position: u64, to: u64) -> Result<Head, StoreError> {
        let at_hand = |window: &Self| {
            let skipped = usize::try_from(position.checked_sub(window.from)?).ok()?;
            window.bytes.get(skipped..skipped.checked_add(HEAD)?).map(Head::read)
        };
        let head = match at_hand(self) {
            Some(head) => head,
            None => {
                self.asked = (2 * self.asked).clamp(FIRST_LOOK, LONGEST_LOOK);
                let asked = left(position, to).min(self.asked);
                self.bytes = look(&self.file, &self.path, position, asked).await?;
                self.from = position;
                Head::read(&self.bytes)
            }
        };
        head.map_err(|what| self.damaged(position, what.to_owned()))
    }

    fn damaged(&self, offset: u64, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), offset, what }
    }
}
