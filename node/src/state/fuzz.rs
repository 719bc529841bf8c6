//! Fuzz targets: whatever stands in a committed entry or in a checkpoint's rows, it is refused or read, and never panics: every
//! replica would fall over at the same entry.

use bolero::check;
use bytes::Bytes;
use waymark_proto::ids::ShardId;

use super::batch::{BatchHeader, stamp};
use super::command::Command;
use super::shard::ShardState;

/// The first byte of a command, one that is known and one that is not yet.
const VERSIONS: [u8; 2] = [1, 2];

#[test]
fn no_bytes_make_the_command_decoder_panic() {
    check!().for_each(|bytes: &[u8]| {
        for version in VERSIONS {
            let payload: Bytes = std::iter::once(version).chain(bytes.iter().copied()).collect();
            let Ok(command) = Command::decode(payload) else { continue };
            assert_eq!(Command::decode(command.encode()), Ok(command));
        }
    });
}

#[test]
fn no_bytes_make_the_reader_of_batch_headers_panic() {
    check!().for_each(|bytes: &[u8]| {
        let _ = BatchHeader::read(bytes);
        let mut whole = vec![0; 12];
        whole.extend_from_slice(bytes);
        whole[8..12].copy_from_slice(&u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
        let _ = BatchHeader::read(&whole);
        let _ = stamp(&whole, i64::MAX, i32::MAX);
    });
}

#[test]
fn no_rows_make_a_state_panic() {
    check!().with_type::<Vec<(u8, Vec<u8>, Vec<u8>)>>().for_each(|rows| {
        let tagged = |(family, key, value): &(u8, Vec<u8>, Vec<u8>)| {
            let key = std::iter::once(family % 32).chain(key.iter().copied()).collect();
            (key, value.clone())
        };
        let rows: Vec<(Vec<u8>, Vec<u8>)> = rows.iter().map(tagged).collect();
        drop(ShardState::from_rows(ShardId::CATALOG, &rows));
        drop(ShardState::from_rows(ShardId(1), &rows));
    });
}
