//! Owns the bytes of a segment: each batch in a frame with its Raft position, append time and a checksum (S8). Never touches
//! a file.
//!
//! ```text
//! length of the batch 4 │ CRC32C 4 │ index 8 │ term 8 │ append time 8 │ stamp 21 │ body …      little-endian
//!                                                                      └──── batch ────┘
//! ```
//!
//! The frame's checksum covers the frame's own fields and the batch's first 21 bytes, its stamp. The stamp ends with the
//! batch's own checksum, which the producer made over the body and the broker verified: that one guards the body, so that
//! no byte is summed twice on its way to the disk. Together they cover every bit.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::mutants;
use crate::state::{FRAME_OVERHEAD, STAMP_LEN, StampedBatch};

/// A batch of format 2 has at least its header.
const SMALLEST_BATCH: usize = 61;
const CRC_AT: usize = 4;
const CRC_END: usize = 8;

/// A batch that waits to be written. A clone shares the bytes.
#[derive(Debug, Clone)]
pub(super) struct Frame(pub(super) StampedBatch);

impl Frame {
    /// Bytes in the file.
    pub(super) fn len(&self) -> u64 {
        (FRAME_OVERHEAD + self.0.batch_len()) as u64
    }

    /// Writes what stands before the body: the frame's own fields and the batch's stamp.
    fn put_head(&self, head: &mut BytesMut) {
        let batch = &self.0;
        head.put_u32_le(u32::try_from(batch.batch_len()).unwrap_or(u32::MAX));
        head.put_u32_le(0);
        head.put_u64_le(batch.index);
        head.put_u64_le(batch.term);
        head.put_i64_le(batch.append_time_ms);
        let crc = checksum(head, &batch.stamp);
        head[CRC_AT..CRC_END].copy_from_slice(&crc.to_le_bytes());
        head.put_slice(&batch.stamp);
    }
}

/// The pieces that stand in the file one after the other. A write of many small batches has one allocation for all heads.
pub(super) fn pieces(frames: &[Frame]) -> Vec<Bytes> {
    let mut heads = BytesMut::with_capacity(frames.len() * (FRAME_OVERHEAD + STAMP_LEN));
    let mut pieces = Vec::with_capacity(2 * frames.len());
    for frame in frames {
        // Empty each time: what was split off is no longer in it.
        frame.put_head(&mut heads);
        pieces.push(heads.split().freeze());
        pieces.push(frame.0.body.clone());
    }
    pieces
}

fn checksum(head: &[u8], stamp: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&head[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &head[CRC_END..FRAME_OVERHEAD]);
    crc32c::crc32c_append(crc, stamp)
}

/// Whether the body is what the batch's own checksum, the last four bytes of the stamp, says.
fn is_whole(stamp: &[u8], body: &[u8]) -> bool {
    stamp.ends_with(&crc32c::crc32c(body).to_be_bytes())
}

/// What stands at a position of a segment.
#[derive(Debug)]
pub(super) enum Decoded {
    /// A frame.
    Whole(Stored),
    /// A frame of so many bytes begins here; these are fewer.
    Short(usize),
    /// Not what was written.
    Damaged(&'static str),
}

/// A frame read back, its checksum good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    /// Bytes of the frame.
    pub(super) len: usize,
    /// Where it stands.
    pub(super) place: Place,
}

/// What a batch's header says of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base_offset: i64,
    pub(super) next_offset: i64,
    pub(super) max_timestamp: i64,
}

impl Place {
    /// From the header of a stored batch.
    pub(super) fn of(batch: &[u8]) -> Option<Self> {
        let base_offset = i64::from_be_bytes(batch.get(..8)?.try_into().ok()?);
        let last = i32::from_be_bytes(batch.get(23..27)?.try_into().ok()?);
        let max_timestamp = i64::from_be_bytes(batch.get(35..43)?.try_into().ok()?);
        let next_offset = base_offset.checked_add(i64::from(last))?.checked_add(1)?;
        Some(Self { base_offset, next_offset, max_timestamp })
    }
}

/// The whole length of the batch that begins here, from its own header.
pub(super) fn batch_len(batches: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(batches.get(8..12)?.try_into().ok()?);
    usize::try_from(length).ok()?.checked_add(12)
}

/// Bytes of a frame that its own checksum covers: its fields, and the batch's stamp.
pub(super) const HEAD: usize = FRAME_OVERHEAD + STAMP_LEN;

/// What the beginning of a frame says: enough to step over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the whole frame.
    pub(super) len: u64,
    /// The first offset of its batch.
    pub(super) base_offset: i64,
    /// When its entry was proposed.
    pub(super) append_time_ms: i64,
}

