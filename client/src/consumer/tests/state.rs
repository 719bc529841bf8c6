//! What the driver is told to fetch, in scenes of one partition.

use bytes::{BufMut as _, BytesMut};

use super::*;
use crate::codec::HEADER;

const STREAM: (i32, u64) = (1, 1);

/// One batch of one record, as far as fetching looks at it.
fn batch(leader_epoch: i32) -> Bytes {
    let mut batch = BytesMut::zeroed(HEADER);
    let length = i32::try_from(HEADER - 12).unwrap();
    let mut head = &mut batch[8..16];
    head.put_i32(length);
    head.put_i32(leader_epoch);
    batch.freeze()
}

fn fetched(state: &mut State, epochs: &[i32], next_offset: i64) {
    let batches: BytesMut = epochs.iter().flat_map(|epoch| batch(*epoch)).collect();
    let credit = batches.len();
    let chunk = Chunk { batches: batches.freeze(), next_offset, stream: STREAM, credit };
    assert!(state.fetched(state.slots[0].run, chunk, next_offset));
}

#[test]
fn fetching_goes_on_under_the_epoch_of_what_was_fetched_last_not_of_what_was_handed_out() {
    let mut state = State::new(false);
    state.assign(vec![(TopicPartition::new("t", 0), [1; 16], Some(0))]);
    let wanted = |state: &State| (state.wanted()[0].offset, state.wanted()[0].epoch);
    assert_eq!(wanted(&state), (0, None));
    fetched(&mut state, &[0, 0], 2);
    assert_eq!(wanted(&state), (2, Some(0)));
    // A new leader's batch comes while the application is still at work on the old one's.
    fetched(&mut state, &[0, 3], 4);
    assert_eq!(wanted(&state), (4, Some(3)));
    assert_eq!(state.slots[0].epoch, None, "nothing was handed out");
}

#[test]
fn a_drained_partition_goes_back_to_what_was_handed_out() {
    let mut state = State::new(false);
    let at = TopicPartition::new("t", 0);
    state.assign(vec![(at.clone(), [1; 16], Some(0))]);
    fetched(&mut state, &[3], 1);
    state.drain(&at);
    assert_eq!((state.slots[0].fetch_from, state.slots[0].fetch_epoch), (0, None));
}
