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
        let mut batch = vec![0; HEADER_LEN];
        batch.extend_from_slice(&body);
        let length = i32::try_from(batch.len() - 12).expect("small");
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        batch[22] = codec;
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let _ = decode(batch.into());
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
