//! Owns the layout of a record batch (version 2, magic 2): the header's fields, variable-length integers, and packing.
//! Unpacking is the shared decoder's, which bounds what a batch may grow to.
//! Never knows partitions or sequences beyond their place in the header.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::compression::{Compressor as _, Gzip, Lz4, Snappy, Zstd};

use crate::config::Compression;

/// Bytes before the first record.
pub(crate) const HEADER: usize = 61;
/// Bytes that `batch length` does not count: base offset and the length itself.
const BEFORE_LENGTH: usize = 12;
const AT_LEADER_EPOCH: usize = 12;
const AT_MAGIC: usize = 16;
const AT_CRC: usize = 17;
/// The checksum covers everything from here on.
const AT_ATTRIBUTES: usize = 21;
const AT_PRODUCER: usize = 43;
const CODEC_BITS: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 0b1000;
const CONTROL: i16 = 0b10_0000;

/// The fields that the sender of a batch chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

impl Header {
    /// Writes the header into the first bytes of a whole batch, checksum included.
    pub(crate) fn write(&self, batch: &mut BytesMut) {
        let length = i32::try_from(batch.len() - BEFORE_LENGTH).unwrap_or(i32::MAX);
        let mut head = &mut batch[..HEADER];
        head.put_i64(0);
        head.put_i32(length);
        head.put_i32(-1);
        head.put_i8(2);
        head.put_u32(0);
        head.put_i16(self.attributes);
        head.put_i32(self.last_offset_delta);
        head.put_i64(self.base_timestamp);
        head.put_i64(self.max_timestamp);
        head.put_i64(self.producer_id);
        head.put_i16(self.producer_epoch);
        head.put_i32(self.base_sequence);
        head.put_i32(self.count);
        seal(batch);
    }
}

fn seal(batch: &mut BytesMut) {
    let crc = crc32c::crc32c(&batch[AT_ATTRIBUTES..]);
    (&mut batch[AT_CRC..AT_ATTRIBUTES]).put_u32(crc);
}

/// Puts other numbers into a batch and seals it again.
pub(crate) fn renumber(batch: &mut BytesMut, (id, epoch): (i64, i16), first_sequence: i32) {
    let mut fields = &mut batch[AT_PRODUCER..HEADER];
    fields.put_i64(id);
    fields.put_i16(epoch);
    fields.put_i32(first_sequence);
    seal(batch);
}

/// The leader epoch of the last of several whole batches, back to back. Bytes that are no batches are the decoder's to judge.
pub(crate) fn last_leader_epoch(batches: &[u8]) -> Option<i32> {
    let (mut rest, mut last) = (batches, None);
    while rest.len() >= HEADER {
        let length = (&rest[BEFORE_LENGTH - 4..BEFORE_LENGTH]).get_i32();
        last = Some((&rest[AT_LEADER_EPOCH..AT_MAGIC]).get_i32());
        let whole = usize::try_from(length).ok()?.checked_add(BEFORE_LENGTH)?;
        rest = rest.get(whole..).unwrap_or_default();
    }
    last.filter(|epoch| *epoch >= 0)
}

/// A batch as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) base_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) header: Header,
    /// Header and records.
    pub(crate) whole: Bytes,
    /// The records, compressed as the attributes say.
    pub(crate) payload: Bytes,
}

