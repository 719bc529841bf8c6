//! Checks of a batch before anything is done with it (header only): it is whole, its checksum is good, its header keeps the
//! rules, and it asks for nothing that is not offered. Owns also the stamp of the leader's time. Never looks at records.

use bytes::{Bytes, BytesMut};
use waymark_proto::failure::{Failure, FailureCode};

use super::refusal::failure;
use crate::mutants;
use crate::state::batch::{BatchHeader, HEADER_LEN};

const LENGTH: std::ops::Range<usize> = 8..12;
/// Bytes of base offset and length, which the length field does not count.
const LENGTH_EXCLUDES: usize = 12;
const MAGIC: usize = 16;
const FORMAT: u8 = 2;
const CRC: std::ops::Range<usize> = 17..21;
const ATTRIBUTES: std::ops::Range<usize> = 21..23;
const MAX_TIMESTAMP: std::ops::Range<usize> = 35..43;
/// Compressions 0 to 4.
const COMPRESSION: u16 = 0b111;
const LAST_COMPRESSION: u16 = 4;
const LOG_APPEND_TIME: u16 = 1 << 3;
/// How far ahead of the leader's clock a record's time may lie, ms: a segment with a time far in the future would never
/// become old enough to go.
const MAX_AHEAD_MS: i64 = 3_600_000;

fn corrupt(why: &str) -> Failure {
    failure(FailureCode::CorruptBatch, why)
}

fn invalid(why: &str) -> Failure {
    failure(FailureCode::InvalidBatch, why)
}

/// The header of what is one good batch.
///
/// # Errors
/// `CORRUPT_BATCH` for bytes that cannot be what was sent, `INVALID_BATCH` for what was sent against the rules.
pub(super) fn check(batch: &Bytes) -> Result<BatchHeader, Failure> {
    let length = batch.get(LENGTH).and_then(|it| it.try_into().ok()).map(u32::from_be_bytes);
    let whole = length.is_some_and(|it| it as usize + LENGTH_EXCLUDES == batch.len());
    if batch.len() < HEADER_LEN || !whole {
        return Err(corrupt("not exactly one whole batch"));
    }
    if batch[MAGIC] != FORMAT {
        return Err(corrupt("not a batch of format 2"));
    }
    let crc = crc32c::crc32c(&batch[ATTRIBUTES.start..]).to_be_bytes();
    if crc != batch[CRC] && !mutants::planted!("skip-door-crc") {
        return Err(corrupt("the checksum does not fit"));
    }
    let attributes = u16::from_be_bytes([batch[ATTRIBUTES.start], batch[ATTRIBUTES.start + 1]]);
    if attributes & COMPRESSION > LAST_COMPRESSION {
        let why = "a compression that is not known";
        return Err(failure(FailureCode::UnsupportedCompression, why));
    }
    if attributes & !COMPRESSION != 0 {
        let why =
            "an attribute that is not legal from a producer: control, transactional, append time";
        return Err(invalid(why));
    }
    let why = "records are counted from 1 and as the last offset says; a producer has an epoch and a sequence";
    BatchHeader::read(batch).ok_or_else(|| invalid(why))
}

