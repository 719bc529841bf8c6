//! Where offsets stand: how old what was not read is, and how long it stays.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::bed::{Bed, MOMENT, NOON, PATIENCE, at, batch, limits, sized, to};
use super::clean;
use crate::broker::admin::Admin as _;
use crate::broker::cluster::Position;

async fn position(bed: &Bed, partition: i32, offset: i64) -> Option<Position> {
    let asked = [(at(partition), offset)];
    let told = bed.broker.core.positions(&asked, Instant::now() + PATIENCE).await;
    assert!(told.keys().all(|it| it.0 == at(partition)), "only what was asked about");
    told.get(&(at(partition), offset)).copied()
}

/// Three batches of two records, a minute apart.
async fn with_three_batches(configs: &[(&str, &str)]) -> Bed {
    let bed = Bed::with(limits(), configs).await;
    for minute in 0..3 {
        bed.clock.set(NOON + minute * 60_000);
        bed.append(to(0, batch(2, None))).await.expect("appended");
    }
    bed
}

async fn are_the_append_times_told(bed: &Bed) {
    for (offset, minute) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let told = position(bed, 0, offset).await.expect("led here");
        assert_eq!(told.append_time_ms, Some(NOON + minute * 60_000), "offset {offset}");
        assert_eq!((told.log_start, told.high_watermark), (0, 6));
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_as_old_as_its_append_and_not_as_its_producer_says() {
    let _clean = clean();
    let bed = with_three_batches(&[]).await;
    are_the_append_times_told(&bed).await;
    // From memory above; from the file once it was written.
    sleep(Duration::from_secs(2)).await;
    are_the_append_times_told(&bed).await;
    let bed = bed.restart().await;
    are_the_append_times_told(&bed).await;
    assert_eq!(position(&bed, 0, 0).await.expect("led here").leader_epoch, 1);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_there_is_no_record_and_none_can_be_lost() {
    let _clean = clean();
    let bed = with_three_batches(&[]).await;
    for (partition, offset, end) in [(0, 6, 6), (0, 9, 6), (1, 0, 0)] {
        let told = position(&bed, partition, offset).await.expect("led here");
        assert_eq!(told.high_watermark, end);
        assert_eq!((told.append_time_ms, told.loss_in_ms, told.held), (None, None, false));
    }
    assert_eq!(position(&bed, 9, 0).await, None, "no such partition");
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_is_gone_is_told_with_the_first_record_that_is_not() {
    let _clean = clean();
    let bed = with_three_batches(&[]).await;
    let deleted = bed.broker.delete_records(at(0), Some(3), Instant::now() + PATIENCE).await;
    assert_eq!(deleted, Ok(3));
    let told = position(&bed, 0, 1).await.expect("led here");
    assert_eq!((told.log_start, told.loss_in_ms), (3, Some(0)));
    assert_eq!(told.append_time_ms, Some(NOON + 60_000));
    let deleted = bed.broker.delete_records(at(0), None, Instant::now() + PATIENCE).await;
    assert_eq!(deleted, Ok(6));
    let told = position(&bed, 0, 1).await.expect("led here");
    assert_eq!((told.append_time_ms, told.loss_in_ms), (None, Some(0)));
}

/// Records carry the time of noon, whenever they are appended.
#[tokio::test(start_paused = true)]
async fn a_record_is_lost_when_its_topic_keeps_it_no_longer() {
    let _clean = clean();
    let bed = with_three_batches(&[("retention.ms", "600000")]).await;
    bed.clock.set(NOON + 240_000);
    let told = position(&bed, 0, 0).await.expect("led here");
    assert_eq!(told.loss_in_ms, Some(360_001));
    bed.clock.set(NOON + 900_000);
    let told = position(&bed, 0, 0).await.expect("led here");
    assert_eq!(told.loss_in_ms, None, "the newest segment stays while nothing follows it");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_grows_loses_records_by_its_size() {
    let _clean = clean();
    let configs = [("retention.bytes", "300000"), ("segment.bytes", "65536")];
    let bed = Bed::with(limits(), &configs).await;
    let mut last = None;
    for _ in 0..10 {
        bed.append(to(0, sized(1, 10_000, None))).await.expect("appended");
        last = position(&bed, 0, 0).await.expect("led here").loss_in_ms;
        sleep(Duration::from_secs(1) + MOMENT).await;
    }
    // About 100,000 of 300,000 bytes are there, and 10,000 come each second.
    let left = last.expect("it grows");
    assert!((15_000..25_000).contains(&left), "{left} ms");
}
