//! The cursors against a client that keeps its own books.

use std::collections::BTreeSet;

use proptest::prelude::*;
use waymark_proto::ids::{PartitionId, TopicId};

use super::*;

fn position(offset: i64) -> Position {
    let at = TopicPartition { topic: TopicId([9; 16]), partition: PartitionId(0) };
    Position { at, offset, leader_epoch: None, last_fetched_epoch: None, max_bytes: None }
}

fn adding(cursors: &[i32], credit: i64) -> Control {
    let add = cursors.iter().map(|cursor| (*cursor, Ok(position(0)))).collect();
    Control { add, credit, ..Control::default() }
}

#[test]
fn nothing_is_read_without_credit() {
    let _clean = mutants::seclude();
    let mut cursors = Cursors::new(10);
    cursors.apply(adding(&[1], 0));
    assert_eq!(cursors.take(), None);
    cursors.apply(Control { credit: 5, ..Control::default() });
    assert_eq!(cursors.take().map(|turn| turn.budget), Some(5));
}

#[test]
fn turns_go_round() {
    let mut cursors = Cursors::new(10);
    cursors.apply(adding(&[1, 2, 3], 1_000));
    let mut turns = Vec::new();
    for _ in 0..6 {
        let turn = cursors.take().expect("credit and cursors");
        cursors.served(turn.cursor, 1, turn.position.offset + 1, false);
        turns.push(turn.cursor);
    }
    assert_eq!(turns, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_cursor_is_held_to_the_epoch_it_came_with_until_it_has_read_from_this_log() {
    let mut cursors = Cursors::new(10);
    let came = Position { last_fetched_epoch: Some(1), ..position(50) };
    cursors.apply(Control { add: vec![(1, Ok(came))], credit: 1_000, ..Control::default() });
    assert_eq!(cursors.take().unwrap().position.last_fetched_epoch, Some(1));
    cursors.wake(1);
    cursors.served(1, 0, 50, true);
    assert_eq!(cursors.take().unwrap().position.last_fetched_epoch, Some(1), "nothing was read");
    cursors.served(1, 10, 51, false);
    assert_eq!(cursors.take().unwrap().position.last_fetched_epoch, None);
}

#[test]
fn a_cursor_that_caught_up_is_read_again_only_when_woken() {
    let mut cursors = Cursors::new(10);
    cursors.apply(adding(&[1], 1_000));
    let turn = cursors.take().expect("its turn");
    assert!(cursors.served(turn.cursor, 0, 0, true));
    assert_eq!(cursors.take(), None);
    cursors.wake(1);
    assert!(cursors.take().is_some());
}

#[test]
fn a_wake_during_the_read_is_not_lost() {
    let mut cursors = Cursors::new(10);
    cursors.apply(adding(&[1], 1_000));
    cursors.take().expect("its turn");
    cursors.wake(1);
    cursors.served(1, 0, 0, true);
    assert!(cursors.take().is_some());
}

#[test]
fn what_was_read_for_a_removed_cursor_is_not_sent() {
    let mut cursors = Cursors::new(10);
    cursors.apply(adding(&[1], 1_000));
    cursors.take().expect("its turn");
    cursors.apply(Control { remove: vec![1], sequence: 7, ..Control::default() });
    assert_eq!(cursors.applied(), 7);
    assert!(!cursors.served(1, 10, 1, false));
    assert_eq!(cursors.take(), None);
}

#[test]
fn a_paused_cursor_is_skipped_until_it_is_resumed() {
    let mut cursors = Cursors::new(10);
    cursors.apply(adding(&[1, 2], 1_000));
    cursors.apply(Control { pause: vec![1], ..Control::default() });
    assert_eq!(cursors.take().map(|turn| turn.cursor), Some(2));
    cursors.served(2, 0, 0, true);
    assert_eq!(cursors.take(), None);
    cursors.apply(Control { resume: vec![1], ..Control::default() });
    assert_eq!(cursors.take().map(|turn| turn.cursor), Some(1));
}

#[test]
fn a_seek_is_one_message() {
    let mut cursors = Cursors::new(10);
    cursors.apply(adding(&[1], 1_000));
    let seek = Control { remove: vec![1], add: vec![(2, Ok(position(50)))], ..Control::default() };
    assert!(cursors.apply(seek).is_empty());
    let turn = cursors.take().expect("its turn");
    assert_eq!((turn.cursor, turn.position.offset), (2, 50));
}

#[test]
fn a_number_used_twice_ends_both_uses() {
    let mut cursors = Cursors::new(10);
    cursors.apply(adding(&[1], 1_000));
    let refused = cursors.apply(adding(&[1], 0));
    assert_eq!(refused.len(), 1);
    assert!(!cursors.is_open(1));
}

#[test]
fn cursors_beyond_the_limit_are_refused_and_the_others_live() {
    let mut cursors = Cursors::new(2);
    let refused = cursors.apply(adding(&[1, 2, 3], 1_000));
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].1.code, FailureCode::RequestTooLarge);
    assert!(cursors.is_open(1) && cursors.is_open(2));
}

