//! What a group does to the state, on real batches.

use bytes::Bytes;

use super::super::Chunk;
use super::*;

const BATCHES: &[u8] = include_bytes!("../../../../tests/data/batches-none.log");

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

/// Partitions 0 to 2, flowing under epoch 10.
fn state() -> State {
    let mut state = State::new(true);
    for partition in 0..3 {
        state.take_on((at(partition), [7; 16]), 10, 0);
        state.release(&at(partition), 10);
    }
    state
}

fn fetch(state: &mut State, partition: i32, batches: &'static [u8], next_offset: i64) {
    let run = state.slot(&at(partition)).unwrap().run;
    let chunk = Chunk {
        batches: Bytes::from_static(batches),
        next_offset,
        stream: (1, 1),
        credit: batches.len(),
    };
    state.fetched(run, chunk, next_offset);
}

fn hand_out(state: &mut State, most: usize) -> Vec<(i32, i64, Option<i64>)> {
    let mut records = Vec::new();
    state.hand_out(most, &mut records).unwrap();
    records.iter().map(|r| (r.partition, r.offset, r.fencing_epoch)).collect()
}

#[test]
fn nothing_is_handed_out_or_fetched_before_the_application_knows() {
    let mut state = State::new(true);
    state.take_on((at(0), [7; 16]), 10, 0);
    assert!(state.wanted().is_empty());
    assert!(state.positions(true).is_empty(), "nor committed");
    state.release(&at(0), 9);
    assert!(state.wanted().is_empty(), "released under another ownership");
    state.release(&at(0), 10);
    assert_eq!(state.wanted().len(), 1);
}

#[test]
fn draining_stops_one_partition_and_gives_its_credit_back() {
    let mut state = state();
    fetch(&mut state, 0, BATCHES, 1000);
    fetch(&mut state, 1, BATCHES, 1000);
    assert_eq!(hand_out(&mut state, 1), [(0, 0, Some(10))]);
    state.drain(&at(0));
    assert_eq!(state.returned((1, 1)), i64::try_from(BATCHES.len()).unwrap());
    assert_eq!(hand_out(&mut state, 1), [(1, 0, Some(10))]);
    assert!(state.has_in_hand(&at(0)));
    state.finish_handed();
    assert!(!state.has_in_hand(&at(0)));
    assert_eq!(state.let_go(&at(0)).unwrap().offset, 1);
}

#[test]
fn a_frame_on_its_way_while_draining_does_not_move_the_position() {
    let mut state = state();
    fetch(&mut state, 0, BATCHES, 1000);
    assert_eq!(hand_out(&mut state, 1).len(), 1);
    let old_run = state.slot(&at(0)).unwrap().run;
    state.drain(&at(0));
    let late = Chunk { batches: Bytes::new(), next_offset: 2000, stream: (1, 1), credit: 0 };
    assert!(!state.fetched(old_run, late, 2000));
    assert_eq!(state.let_go(&at(0)).unwrap().offset, 1);
}

#[test]
fn letting_one_go_forgets_nothing_of_what_is_in_hand_of_others() {
    let mut state = state();
    fetch(&mut state, 2, BATCHES, 1000);
    assert_eq!(hand_out(&mut state, 1), [(2, 0, Some(10))]);
    state.let_go(&at(0));
    assert!(state.has_in_hand(&at(2)) && !state.has_in_hand(&at(1)));
    state.finish_handed();
    assert_eq!(state.positions(true)[&at(2)].offset, 1);
    assert_eq!(hand_out(&mut state, 1), [(2, 1, Some(10))], "it goes on where it was");
}

#[test]
fn what_is_in_hand_keeps_its_ownership_over_a_reset() {
    let mut state = state();
    fetch(&mut state, 0, BATCHES, 1000);
    hand_out(&mut state, 1);
    state.take_on((at(0), [7; 16]), 11, 50);
    state.release(&at(0), 11);
    assert_eq!(state.epoch_in_hand(&at(0)).unwrap(), Some(10));
    assert_eq!(state.positions(false)[&at(0)].fencing_epoch, Some(10));
    let finished = &state.positions(true)[&at(0)];
    assert_eq!((finished.offset, finished.fencing_epoch), (50, Some(11)));
    state.finish_handed();
    assert_eq!(state.epoch_in_hand(&at(0)).unwrap(), Some(11));
}

#[test]
fn an_idle_frame_behind_fetched_batches_does_not_skip_them_while_paused() {
    let mut state = state();
    fetch(&mut state, 0, BATCHES, 1000);
    state.set_paused(&at(0), true).unwrap();
    fetch(&mut state, 0, &[], 1500);
    state.set_paused(&at(0), false).unwrap();
    assert_eq!(hand_out(&mut state, 1), [(0, 0, Some(10))]);
}

#[test]
fn a_partition_without_a_start_has_nothing_to_commit_until_the_application_seeks() {
    let mut state = State::new(true);
    state.take_on((at(0), [7; 16]), 10, 0);
    state.cannot_start(&at(0), Error::NoGroup);
    state.release(&at(0), 10);
    assert!(state.positions(true).is_empty() && state.wanted().is_empty());
    state.seek(&at(0), 7).unwrap();
    assert_eq!(state.positions(true)[&at(0)].offset, 7);
    assert_eq!(state.wanted().len(), 1);
}
