//! Checks of a batch before anything is done with it (header only): it is whole, its checksum is good, and it asks for
//! nothing that is not offered. Owns also the stamp of the leader's time. Never looks at records.

use bytes::{Bytes, BytesMut};
use waymark_proto::failure::{Failure, FailureCode};

use super::refusal::failure;
use crate::state::batch::BatchHeader;

const CRC: std::ops::Range<usize> = 17..21;
const ATTRIBUTES: std::ops::Range<usize> = 21..23;
const MAX_TIMESTAMP: std::ops::Range<usize> = 35..43;
/// Compressions 0 to 4.
const COMPRESSION: u16 = 0b111;
const LAST_COMPRESSION: u16 = 4;
const LOG_APPEND_TIME: u16 = 1 << 3;

/// Refuses what is not one good batch.
pub(super) fn check(batch: &Bytes) -> Result<(), Failure> {
    let header = BatchHeader::read(batch);
    if header.is_none() {
        return Err(failure(FailureCode::CorruptBatch, "not exactly one whole batch of format 2"));
    }
    let covered = batch.get(ATTRIBUTES.start..).unwrap_or_default();
    if crc32c::crc32c(covered).to_be_bytes() != batch[CRC] {
        return Err(failure(FailureCode::CorruptBatch, "the checksum does not fit"));
    }
    let attributes = u16::from_be_bytes([batch[ATTRIBUTES.start], batch[ATTRIBUTES.start + 1]]);
    if attributes & COMPRESSION > LAST_COMPRESSION {
        return Err(failure(
            FailureCode::UnsupportedCompression,
            "a compression that is not known",
        ));
    }
    if attributes & !COMPRESSION != 0 {
        let why =
            "an attribute that is not legal from a producer: control, transactional, append time";
        return Err(failure(FailureCode::InvalidBatch, why));
    }
    Ok(())
}

/// The batch with the leader's time as the time of all its records.
pub(super) fn stamp_time(batch: &Bytes, time_ms: i64) -> Bytes {
    let mut stamped = BytesMut::from(&batch[..]);
    let attributes = u16::from_be_bytes([stamped[ATTRIBUTES.start], stamped[ATTRIBUTES.start + 1]]);
    stamped[ATTRIBUTES].copy_from_slice(&(attributes | LOG_APPEND_TIME).to_be_bytes());
    stamped[MAX_TIMESTAMP].copy_from_slice(&time_ms.to_be_bytes());
    let crc = crc32c::crc32c(&stamped[ATTRIBUTES.start..]);
    stamped[CRC].copy_from_slice(&crc.to_be_bytes());
    stamped.freeze()
}

#[cfg(test)]
mod tests {
    use waymark_proto::batch::{Compression, PlainRecord, decode, encode};

    use super::*;

    fn batch() -> Bytes {
        let record = PlainRecord {
            key: None,
            value: Some(Bytes::from_static(b"v")),
            headers: Vec::new(),
            timestamp_ms: 5,
            offset: 0,
        };
        encode(&[record], Compression::None, None).unwrap()
    }

    #[test]
    fn a_good_batch_passes_and_every_changed_covered_byte_is_refused() {
        let good = batch();
        assert_eq!(check(&good), Ok(()));
        for at in 16..good.len() {
            let mut bad = BytesMut::from(&good[..]);
            bad[at] ^= 1;
            assert!(check(&bad.freeze()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_leaders_time_replaces_the_records_own() {
        let stamped = stamp_time(&batch(), 99);
        let crc = crc32c::crc32c(&stamped[21..]).to_be_bytes();
        assert_eq!(stamped[17..21], crc);
        assert_eq!(decode(stamped).unwrap()[0].timestamp_ms, 99);
    }
}
