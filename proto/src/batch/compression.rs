//! The five codecs of Kafka's record batches. Owns their framing, above all that snappy comes in the blocks of its Java
//! library. Never lets a batch grow beyond a limit while it is decompressed.

use std::io::{Read, Write};

use bytes::{Buf, Bytes};

use super::BadBatch;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Google's, in blocks.
    Snappy,
    /// The frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

const XERIAL: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const XERIAL_MAGIC: usize = 8;
const SNAPPY_BLOCK: usize = 32 << 10;
const TOO_LARGE: BadBatch = BadBatch("too large once decompressed");
const BAD_STREAM: BadBatch = BadBatch("its compressed records are damaged");
const NOT_COMPRESSED: BadBatch = BadBatch("its records cannot be compressed");

impl Compression {
    /// The low bits of a batch's attributes.
    pub(super) fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    pub(super) fn from_bits(bits: i16) -> Option<Self> {
        match bits {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn compress(self, records: Bytes) -> Result<Bytes, BadBatch> {
        let compressed = match self {
            Self::None => return Ok(records),
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&records).and_then(|()| encoder.finish())
            }
            Self::Snappy => return snappy(&records),
            Self::Lz4 => lz4(&records),
            Self::Zstd => zstd::stream::encode_all(&records[..], zstd::DEFAULT_COMPRESSION_LEVEL),
        };
        compressed.map(Bytes::from).map_err(|_| NOT_COMPRESSED)
    }

    pub(super) fn decompress(self, records: Bytes, most: usize) -> Result<Bytes, BadBatch> {
        let bytes = &records[..];
        match self {
            Self::None => Ok(records),
            Self::Gzip => read(flate2::read::MultiGzDecoder::new(bytes), most),
            Self::Snappy => unsnappy(records, most),
            Self::Lz4 => read(lz4::Decoder::new(bytes).map_err(|_| BAD_STREAM)?, most),
            Self::Zstd => {
                read(zstd::stream::read::Decoder::new(bytes).map_err(|_| BAD_STREAM)?, most)
            }
        }
    }
}

fn read(stream: impl Read, most: usize) -> Result<Bytes, BadBatch> {
    let mut records = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(limit).read_to_end(&mut records).map_err(|_| BAD_STREAM)?;
    if records.len() > most { Err(TOO_LARGE) } else { Ok(records.into()) }
}

/// Independent blocks of 64 KiB, as Kafka's own clients write them.
fn lz4(records: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = lz4::EncoderBuilder::new()
        .block_mode(lz4::BlockMode::Independent)
        .block_size(lz4::BlockSize::Max64KB)
        .build(Vec::new())?;
    encoder.write_all(records)?;
    let (compressed, outcome) = encoder.finish();
    outcome.map(|()| compressed)
}

fn snappy(records: &[u8]) -> Result<Bytes, BadBatch> {
    let mut out = XERIAL.to_vec();
    for block in records.chunks(SNAPPY_BLOCK) {
        let compressed =
            snap::raw::Encoder::new().compress_vec(block).map_err(|_| NOT_COMPRESSED)?;
        let length = u32::try_from(compressed.len()).map_err(|_| NOT_COMPRESSED)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out.into())
}

/// Blocks of the Java library, or one bare block as other clients send.
fn unsnappy(mut records: Bytes, most: usize) -> Result<Bytes, BadBatch> {
    let mut out = Vec::new();
    if !records.starts_with(&XERIAL[..XERIAL_MAGIC]) {
        unsnappy_block(&records, &mut out, most)?;
        return Ok(out.into());
    }
    if records.len() < XERIAL.len() {
        return Err(BAD_STREAM);
    }
    records.advance(XERIAL.len());
    while !records.is_empty() {
        let length = records.try_get_u32().map_err(|_| BAD_STREAM)?;
        let length = usize::try_from(length).map_err(|_| BAD_STREAM)?;
        if length > records.len() {
            return Err(BAD_STREAM);
        }
        unsnappy_block(&records.split_to(length), &mut out, most)?;
    }
    Ok(out.into())
}

fn unsnappy_block(block: &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), BadBatch> {
    let length = snap::raw::decompress_len(block).map_err(|_| BAD_STREAM)?;
    let start = out.len();
    let end = start.checked_add(length).filter(|end| *end <= most).ok_or(TOO_LARGE)?;
    out.resize(end, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|_| BAD_STREAM)?;
    Ok(())
}
