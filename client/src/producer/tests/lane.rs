//! The lane's rules, one by one, without a network.

use waymark_proto::v1::RetryClass;

use super::*;
use crate::config::Compression;
use crate::error::Refusal;
use crate::producer::encode::OpenRecords;
use crate::producer::queue::{Opening, Queue, Unfinished};
use crate::record::{ProducerRecord, TopicPartition};

const ME: Identity = Identity { id: 9, epoch: 0 };

fn batch(lane: &mut Lane) -> u32 {
    let opening = Opening {
        batch_bytes: 1 << 10,
        delivery_timeout: Duration::from_secs(60),
        unfinished: Unfinished::default(),
    };
    let queue = Queue::new(TopicPartition::new("t", 0), [1; 16], 0);
    for _ in 0..2 {
        drop(queue.append(&ProducerRecord::new("t").value("v"), 0, (10, None), &opening));
    }
    let waiting = queue.take(|_| true).unwrap();
    let records: OpenRecords = waiting.records;
    let (identity, first) = lane.number(2);
    let bytes = records.finish(Compression::None, identity, first).unwrap();
    lane.sent((first, 2), bytes, waiting.ticket)
}

fn refused(code: FailureCode, retry: RetryClass, expected: Option<i64>) -> Result<BatchReceipt> {
    Err(Error::Refused(Arc::new(Refusal {
        code,
        retry,
        message: String::new(),
        subject: String::new(),
        log_start_offset: None,
        high_watermark: None,
        expected,
        actual: None,
        limit: None,
        retry_after: Duration::ZERO,
        leader: None,
    })))
}

fn when() -> (Instant, Duration) {
    (Instant::now(), Duration::ZERO)
}

fn sequences(lane: &Lane) -> Vec<(i16, i32)> {
    let read = |at: usize, bytes: &Bytes| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    lane.inflight
        .iter()
        .map(|sent| {
            let epoch = i16::from_be_bytes(sent.bytes[51..53].try_into().unwrap());
            (epoch, read(53, &sent.bytes))
        })
        .collect()
}

fn ok() -> Result<BatchReceipt> {
    Ok(BatchReceipt::default())
}

#[tokio::test]
async fn sequences_count_records() {
    let mut lane = Lane::new(ME);
    for _ in 0..3 {
        batch(&mut lane);
    }
    assert_eq!(sequences(&lane), [(0, 0), (0, 2), (0, 4)]);
}

#[tokio::test]
async fn nothing_is_repeated_while_something_is_on_the_wire() {
    let mut lane = Lane::new(ME);
    let (one, two) = (batch(&mut lane), batch(&mut lane));
    lane.answered(one, refused(FailureCode::NoQuorum, RetryClass::Retry, None), when());
    assert!(lane.repeat(5, Instant::now()).is_empty(), "the second is unanswered");
    let early = refused(FailureCode::OutOfOrderSequence, RetryClass::Fenced, Some(0));
    assert!(lane.answered(two, early, when()).is_empty());
    let again: Vec<u32> =
        lane.repeat(5, Instant::now()).into_iter().map(|(serial, _)| serial).collect();
    assert_eq!(again, [one, two]);
    assert_eq!(sequences(&lane), [(0, 0), (0, 2)], "known refusals keep their numbers too");
}

#[tokio::test]
async fn an_unknown_batch_keeps_its_number_even_if_the_epoch_should_rise() {
    let mut lane = Lane::new(ME);
    let (one, two) = (batch(&mut lane), batch(&mut lane));
    let unknown = refused(FailureCode::OutcomeUnknown, RetryClass::UnknownOutcome, None);
    lane.answered(two, unknown, when());
    lane.answered(one, refused(FailureCode::InvalidTimestamp, RetryClass::Fix, None), when());
    assert_eq!(lane.repeat(5, Instant::now()).len(), 1);
    assert_eq!(sequences(&lane), [(0, 2)], "it may be in the log under this number");
    let gap = refused(FailureCode::OutOfOrderSequence, RetryClass::Fenced, Some(0));
    lane.answered(two, gap, when());
    lane.repeat(5, Instant::now());
    assert_eq!(sequences(&lane), [(1, 0)], "now it is known not to be");
}

#[tokio::test]
async fn an_ack_behind_a_batch_given_up_shows_that_it_was_appended() {
    let mut lane = Lane::new(ME);
    let (_, two) = (batch(&mut lane), batch(&mut lane));
    let late = Instant::now() + Duration::from_secs(61);
    lane.inflight[1].ticket.expires = late + Duration::from_secs(60);
    let given_up =
        lane.expire(late, |maybe| crate::producer::queue::too_late(Duration::ZERO, maybe, None));
    assert_eq!(given_up.len(), 1);
    let class = given_up[0].verdict.as_ref().unwrap_err().class();
    assert_eq!(class, ErrorClass::Ambiguous);
    lane.answered(two, ok(), when());
    let _ = batch(&mut lane);
    assert_eq!(sequences(&lane), [(0, 4)], "no gap, no new epoch");
}

