//! Kafka's own segment files, read by this decoder, against what Kafka's own reader says of them.

use bytes::BytesMut;
use serde_json::Value;

use super::*;

const FILES: [(&[u8], &str); 5] = [
    (
        include_bytes!("../../../tests/data/batches-none.log"),
        include_str!("../../../tests/data/batches-none.jsonl"),
    ),
    (
        include_bytes!("../../../tests/data/batches-gzip.log"),
        include_str!("../../../tests/data/batches-gzip.jsonl"),
    ),
    (
        include_bytes!("../../../tests/data/batches-snappy.log"),
        include_str!("../../../tests/data/batches-snappy.jsonl"),
    ),
    (
        include_bytes!("../../../tests/data/batches-lz4.log"),
        include_str!("../../../tests/data/batches-lz4.jsonl"),
    ),
    (
        include_bytes!("../../../tests/data/batches-zstd.log"),
        include_str!("../../../tests/data/batches-zstd.jsonl"),
    ),
];

fn decoder(bytes: &[u8]) -> Decoder {
    Decoder::new(TopicPartition::new("t", 0), Bytes::copy_from_slice(bytes), true)
}

fn all(decoder: &mut Decoder, from: i64) -> Vec<ConsumerRecord> {
    std::iter::from_fn(|| decoder.next_from(from).unwrap()).collect()
}

fn hex(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str()?;
    let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    Some((0..text.len()).step_by(2).map(byte).collect())
}

#[test]
fn kafkas_batches_of_every_codec_decode_to_kafkas_records() {
    for (log, lines) in FILES {
        let records = all(&mut decoder(log), 0);
        let expected: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line.get("offset").is_some())
            .collect();
        assert_eq!(records.len(), expected.len());
        for (record, expected) in records.iter().zip(&expected) {
            assert_eq!(Some(record.offset), expected["offset"].as_i64());
            assert_eq!(Some(record.timestamp_ms), expected["timestamp"].as_i64());
            assert_eq!(record.key.as_deref().map(<[u8]>::to_vec), hex(&expected["key"]));
            assert_eq!(record.value.as_deref().map(<[u8]>::to_vec), hex(&expected["value"]));
            let headers = expected["headers"].as_array().unwrap();
            assert_eq!(record.headers.len(), headers.len());
            for (header, pair) in record.headers.iter().zip(headers) {
                assert_eq!(std::str::from_utf8(&header.key).unwrap(), pair[0].as_str().unwrap());
                assert_eq!(header.value.as_deref().map(<[u8]>::to_vec), hex(&pair[1]));
            }
        }
    }
}

#[test]
fn records_below_the_position_are_dropped() {
    let records = all(&mut decoder(FILES[0].0), 17);
    assert_eq!((records[0].offset, records.len()), (17, 48 - 17));
}

#[test]
fn a_flipped_bit_is_found_by_the_checksum_and_ends_nothing_in_a_panic() {
    let log = FILES[0].0;
    for at in (0..log.len()).step_by(7) {
        let mut bad = BytesMut::from(log);
        bad[at] ^= 0x10;
        for check in [true, false] {
            let at = TopicPartition::new("t", 0);
            let mut decoder = Decoder::new(at, bad.clone().freeze(), check);
            for _ in 0..1000 {
                if !matches!(decoder.next_from(0), Ok(Some(_))) {
                    break;
                }
            }
        }
    }
    let mut bad = BytesMut::from(log);
    bad[100] ^= 1;
    let mut decoder = decoder(&bad);
    assert!(matches!(decoder.next_from(0), Err(Error::Corrupt { .. })));
}

#[test]
fn a_batch_cut_short_is_corrupt_not_silently_skipped() {
    let log = FILES[0].0;
    let mut decoder = decoder(&log[..log.len() - 1]);
    let mut read = 0;
    let outcome = loop {
        match decoder.next_from(0) {
            Ok(Some(_)) => read += 1,
            other => break other,
        }
    };
    assert_eq!(read, 36, "three whole batches");
    assert!(matches!(outcome, Err(Error::Corrupt { .. })));
}

/// It was found by the fuzz target: one less than the least number is none.
#[test]
fn a_batch_that_counts_below_zero_is_corrupt() {
    let mut bad = BytesMut::from(FILES[0].0);
    bad[57..61].copy_from_slice(&i32::MIN.to_be_bytes());
    let mut decoder = Decoder::new(TopicPartition::new("t", 0), bad.freeze(), false);
    assert!(matches!(decoder.next_from(0), Err(Error::Corrupt { .. })));
}
