//! Owns the bytes of a flush header: who wrote the flush, what it follows, how long it is and whose entries it holds.
//! It never looks at frames.
//!
//! The header stands at the first byte of a flush, followed by its list of shards; the same list and the same header
//! close the flush, ending with its last byte, so that either of the two survives damage to the other.

use waymark_proto::ids::{ReplicaKey, ShardId};

use super::frame::{u32_at, u64_at};
use crate::storage::disk::BLOCK;

/// Bytes of a header without its list of shards. Twice this, two list rows and an entry of 3.8 kB fit one block.
pub(super) const HEADER: usize = 96;
/// Bytes of one row of the list of shards.
pub(super) const RANGE: usize = 24;

const MAGIC: [u8; 8] = *b"WAYMARKJ";
/// Of everything in a flush. A file that begins with a higher one is refused, so an older program never takes what a newer
/// one wrote for nothing.
pub(super) const VERSION: u16 = 1;
pub(super) const CRC_AT: usize = HEADER - 4;

/// One flush, named by its number and proven by the checksum of its header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// The flush's number; 0 for "before the first one".
    pub(super) number: u64,
    /// CRC32C of its header.
    pub(super) checksum: u32,
}

/// The part of one shard's log that a flush holds. `first > last` when it holds no entry, only a vote or a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardRange {
    /// Whose log.
    pub(super) key: ReplicaKey,
    /// Lowest index inside.
    pub(super) first: u64,
    /// Highest index inside.
    pub(super) last: u64,
}

/// What a flush says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FlushHeader {
    /// Drawn once per data directory: flushes of another journal never count.
    pub(super) journal: u64,
    /// Raised at every start.
    pub(super) epoch: u64,
    /// Number of the file; a recycled file gets a new one, so what it held before never counts.
    pub(super) file: u64,
    /// Number of the flush.
    pub(super) number: u64,
    /// The lowest file number that recovery needs.
    pub(super) oldest_live: u64,
    /// The flush that this one follows. Whatever was written between the two is contained in this one: normally nothing,
    /// after a restart the last flush found (S2).
    pub(super) base: Link,
    /// Bytes of the whole flush, a multiple of `BLOCK`.
    pub(super) total_len: u32,
    /// Bytes of all frames.
    pub(super) frames_len: u32,
    /// Number of frames.
    pub(super) frame_count: u32,
    /// CRC32C over the checksums of all frames in their order: every byte is summed once, none is left out.
    pub(super) frames_crc: u32,
    /// Rows in the list of shards.
    pub(super) range_count: u32,
    /// CRC32C over the list of shards.
    pub(super) ranges_crc: u32,
}

