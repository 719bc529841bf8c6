//! Fuzz targets: whatever a disk gives, the journal's decoders refuse or read it, and never panic. What a checksum would stop
//! is given a good one, so that the fields behind it are read too. `cargo test` runs each for a moment with random bytes;
//! `cargo bolero test` runs one for as long as it is let, guided by coverage.

use bolero::check;
use bytes::Bytes;

use super::flush::Flush;
use super::frame::Frame;
use super::header::{CRC_AT, FlushHeader, HEADER};

#[test]
fn no_bytes_make_the_frame_decoder_panic() {
    check!().for_each(|bytes: &[u8]| {
        drop(Frame::decode(&Bytes::copy_from_slice(bytes)));
        let Some(len) = bytes.len().checked_sub(super::frame::HEAD) else { return };
        let mut sealed = bytes.to_vec();
        sealed[4..8].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        let crc = crc32c::crc32c(&sealed[4..]);
        sealed[..4].copy_from_slice(&crc.to_le_bytes());
        if let Some((_, found, taken)) = Frame::decode(&sealed.into()) {
            assert_eq!((found, taken), (crc, bytes.len()));
        }
    });
}

#[test]
fn no_bytes_make_the_flush_decoders_panic() {
    check!().for_each(|bytes: &[u8]| {
        let _ = FlushHeader::decode(bytes);
        let _ = FlushHeader::newer_version(bytes);
        drop(Flush::decode(&Bytes::copy_from_slice(bytes)));
        if bytes.len() < HEADER {
            return;
        }
        let mut sealed = bytes.to_vec();
        let crc = crc32c::crc32c(&sealed[..CRC_AT]);
        sealed[CRC_AT..HEADER].copy_from_slice(&crc.to_le_bytes());
        let end = sealed.len() - HEADER;
        let opening = sealed[..HEADER].to_vec();
        sealed[end..].copy_from_slice(&opening);
        let _ = FlushHeader::newer_version(&sealed);
        drop(Flush::decode(&sealed.into()));
    });
}
