//! Plain records: from the wire to a batch's records, and back.

use std::collections::BTreeMap;

use bytes::Bytes;
use waymark_proto::batch::{BadBatch, Compression, PlainRecord, ProducerStamp};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::partitioner::partition_for_key;
use waymark_proto::v1;

use super::fields::{count, known, optional};
use crate::api::refusal::{invalid, missing, refuse, too_large};

/// Records of one append, and of one read.
pub(in crate::api) const MAX_RECORDS: usize = 10_000;
/// Bytes of keys, values and headers of one append.
const MAX_BYTES: usize = 4 << 20;

/// The codec that is asked for.
pub(in crate::api) fn compression(asked: i32) -> Result<Compression, Failure> {
    Ok(match known("compression", asked)? {
        v1::Compression::Unspecified | v1::Compression::None => Compression::None,
        v1::Compression::Gzip => Compression::Gzip,
        v1::Compression::Snappy => Compression::Snappy,
        v1::Compression::Lz4 => Compression::Lz4,
        v1::Compression::Zstd => Compression::Zstd,
    })
}

/// Checks what concerns the whole append.
pub(in crate::api) fn append_head(request: &v1::AppendRequest) -> Result<(), Failure> {
    if request.records.is_empty() {
        return Err(missing("records"));
    }
    if request.records.len() > MAX_RECORDS {
        return Err(too_large("records of a call", MAX_RECORDS as i64));
    }
    let bytes: usize = request.records.iter().map(size).sum();
    if bytes > MAX_BYTES {
        return Err(too_large("bytes of records of a call", MAX_BYTES as i64));
    }
    if request.producer.is_some() && request.partition.is_none() {
        return Err(missing("partition, which a producer needs"));
    }
    optional("expected_base_offset", request.expected_base_offset)?;
    if request.expected_base_offset.is_some() && request.partition.is_none() {
        return Err(missing("partition, which expected_base_offset needs"));
    }
    crate::api::convert::produce::durability(request.durability)
}

fn size(record: &v1::LogRecord) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize =
        record.headers.iter().map(|header| header.key.len() + length(&header.value)).sum();
    length(&record.key) + length(&record.value) + headers
}

/// Who appends.
pub(in crate::api) fn producer(
    given: Option<&v1::ProducerRef>,
) -> Result<Option<ProducerStamp>, Failure> {
    let Some(given) = given else { return Ok(None) };
    let epoch = count("producer.producer_epoch", given.producer_epoch)?;
    Ok(Some(ProducerStamp {
        id: count("producer.producer_id", given.producer_id)?,
        epoch: i16::try_from(epoch)
            .map_err(|_| invalid("producer.producer_epoch", "at most 32767"))?,
        base_sequence: count("producer.base_sequence", given.base_sequence)?,
    }))
}

/// Positions of the records of each partition, in the order of each partition's first record.
pub(in crate::api) fn by_partition(
    records: &[v1::LogRecord],
    given: Option<i32>,
    partitions: i32,
    keyless: i32,
) -> Vec<(i32, Vec<usize>)> {
    let mut groups: Vec<(i32, Vec<usize>)> = Vec::new();
    let mut places: BTreeMap<i32, usize> = BTreeMap::new();
    for (position, record) in records.iter().enumerate() {
        let picked = || match &record.key {
            Some(key) => partition_for_key(key, partitions),
            None => keyless,
        };
        let partition = given.unwrap_or_else(picked);
        let place = *places.entry(partition).or_insert(groups.len());
        if place == groups.len() {
            groups.push((partition, Vec::new()));
        }
        groups[place].1.push(position);
    }
    groups
}

/// A record for a batch.
pub(in crate::api) fn plain(record: &v1::LogRecord, now_ms: i64) -> Result<PlainRecord, Failure> {
    let headers = record.headers.iter();
    let headers = headers.map(|header| (Bytes::from(header.key.clone()), header.value.clone()));
    Ok(PlainRecord {
        key: record.key.clone(),
        value: record.value.clone(),
        headers: headers.collect(),
        timestamp_ms: optional("timestamp_ms", record.timestamp_ms)?.unwrap_or(now_ms),
        offset: 0,
    })
}

