//! Fuzz targets: whatever a disk or a peer gives, the decoders of segments and checkpoints refuse or read it, and never panic.
//! What a checksum would stop is given a good one.

use bolero::check;
use bytes::Bytes;

use super::frame::{self, Decoded, Head};
use super::manifest;

#[test]
fn no_bytes_make_the_frame_decoders_panic() {
    check!().for_each(|bytes: &[u8]| {
        let _ = Head::read(bytes);
        let _ = frame::batch_len(bytes);
        if let Decoded::Whole(stored) = frame::decode(bytes) {
            assert!(stored.len <= bytes.len());
        }
    });
}

#[test]
fn no_bytes_make_the_checkpoint_decoder_panic() {
    check!().for_each(|bytes: &[u8]| {
        let encoded = Bytes::copy_from_slice(bytes);
        drop(manifest::from_file(&encoded));
        drop(manifest::decode(encoded.clone()));
        let back = manifest::from_file(&manifest::to_file(&encoded));
        assert_eq!(back.ok(), Some(encoded));
    });
}
