//! Owns the bytes of a batch on its way out: records are appended straight into their encoded form, the header is written
//! when the batch goes. Never decides when that is, or which numbers it gets.

use bytes::{Bytes, BytesMut};

use waymark_proto::batch::{self, BadBatch, ProducerStamp};

use super::lane::{Identity, following};
use crate::codec::{self, Header, put_varint, varint_len};
use crate::config::Compression;
use crate::record::ProducerRecord;

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct OpenRecords {
    /// Room for the header, then the records.
    buffer: BytesMut,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// Least room of a buffer at first; most batches of a slow partition never need more.
const FIRST_ALLOCATION: usize = 16 << 10;

impl OpenRecords {
    /// An empty batch that is expected to grow to about so many bytes.
    pub(crate) fn with_capacity(expected: usize) -> Self {
        // A little more, so that a batch just above the last one is not copied for its last record.
        let room = expected.saturating_add(expected / 16).max(FIRST_ALLOCATION);
        let mut buffer = BytesMut::with_capacity(room + codec::HEADER);
        buffer.resize(codec::HEADER, 0);
        Self { buffer, count: 0, base_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// Bytes so far, uncompressed.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Records so far.
    pub(crate) fn count(&self) -> i32 {
        self.count
    }

    /// Appends a record and returns its index.
    pub(crate) fn append(&mut self, record: &ProducerRecord, timestamp_ms: i64) -> u32 {
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let index = self.count;
        let time_delta = timestamp_ms.wrapping_sub(self.base_timestamp);
        let body = 1
            + varint_len(time_delta)
            + varint_len(i64::from(index))
            + bytes_len(record.key.as_ref())
            + bytes_len(record.value.as_ref())
            + headers_len(record);
        let buffer = &mut self.buffer;
        buffer.reserve(body + 5);
        put_varint(buffer, signed(body));
        // Attributes of a record: none are defined.
        buffer.extend_from_slice(&[0]);
        put_varint(buffer, time_delta);
        put_varint(buffer, i64::from(index));
        put_bytes(buffer, record.key.as_ref());
        put_bytes(buffer, record.value.as_ref());
        put_varint(buffer, signed(record.headers.len()));
        for header in &record.headers {
            put_bytes(buffer, Some(&header.key));
            put_bytes(buffer, header.value.as_ref());
        }
        self.count += 1;
        index.unsigned_abs()
    }

    /// The batch as it is sent.
    ///
    /// # Errors
    /// When the codec fails, in its words.
    pub(crate) fn finish(
        mut self,
        compression: Compression,
        identity: Identity,
        first_sequence: i32,
    ) -> Result<Bytes, String> {
        if compression != Compression::None {
            let records = self.buffer.split_off(codec::HEADER);
            codec::compress(compression, &records, &mut self.buffer)?;
        }
        let header = Header {
            attributes: codec::attributes(compression),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            base_sequence: first_sequence,
            count: self.count,
        };
        header.write(&mut self.buffer);
        Ok(self.buffer.freeze())
    }
}

/// The same batch under other numbers: only the header changes, and the checksum over it.
pub(crate) fn renumbered(batch: &Bytes, identity: Identity, first_sequence: i32) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    codec::renumber(&mut bytes, (identity.id, identity.epoch), first_sequence);
    bytes.freeze()
}

/// The same records in two batches; together they take the sequences that the one had.
///
/// # Errors
/// In words, when it is not a batch of at least two records.
pub(crate) fn halves(
    batch: &Bytes,
    identity: Identity,
    first_sequence: i32,
) -> Result<[(Bytes, i32, i32); 2], BadBatch> {
    let records = batch::decode(batch.clone())?;
    let codec = codec::packing(batch);
    let (early, late) = records.split_at(records.len() / 2);
    let count = i32::try_from(early.len()).map_err(|_| BadBatch("too many records"))?;
    let rest = i32::try_from(late.len()).map_err(|_| BadBatch("too many records"))?;
    let numbered = identity.id >= 0;
    let second = if numbered { following(first_sequence, count) } else { first_sequence };
    let stamp = |base_sequence| {
        let (id, epoch) = (identity.id, identity.epoch);
        numbered.then_some(ProducerStamp { id, epoch, base_sequence })
    };
    Ok([
        (batch::encode(early, codec, stamp(first_sequence))?, first_sequence, count),
        (batch::encode(late, codec, stamp(second))?, second, rest),
    ])
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn bytes_len(bytes: Option<&Bytes>) -> usize {
    match bytes {
        Some(bytes) => varint_len(signed(bytes.len())) + bytes.len(),
        None => 1,
    }
}

fn put_bytes(buffer: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => {
            put_varint(buffer, signed(bytes.len()));
            buffer.extend_from_slice(bytes);
        }
        None => put_varint(buffer, -1),
    }
}

fn headers_len(record: &ProducerRecord) -> usize {
    let each = record.headers.iter();
    let lengths = each.map(|h| bytes_len(Some(&h.key)) + bytes_len(h.value.as_ref()));
    varint_len(signed(record.headers.len())) + lengths.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Identity = Identity { id: 9, epoch: 2 };
    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn packed(codec: Compression, records: i32) -> Bytes {
        let mut open = OpenRecords::with_capacity(1 << 10);
        for record in 0..records {
            let record = ProducerRecord::new("t").key("k").value(format!("value {record}"));
            open.append(&record, 1_000);
        }
        open.finish(codec, ME, 7).unwrap()
    }

    #[test]
    fn the_shared_decoder_reads_what_every_codec_packed() {
        for codec in CODECS {
            let records = batch::decode(packed(codec, 20)).unwrap();
            assert_eq!(records.len(), 20, "{codec:?}");
            assert_eq!(records[19].value.as_deref(), Some(&b"value 19"[..]), "{codec:?}");
        }
    }

    #[test]
    fn halves_hold_the_same_records_under_the_same_sequences() {
        for codec in CODECS {
            let whole = packed(codec, 5);
            let [one, two] = halves(&whole, ME, 7).unwrap();
            assert_eq!(((one.1, one.2), (two.1, two.2)), ((7, 2), (9, 3)), "{codec:?}");
            let values = |bytes: &Bytes| {
                let records = batch::decode(bytes.clone()).unwrap();
                records.into_iter().map(|record| record.value).collect::<Vec<_>>()
            };
            assert_eq!([values(&one.0), values(&two.0)].concat(), values(&whole), "{codec:?}");
        }
    }
}
