//! Fuzz targets: whatever a node answers, it is read or refused in words, and never panics.

use bolero::check;
use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};
use waymark_proto::v1 as wire;

use super::decode::Decoder;
use crate::record::TopicPartition;
use crate::refusal::{check as judged, from_status};

fn read_all(bytes: Bytes, check_crcs: bool, from: i64) {
    let mut decoder = Decoder::new(TopicPartition::new("t", 0), bytes, check_crcs);
    while let Ok(Some(_)) = decoder.next_from(from) {}
}

#[test]
fn no_bytes_make_a_consumer_panic() {
    check!().with_type::<(Vec<u8>, bool, i64)>().for_each(|(bytes, check_crcs, from)| {
        read_all(Bytes::copy_from_slice(bytes), *check_crcs, *from);
    });
}

/// A batch whose length and checksum are right, so that its header and its records are read.
#[test]
fn no_records_make_a_consumer_panic() {
    check!().with_type::<(Vec<u8>, i64)>().for_each(|(bytes, from)| {
        let mut whole = vec![0; 12];
        whole.extend_from_slice(bytes);
        whole.resize(whole.len().max(61), 0);
        let length = i32::try_from(whole.len() - 12).unwrap_or(0);
        whole[8..12].copy_from_slice(&length.to_be_bytes());
        whole[16] = 2;
        let crc = crc32c::crc32c(&whole[21..]);
        whole[17..21].copy_from_slice(&crc.to_be_bytes());
        read_all(whole.into(), true, *from);
    });
}

#[test]
fn no_refusal_makes_a_client_panic() {
    check!().for_each(|bytes: &[u8]| {
        if let Ok(failure) = wire::Failure::decode(bytes)
            && let Err(error) = judged(Some(&failure))
        {
            let _ = (error.class(), error.to_string());
        }
        let mut status = Status::with_details(Code::Unavailable, "why", bytes.to_vec().into());
        let code = bytes.first().copied().unwrap_or(0);
        status.metadata_mut().insert("waymark-code", i32::from(code).into());
        let _ = from_status(&status);
    });
}
