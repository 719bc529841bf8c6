//! Owns the bytes of row keys. A signed number is stored with its sign bit turned, so that keys sort as numbers do.

use waymark_proto::ids::{PartitionId, TopicId, TopicPartition};

use super::RowError;

pub(super) const LEADERS: u8 = 1;
pub(super) const PARTITION: u8 = 2;
pub(super) const PRODUCER: u8 = 3;
pub(super) const OFFSET: u8 = 4;
pub(super) const CATALOG: u8 = 5;
pub(super) const TOPIC: u8 = 6;
pub(super) const SHARD_ENTRY: u8 = 7;
pub(super) const DELETED: u8 = 8;
pub(super) const GROUPS: u8 = 9;
pub(super) const GROUP: u8 = 10;
pub(super) const GROUP_EVENT: u8 = 11;
pub(super) const FACT: u8 = 12;
pub(super) const INCARNATIONS: u8 = 13;

/// A key being written.
pub(super) struct KeyWriter(Vec<u8>);

impl KeyWriter {
    pub(super) fn new(tag: u8) -> Self {
        Self(vec![tag])
    }

    pub(super) fn topic(mut self, topic: TopicId) -> Self {
        self.0.extend_from_slice(&topic.0);
        self
    }

    pub(super) fn place(self, at: TopicPartition) -> Self {
        let mut key = self.topic(at.topic);
        key.0.extend_from_slice(&(at.partition.0 ^ i32::MIN).to_be_bytes());
        key
    }

    pub(super) fn int64(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&(number ^ i64::MIN).to_be_bytes());
        self
    }

    pub(super) fn uint32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn uint64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Length first, so that no name is the beginning of another one's keys.
    pub(super) fn text(self, text: &str) -> Self {
        let mut key = self.uint32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        key.0.extend_from_slice(text.as_bytes());
        key
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// A key being read, its tag already taken.
pub(super) struct KeyReader<'a> {
    family: &'static str,
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    pub(super) fn new(family: &'static str, key: &'a [u8]) -> Self {
        Self { family, rest: key }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RowError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(RowError::Key(self.family))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let family = self.family;
        self.take(N)?.try_into().map_err(|_| RowError::Key(family))
    }

    pub(super) fn topic(&mut self) -> Result<TopicId, RowError> {
        Ok(TopicId(self.array()?))
    }

    pub(super) fn place(&mut self) -> Result<TopicPartition, RowError> {
        let topic = self.topic()?;
        let partition = PartitionId(i32::from_be_bytes(self.array()?) ^ i32::MIN);
        Ok(TopicPartition { topic, partition })
    }

    pub(super) fn int64(&mut self) -> Result<i64, RowError> {
        Ok(i64::from_be_bytes(self.array()?) ^ i64::MIN)
    }

    pub(super) fn uint32(&mut self) -> Result<u32, RowError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn uint64(&mut self) -> Result<u64, RowError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, RowError> {
        let family = self.family;
        let len = usize::try_from(self.uint32()?).map_err(|_| RowError::Key(family))?;
        std::str::from_utf8(self.take(len)?).map_err(|_| RowError::Key(family))
    }

    pub(super) fn finish(self) -> Result<(), RowError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RowError::Key(self.family)) }
    }
}

/// A key that is a place and nothing else.
pub(super) fn read_place(family: &'static str, key: &[u8]) -> Result<TopicPartition, RowError> {
    let mut reader = KeyReader::new(family, key);
    let at = reader.place()?;
    reader.finish().map(|()| at)
}
