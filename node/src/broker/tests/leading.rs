//! The leader epoch: one more with every leadership, and the same wherever it is told.

use super::bed::{Bed, TOPIC, at, batch, from, to};
use super::clean;
use crate::broker::admin::Admin as _;
use crate::broker::logs::{Append, Logs as _, ReadAt};
use waymark_proto::failure::FailureCode;
use waymark_proto::ids::NodeId;

/// The epoch as a receipt, the stored batch, the marks, metadata and a hint tell it.
async fn told(bed: &Bed) -> Vec<i32> {
    let receipt = bed.append(to(0, batch(2, None))).await.expect("appended").receipt;
    let read = bed.read(from(0, receipt.base_offset)).await.expect("stored");
    let stored = read.bytes[12..16].try_into().map(i32::from_be_bytes).expect("four bytes");
    let marks = bed.broker.marks(at(0)).expect("led here");
    let place = bed.broker.places(TOPIC).remove(0);
    assert_eq!(place.leader, Some(NodeId(1)));
    let hint = bed.broker.core.leader_epoch(&bed.shard(), at(0)).expect("held here");
    vec![
        receipt.leader_epoch,
        stored,
        read.marks.leader_epoch,
        marks.leader_epoch,
        place.leader_epoch,
        hint,
    ]
}

#[tokio::test(start_paused = true)]
async fn every_leadership_raises_the_epoch_by_one_wherever_it_is_told() {
    let _clean = clean();
    let mut bed = Bed::start().await;
    for epoch in 0..3 {
        assert_eq!(told(&bed).await, [epoch; 6]);
        bed = bed.restart().await;
    }
    // Two records under each of the epochs 0, 1 and 2; nothing yet under 3.
    for (asked, end) in [(0, Some((0, 2))), (1, Some((1, 4))), (2, Some((2, 6))), (3, Some((2, 6)))]
    {
        let found = bed.broker.epoch_end(at(0), asked, None).await.expect("led here");
        assert_eq!(found.map(|it| (it.epoch, it.end_offset)), end, "epoch {asked}");
    }
    let unborn = bed.broker.epoch_end(at(0), 4, None).await;
    assert_eq!(unborn, Ok(None));
    let stale = bed.broker.epoch_end(at(0), 0, Some(2)).await.expect_err("it is 3 now");
    assert_eq!(stale.code, FailureCode::LeaderEpochOld);
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_an_old_epoch_learns_the_new_one() {
    let _clean = clean();
    let bed = Bed::start().await;
    bed.append(to(0, batch(2, None))).await.expect("appended");
    let bed = bed.restart().await;
    let stale = Append { leader_epoch: Some(0), ..to(0, batch(1, None)) };
    let failure = bed.append(stale).await.expect_err("the epoch is 1");
    assert_eq!(failure.code, FailureCode::LeaderEpochOld);
    let hint = failure.leader.clone().expect("a hint");
    assert_eq!((hint.node, hint.leader_epoch), (NodeId(1), 1));
    let fresh = Append { leader_epoch: Some(1), ..to(0, batch(1, None)) };
    assert_eq!(bed.base_of(fresh).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_reader_whose_last_batch_is_not_in_this_log_is_told() {
    let _clean = clean();
    let bed = Bed::start().await;
    bed.append(to(0, batch(2, None))).await.expect("appended");
    let bed = bed.restart().await;
    bed.append(to(0, batch(2, None))).await.expect("appended");
    let read = |offset, epoch| ReadAt { last_fetched_epoch: Some(epoch), ..from(0, offset) };
    assert!(bed.read(read(2, 0)).await.is_ok());
    assert!(bed.read(read(4, 1)).await.is_ok());
    let failure = bed.read(read(3, 0)).await.expect_err("epoch 0 ended at 2");
    assert_eq!((failure.code, failure.expected), (FailureCode::LogDiverged, Some(2)));
}