impl Head {
    /// Reads the first [`HEAD`] bytes of a frame. The body is neither needed nor looked at.
    pub(super) fn read(frame: &[u8]) -> Result<Self, &'static str> {
        let Some((head, rest)) = frame.split_at_checked(FRAME_OVERHEAD) else {
            return Err("it ends inside a frame");
        };
        let Some(stamp) = rest.get(..STAMP_LEN) else { return Err("it ends inside a frame") };
        let mut fields = head;
        let (len, crc) = (fields.get_u32_le(), fields.get_u32_le());
        let _index_and_term = fields.get_u128_le();
        let append_time_ms = fields.get_i64_le();
        if checksum(head, stamp) != crc && !mutants::planted!("damage-is-served") {
            return Err("a checksum");
        }
        let len = FRAME_OVERHEAD as u64 + u64::from(len);
        let mut stamp = stamp;
        Ok(Self { len, base_offset: stamp.get_i64(), append_time_ms })
    }
}

/// Reads the frame at the beginning of `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let Some((head, rest)) = bytes.split_at_checked(FRAME_OVERHEAD) else {
        return Decoded::Short(FRAME_OVERHEAD);
    };
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let Ok(len) = usize::try_from(word(0)) else { return Decoded::Damaged("a length") };
    if len < SMALLEST_BATCH {
        return Decoded::Damaged("a length that no batch has");
    }
    let Some(stamp) = rest.get(..STAMP_LEN) else { return Decoded::Short(HEAD) };
    let unchecked = mutants::planted!("damage-is-served");
    // Before the length is believed: it says how much is read next.
    if checksum(head, stamp) != word(CRC_AT) && !unchecked {
        return Decoded::Damaged("a checksum");
    }
    let Some(batch) = rest.get(..len) else { return Decoded::Short(FRAME_OVERHEAD + len) };
    if !is_whole(stamp, &batch[STAMP_LEN..]) && !unchecked {
        return Decoded::Damaged("a checksum");
    }
    match Place::of(batch) {
        Some(place) => Decoded::Whole(Stored { len: FRAME_OVERHEAD + len, place }),
        None => Decoded::Damaged("offsets that cannot be"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use waymark_proto::ids::TopicPartition;

    use super::*;

    /// A batch of `count` records at an offset.
    pub(in crate::storage::segment) fn batch(
        base_offset: i64,
        count: i32,
        body: usize,
    ) -> StampedBatch {
        let mut whole = vec![0; SMALLEST_BATCH + body];
        let length = i32::try_from(whole.len() - 12).unwrap();
        whole[..8].copy_from_slice(&base_offset.to_be_bytes());
        whole[8..12].copy_from_slice(&length.to_be_bytes());
        whole[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        whole[35..43].copy_from_slice(&(base_offset * 10).to_be_bytes());
        let crc = crc32c::crc32c(&whole[STAMP_LEN..]);
        whole[17..STAMP_LEN].copy_from_slice(&crc.to_be_bytes());
        StampedBatch {
            at: TopicPartition::default(),
            base_offset,
            next_offset: base_offset + i64::from(count),
            max_timestamp: base_offset * 10,
            append_time_ms: 7,
            index: 3,
            term: 2,
            starts_segment: base_offset == 0,
            stamp: whole[..21].try_into().unwrap(),
            body: Bytes::copy_from_slice(&whole[21..]),
        }
    }

    fn bytes(batch: StampedBatch) -> Vec<u8> {
        pieces(&[Frame(batch)]).concat()
    }

    #[test]
    fn a_frame_reads_back_what_was_written() {
        let written = bytes(batch(5, 3, 40));
        assert_eq!(written.len() as u64, Frame(batch(5, 3, 40)).len());
        let Decoded::Whole(stored) = decode(&written) else { panic!("not whole") };
        assert_eq!(stored.place, Place { base_offset: 5, next_offset: 8, max_timestamp: 50 });
        let batch = &written[FRAME_OVERHEAD..];
        assert_eq!(batch_len(batch), Some(batch.len()));
        assert_eq!(stored.len, written.len());
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let written = bytes(batch(5, 3, 40));
        for bit in 0..written.len() * 8 {
            let mut changed = written.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&changed), Decoded::Whole(_)), "bit {bit}");
        }
    }

    #[test]
    fn the_head_of_a_frame_is_read_without_its_body() {
        let written = bytes(batch(5, 3, 40));
        let head = Head::read(&written[..HEAD]).unwrap();
        let len = written.len() as u64;
        assert_eq!(head, Head { len, base_offset: 5, append_time_ms: 7 });
        for bit in 0..HEAD * 8 {
            let mut changed = written.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::read(&changed).is_err(), "bit {bit}");
        }
        assert!(Head::read(&written[..HEAD - 1]).is_err());
    }

    #[test]
    fn a_frame_that_is_cut_says_how_long_it_is() {
        let written = bytes(batch(5, 3, 40));
        assert!(matches!(decode(&written[..10]), Decoded::Short(32)));
        assert!(matches!(decode(&written[..40]), Decoded::Short(HEAD)));
        let Decoded::Short(len) = decode(&written[..60]) else { panic!("not short") };
        assert_eq!(len, written.len());
        let mut damaged = written[..60].to_vec();
        damaged[2] ^= 1;
        assert!(
            matches!(decode(&damaged), Decoded::Damaged(_)),
            "a length is not believed unchecked"
        );
    }
}
