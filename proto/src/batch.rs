//! Kafka's record batch, version 2: built from plain records, and taken apart again. Owns the format of header and records;
//! `compression` owns the codecs. Never trusts a length: whatever the bytes are, reading ends with records or an error.

mod compression;
mod varint;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use self::varint::{get_varint, get_varlong, put_varint, put_varlong};

pub use self::compression::Compression;

/// Bytes of a batch before its records.
pub const HEADER_LEN: usize = 61;
/// The CRC covers everything from here on.
const CRC_FROM: usize = 21;
/// Base offset and length, which the length field does not count.
const LENGTH_EXCLUDES: usize = 12;
const MAGIC: u8 = 2;
const CODEC_BITS: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const CONTROL: i16 = 0x20;
/// The largest batch, decompressed: a small batch must not be able to fill the memory.
const MAX_DECOMPRESSED: usize = 64 << 20;
/// Most memory of all records that one call gives out, their structures counted: seven bytes make a record of a hundred.
const MAX_DECODED: usize = 256 << 20;
/// Length, attributes, two deltas, two fields and the count of headers take a byte each at least.
const LEAST_RECORD: usize = 7;
/// Two lengths.
const LEAST_HEADER: usize = 2;
const TOO_MUCH: BadBatch = BadBatch("its records take too much memory");

/// One record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlainRecord {
    /// `None` and empty differ.
    pub key: Option<Bytes>,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
    /// In order, repetitions kept; keys need not be UTF-8.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// Unix ms.
    pub timestamp_ms: i64,
    /// Its offset; not looked at when a batch is built.
    pub offset: i64,
}

/// Who sends a batch, and its place in that producer's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
}