#[derive(Debug, Clone)]
enum Step {
    Add,
    Remove(usize),
    Pause(usize),
    Resume(usize),
    Grant(i64),
    /// The size of each batch of the partition at that moment, and whether the read reached the end.
    Read {
        batch: usize,
        caught_up: bool,
        removed_meanwhile: bool,
    },
    Wake(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Add),
        1 => (0..50usize).prop_map(Step::Remove),
        1 => (0..50usize).prop_map(Step::Pause),
        1 => (0..50usize).prop_map(Step::Resume),
        3 => (0..5_000i64).prop_map(Step::Grant),
        8 => (1..3_000usize, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(batch, caught_up, removed_meanwhile)| Step::Read { batch, caught_up, removed_meanwhile }),
        2 => (0..50usize).prop_map(Step::Wake),
    ];
    prop::collection::vec(step, 1..200)
}

/// What a client knows: what it granted, what it got, and which cursors may still speak.
#[derive(Debug, Default)]
struct Books {
    used: Vec<i32>,
    live: BTreeSet<i32>,
    paused: BTreeSet<i32>,
    granted: i64,
    received: i64,
    largest_batch: i64,
}

impl Books {
    fn pick(&self, index: usize) -> Option<i32> {
        (!self.used.is_empty()).then(|| self.used[index % self.used.len()])
    }
}

/// Reads as the store does: whole batches within the budget, the first one whatever its size.
fn read(budget: usize, batch: usize) -> usize {
    (budget / batch).max(1) * batch
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut cursors, mut books) = (Cursors::new(1_000), Books::default());
    for (sequence, step) in (1i64..).zip(steps) {
        match step {
            Step::Add => {
                let cursor = i32::try_from(books.used.len()).expect("few");
                books.used.push(cursor);
                books.live.insert(cursor);
                let control = Control { sequence, ..adding(&[cursor], 0) };
                prop_assert!(cursors.apply(control).is_empty());
            }
            Step::Remove(index) => {
                let Some(cursor) = books.pick(index) else { continue };
                books.live.remove(&cursor);
                cursors.apply(Control { remove: vec![cursor], sequence, ..Control::default() });
            }
            Step::Pause(index) => {
                let Some(cursor) = books.pick(index) else { continue };
                books.paused.insert(cursor);
                cursors.apply(Control { pause: vec![cursor], sequence, ..Control::default() });
            }
            Step::Resume(index) => {
                let Some(cursor) = books.pick(index) else { continue };
                books.paused.remove(&cursor);
                cursors.apply(Control { resume: vec![cursor], sequence, ..Control::default() });
            }
            Step::Grant(credit) => {
                books.granted += credit;
                cursors.apply(Control { credit, sequence, ..Control::default() });
            }
            Step::Wake(index) => {
                let Some(cursor) = books.pick(index) else { continue };
                cursors.wake(cursor);
            }
            Step::Read { batch, caught_up, removed_meanwhile } => {
                let Some(turn) = cursors.take() else { continue };
                prop_assert!(books.live.contains(&turn.cursor), "a removed cursor had a turn");
                prop_assert!(!books.paused.contains(&turn.cursor), "a paused cursor");
                if removed_meanwhile {
                    books.live.remove(&turn.cursor);
                    cursors.remove(&[turn.cursor]);
                }
                let bytes = read(turn.budget, batch);
                let next = turn.position.offset + 1;
                let sent = cursors.served(turn.cursor, bytes, next, caught_up);
                prop_assert_eq!(sent, books.live.contains(&turn.cursor));
                if sent {
                    books.received += i64::try_from(bytes).expect("small");
                    books.largest_batch =
                        books.largest_batch.max(i64::try_from(batch).expect("small"));
                }
                prop_assert!(
                    books.received <= books.granted + books.largest_batch,
                    "{} bytes for a credit of {}",
                    books.received,
                    books.granted
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn never_more_than_the_credit_and_one_batch_and_never_a_removed_cursor(steps in steps()) {
        let _clean = mutants::seclude();
        run(steps)?;
    }
}

#[test]
fn the_books_catch_a_stream_that_ignores_credit() {
    let _planted = mutants::plant("fetch-ignores-credit");
    let steps =
        (0..5).map(|_| Step::Read { batch: 100, caught_up: false, removed_meanwhile: false });
    let steps = [Step::Add, Step::Grant(50)].into_iter().chain(steps).collect();
    assert!(run(steps).is_err());
}