impl FlushHeader {
    /// The header's bytes, its checksum last.
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let words = [self.journal, self.epoch, self.file, self.number, self.oldest_live];
        for (word, at) in words.iter().zip((12..).step_by(8)) {
            out[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        out[52..60].copy_from_slice(&self.base.number.to_le_bytes());
        let words = [
            self.base.checksum,
            self.total_len,
            self.frames_len,
            self.frame_count,
            self.frames_crc,
            self.range_count,
            self.ranges_crc,
        ];
        for (word, at) in words.iter().zip((60..).step_by(4)) {
            out[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in the first bytes of `bytes`, when it is whole, undamaged and makes sense.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        if bytes[..8] != MAGIC
            || bytes[8..10] != VERSION.to_le_bytes()
            || crc32c::crc32c(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT)
        {
            return None;
        }
        let header = Self {
            journal: u64_at(bytes, 12),
            epoch: u64_at(bytes, 20),
            file: u64_at(bytes, 28),
            number: u64_at(bytes, 36),
            oldest_live: u64_at(bytes, 44),
            base: Link { number: u64_at(bytes, 52), checksum: u32_at(bytes, 60) },
            total_len: u32_at(bytes, 64),
            frames_len: u32_at(bytes, 68),
            frame_count: u32_at(bytes, 72),
            frames_crc: u32_at(bytes, 76),
            range_count: u32_at(bytes, 80),
            ranges_crc: u32_at(bytes, 84),
        };
        let expected = total_len(header.range_count.into(), header.frames_len.into());
        (u64::from(header.total_len) == expected).then_some(header)
    }

    /// The format version of a flush that a newer version of the program wrote, when such a one begins here. A header
    /// that is whole as soon as it says our version is ours and rotten there: damage, which `decode` refuses.
    pub(super) fn newer_version(bytes: &[u8]) -> Option<u16> {
        let mut header: [u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        let version = u16::from_le_bytes([header[8], header[9]]);
        if header[..8] != MAGIC || version <= VERSION {
            return None;
        }
        header[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let ours = crc32c::crc32c(&header[..CRC_AT]) == u32_at(&header, CRC_AT);
        (!ours).then_some(version)
    }

    /// How the next flush refers to this one.
    pub(super) fn link(&self) -> Link {
        Link { number: self.number, checksum: u32_at(&self.encode(), CRC_AT) }
    }

    /// Bytes in front of the first frame.
    pub(super) fn frames_at(&self) -> usize {
        HEADER + self.range_count as usize * RANGE
    }
}

/// Bytes of a flush with so many shards and so many bytes of frames.
pub(super) fn total_len(ranges: u64, frames_len: u64) -> u64 {
    (2 * (HEADER as u64 + ranges * RANGE as u64) + frames_len).next_multiple_of(BLOCK as u64)
}

/// The list of shards.
pub(super) fn encode_ranges(ranges: &[ShardRange]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ranges.len() * RANGE);
    for range in ranges {
        out.extend_from_slice(&range.key.shard.0.to_le_bytes());
        out.extend_from_slice(&range.key.incarnation.to_le_bytes());
        out.extend_from_slice(&range.first.to_le_bytes());
        out.extend_from_slice(&range.last.to_le_bytes());
    }
    out
}

/// The list of shards that a header vouches for; `None` when the bytes are not that list.
pub(super) fn decode_ranges(header: &FlushHeader, bytes: &[u8]) -> Option<Vec<ShardRange>> {
    let whole = bytes.len() == header.range_count as usize * RANGE
        && crc32c::crc32c(bytes) == header.ranges_crc;
    let row = |row: &[u8]| ShardRange {
        key: ReplicaKey { shard: ShardId(u32_at(row, 0)), incarnation: u32_at(row, 4) },
        first: u64_at(row, 8),
        last: u64_at(row, 16),
    };
    whole.then(|| bytes.chunks_exact(RANGE).map(row).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn header()(
            words in any::<[u64; 6]>(), checksum in any::<u32>(), frames_len in 0_u32..1 << 30,
            range_count in 0_u32..1000, rest in any::<[u32; 3]>(),
        ) -> FlushHeader {
            let total = total_len(range_count.into(), frames_len.into());
            FlushHeader {
                journal: words[0], epoch: words[1], file: words[2], number: words[3], oldest_live: words[4],
                base: Link { number: words[5], checksum },
                total_len: u32::try_from(total).unwrap(),
                frames_len, frame_count: rest[0], frames_crc: rest[1], range_count, ranges_crc: rest[2],
            }
        }
    }

    proptest! {
        #[test]
        fn a_header_reads_back_as_it_was_written(header in header()) {
            prop_assert_eq!(FlushHeader::decode(&header.encode()), Some(header));
        }

        #[test]
        fn a_header_with_one_flipped_bit_is_refused(header in header(), bit in 0..HEADER * 8) {
            let mut bytes = header.encode();
            // Two bytes behind the version are not used, but the checksum covers them too.
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FlushHeader::decode(&bytes), None);
        }

        #[test]
        fn a_list_of_shards_reads_back_unless_a_bit_is_flipped(
            rows in prop::collection::vec(any::<[u32; 6]>(), 1..9), at in any::<prop::sample::Index>(),
        ) {
            let row = |it: &[u32; 6]| ShardRange {
                key: ReplicaKey { shard: ShardId(it[0]), incarnation: it[1] },
                first: u64::from(it[2]) << 7 | u64::from(it[3]),
                last: u64::from(it[4]) << 9 | u64::from(it[5]),
            };
            let ranges: Vec<_> = rows.iter().map(row).collect();
            let mut bytes = encode_ranges(&ranges);
            let header = FlushHeader {
                range_count: u32::try_from(ranges.len()).unwrap(),
                ranges_crc: crc32c::crc32c(&bytes),
                ..FlushHeader::default()
            };
            prop_assert_eq!(decode_ranges(&header, &bytes), Some(ranges));
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode_ranges(&header, &bytes), None);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = FlushHeader::decode(&bytes);
            let _ = FlushHeader::newer_version(&bytes);
        }

        #[test]
        fn a_newer_version_is_told_from_rot(header in header(), version in VERSION + 1..) {
            let mut bytes = header.encode();
            prop_assert_eq!(FlushHeader::newer_version(&bytes), None);
            bytes[8..10].copy_from_slice(&version.to_le_bytes());
            prop_assert_eq!(FlushHeader::newer_version(&bytes), None);
            let crc = crc32c::crc32c(&bytes[..CRC_AT]);
            bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            prop_assert_eq!(FlushHeader::newer_version(&bytes), Some(version));
            prop_assert_eq!(FlushHeader::decode(&bytes), None);
        }
    }

    #[test]
    fn a_small_flush_fits_one_block() {
        assert_eq!(total_len(1, 3800), BLOCK as u64);
        assert_eq!(total_len(0, 0), BLOCK as u64);
    }
}
