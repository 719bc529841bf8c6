//! What the driver is asked to fetch, by what has been fetched and handed out.

use bytes::{BufMut as _, BytesMut};

use super::*;

/// Two batches of one record at offsets 0 and 1, appended under these leader epochs.
fn batches(epochs: [i32; 2]) -> Bytes {
    let log = include_bytes!("../../../tests/data/batches-none.log");
    let mut rest = Bytes::from_static(log);
    let first = crate::codec::Batch::split_from(&mut rest, true).unwrap();
    let mut all = BytesMut::new();
    for epoch in epochs {
        let mut batch = BytesMut::from(&first.whole[..]);
        (&mut batch[12..16]).put_i32(epoch);
        all.extend_from_slice(&batch);
    }
    all.freeze()
}

#[test]
fn reading_goes_on_under_the_epoch_of_what_was_fetched_not_of_what_was_handed_out() {
    let mut state = State::new(false);
    state.assign(vec![(TopicPartition::new("t", 0), [7; 16], Some(0))]);
    let run = state.wanted()[0].run;
    assert_eq!(state.wanted()[0].epoch, None, "nothing was read");
    let chunk = |batches, next_offset| Chunk { batches, next_offset, stream: (1, 1), credit: 0 };
    state.fetched(run, chunk(batches([1, 2]), 20), 20);
    state.hand_out(1, &mut Vec::new()).unwrap();
    let wanted = &state.wanted()[0];
    assert_eq!((wanted.offset, wanted.epoch), (20, Some(2)), "a leader may change here");
    state.fetched(run, chunk(Bytes::new(), 20), 20);
    assert_eq!(state.wanted()[0].epoch, Some(2), "nothing came");
}