/// A record that was read. Header keys that are not UTF-8 are mended, because protobuf would refuse the whole message.
pub(in crate::api) fn log_record(record: PlainRecord) -> v1::LogRecord {
    let headers = record
        .headers
        .into_iter()
        .map(|(key, value)| v1::Header { key: String::from_utf8_lossy(&key).into_owned(), value });
    v1::LogRecord {
        key: record.key,
        value: record.value,
        headers: headers.collect(),
        timestamp_ms: Some(record.timestamp_ms),
        offset: Some(record.offset),
    }
}

/// Stored batches are checked at the door, but their inner records are the producer's word.
pub(in crate::api) fn unreadable(error: &BadBatch) -> Failure {
    refuse(FailureCode::CorruptBatch, format!("the stored batch cannot be decoded: {error}"))
}

/// How much of a read is returned.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Page {
    pub(in crate::api) records: usize,
    pub(in crate::api) bytes: usize,
}

/// The records from `offset` on that fit, and where to go on: behind the last of them, or `next` if all fit.
pub(in crate::api) fn page(
    records: Vec<PlainRecord>,
    (offset, next): (i64, i64),
    page: Page,
) -> (Vec<v1::LogRecord>, i64) {
    let (mut out, mut bytes) = (Vec::new(), 0usize);
    for record in records.into_iter().filter(|record| record.offset >= offset) {
        let record = log_record(record);
        let size = size(&record);
        let full = out.len() >= page.records || bytes + size > page.bytes;
        if full && !out.is_empty() {
            return (out, record.offset.unwrap_or(next));
        }
        bytes += size;
        out.push(record);
    }
    (out, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(key: Option<&str>) -> v1::LogRecord {
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        v1::LogRecord { key, ..v1::LogRecord::default() }
    }

    #[test]
    fn records_go_where_kafkas_partitioner_sends_their_keys() {
        let records = [keyed(Some("a")), keyed(None), keyed(Some("ab")), keyed(Some("a"))];
        let groups = by_partition(&records, None, 3, 0);
        assert_eq!(groups, [(1, vec![0, 3]), (0, vec![1]), (2, vec![2])]);
        assert_eq!(by_partition(&records, Some(7), 3, 0), [(7, vec![0, 1, 2, 3])]);
    }

    #[test]
    fn a_producer_needs_a_partition() {
        let request = v1::AppendRequest {
            records: vec![keyed(None)],
            producer: Some(v1::ProducerRef::default()),
            ..v1::AppendRequest::default()
        };
        assert_eq!(
            append_head(&request).expect_err("no partition").code,
            FailureCode::InvalidArgument
        );
    }

    #[test]
    fn a_page_begins_at_the_offset_asked_for_and_ends_at_its_limits() {
        let stored = |offset| PlainRecord {
            value: Some(Bytes::from_static(b"12345")),
            offset,
            ..PlainRecord::default()
        };
        let records: Vec<_> = (10..20).map(stored).collect();
        let (all, next) = page(records.clone(), (15, 20), Page { records: 100, bytes: 1_000 });
        assert_eq!((all.len(), next), (5, 20));
        let (two, next) = page(records.clone(), (15, 20), Page { records: 2, bytes: 1_000 });
        assert_eq!((two.len(), next), (2, 17));
        let (one, next) = page(records, (15, 20), Page { records: 100, bytes: 1 });
        assert_eq!((one.len(), next), (1, 16), "one record is always returned");
    }

    #[test]
    fn a_header_key_that_is_not_utf8_is_mended() {
        let headers = vec![(Bytes::from_static(b"\xff"), None)];
        let record = log_record(PlainRecord { headers, ..PlainRecord::default() });
        assert_eq!(record.headers[0].key, "\u{fffd}");
    }
}