/// Refuses records from the future, where their own time counts.
pub(super) fn check_time(header: &BatchHeader, now_ms: i64) -> Result<(), Failure> {
    let latest = now_ms.saturating_add(MAX_AHEAD_MS);
    if header.max_timestamp <= latest {
        return Ok(());
    }
    let why = "a timestamp more than an hour ahead of the leader's clock";
    let mut failure = failure(FailureCode::InvalidTimestamp, why);
    failure.actual = Some(header.max_timestamp);
    failure.limit = Some(latest);
    Err(failure)
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
    use bolero::check as fuzz;
    use waymark_proto::batch::{Compression, PlainRecord, decode, encode};

    use super::super::tests::clean;
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

    /// The good batch with other bytes in one place, and a checksum that fits again.
    fn changed(at: usize, bytes: &[u8]) -> Bytes {
        let mut batch = BytesMut::from(&batch()[..]);
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&batch[ATTRIBUTES.start..]).to_be_bytes();
        batch[CRC].copy_from_slice(&crc);
        batch.freeze()
    }

    fn code(batch: &Bytes) -> Option<FailureCode> {
        check(batch).err().map(|failure| failure.code)
    }

    fn first_covered_byte_that_may_change() -> Option<usize> {
        let good = batch();
        (16..good.len()).find(|at| {
            let mut bad = BytesMut::from(&good[..]);
            bad[*at] ^= 1;
            code(&bad.freeze()) != Some(FailureCode::CorruptBatch)
        })
    }

    #[test]
    fn a_good_batch_passes_and_every_changed_covered_byte_is_corrupt() {
        let _clean = clean();
        assert_eq!(code(&batch()), None);
        assert_eq!(first_covered_byte_that_may_change(), None);
    }

    #[test]
    fn the_check_of_bytes_catches_a_door_that_skips_the_checksum() {
        let _planted = mutants::plant("skip-door-crc");
        assert!(first_covered_byte_that_may_change().is_some());
    }

    /// Length, format and checksum are right, so that the header is read.
    #[test]
    fn no_bytes_make_the_door_panic() {
        let _clean = clean();
        fuzz!().for_each(|bytes: &[u8]| {
            let _ = check(&Bytes::copy_from_slice(bytes));
            let mut whole = vec![0; LENGTH_EXCLUDES];
            whole.extend_from_slice(bytes);
            whole.resize(whole.len().max(HEADER_LEN), 0);
            let length = u32::try_from(whole.len() - LENGTH_EXCLUDES).unwrap_or(0);
            whole[LENGTH].copy_from_slice(&length.to_be_bytes());
            whole[MAGIC] = FORMAT;
            let crc = crc32c::crc32c(&whole[ATTRIBUTES.start..]).to_be_bytes();
            whole[CRC].copy_from_slice(&crc);
            let whole = Bytes::from(whole);
            if let Ok(header) = check(&whole) {
                let _ = check_time(&header, i64::MAX);
                assert!(
                    check(&stamp_time(&whole, 7)).is_err(),
                    "the leader's time, from a producer"
                );
            }
        });
    }

    #[test]
    fn bytes_that_are_not_one_whole_batch_are_corrupt() {
        let _clean = clean();
        let good = batch();
        let corrupt = Some(FailureCode::CorruptBatch);
        assert_eq!(code(&Bytes::new()), corrupt);
        assert_eq!(code(&good.slice(..60)), corrupt);
        assert_eq!(code(&good.slice(..good.len() - 1)), corrupt);
        let two = [&good[..], &good[..]].concat();
        assert_eq!(code(&Bytes::from(two)), corrupt);
        assert_eq!(code(&changed(16, &[1])), corrupt, "format 1");
        assert_eq!(code(&changed(8, &[0xff; 4])), corrupt, "a length below zero");
    }

    #[test]
    fn a_header_against_the_rules_is_invalid_and_not_corrupt() {
        let _clean = clean();
        let invalid = Some(FailureCode::InvalidBatch);
        assert_eq!(code(&changed(57, &2_i32.to_be_bytes())), invalid, "two records, last offset 0");
        assert_eq!(code(&changed(57, &0_i32.to_be_bytes())), invalid, "no records");
        assert_eq!(code(&changed(43, &7_i64.to_be_bytes())), invalid, "a producer without epoch");
        for bit in [3, 4, 5, 6, 9] {
            let attributes = 1_u16 << bit;
            assert_eq!(code(&changed(21, &attributes.to_be_bytes())), invalid, "attribute {bit}");
        }
        let unsupported = Some(FailureCode::UnsupportedCompression);
        assert_eq!(code(&changed(21, &5_u16.to_be_bytes())), unsupported);
    }

    #[test]
    fn records_may_be_an_hour_ahead_and_no_more() {
        let _clean = clean();
        let header = check(&changed(35, &3_600_500_i64.to_be_bytes())).unwrap();
        assert_eq!(check_time(&header, 500), Ok(()));
        let failure = check_time(&header, 499).unwrap_err();
        assert_eq!(failure.code, FailureCode::InvalidTimestamp);
        assert_eq!((failure.actual, failure.limit), (Some(3_600_500), Some(3_600_499)));
        assert_eq!(check_time(&header, i64::MAX), Ok(()), "no clock makes it overflow");
    }

    #[test]
    fn the_leaders_time_replaces_the_records_own() {
        let stamped = stamp_time(&batch(), 99);
        let crc = crc32c::crc32c(&stamped[21..]).to_be_bytes();
        assert_eq!(stamped[17..21], crc);
        assert_eq!(decode(stamped).unwrap()[0].timestamp_ms, 99);
    }
}
