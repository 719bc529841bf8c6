//! The batch format and the partitioner, held against files that Apache Kafka 4.3.1 and its Java producer wrote: segment
//! files in all five codecs, and beside each what Kafka's own reader says of it.

use std::path::PathBuf;

use bytes::Bytes;
use serde_json::{Value, json};
use waymark_proto::batch::{PlainRecord, decode};
use waymark_proto::partitioner::{murmur2, partition_for_key};

fn data(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(data(file)).expect("a file of the test")
}

fn hex(bytes: Option<&Bytes>) -> Value {
    bytes.map_or(Value::Null, |bytes| {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    })
}

/// A record as Kafka's reader writes it down.
fn described(record: &PlainRecord) -> Value {
    let headers = record.headers.iter();
    let headers: Vec<Value> = headers
        .map(|(key, value)| json!([String::from_utf8_lossy(key), hex(value.as_ref())]))
        .collect();
    json!({
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": hex(record.key.as_ref()),
        "value": hex(record.value.as_ref()),
        "headers": headers,
    })
}

#[test]
fn kafkas_own_batches_of_every_codec_decode_to_its_own_records() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let segment =
            std::fs::read(data(&format!("batches-{codec}.log"))).expect("a file of the test");
        let records = decode(segment.into()).expect("Kafka's batches");
        let lines = text(&format!("batches-{codec}.jsonl"));
        let lines = lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
        let expected: Vec<Value> =
            lines.filter(|line: &Value| line.get("batch").is_none()).collect();
        assert_eq!(records.len(), expected.len(), "{codec}");
        for (record, mut expected) in records.iter().zip(expected) {
            expected.as_object_mut().expect("an object").remove("sequence");
            assert_eq!(described(record), expected, "{codec}");
        }
    }
}

#[test]
fn every_key_goes_where_kafkas_partitioner_sends_it() {
    let table = text("murmur2.tsv");
    let rows: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(rows.len() > 50);
    for row in rows {
        let fields: Vec<&str> = row.split('\t').collect();
        let digits =
            fields[0].as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex"));
        let key: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect();
        let number = |field: &str| field.parse::<i32>().expect("a number");
        assert_eq!(murmur2(&key).cast_signed(), number(fields[1]), "{row}");
        for (partitions, field) in [(3, fields[2]), (12, fields[3]), (50, fields[4])] {
            assert_eq!(partition_for_key(&key, partitions), number(field), "{row}");
        }
    }
}
