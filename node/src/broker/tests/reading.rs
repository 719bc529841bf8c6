//! What a reader is shown.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use waymark_proto::failure::{FailureCode, RetryClass};

use super::bed::{Bed, PATIENCE, at, batch, from, to};
use super::clean;
use crate::broker::admin::{Admin as _, Spot};
use crate::broker::logs::Logs as _;

/// Whether a reader at the high watermark is shown a batch that no disk has.
async fn is_shown_what_is_not_committed() -> bool {
    let bed = Bed::start().await;
    bed.append(to(0, batch(3, None))).await.expect("appended");
    bed.disk.stall(true);
    let _sent = bed.broker.append(to(0, batch(1, None))).expect("taken");
    sleep(Duration::from_millis(1)).await;
    let _queued = bed.broker.append(to(0, batch(1, None))).expect("taken");
    let read = bed.read(from(0, 3)).await.expect("the end is in range");
    let all = bed.read(from(0, 0)).await.expect("committed");
    assert_eq!((read.marks.high_watermark, all.marks.high_watermark), (3, 3));
    read.next_offset > 3 || !read.bytes.is_empty() || all.next_offset > 3
}

#[tokio::test(start_paused = true)]
async fn nothing_above_the_high_watermark_is_shown() {
    let _clean = clean();
    assert!(!is_shown_what_is_not_committed().await);
}

#[tokio::test(start_paused = true)]
async fn the_stalled_disk_catches_a_read_above_the_watermark() {
    let _planted = crate::mutants::plant("read-above-watermark");
    assert!(is_shown_what_is_not_committed().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_is_what_was_sent_but_for_its_place() {
    let _clean = clean();
    let bed = Bed::start().await;
    let sent = batch(3, None);
    bed.append(to(0, sent.clone())).await.expect("appended");
    bed.append(to(0, sent.clone())).await.expect("appended");
    let read = bed.read(from(0, 4)).await.expect("inside the second batch");
    assert_eq!(read.bytes[..8], 3_i64.to_be_bytes(), "the batch that holds the offset is whole");
    assert_eq!(read.bytes[8..12], sent[8..12]);
    assert_eq!(read.bytes[16..], sent[16..]);
    assert_eq!((read.bytes.len(), read.next_offset), (sent.len(), 6));
    let limited = super::super::logs::ReadAt { max_bytes: 1, ..from(0, 0) };
    assert_eq!(bed.read(limited).await.expect("one batch").next_offset, 3);
}

#[tokio::test(start_paused = true)]
async fn outside_of_the_log_the_legal_range_is_told() {
    let _clean = clean();
    let bed = Bed::start().await;
    bed.append(to(0, batch(5, None))).await.expect("appended");
    let deleted = bed.broker.delete_records(at(0), Some(2), Instant::now() + PATIENCE).await;
    assert_eq!(deleted, Ok(2));
    for offset in [0, 1, 6] {
        let failure = bed.read(from(0, offset)).await.expect_err("out of range");
        assert_eq!(failure.code, FailureCode::OffsetOutOfRange, "offset {offset}");
        assert_eq!((failure.log_start_offset, failure.high_watermark), (Some(2), Some(5)));
    }
    assert!(bed.read(from(0, 2)).await.is_ok_and(|read| read.next_offset == 5));
    assert_eq!(bed.read(from(0, 5)).await.expect("the end").bytes, Bytes::new());
    let beyond = bed.broker.delete_records(at(0), Some(9), Instant::now() + PATIENCE).await;
    let failure = beyond.expect_err("beyond the end");
    assert_eq!((failure.log_start_offset, failure.high_watermark), (Some(2), Some(5)));
}

#[tokio::test(start_paused = true)]
async fn ends_are_found_by_name_and_by_time() {
    let _clean = clean();
    let bed = Bed::start().await;
    bed.append(to(0, batch(4, None))).await.expect("appended");
    let find = async |spot| {
        let found = bed.broker.find_offset(at(0), spot, None).await;
        found.expect("found").offset
    };
    assert_eq!(find(Spot::Earliest).await, Some(0));
    assert_eq!(find(Spot::Latest).await, Some(4));
    assert_eq!(find(Spot::AtTime(0)).await, Some(0));
    assert_eq!(find(Spot::AtTime(i64::MAX)).await, None);
    assert_eq!(find(Spot::MaxTimestamp).await, Some(0));
}

/// What a reader is told to do while the disk cannot read what it asks for, and whether it is given it afterwards.
async fn told_by_a_blind_disk() -> (RetryClass, bool) {
    let bed = Bed::start().await;
    bed.append(to(0, batch(3, None))).await.expect("appended");
    // Until it stands in its segment and nowhere else.
    sleep(Duration::from_secs(1)).await;
    bed.disk.fail_reads(true);
    let failure = bed.read(from(0, 0)).await.expect_err("it cannot be read");
    bed.disk.fail_reads(false);
    (failure.code.retry(), bed.read(from(0, 0)).await.is_ok_and(|read| read.next_offset == 3))
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_cannot_read_now_is_asked_for_again() {
    let _clean = clean();
    assert_eq!(told_by_a_blind_disk().await, (RetryClass::Reroute, true));
}

#[tokio::test(start_paused = true)]
async fn a_blind_disk_catches_a_failed_read_that_ends_its_reader() {
    let _planted = crate::mutants::plant("unread-is-a-bug");
    assert_ne!(told_by_a_blind_disk().await.0, RetryClass::Reroute);
}

/// Whether a node starts whose disk cannot be read for the first seconds.
async fn starts_on_a_disk_that_wakes_up() -> bool {
    let bed = Bed::start().await;
    bed.append(to(0, batch(3, None))).await.expect("appended");
    let (disk, down) = (Arc::clone(&bed.disk), bed.stop().await);
    disk.fail_reads(true);
    let wakes = async {
        sleep(Duration::from_secs(3)).await;
        disk.fail_reads(false);
    };
    let (bed, ()) = tokio::join!(down.start(), wakes);
    let read = async {
        while bed.read(from(0, 0)).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, read).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_replica_waits_for_a_disk_that_cannot_be_read_yet() {
    let _clean = clean();
    assert!(starts_on_a_disk_that_wakes_up().await);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_wakes_up_catches_a_replica_without_patience() {
    let _planted = crate::mutants::plant("open-without-patience");
    assert!(!starts_on_a_disk_that_wakes_up().await);
}
