//! Owns the bytes of one whole flush: header, list of shards, frames, zeros, list and header again (S1). A flush is
//! encoded once, straight into the buffer that goes to the disk. It never decides what goes into a flush or where it goes.

use std::collections::BTreeMap;

use bytes::Bytes;
use waymark_proto::ids::ReplicaKey;

use super::frame::{Fact, Frame};
use super::header::{FlushHeader, HEADER, Link, RANGE, ShardRange, encode_ranges, total_len};
use crate::storage::disk::AlignedBuf;

/// What a flush is stamped with, beside what follows from its frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) journal: u64,
    pub(super) epoch: u64,
    pub(super) file: u64,
    pub(super) number: u64,
    pub(super) oldest_live: u64,
    pub(super) base: Link,
}

/// A flush whose frames stand in the buffer and whose header does not yet: where it goes is decided by its length.
#[derive(Debug)]
pub(super) struct Draft {
    ranges: Vec<u8>,
    frames_len: usize,
    frame_count: usize,
    frames_crc: u32,
    /// Where each frame starts, counted from the first byte of the flush.
    pub(super) starts: Vec<u32>,
}

impl Draft {
    /// Encodes frames into the emptied buffer.
    pub(super) fn encode(frames: &[Frame], buf: &mut AlignedBuf) -> Self {
        let ranges = encode_ranges(&ranges_of(frames));
        buf.clear();
        buf.extend_zeros(HEADER + ranges.len());
        let frames_at = buf.len();
        let mut frames_crc = 0;
        let mut starts = Vec::with_capacity(frames.len());
        for frame in frames {
            starts.push(to_u32(buf.len()));
            let crc = frame.encode(buf);
            frames_crc = crc32c::crc32c_append(frames_crc, &crc.to_le_bytes());
        }
        let frames_len = buf.len() - frames_at;
        Self { ranges, frames_len, frame_count: frames.len(), frames_crc, starts }
    }

    /// Bytes that the flush takes on disk.
    pub(super) fn total_len(&self) -> u64 {
        total_len((self.ranges.len() / RANGE) as u64, self.frames_len as u64)
    }

    /// Completes the flush in the buffer.
    pub(super) fn seal(&self, stamp: Stamp, buf: &mut AlignedBuf) -> FlushHeader {
        let total = self.total_len();
        let header = FlushHeader {
            journal: stamp.journal,
            epoch: stamp.epoch,
            file: stamp.file,
            number: stamp.number,
            oldest_live: stamp.oldest_live,
            base: stamp.base,
            total_len: u32::try_from(total).expect("a flush fits its file, files are below 4 GiB"),
            frames_len: to_u32(self.frames_len),
            frame_count: to_u32(self.frame_count),
            frames_crc: self.frames_crc,
            range_count: to_u32(self.ranges.len() / RANGE),
            ranges_crc: crc32c::crc32c(&self.ranges),
        };
        let fixed = header.encode();
        let closing = HEADER + self.ranges.len();
        let zeros = header.total_len as usize - closing - buf.len();
        buf.extend_zeros(zeros);
        buf.extend_from_slice(&self.ranges);
        buf.extend_from_slice(&fixed);
        let bytes = buf.as_mut_slice();
        bytes[..HEADER].copy_from_slice(&fixed);
        bytes[HEADER..closing].copy_from_slice(&self.ranges);
        header
    }
}

fn to_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a flush fits its file, files are below 4 GiB")
}

fn ranges_of(frames: &[Frame]) -> Vec<ShardRange> {
    let mut ranges: BTreeMap<ReplicaKey, (u64, u64)> = BTreeMap::new();
    for frame in frames {
        let (first, last) = ranges.entry(frame.key).or_insert((u64::MAX, 0));
        if let Fact::Entry(entry) = &frame.fact {
            *first = (*first).min(entry.id.index);
            *last = (*last).max(entry.id.index);
        }
    }
    ranges.into_iter().map(|(key, (first, last))| ShardRange { key, first, last }).collect()
}

/// A whole flush read back, every checksum of it verified.
#[derive(Debug, Clone)]
pub(super) struct Flush {
    pub(super) header: FlushHeader,
    /// Frames with their position in the flush; payloads share the bytes that were read.
    pub(super) frames: Vec<(u32, Frame)>,
}

impl Flush {
    /// Verifies the flush that fills `bytes` exactly; `None` when anything of it is bad.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let header = FlushHeader::decode(bytes)?;
        let total = header.total_len as usize;
        if bytes.len() != total || bytes[total - HEADER..] != bytes[..HEADER] {
            return None;
        }
        let ranges = bytes.get(HEADER..header.frames_at())?;
        let closing = bytes.get(total - header.frames_at()..total - HEADER)?;
        if crc32c::crc32c(ranges) != header.ranges_crc || closing != ranges {
            return None;
        }
        let end = header.frames_at().checked_add(header.frames_len as usize)?;
        let mut rest = (end <= total).then(|| bytes.slice(header.frames_at()..end))?;
        let mut frames = Vec::new();
        let mut frames_crc = 0;
        while !rest.is_empty() {
            let (frame, crc, len) = Frame::decode(&rest)?;
            frames.push((to_u32(end - rest.len()), frame));
            frames_crc = crc32c::crc32c_append(frames_crc, &crc.to_le_bytes());
            rest = rest.slice(len..);
        }
        let whole = frames_crc == header.frames_crc && frames.len() == header.frame_count as usize;
        whole.then_some(Self { header, frames })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::tests::frame;
    use super::*;
    use crate::storage::disk::BLOCK;

    fn sealed(frames: &[Frame]) -> (FlushHeader, Vec<u8>) {
        let stamp = Stamp {
            journal: 7,
            epoch: 2,
            file: 3,
            number: 40,
            oldest_live: 1,
            base: Link { number: 39, checksum: 5 },
        };
        let mut buf = AlignedBuf::default();
        let draft = Draft::encode(frames, &mut buf);
        let header = draft.seal(stamp, &mut buf);
        (header, buf.as_slice().to_vec())
    }

    proptest! {
        #[test]
        fn a_flush_reads_back_as_it_was_written(frames in prop::collection::vec(frame(), 0..20)) {
            let (header, bytes) = sealed(&frames);
            prop_assert_eq!(bytes.len() % BLOCK, 0);
            let flush = Flush::decode(&bytes.into()).unwrap();
            prop_assert_eq!(flush.header, header);
            prop_assert_eq!(flush.frames.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>(), frames);
        }

        #[test]
        fn a_flush_that_lost_a_sector_is_refused(
            frames in prop::collection::vec(frame(), 1..20), at in any::<prop::sample::Index>(),
        ) {
            let (header, mut bytes) = sealed(&frames);
            let sector = at.index(bytes.len() / 512) * 512;
            let frames_end = header.frames_at() + header.frames_len as usize;
            let closing = bytes.len() - header.frames_at();
            bytes[sector..sector + 512].fill(0xa5);
            // Padding says nothing, so a sector of padding alone may be lost.
            prop_assume!(sector < frames_end || sector + 512 > closing);
            prop_assert!(Flush::decode(&bytes.into()).is_none());
        }

        #[test]
        fn random_bytes_behind_a_good_header_never_panic(
            frames in prop::collection::vec(frame(), 0..5), noise in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            let (_, mut bytes) = sealed(&frames);
            let end = bytes.len() - HEADER;
            for (byte, noise) in bytes[HEADER..end].iter_mut().zip(noise) {
                *byte = noise;
            }
            let _ = Flush::decode(&bytes.into());
        }
    }
}