impl Batch {
    /// Splits the first batch off.
    ///
    /// # Errors
    /// In words, when the bytes are no whole batch of this version, or its checksum is wrong and `check` asks for it.
    pub(crate) fn split_from(bytes: &mut Bytes, check: bool) -> Result<Self, &'static str> {
        if bytes.len() < HEADER {
            return Err("shorter than a batch header");
        }
        let length = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let total = usize::try_from(length).unwrap_or(0).saturating_add(BEFORE_LENGTH);
        if total < HEADER || total > bytes.len() {
            return Err("not a whole batch");
        }
        let batch = bytes.split_to(total);
        if batch[AT_MAGIC] != 2 {
            return Err("not a batch of version 2");
        }
        let mut crc = &batch[AT_CRC..AT_ATTRIBUTES];
        if check && crc.get_u32() != crc32c::crc32c(&batch[AT_ATTRIBUTES..]) {
            return Err("wrong checksum");
        }
        let mut head = &batch[..HEADER];
        let base_offset = head.get_i64();
        let mut epoch = &batch[AT_LEADER_EPOCH..AT_MAGIC];
        let mut fields = &batch[AT_ATTRIBUTES..HEADER];
        let header = Header {
            attributes: fields.get_i16(),
            last_offset_delta: fields.get_i32(),
            base_timestamp: fields.get_i64(),
            max_timestamp: fields.get_i64(),
            producer_id: fields.get_i64(),
            producer_epoch: fields.get_i16(),
            base_sequence: fields.get_i32(),
            count: fields.get_i32(),
        };
        let payload = batch.slice(HEADER..);
        let leader_epoch = epoch.get_i32();
        Ok(Self { base_offset, leader_epoch, header, whole: batch, payload })
    }

    /// The records carry the leader's time instead of their own.
    pub(crate) fn append_time(&self) -> Option<i64> {
        (self.header.attributes & LOG_APPEND_TIME != 0).then_some(self.header.max_timestamp)
    }

    /// Written by the cluster for itself.
    pub(crate) fn is_control(&self) -> bool {
        self.header.attributes & CONTROL != 0
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.header.last_offset_delta))
    }

    /// Whether the records must be unpacked before they can be read.
    pub(crate) fn is_compressed(&self) -> bool {
        self.header.attributes & CODEC_BITS != 0
    }
}

/// The attributes of a batch with this codec.
pub(crate) fn attributes(compression: Compression) -> i16 {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

/// How the records of a batch of ours are packed.
pub(crate) fn packing(batch: &Bytes) -> waymark_proto::batch::Compression {
    use waymark_proto::batch::Compression as Shared;
    let bits = batch.get(AT_ATTRIBUTES + 1).map_or(0, |low| i16::from(*low) & CODEC_BITS);
    match bits {
        1 => Shared::Gzip,
        2 => Shared::Snappy,
        3 => Shared::Lz4,
        4 => Shared::Zstd,
        _ => Shared::None,
    }
}

/// Appends the compressed form of `records`.
///
/// # Errors
/// In the codec's words.
pub(crate) fn compress(
    compression: Compression,
    records: &[u8],
    into: &mut BytesMut,
) -> Result<(), String> {
    // A buffer of its own: the codecs write as if theirs began at 0.
    let mut packed = BytesMut::with_capacity(records.len() / 2);
    macro_rules! with {
        ($codec:ty) => {
            <$codec>::compress(&mut packed, |buffer| {
                buffer.put_slice(records);
                Ok(())
            })
        };
    }
    match compression {
        Compression::None => {
            packed.extend_from_slice(records);
            Ok(())
        }
        Compression::Gzip => with!(Gzip),
        Compression::Snappy => with!(Snappy),
        Compression::Lz4 => with!(Lz4),
        Compression::Zstd => with!(Zstd),
    }
    .map_err(|error| format!("compressing failed: {error}"))?;
    into.unsplit(packed);
    Ok(())
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Bytes that a number takes.
pub(crate) fn varint_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a number in zigzag form, seven bits a byte, lowest first.
pub(crate) fn put_varint(buffer: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        buffer.put_u8(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    buffer.put_u8(u8::try_from(rest).unwrap_or(0));
}

/// Takes a number off the front; `None` when it does not end.
pub(crate) fn take_varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_from_as_many_bytes_as_announced() {
        for value in [0, 1, -1, 63, 64, -65, 8191, 8192, i64::MAX, i64::MIN] {
            let mut buffer = BytesMut::new();
            put_varint(&mut buffer, value);
            assert_eq!(buffer.len(), varint_len(value), "{value}");
            let mut at = 0;
            assert_eq!(take_varint(&buffer, &mut at), Some(value));
            assert_eq!(at, buffer.len());
        }
    }

    #[test]
    fn a_number_that_never_ends_is_refused() {
        assert_eq!(take_varint(&[0xff; 12], &mut 0), None);
        assert_eq!(take_varint(&[0x80], &mut 0), None);
    }
}
