//! Owns reading: whole batches from an offset on, every frame's checksum checked before its batch is given out (G6). Never
//! changes a file.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::task::yield_now;
use waymark_proto::ids::TopicPartition;

use super::frame::{Frame, Place, batch_len};
use super::replica::{Replica, io_error};
use super::walk::{Flaw, Run, Step, Walk};
use crate::mutants;
use crate::state::FRAME_OVERHEAD;
use crate::storage::disk::{DiskFile, OpenMode};
use crate::storage::shard_store::{ReadBatches, StoreError};

/// Least bytes of one look into a file.
const LOOK: usize = 64 << 10;
/// Bytes of one step through a range.
const STEP: usize = 1 << 20;
/// Bytes of a digest after which whoever else waits for this thread has a turn, heartbeats first of all: a tenth of a
/// millisecond.
const TURN: usize = 64 << 10;

/// Where a read goes on.
pub(super) enum Spot {
    /// In memory: all that waits from the offset on.
    Waiting(Vec<Frame>),
    /// In a file.
    Written(Stretch),
}

/// Bytes of the segment with this base, between two positions; at the first one stands the batch with this offset.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    pub(super) base: i64,
    pub(super) offset: i64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// What a read has gathered.
struct Gathered {
    bytes: BytesMut,
    next: i64,
    limit: i64,
    most: usize,
}

impl Gathered {
    /// Takes a batch if it belongs; `false`: the read is over.
    fn take(&mut self, place: Place, pieces: &[&[u8]]) -> bool {
        if place.next_offset <= self.next {
            return true;
        }
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let full = !self.bytes.is_empty() && self.bytes.len() + len > self.most;
        if full || place.base_offset >= self.limit {
            return false;
        }
        pieces.iter().for_each(|piece| self.bytes.put_slice(piece));
        self.next = place.next_offset;
        self.next < self.limit
    }
}

impl Replica {
    pub(in crate::storage) async fn read(
        &self,
        at: TopicPartition,
        offset: i64,
        limit: i64,
        most: usize,
    ) -> Result<ReadBatches, StoreError> {
        let mut gathered = Gathered { bytes: BytesMut::new(), next: offset, limit, most };
        let mut more = offset < limit;
        while more {
            more = match self.spot(at, gathered.next)? {
                None => false,
                Some(Spot::Waiting(frames)) => frames.iter().all(|frame| {
                    let place = Place {
                        base_offset: frame.0.base_offset,
                        next_offset: frame.0.next_offset,
                        max_timestamp: frame.0.max_timestamp,
                    };
                    gathered.take(place, &[&frame.0.stamp, &frame.0.body])
                }),
                Some(Spot::Written(stretch)) => {
                    let before = gathered.next;
                    let outcome = self.read_file(at, stretch, &mut gathered).await;
                    if outcome.is_err() {
                        // The log start may have passed it meanwhile, and its file is gone.
                        self.spot(at, before)?;
                    }
                    let goes_on = outcome?;
                    if goes_on && gathered.next == before {
                        let what = format!("offset {before} is not where it must be");
                        let (position, offset) = (stretch.from, Some(stretch.offset));
                        let flaw = Flaw { position, end: None, offset, what };
                        return Err(self.met((at, stretch.base), flaw));
                    }
                    goes_on
                }
            };
        }
        Ok(ReadBatches { bytes: gathered.bytes.freeze(), next_offset: gathered.next })
    }

    /// Where an offset stands; `None` at the end.
    pub(super) fn spot(&self, at: TopicPartition, offset: i64) -> Result<Option<Spot>, StoreError> {
        let known = self.known();
        let Some(partition) = known.partitions.get(&at) else {
            return Err(StoreError::NoPartition(at));
        };
        let (start, end) = partition.extent();
        if offset < start || offset > end {
            return Err(StoreError::OutOfRange { offset, start, end });
        }
        let Some(segment) = partition.holding(offset) else { return Ok(None) };
        let waits = segment.pending.front().is_some_and(|it| it.0.base_offset <= offset);
        if waits {
            let from = segment.pending.partition_point(|it| it.0.next_offset <= offset);
            return Ok(Some(Spot::Waiting(segment.pending.range(from..).cloned().collect())));
        }
        let (offset, from) = segment.begin_before(offset);
        let stretch = Stretch { base: segment.base, offset, from, to: segment.written };
        Ok(Some(Spot::Written(stretch)))
    }