#[tokio::test]
async fn a_batch_given_up_says_why_the_last_attempt_was_refused() {
    let mut lane = Lane::new(ME);
    let one = batch(&mut lane);
    let full = || refused(FailureCode::StorageFull, RetryClass::Retry, None);
    assert!(lane.answered(one, full(), when()).is_empty(), "it goes again");
    let told = lane.refusal().cloned();
    let late = crate::producer::queue::too_late(Duration::ZERO, false, told.as_ref());
    assert!(late.is(FailureCode::StorageFull));
    assert_eq!(late.class(), ErrorClass::Retryable, "it was not appended");
    lane.repeat(5, Instant::now());
    lane.answered(one, ok(), when());
    assert!(lane.refusal().is_none(), "what was refused before says nothing of the next batch");
}

#[tokio::test]
async fn a_refusal_behind_an_unknown_outcome_does_not_say_that_nothing_was_appended() {
    let mut lane = Lane::new(ME);
    let one = batch(&mut lane);
    let lost = refused(FailureCode::OutcomeUnknown, RetryClass::UnknownOutcome, None);
    assert!(lane.answered(one, lost, when()).is_empty(), "it goes again");
    lane.repeat(5, Instant::now());
    let late = refused(FailureCode::InvalidTimestamp, RetryClass::Fix, None);
    let settled = lane.answered(one, late, when());
    let error = settled[0].verdict.as_ref().unwrap_err();
    assert_eq!(error.class(), ErrorClass::Ambiguous);
    assert!(error.is(FailureCode::InvalidTimestamp), "it says why");
}

#[tokio::test]
async fn a_batch_given_up_unsent_raises_the_epoch_for_what_follows() {
    let mut lane = Lane::new(ME);
    let _ = batch(&mut lane);
    let late = Instant::now() + Duration::from_secs(61);
    drop(lane.expire(late, |maybe| crate::producer::queue::too_late(Duration::ZERO, maybe, None)));
    let _ = batch(&mut lane);
    assert_eq!(sequences(&lane), [(1, 0)]);
}

#[tokio::test]
async fn acknowledged_records_that_are_gone_are_reported() {
    let mut lane = Lane::new(ME);
    let one = batch(&mut lane);
    lane.answered(one, ok(), when());
    let two = batch(&mut lane);
    let lost = refused(FailureCode::OutOfOrderSequence, RetryClass::Fenced, Some(0));
    let settled = lane.answered(two, lost, when());
    assert_eq!(settled.len(), 1);
    assert_eq!(settled[0].verdict.as_ref().unwrap_err().class(), ErrorClass::Fenced);
}

#[tokio::test]
async fn a_broken_stream_makes_everything_on_it_unknown_and_due_again() {
    let mut lane = Lane::new(ME);
    let one = batch(&mut lane);
    lane.broken(Instant::now());
    assert!(lane.inflight[0].unknown);
    let again = lane.repeat(5, Instant::now());
    assert_eq!(again.len(), 1);
    assert!(lane.repeat(5, Instant::now()).is_empty(), "once");
    assert_eq!(lane.answered(one, ok(), when()).len(), 1);
    assert!(lane.is_idle() && lane.has_room(1, Instant::now()));
}

#[tokio::test]
async fn at_the_last_epoch_a_new_id_is_needed() {
    let mut lane = Lane::new(Identity { id: 9, epoch: i16::MAX });
    let one = batch(&mut lane);
    lane.answered(one, refused(FailureCode::UnknownProducer, RetryClass::Fenced, None), when());
    assert!(lane.needs_new_id());
    assert!(lane.repeat(5, Instant::now()).is_empty());
    lane.renew(Identity { id: 10, epoch: 0 });
    assert_eq!(lane.repeat(5, Instant::now()).len(), 1);
    assert_eq!(sequences(&lane), [(0, 0)]);
}

fn too_large() -> Result<BatchReceipt> {
    refused(FailureCode::BatchTooLarge, RetryClass::Fix, None)
}

#[tokio::test]
async fn a_batch_that_is_too_large_goes_again_in_two_under_its_own_sequences() {
    let mut lane = Lane::new(ME);
    let (one, two) = (batch(&mut lane), batch(&mut lane));
    assert!(lane.answered(one, too_large(), when()).is_empty());
    let gap = refused(FailureCode::OutOfOrderSequence, RetryClass::Fenced, Some(0));
    assert!(lane.answered(two, gap, when()).is_empty());
    assert_eq!(sequences(&lane), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(lane.repeat(2, Instant::now()).len(), 2, "no more than the window");
    assert!(!lane.has_room(5, Instant::now()), "the rest goes first");
    for serial in [2, 3] {
        assert_eq!(lane.answered(serial, ok(), when()).len(), 1);
    }
    assert_eq!(lane.repeat(2, Instant::now()).len(), 1);
    assert_eq!(lane.answered(two, ok(), when()).len(), 1);
    assert!(lane.is_idle() && lane.has_room(5, Instant::now()));
}

#[tokio::test]
async fn a_batch_that_may_be_in_the_log_is_never_split() {
    let mut lane = Lane::new(ME);
    let one = batch(&mut lane);
    lane.broken(Instant::now());
    lane.repeat(5, Instant::now());
    assert_eq!(lane.answered(one, too_large(), when()).len(), 1);
}

#[tokio::test]
async fn a_single_record_that_is_too_large_is_refused() {
    let mut lane = Lane::new(ME);
    let one = batch(&mut lane);
    lane.answered(one, too_large(), when());
    let halves = lane.repeat(5, Instant::now());
    assert_eq!(lane.answered(halves[0].0, too_large(), when()).len(), 1);
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(following(i32::MAX, 1), 0);
    assert_eq!(following(i32::MAX - 1, 3), 1);
}
