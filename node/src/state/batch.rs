//! Owns the header of a record batch, version 2, as far as the state needs it: read at fixed offsets, and the stamp that
//! an appended batch gets. Never looks at records and never checks the CRC: the door did, and the CRC covers neither
//! field that is stamped.

/// Bytes of a batch before its records.
pub const HEADER_LEN: usize = 61;
/// Bytes from the start through the CRC: what is written anew when a batch gets its place.
pub const STAMP_LEN: usize = 21;
/// Bytes of base offset and length, which the length field does not count.
const LENGTH_EXCLUDES: usize = 12;
const MAGIC: u8 = 2;

/// What the state needs of a batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Records in the batch, at least 1.
    pub record_count: i32,
    /// The largest record timestamp, Unix ms.
    pub max_timestamp: i64,
    /// The producer and its sequence; `None` when the batch is not idempotent.
    pub sequence: Option<BatchSequence>,
}

/// Who sent a batch, and its place in that producer's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSequence {
    /// The producer.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub first: i32,
    /// Records.
    pub count: i32,
}

impl BatchHeader {
    /// Reads the header of exactly one whole batch; `None` when these bytes are none.
    #[must_use]
    pub fn read(batch: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = batch.first_chunk()?;
        let length = usize::try_from(int32(header, 8)).ok()?;
        let record_count = int32(header, 57);
        let whole = length.checked_add(LENGTH_EXCLUDES)? == batch.len();
        let counted = record_count >= 1 && int32(header, 23) == record_count - 1;
        if !whole || !counted || header[16] != MAGIC {
            return None;
        }
        let sequence = read_sequence(header, record_count)?;
        Some(Self { record_count, max_timestamp: int64(header, 35), sequence })
    }
}

/// The outer `None` is a header that breaks the rules; the inner one a producer without idempotence.
#[allow(clippy::option_option, reason = "the two absences differ: a bad header, and no producer")]
fn read_sequence(header: &[u8; HEADER_LEN], count: i32) -> Option<Option<BatchSequence>> {
    let producer_id = int64(header, 43);
    if producer_id == -1 {
        return Some(None);
    }
    let epoch = i16::from_be_bytes(field(header, 51));
    let first = int32(header, 53);
    if producer_id < 0 || epoch < 0 || first < 0 {
        return None;
    }
    Some(Some(BatchSequence { producer_id, epoch, first, count }))
}

/// The first bytes of a batch as stored: with its base offset and leader epoch, all else as sent.
#[must_use]
pub fn stamp(batch: &[u8], base_offset: i64, leader_epoch: i32) -> [u8; STAMP_LEN] {
    let mut stamp = [0; STAMP_LEN];
    let sent = batch.len().min(STAMP_LEN);
    stamp[..sent].copy_from_slice(&batch[..sent]);
    stamp[..8].copy_from_slice(&base_offset.to_be_bytes());
    stamp[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    stamp
}

fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

fn int32(header: &[u8; HEADER_LEN], at: usize) -> i32 {
    i32::from_be_bytes(field(header, at))
}

fn int64(header: &[u8; HEADER_LEN], at: usize) -> i64 {
    i64::from_be_bytes(field(header, at))
}

#[cfg(test)]
pub(in crate::state) mod tests {
    use bytes::Bytes;

    use super::*;

    /// A batch whose header is right and whose records are zeros.
    pub(in crate::state) fn batch(
        sequence: Option<(i64, i16, i32)>,
        count: i32,
        size: usize,
    ) -> Bytes {
        let mut bytes = vec![0; size.max(HEADER_LEN)];
        let length = i32::try_from(bytes.len() - LENGTH_EXCLUDES).unwrap();
        let (producer, epoch, first) = sequence.unwrap_or((-1, -1, -1));
        bytes[..8].copy_from_slice(&77_i64.to_be_bytes());
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = MAGIC;
        bytes[17..21].copy_from_slice(&[9; 4]);
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[35..43].copy_from_slice(&5_i64.to_be_bytes());
        bytes[43..51].copy_from_slice(&producer.to_be_bytes());
        bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&first.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        Bytes::from(bytes)
    }

    #[test]
    fn a_header_reads_back_what_was_written() {
        let header = BatchHeader::read(&batch(Some((4, 1, 30)), 3, 80)).unwrap();
        let sequence = BatchSequence { producer_id: 4, epoch: 1, first: 30, count: 3 };
        assert_eq!(
            header,
            BatchHeader { record_count: 3, max_timestamp: 5, sequence: Some(sequence) }
        );
    }

    #[test]
    fn bytes_that_are_not_one_whole_batch_are_no_batch() {
        let good = batch(None, 1, 70);
        assert!(BatchHeader::read(&good).is_some());
        assert!(BatchHeader::read(&good[..69]).is_none(), "cut short");
        assert!(BatchHeader::read(&good[..60]).is_none(), "shorter than a header");
        for (at, wrong) in [(16, 1), (60, 2), (60, 0), (43, 0x80)] {
            let mut bytes = good.to_vec();
            bytes[at] = wrong;
            let expected = at == 43;
            // Byte 43 alone turns −1 into another id with the epoch −1: refused as well.
            assert_eq!(BatchHeader::read(&bytes).is_some(), expected && wrong == 0xff, "byte {at}");
        }
    }

    #[test]
    fn a_stamp_changes_base_offset_and_leader_epoch_only() {
        let sent = batch(None, 1, 70);
        let stamp = stamp(&sent, 12, 3);
        assert_eq!(stamp[..8], 12_i64.to_be_bytes());
        assert_eq!(stamp[8..12], sent[8..12]);
        assert_eq!(stamp[12..16], 3_i32.to_be_bytes());
        assert_eq!(stamp[16..], sent[16..21]);
    }
}
