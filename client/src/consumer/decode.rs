//! Owns turning fetched bytes into records, one at a time and only when asked for; keys and values are slices of what came
//! from the network, unless it was compressed. Never panics on bad bytes and never skips them silently.

use std::sync::Arc;

use bytes::Bytes;
use waymark_proto::batch::PlainRecord;

use crate::codec::{Batch, take_varint};
use crate::error::{Error, Result};
use crate::record::{ConsumerRecord, Header, TopicPartition};

/// The records of one answer: whole batches, back to back.
#[derive(Debug)]
pub(super) struct Decoder {
    at: TopicPartition,
    rest: Bytes,
    check_crcs: bool,
    open: Option<Open>,
}

/// A batch that is being read.
#[derive(Debug)]
struct Open {
    batch: Batch,
    /// Encoded, of a batch that is not compressed.
    records: Bytes,
    /// Decoded, of a batch that is.
    unpacked: Option<std::vec::IntoIter<PlainRecord>>,
    cursor: usize,
    left: i32,
}

impl Decoder {
    pub(super) fn new(at: TopicPartition, batches: Bytes, check_crcs: bool) -> Self {
        Self { at, rest: batches, check_crcs, open: None }
    }

    /// The next record at or beyond `position`; what is below it in the first batch is dropped.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; reading cannot go on.
    pub(super) fn next_from(&mut self, position: i64) -> Result<Option<ConsumerRecord>> {
        loop {
            let Some(open) = &mut self.open else {
                if self.rest.is_empty() {
                    return Ok(None);
                }
                self.open = self.open_batch(position)?;
                continue;
            };
            if open.left == 0 {
                self.open = None;
                continue;
            }
            open.left -= 1;
            let Some(record) = open.record(&self.at) else {
                let offset = open.batch.base_offset;
                return Err(self.corrupt(offset, "a record does not end where it says"));
            };
            if record.offset >= position {
                return Ok(Some(record));
            }
        }
    }

    fn open_batch(&mut self, position: i64) -> Result<Option<Open>> {
        let batch = Batch::split_from(&mut self.rest, self.check_crcs)
            .map_err(|message| self.corrupt(position, message))?;
        if batch.last_offset() < position || batch.is_control() {
            return Ok(None);
        }
        let left = batch.header.count;
        if left < 0 {
            return Err(self.corrupt(batch.base_offset, "a batch of fewer than no records"));
        }
        let (mut records, mut unpacked) = (Bytes::new(), None);
        if batch.is_compressed() {
            let plain = waymark_proto::batch::decode(batch.whole.clone())
                .map_err(|error| self.corrupt(batch.base_offset, &error.to_string()))?;
            unpacked = Some(plain.into_iter());
        } else {
            records = batch.payload.clone();
        }
        Ok(Some(Open { batch, records, unpacked, cursor: 0, left }))
    }

    fn corrupt(&self, offset: i64, message: &str) -> Error {
        Error::Corrupt { at: self.at.clone(), offset, message: message.into() }
    }
}

impl Open {
    fn record(&mut self, at: &TopicPartition) -> Option<ConsumerRecord> {
        if let Some(unpacked) = &mut self.unpacked {
            return Some(from_plain(unpacked.next()?, at, &self.batch));
        }
        let length = usize::try_from(self.number()?).ok()?;
        let end = self.cursor.checked_add(length).filter(|end| *end <= self.records.len())?;
        // Attributes of a record: none are defined.
        self.cursor += 1;
        let time_delta = self.number()?;
        let offset_delta = self.number()?;
        let key = self.bytes()?;
        let value = self.bytes()?;
        let headers = self.headers()?;
        if self.cursor != end {
            return None;
        }
        let own_time = self.batch.header.base_timestamp.wrapping_add(time_delta);
        Some(ConsumerRecord {
            topic: Arc::clone(&at.topic),
            partition: at.partition,
            offset: self.batch.base_offset.checked_add(offset_delta)?,
            timestamp_ms: self.batch.append_time().unwrap_or(own_time),
            key,
            value,
            headers,
            leader_epoch: known_epoch(&self.batch),
            fencing_epoch: None,
        })
    }

    fn number(&mut self) -> Option<i64> {
        take_varint(&self.records, &mut self.cursor)
    }

    /// Bytes behind their length; −1 means absent.
    fn bytes(&mut self) -> Option<Option<Bytes>> {
        let length = self.number()?;
        if length == -1 {
            return Some(None);
        }
        let end = self.cursor.checked_add(usize::try_from(length).ok()?)?;
        if end > self.records.len() {
            return None;
        }
        let bytes = self.records.slice(self.cursor..end);
        self.cursor = end;
        Some(Some(bytes))
    }

    fn headers(&mut self) -> Option<Vec<Header>> {
        let count = self.number()?;
        // A header takes two bytes at least: a count beyond that is a lie, and must not become an allocation.
        let most = i64::try_from(self.records.len() / 2).ok()?;
        if count == 0 {
            return Some(Vec::new());
        }
        if !(0..=most).contains(&count) {
            return None;
        }
        (0..count).map(|_| Some(Header { key: self.bytes()??, value: self.bytes()? })).collect()
    }
}

fn from_plain(plain: PlainRecord, at: &TopicPartition, batch: &Batch) -> ConsumerRecord {
    let headers = plain.headers.into_iter().map(|(key, value)| Header { key, value });
    ConsumerRecord {
        topic: Arc::clone(&at.topic),
        partition: at.partition,
        offset: plain.offset,
        timestamp_ms: plain.timestamp_ms,
        key: plain.key,
        value: plain.value,
        headers: headers.collect(),
        leader_epoch: known_epoch(batch),
        fencing_epoch: None,
    }
}

fn known_epoch(batch: &Batch) -> Option<i32> {
    (batch.leader_epoch >= 0).then_some(batch.leader_epoch)
}

#[cfg(test)]
#[path = "tests/decode.rs"]
mod tests;
