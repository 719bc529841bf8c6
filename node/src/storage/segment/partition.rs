//! Owns what is known of a partition's segments: their extent, what waits to be written, and where offsets stand. Never
//! waits and never touches a file.

use std::collections::VecDeque;
use std::sync::Arc;

use super::frame::Frame;
use crate::reached::reached;
use crate::state::StampedBatch;
use crate::storage::disk::DiskFile;
use crate::storage::shard_store::SegmentInfo;

/// Where a batch begins.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: i64,
    position: u64,
}

/// One file: `durable ≤ written ≤ bytes`; what lies between the last two is `pending`, in order.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) base: i64,
    pub(super) next: i64,
    /// Bytes with what is pending.
    pub(super) bytes: u64,
    /// Bytes in the file.
    pub(super) written: u64,
    /// Bytes that a sync covers. Rises only after a sync that began when they were written.
    pub(super) durable: u64,
    pub(super) max_timestamp: i64,
    pub(super) sealed: bool,
    pub(super) pending: VecDeque<Frame>,
    /// Open, if it is one of those that are kept open.
    pub(super) file: Option<Arc<dyn DiskFile>>,
    /// Sparse, rising; grows with what is written and with what is read.
    marks: Vec<Mark>,
}

impl Segment {
    pub(super) fn stored(base: i64, (next, bytes): (i64, u64), max_timestamp: i64) -> Self {
        Self { base, next, bytes, written: bytes, durable: bytes, max_timestamp, ..Self::default() }
    }

    fn append(&mut self, frame: Frame) {
        self.next = frame.0.next_offset;
        self.bytes += frame.len();
        self.max_timestamp = self.max_timestamp.max(frame.0.max_timestamp);
        self.pending.push_back(frame);
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.bytes - self.written
    }

    /// The first frames that wait, about `most` bytes of them.
    pub(super) fn next_write(&self, most: u64) -> Vec<Frame> {
        let mut bytes = 0;
        let frames = self.pending.iter().take_while(|frame| {
            let fits = bytes < most;
            bytes += frame.len();
            fits
        });
        frames.cloned().collect()
    }

    /// So many of the first frames that waited are in the file now; returns their bytes.
    pub(super) fn wrote(&mut self, frames: usize, interval: usize) -> u64 {
        let before = self.written;
        for frame in self.pending.drain(..frames.min(self.pending.len())) {
            let position = self.written;
            self.written += frame.len();
            mark(&mut self.marks, (frame.0.base_offset, position), interval);
        }
        self.written - before
    }

    /// A batch was seen at a position.
    pub(super) fn saw(&mut self, offset: i64, position: u64, interval: usize) {
        mark(&mut self.marks, (offset, position), interval);
    }

    /// The offset after the last record in the file.
    pub(super) fn written_next(&self) -> i64 {
        self.pending.front().map_or(self.next, |frame| frame.0.base_offset)
    }

    /// Where a batch is known to begin, at or before a byte: its position and its first offset.
    pub(super) fn begin_at_or_before(&self, position: u64) -> (u64, i64) {
        let after = self.marks.partition_point(|mark| mark.position <= position);
        let mark = after.checked_sub(1).and_then(|at| self.marks.get(at));
        mark.map_or((0, self.base), |mark| (mark.position, mark.offset))
    }

    /// Where the next batch is known to begin after a byte, or where the file ends.
    pub(super) fn begin_after(&self, position: u64) -> (u64, i64) {
        let after = self.marks.partition_point(|mark| mark.position <= position);
        let mark = self.marks.get(after);
        mark.map_or((self.written, self.written_next()), |mark| (mark.position, mark.offset))
    }

    /// Where a batch begins, at or before the one that holds an offset: its first offset and its position.
    pub(super) fn begin_before(&self, offset: i64) -> (i64, u64) {
        let after = self.marks.partition_point(|mark| mark.offset <= offset);
        let mark = after.checked_sub(1).and_then(|at| self.marks.get(at));
        mark.map_or((self.base, 0), |mark| (mark.offset, mark.position))
    }
}

fn mark(marks: &mut Vec<Mark>, (offset, position): (i64, u64), interval: usize) {
    if marks.last().is_none_or(|last| position >= last.position + interval as u64) {
        marks.push(Mark { offset, position });
    }
}

/// The segments of one partition, oldest first, without gaps.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) segments: VecDeque<Segment>,
    /// Its shard closed it: the files go after the next checkpoint.
    pub(super) closed: bool,
}

impl Partition {
    pub(super) fn append(&mut self, batch: StampedBatch) {
        let fresh = batch.starts_segment || self.segments.is_empty();
        if fresh {
            if let Some(last) = self.segments.back_mut() {
                last.sealed = true;
                reached!("segment-roll");
            }
            let base = batch.base_offset;
            self.segments.push_back(Segment { base, next: base, ..Segment::default() });
        }
        if let Some(last) = self.segments.back_mut() {
            last.append(Frame(batch));
        }
    }

    pub(super) fn segment(&self, base: i64) -> Option<&Segment> {
        let at = self.segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        self.segments.get(at)
    }

    pub(super) fn segment_mut(&mut self, base: i64) -> Option<&mut Segment> {
        let at = self.segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        self.segments.get_mut(at)
    }

    /// The segment that holds an offset.
    pub(super) fn holding(&self, offset: i64) -> Option<&Segment> {
        let after = self.segments.partition_point(|segment| segment.base <= offset);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (offset < segment.next).then_some(segment)
    }

    /// First offset, and the offset after the last one.
    pub(super) fn extent(&self) -> (i64, i64) {
        let start = self.segments.front().map_or(0, |segment| segment.base);
        (start, self.segments.back().map_or(start, |segment| segment.next))
    }

    pub(super) fn infos(&self) -> Vec<SegmentInfo> {
        let info = |segment: &Segment| SegmentInfo {
            base_offset: segment.base,
            next_offset: segment.next,
            bytes: segment.bytes,
            max_timestamp: segment.max_timestamp,
            sealed: segment.sealed,
        };
        self.segments.iter().map(info).collect()
    }
}
