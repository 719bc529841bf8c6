//! Values, offsets and outcomes of a run in the client's types, and back. Owns what a record looks like: its value, and bytes
//! beside it, so that journals and segments grow. Never calls anybody.

use std::fmt::Display;
use std::io;

use waymark_client::{ConsumerRecord, Error, ErrorClass, ProducerRecord, RecordReceipt};

use super::TOPIC;
use crate::subject::{Appended, FIRST_LARGE_PRODUCER};

/// A large record, bytes; and one of so many that is larger than a simulated journal takes.
const LARGE: usize = 8 << 10;
const OVERSIZED: usize = 300 << 10;
const OVERSIZED_IN: u64 = 71;

pub(super) fn number(partition: u32) -> i32 {
    i32::try_from(partition).expect("a handful of partitions")
}

/// Offsets of existing records are not negative; one that is shows as an offset that nobody acknowledged.
pub(super) fn unsigned(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(u64::MAX)
}

/// Bytes of a record beside its value, so that journals and segments grow.
pub(super) fn padding(value: u64) -> usize {
    if value >> 32 < u64::from(FIRST_LARGE_PRODUCER) {
        return usize::try_from(value * 97 % 1200).unwrap_or(0);
    }
    if value.is_multiple_of(OVERSIZED_IN) { OVERSIZED } else { LARGE }
}

pub(super) fn record(value: u64) -> ProducerRecord {
    let mut bytes = value.to_be_bytes().to_vec();
    bytes.resize(bytes.len() + padding(value), 0x5a);
    ProducerRecord::new(TOPIC).value(bytes)
}

/// What a record holds; one that is cut short shows as a value that nobody sent.
pub(super) fn value_of(record: &ConsumerRecord) -> u64 {
    let value = record.value.as_deref().and_then(|bytes| bytes.first_chunk());
    value.map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn outcome(ended: Result<RecordReceipt, Error>) -> Appended {
    match ended {
        Ok(RecordReceipt { offset: Some(offset), .. }) => Appended::At(unsigned(offset)),
        Ok(_) => Appended::Unknown,
        Err(error) => match error.class() {
            ErrorClass::Retryable | ErrorClass::Rejected => Appended::Refused,
            ErrorClass::Ambiguous | ErrorClass::Fenced | ErrorClass::Fatal => Appended::Unknown,
        },
    }
}

pub(crate) fn failed(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Tells damaged records from everything else that can go wrong with a read.
pub(super) fn read_failed(error: Error) -> io::Error {
    match error {
        Error::Corrupt { .. } => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        error => failed(error),
    }
}
