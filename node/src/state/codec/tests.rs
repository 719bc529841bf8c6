//! Tests of the codec: what goes in comes back, and nothing that is damaged or refused leaves a trace.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::state::batch::tests::batch;
use crate::state::command::{Produce, ProduceItem};
use crate::state::tests::arbitrary;

proptest! {
    #[test]
    fn a_command_reads_back_from_its_bytes(command in arbitrary::command()) {
        prop_assert_eq!(Command::decode(command.encode()), Ok(command));
    }

    #[test]
    fn random_bytes_are_a_command_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Command::decode(Bytes::from(bytes.clone()));
        if let Some(first) = bytes.first_mut() {
            *first = FORMAT_VERSION;
        }
        let _ = Command::decode(Bytes::from(bytes));
    }

    #[test]
    fn a_damaged_command_is_a_command_or_an_error(
        command in arbitrary::command(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = command.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Command::decode(Bytes::from(bytes));
    }
}

fn produce(sent: &Bytes) -> Command {
    let item =
        ProduceItem { at: Default::default(), expected_base_offset: None, batch: sent.clone() };
    Command::Produce(Produce { append_time_ms: 1, items: vec![item] })
}

#[test]
fn a_decoded_batch_is_a_slice_of_the_entry() {
    let entry = produce(&batch(None, 1, 100)).encode();
    let Ok(Command::Produce(decoded)) = Command::decode(entry.clone()) else { panic!("a produce") };
    assert!(entry.as_ptr_range().contains(&decoded.items[0].batch.as_ptr()));
}

#[test]
fn an_unknown_version_and_an_unknown_command_are_told_apart() {
    assert_eq!(Command::decode(Bytes::new()), Err(DecodeError::Empty));
    assert_eq!(Command::decode(Bytes::from_static(&[2])), Err(DecodeError::Version(2)));
    // Field 500 of the command, empty: what a later version might write.
    let later = Bytes::from_static(&[FORMAT_VERSION, 0xa2, 0x1f, 0]);
    assert_eq!(Command::decode(later), Err(DecodeError::UnknownCommand));
}

#[test]
fn a_shown_command_tells_no_payload() {
    let mut secret = batch(None, 1, 100).to_vec();
    secret[70..76].copy_from_slice(b"secret");
    let shown = produce(&Bytes::from(secret)).to_string();
    assert_eq!(shown, "produce 1 batches of 100 bytes");
}