    /// Reads on in a file; `false`: the read is over.
    async fn read_file(
        &self,
        at: TopicPartition,
        Stretch { base, offset, from, to }: Stretch,
        gathered: &mut Gathered,
    ) -> Result<bool, StoreError> {
        let key = (at, base);
        let file = self.file_of_written(key).await?;
        let mut walk = Walk::new(file, Run { from, to, first: Some(offset) }, LOOK);
        loop {
            let room = gathered.most.saturating_sub(gathered.bytes.len()).min(STEP);
            walk.look_for(room.max(LOOK));
            match walk.step().await.map_err(io_error(&self.path(at, base)))? {
                Step::Frame(frame) => {
                    self.saw(key, frame.place.base_offset, frame.position);
                    if !gathered.take(frame.place, &[&frame.bytes[FRAME_OVERHEAD..]]) {
                        return Ok(false);
                    }
                }
                Step::Flaw(flaw) => return Err(self.met(key, flaw)),
                Step::End => return Ok(true),
            }
        }
    }

    /// The file of a segment of which something was written: it must be there.
    pub(super) async fn file_of_written(
        &self,
        (at, base): (TopicPartition, i64),
    ) -> Result<Arc<dyn DiskFile>, StoreError> {
        match self.file(at, base, OpenMode::Read).await {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Err(self.missing_file((at, base)))
            }
            file => file,
        }
    }

    pub(super) fn saw(&self, (at, base): (TopicPartition, i64), offset: i64, position: u64) {
        let mut known = self.known();
        let segment = known.partitions.get_mut(&at).and_then(|it| it.segment_mut(base));
        if let Some(segment) = segment {
            segment.saw(offset, position, self.shelf.options.index_interval_bytes);
        }
    }

    pub(in crate::storage) async fn batch_at_time(
        &self,
        at: TopicPartition,
        time_ms: i64,
        limit: i64,
    ) -> Result<Option<Bytes>, StoreError> {
        let segments = self.segments(at);
        for segment in segments.iter().filter(|it| it.max_timestamp >= time_ms) {
            let mut offset = segment.base_offset;
            let end = segment.next_offset.min(limit);
            while offset < end {
                let read = self.read(at, offset, end, STEP).await?;
                let late = batches(&read.bytes).find(|batch| {
                    Place::of(batch).is_some_and(|place| place.max_timestamp >= time_ms)
                });
                if late.is_some() {
                    return Ok(late);
                }
                offset = read.next_offset;
            }
        }
        Ok(None)
    }

    /// FNV-1a over 128 bits: equal for equal bytes, which is all that is asked of it between replicas of one cluster.
    pub(in crate::storage) async fn digest(
        &self,
        at: TopicPartition,
        from: i64,
        to: i64,
    ) -> Result<[u8; 16], StoreError> {
        const START: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        // A digest of less than was asked for is none: it would tell of a difference where there is a delay.
        if from < to && !mutants::planted!("digest-of-less") {
            self.spot(at, to)?;
        }
        let (mut hash, mut offset, mut in_turn) = (START, from, 0);
        while offset < to {
            let read = self.read(at, offset, to, STEP).await?;
            for batch in batches(&read.bytes) {
                let inside = Place::of(&batch)
                    .is_some_and(|place| place.base_offset >= from && place.next_offset <= to);
                if !inside {
                    continue;
                }
                for byte in &batch {
                    hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
                }
                in_turn += batch.len();
                if in_turn >= TURN {
                    in_turn = 0;
                    yield_now().await;
                }
            }
            if read.next_offset <= offset {
                break;
            }
            offset = read.next_offset;
        }
        Ok(hash.to_be_bytes())
    }
}

/// Bytes from a position on.
pub(super) fn left(position: u64, to: u64) -> usize {
    usize::try_from(to.saturating_sub(position)).unwrap_or(usize::MAX)
}

pub(super) async fn look(
    file: &Arc<dyn DiskFile>,
    path: &str,
    position: u64,
    asked: usize,
) -> Result<Bytes, StoreError> {
    let bytes = file.read_at(position, asked).await.map_err(io_error(path))?;
    if bytes.is_empty() {
        let what = "it is shorter than what was written".to_owned();
        return Err(StoreError::Damaged { path: path.to_owned(), offset: position, what });
    }
    Ok(bytes)
}

/// Whole batches, one after the other.
fn batches(bytes: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        let len = batch_len(&bytes[from..])?;
        let batch = bytes.get(from..from + len)?;
        from += len;
        Some(bytes.slice_ref(batch))
    })
}
