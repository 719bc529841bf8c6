//! Batches on their way: what an outcome may say, and when.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use waymark_proto::failure::FailureCode;

use super::bed::{Bed, MOMENT, at, batch, from, limits, sized, to};
use super::clean;
use crate::broker::BrokerOptions;
use crate::broker::logs::{Append, Logs as _};

fn within(time: Duration, append: Append) -> Append {
    Append { deadline: Instant::now() + time, ..append }
}

/// Whether a batch is acknowledged although the disk has not taken it.
async fn is_told_before_the_disk_has_it() -> bool {
    let bed = Bed::start().await;
    bed.disk.stall(true);
    let mut outcome = bed.broker.append(to(0, batch(2, None))).expect("taken");
    let early = timeout(MOMENT, &mut outcome).await.is_ok();
    bed.disk.stall(false);
    if !early {
        assert_eq!(outcome.await.expect("appended").receipt.base_offset, 0);
        assert_eq!(bed.base_of(to(0, batch(1, None))).await, Ok(2));
    }
    early
}

#[tokio::test(start_paused = true)]
async fn an_append_is_told_once_the_disk_has_it_and_not_before() {
    let _clean = clean();
    assert!(!is_told_before_the_disk_has_it().await);
}

#[tokio::test(start_paused = true)]
async fn the_stalled_disk_catches_an_ack_before_the_commit() {
    let _planted = crate::mutants::plant("ack-before-commit");
    assert!(is_told_before_the_disk_has_it().await);
}

#[tokio::test(start_paused = true)]
async fn segments_that_cannot_be_synced_stop_the_node() {
    let _clean = clean();
    let bed = Bed::start().await;
    assert_eq!(bed.base_of(to(0, batch(2, None))).await, Ok(0));
    bed.disk.fail_syncs();
    let reason = timeout(Duration::from_secs(120), bed.consensus.fatal()).await;
    let reason = reason.expect("a node that must stop: its journal could never be trimmed again");
    assert!(reason.contains("sick disk"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn batches_of_all_partitions_that_wait_travel_in_one_entry_in_order() {
    let _clean = clean();
    let bed = Bed::start().await;
    bed.disk.stall(true);
    let first = bed.broker.append(to(0, batch(1, None))).expect("taken");
    sleep(MOMENT).await;
    let before = bed.shard().applied_index().expect("applied");
    let rest: Vec<_> = (0..40)
        .map(|number| bed.broker.append(to(number % 4, batch(1, None))).expect("taken"))
        .collect();
    bed.disk.stall(false);
    assert_eq!(first.await.expect("appended").receipt.base_offset, 0);
    let outcomes = join_all(rest).await.into_iter();
    let bases: Vec<i64> = outcomes.map(|it| it.expect("appended").receipt.base_offset).collect();
    let expected: Vec<i64> =
        (0..40).map(|number| number / 4 + i64::from(number % 4 == 0)).collect();
    assert_eq!(bases, expected);
    let entries = bed.shard().applied_index().expect("applied") - before;
    assert_eq!(entries, 2, "one for the first batch, one for the forty that came meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_batch_expires_unsent_in_the_queue_and_is_unknown_on_its_way() {
    let _clean = clean();
    let bed = Bed::start().await;
    bed.disk.stall(true);
    let sent = bed.broker.append(within(MOMENT, to(0, batch(1, None)))).expect("taken");
    sleep(Duration::from_millis(1)).await;
    let queued = bed.broker.append(within(MOMENT, to(0, batch(1, None)))).expect("taken");
    let code =
        |outcome: Result<_, waymark_proto::failure::Failure>| outcome.err().map(|it| it.code);
    assert_eq!(code(queued.await), Some(FailureCode::ExpiredUnsent));
    assert_eq!(code(sent.await), Some(FailureCode::OutcomeUnknown));
    let late = bed.broker.append(within(Duration::ZERO, to(0, batch(1, None))));
    assert_eq!(late.err().map(|it| it.code), Some(FailureCode::ExpiredUnsent));
    bed.disk.stall(false);
    assert_eq!(bed.base_of(to(0, batch(1, None))).await, Ok(1), "of the three one was appended");
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_caller_is_gone_is_appended_unless_its_time_is_over() {
    let _clean = clean();
    let bed = Bed::start().await;
    bed.disk.stall(true);
    drop(bed.broker.append(to(0, batch(1, None))).expect("taken"));
    sleep(Duration::from_millis(1)).await;
    drop(bed.broker.append(to(0, batch(10, None))).expect("taken"));
    drop(bed.broker.append(within(MOMENT / 2, to(0, batch(100, None)))).expect("taken"));
    sleep(MOMENT).await;
    bed.disk.stall(false);
    assert_eq!(bed.base_of(to(0, batch(1, None))).await, Ok(11));
}

#[tokio::test(start_paused = true)]
async fn too_many_bytes_are_refused_with_a_pause_and_given_back_with_the_outcome() {
    let _clean = clean();
    let big = || sized(1, 4_000, None);
    let options = BrokerOptions { pending_bytes: 10_000, ..limits() };
    let bed = Bed::with(options, &[]).await;
    bed.disk.stall(true);
    let taken: Vec<_> =
        (0..2).map(|_| bed.broker.append(to(0, big())).expect("there is room")).collect();
    let refused = bed.broker.append(to(1, big())).err().expect("there is no room");
    assert_eq!((refused.code, refused.retry_after_ms), (FailureCode::Overloaded, 20));
    bed.disk.stall(false);
    assert!(join_all(taken).await.iter().all(Result::is_ok));
    assert_eq!(bed.base_of(to(1, big())).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_journal_and_for_segments_counts_as_waiting() {
    let _clean = clean();
    let bed = Bed::start().await;
    let core = &bed.broker.core;
    bed.disk.stall(true);
    let outcome = bed.broker.append(to(0, sized(1, 4_000, None))).expect("taken");
    sleep(MOMENT).await;
    let queued = core.waiting_bytes(0);
    assert!((4_000..5_000).contains(&queued), "{queued} bytes wait for the journal");
    let pending = core.pending.load(std::sync::atomic::Ordering::Relaxed);
    assert!(core.waiting_bytes(pending) < 5_000, "the same bytes count once");
    bed.disk.stall(false);
    outcome.await.expect("appended");
    let behind = core.waiting_bytes(0);
    assert!(behind >= 4_000, "{behind} bytes wait for their segment");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(core.waiting_bytes(0), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_at_the_end_wakes_for_its_own_partition_alone() {
    let _clean = clean();
    let bed = Bed::start().await;
    let marks = |partition| bed.broker.marks(at(partition)).expect("led here");
    let mut here = bed.broker.changed(at(0), marks(0));
    let mut there = bed.broker.changed(at(1), marks(1));
    assert!(timeout(MOMENT, &mut here).await.is_err());
    assert!(timeout(MOMENT, &mut there).await.is_err());
    bed.append(to(0, batch(1, None))).await.expect("appended");
    assert!(here.now_or_never().is_some());
    assert!(there.now_or_never().is_none());
    let read = bed.read(from(0, 0)).await.expect("it is there");
    assert_eq!((read.next_offset, read.marks.high_watermark), (1, 1));
}