/// Bytes that are not a record batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a record batch: {0}")]
pub struct BadBatch(pub &'static str);

/// Builds one batch.
///
/// # Errors
/// When there is no record, or more than a batch can hold.
pub fn encode(
    records: &[PlainRecord],
    compression: Compression,
    producer: Option<ProducerStamp>,
) -> Result<Bytes, BadBatch> {
    let first = records.first().ok_or(BadBatch("no records"))?;
    let count = i32::try_from(records.len()).map_err(|_| BadBatch("too many records"))?;
    let base_timestamp = first.timestamp_ms;
    let max_timestamp = records.iter().map(|record| record.timestamp_ms).max().unwrap_or(0);
    let mut body = BytesMut::new();
    for (delta, record) in (0i32..).zip(records) {
        put_record(&mut body, record, delta, base_timestamp)?;
    }
    let body = compression.compress(body.freeze())?;
    let producer = producer.unwrap_or(ProducerStamp { id: -1, epoch: -1, base_sequence: -1 });
    let length = i32::try_from(HEADER_LEN - LENGTH_EXCLUDES + body.len())
        .map_err(|_| BadBatch("too many bytes"))?;
    let mut batch = BytesMut::with_capacity(HEADER_LEN + body.len());
    batch.put_i64(0);
    batch.put_i32(length);
    batch.put_i32(-1);
    batch.put_u8(MAGIC);
    batch.put_u32(0);
    batch.put_i16(compression.bits());
    batch.put_i32(count - 1);
    batch.put_i64(base_timestamp);
    batch.put_i64(max_timestamp);
    batch.put_i64(producer.id);
    batch.put_i16(producer.epoch);
    batch.put_i32(producer.base_sequence);
    batch.put_i32(count);
    batch.extend_from_slice(&body);
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    Ok(batch.freeze())
}

/// Takes whole batches, back to back, apart. Control batches are left out.
///
/// # Errors
/// When the bytes are not whole batches, what is in them is not records, or a batch takes more than 64 MiB once
/// decompressed, or all records together more than 256 MiB of memory: fewer batches at a time may help then.
pub fn decode(batches: Bytes) -> Result<Vec<PlainRecord>, BadBatch> {
    decode_within(batches, MAX_DECODED)
}

fn decode_within(mut batches: Bytes, most: usize) -> Result<Vec<PlainRecord>, BadBatch> {
    let mut records = Vec::new();
    let mut room = Room(most);
    while !batches.is_empty() {
        let batch = split(&mut batches)?;
        decode_one(batch, &mut room, &mut records)?;
    }
    Ok(records)
}

/// Memory that may still be taken.
struct Room(usize);

impl Room {
    /// Takes what so many structures and bytes need, before they are made.
    fn take<T>(&mut self, count: usize, bytes: usize) -> Result<(), BadBatch> {
        let size = count.checked_mul(size_of::<T>()).and_then(|size| size.checked_add(bytes));
        let left = size.and_then(|size| self.0.checked_sub(size));
        self.0 = left.ok_or(TOO_MUCH)?;
        Ok(())
    }
}

/// How many there are by their own word, which is worth no more than the bytes behind it.
fn counted(count: i32, least: usize, bytes: &Bytes) -> Result<usize, BadBatch> {
    let count = usize::try_from(count).map_err(|_| BadBatch("a negative count"))?;
    if count > bytes.len() / least {
        return Err(BadBatch("a count that its bytes cannot hold"));
    }
    Ok(count)
}

/// Takes the first batch off.
fn split(batches: &mut Bytes) -> Result<Bytes, BadBatch> {
    let length = batches.get(8..LENGTH_EXCLUDES).and_then(|field| field.try_into().ok());
    let length = length.map(i32::from_be_bytes).ok_or(BadBatch("cut off"))?;
    let length = usize::try_from(length).map_err(|_| BadBatch("a negative length"))?;
    let whole = length + LENGTH_EXCLUDES;
    if whole < HEADER_LEN || whole > batches.len() {
        return Err(BadBatch("its length is wrong"));
    }
    Ok(batches.split_to(whole))
}

fn decode_one(
    mut batch: Bytes,
    room: &mut Room,
    records: &mut Vec<PlainRecord>,
) -> Result<(), BadBatch> {
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    let base_offset = batch.get_i64();
    batch.advance(8);
    if batch.get_u8() != MAGIC {
        return Err(BadBatch("its magic is not 2"));
    }
    if batch.get_u32() != crc {
        return Err(BadBatch("its CRC is wrong"));
    }
    let attributes = batch.get_i16();
    batch.advance(4);
    let base_timestamp = batch.get_i64();
    let max_timestamp = batch.get_i64();
    batch.advance(14);
    let count = batch.get_i32();
    if attributes & CONTROL != 0 {
        return Ok(());
    }
    let codec = Compression::from_bits(attributes & CODEC_BITS)
        .ok_or(BadBatch("an unknown compression"))?;
    let mut body = codec.decompress(batch, MAX_DECOMPRESSED.min(room.0))?;
    let count = counted(count, LEAST_RECORD, &body)?;
    room.take::<PlainRecord>(count, body.len())?;
    records.reserve(count);
    for _ in 0..count {
        let mut record = get_record(&mut body, (base_offset, base_timestamp), room)?;
        if attributes & LOG_APPEND_TIME != 0 {
            record.timestamp_ms = max_timestamp;
        }
        records.push(record);
    }
    if body.is_empty() { Ok(()) } else { Err(BadBatch("bytes after its records")) }
}

fn put_record(
    out: &mut BytesMut,
    record: &PlainRecord,
    delta: i32,
    base_timestamp: i64,
) -> Result<(), BadBatch> {
    let mut body = BytesMut::new();
    body.put_u8(0);
    put_varlong(&mut body, record.timestamp_ms.wrapping_sub(base_timestamp));
    put_varint(&mut body, delta);
    put_bytes(&mut body, record.key.as_ref())?;
    put_bytes(&mut body, record.value.as_ref())?;
    put_varint(&mut body, length(record.headers.len())?);
    for (key, value) in &record.headers {
        put_bytes(&mut body, Some(key))?;
        put_bytes(&mut body, value.as_ref())?;
    }
    put_varint(out, length(body.len())?);
    out.extend_from_slice(&body);
    Ok(())
}

fn get_record(
    body: &mut Bytes,
    (base_offset, base_timestamp): (i64, i64),
    room: &mut Room,
) -> Result<PlainRecord, BadBatch> {
    let length =
        usize::try_from(get_varint(body)?).map_err(|_| BadBatch("a record of negative length"))?;
    if length == 0 || length > body.len() {
        return Err(BadBatch("a record of wrong length"));
    }
    let mut record = body.split_to(length);
    record.advance(1);
    let timestamp_ms = base_timestamp.wrapping_add(get_varlong(&mut record)?);
    let offset = base_offset.wrapping_add(i64::from(get_varint(&mut record)?));
    let key = get_bytes(&mut record)?;
    let value = get_bytes(&mut record)?;
    let count = counted(get_varint(&mut record)?, LEAST_HEADER, &record)?;
    room.take::<(Bytes, Option<Bytes>)>(count, 0)?;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let key = get_bytes(&mut record)?.ok_or(BadBatch("a header without a key"))?;
        headers.push((key, get_bytes(&mut record)?));
    }
    if !record.is_empty() {
        return Err(BadBatch("bytes after a record's headers"));
    }
    Ok(PlainRecord { key, value, headers, timestamp_ms, offset })
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&Bytes>) -> Result<(), BadBatch> {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, length(bytes.len())?);
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

/// A length of -1 is null.
fn get_bytes(record: &mut Bytes) -> Result<Option<Bytes>, BadBatch> {
    let length = get_varint(record)?;
    match usize::try_from(length) {
        Ok(length) if length <= record.len() => Ok(Some(record.split_to(length))),
        Err(_) if length == -1 => Ok(None),
        _ => Err(BadBatch("a field of wrong length")),
    }
}

fn length(bytes: usize) -> Result<i32, BadBatch> {
    i32::try_from(bytes).map_err(|_| BadBatch("too many bytes"))
}

#[cfg(test)]
mod tests;
