//! Batches of our own read back, damaged ones are refused, and nothing panics.

use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn optional_bytes() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from))
}

fn record() -> impl Strategy<Value = PlainRecord> {
    let header = (prop::collection::vec(any::<u8>(), 0..8).prop_map(Bytes::from), optional_bytes());
    let headers = prop::collection::vec(header, 0..4);
    (optional_bytes(), optional_bytes(), headers, -1_000..1_000_000i64).prop_map(
        |(key, value, headers, timestamp_ms)| PlainRecord {
            key,
            value,
            headers,
            timestamp_ms,
            offset: 0,
        },
    )
}

fn numbered(mut records: Vec<PlainRecord>) -> Vec<PlainRecord> {
    for (offset, record) in (0..).zip(&mut records) {
        record.offset = offset;
    }
    records
}

/// A batch around records as they are, so many by its own word, under a right CRC.
fn batch_of(body: &[u8], codec: u8, count: i32) -> Bytes {
    let mut batch = vec![0; HEADER_LEN];
    batch.extend_from_slice(body);
    let length = i32::try_from(batch.len() - 12).expect("small");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[22] = codec;
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A record without key, value and headers.
const LEAST: [u8; LEAST_RECORD] = [12, 0, 0, 0, 1, 1, 0];

proptest! {
    #[test]
    fn every_codec_gives_the_records_back(
        records in prop::collection::vec(record(), 1..30),
        codec in 0..5usize,
    ) {
        let batch = encode(&records, CODECS[codec], None).expect("records");
        prop_assert_eq!(decode(batch).expect("our own batch"), numbered(records));
    }

    #[test]
    fn a_damaged_batch_is_refused(
        records in prop::collection::vec(record(), 1..5),
        codec in 0..5usize,
        at in any::<prop::sample::Index>(),
    ) {
        let mut batch = encode(&records, CODECS[codec], None).expect("records").to_vec();
        // Base offset and leader epoch lie outside of the CRC.
        let at = 16 + at.index(batch.len() - 16);
        batch[at] ^= 0x55;
        prop_assert!(decode(batch.into()).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(bytes.into());
    }

    #[test]
    fn no_records_under_a_right_crc_panic(
        body in prop::collection::vec(any::<u8>(), 0..120),
        codec in 0..8u8,
        count in any::<i32>(),
    ) {
        let _ = decode(batch_of(&body, codec, count));
    }
}

#[test]
fn a_producers_stamp_stands_in_the_header() {
    let producer = ProducerStamp { id: 77, epoch: 3, base_sequence: 12 };
    let batch = encode(&[PlainRecord::default()], Compression::None, Some(producer)).expect("one");
    assert_eq!(batch[43..51], 77i64.to_be_bytes());
    assert_eq!(batch[51..53], 3i16.to_be_bytes());
    assert_eq!(batch[53..57], 12i32.to_be_bytes());
}

#[test]
fn a_small_batch_cannot_fill_the_memory() {
    let large =
        PlainRecord { value: Some(Bytes::from(vec![0; MAX_DECOMPRESSED])), ..Default::default() };
    let batch = encode(&[large], Compression::Zstd, None).expect("one record");
    assert!(batch.len() < 1 << 20);
    assert_eq!(decode(batch), Err(BadBatch("too large once decompressed")));
}

#[test]
fn a_count_is_worth_no_more_than_the_bytes_behind_it() {
    assert_eq!(decode(batch_of(&LEAST, 0, 1)).map(|records| records.len()), Ok(1));
    let beyond = BadBatch("a count that its bytes cannot hold");
    assert_eq!(decode(batch_of(&LEAST, 0, 2)), Err(beyond.clone()));
    assert_eq!(decode(batch_of(&LEAST, 0, i32::MAX)), Err(beyond.clone()));
    assert_eq!(decode(batch_of(&LEAST, 0, -1)), Err(BadBatch("a negative count")));
    let headers = [12, 0, 0, 0, 1, 1, 2];
    assert_eq!(decode(batch_of(&headers, 0, 1)), Err(beyond));
    let negative = [12, 0, 0, 0, 1, 1, 1];
    assert_eq!(decode(batch_of(&negative, 0, 1)), Err(BadBatch("a negative count")));
}

#[test]
fn what_follows_the_last_header_or_the_last_record_is_refused() {
    let long = [14, 0, 0, 0, 1, 1, 0, 9];
    let after_headers = BadBatch("bytes after a record's headers");
    assert_eq!(decode(batch_of(&long, 0, 1)), Err(after_headers));
    let two = [LEAST, LEAST].concat();
    assert_eq!(decode(batch_of(&two, 0, 1)), Err(BadBatch("bytes after its records")));
    assert_eq!(decode(batch_of(&LEAST, 0, 0)), Err(BadBatch("bytes after its records")));
}

#[test]
fn a_small_batch_of_millions_of_records_is_refused_before_they_are_made() {
    let count = 8_000_000;
    let body = Compression::Zstd.compress(LEAST.repeat(count).into()).expect("compressible");
    assert!(body.len() < 1 << 16);
    let count = i32::try_from(count).expect("fits");
    assert_eq!(decode(batch_of(&body, 4, count)), Err(TOO_MUCH));
}

#[test]
fn all_batches_of_a_call_share_its_memory() {
    let one = batch_of(&LEAST.repeat(100), 0, 100);
    let need = 100 * (size_of::<PlainRecord>() + LEAST.len());
    assert_eq!(decode_within(one.clone(), need).map(|records| records.len()), Ok(100));
    let two = Bytes::from([&one[..], &one[..]].concat());
    assert_eq!(decode_within(two.clone(), 2 * need - 1), Err(TOO_MUCH));
    assert_eq!(decode_within(two, 2 * need).map(|records| records.len()), Ok(200));
}
