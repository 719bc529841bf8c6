//! Fuzz targets: whatever a client sends or a node answers, the batch decoder refuses or reads it, and never panics.

use bolero::check;
use bytes::Bytes;

use crate::batch;

#[test]
fn no_bytes_make_the_batch_decoder_panic() {
    check!().for_each(|bytes: &[u8]| {
        drop(batch::decode(Bytes::copy_from_slice(bytes)));
    });
}

/// A batch whose length is right, so that its header and its records are read.
#[test]
fn no_records_make_the_batch_decoder_panic() {
    check!().for_each(|bytes: &[u8]| {
        let mut whole = vec![0; 12];
        whole.extend_from_slice(bytes);
        whole[8..12].copy_from_slice(&i32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
        // Magic 2, and any compression or none.
        if let Some(magic) = whole.get_mut(16) {
            *magic = 2;
        }
        if whole.len() > 21 {
            let crc = crc32c::crc32c(&whole[21..]);
            whole[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        drop(batch::decode(whole.into()));
    });
}
