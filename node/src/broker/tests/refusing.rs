//! Every way to be refused on the way in has its own code, and the number that the caller needs.

use bytes::{Bytes, BytesMut};
use waymark_proto::batch::ProducerStamp;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{PartitionId, TopicId, TopicPartition};

use super::bed::{Bed, batch, from, limits, sized, to};
use super::clean;
use crate::broker::logs::{Append, ReadAt};

async fn refusal(bed: &Bed, append: Append) -> Failure {
    bed.append(append).await.expect_err("it must be refused")
}

fn sent(epoch: i16, base_sequence: i32, records: usize) -> Bytes {
    batch(records, Some(ProducerStamp { id: 4, epoch, base_sequence }))
}

/// A batch whose bytes at a place are others, under a checksum that fits.
fn forged(place: usize, bytes: &[u8]) -> Bytes {
    let mut forged = BytesMut::from(&batch(1, None)[..]);
    forged[place..place + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&forged[21..]).to_be_bytes();
    forged[17..21].copy_from_slice(&crc);
    forged.freeze()
}

#[tokio::test(start_paused = true)]
async fn bad_batches_are_refused_at_the_door_each_for_its_own_reason() {
    let _clean = clean();
    let bed = Bed::with(limits(), &[("max.message.bytes", "1000")]).await;
    let code = async |batch| refusal(&bed, to(0, batch)).await.code;
    let good = batch(1, None);
    let mut flipped = BytesMut::from(&good[..]);
    flipped[62] ^= 1;
    assert_eq!(code(flipped.freeze()).await, FailureCode::CorruptBatch);
    assert_eq!(code(good.slice(1..)).await, FailureCode::CorruptBatch);
    assert_eq!(code(forged(57, &[0; 4])).await, FailureCode::InvalidBatch);
    assert_eq!(code(forged(21, &[0, 0x20])).await, FailureCode::InvalidBatch, "a control batch");
    assert_eq!(code(forged(21, &[0, 7])).await, FailureCode::UnsupportedCompression);
    assert_eq!(code(forged(35, &i64::MAX.to_be_bytes())).await, FailureCode::InvalidTimestamp);
    let large = refusal(&bed, to(0, sized(1, 2_000, None))).await;
    assert_eq!((large.code, large.limit), (FailureCode::BatchTooLarge, Some(1_000)));
    assert_eq!(bed.base_of(to(0, good)).await, Ok(0), "nothing of it was appended");
}

#[tokio::test(start_paused = true)]
async fn where_the_leaders_time_counts_the_records_own_does_not() {
    let _clean = clean();
    let bed = Bed::with(limits(), &[("message.timestamp.type", "LogAppendTime")]).await;
    let future = forged(35, &i64::MAX.to_be_bytes());
    let appended = bed.append(to(0, future)).await.expect("its time is replaced");
    assert!(appended.log_append_time);
    let read = bed.read(from(0, 0)).await.expect("stored");
    assert_eq!(read.bytes[35..43], super::bed::NOON.to_be_bytes());
    let crc = crc32c::crc32c(&read.bytes[21..]).to_be_bytes();
    assert_eq!(read.bytes[17..21], crc);
}

#[tokio::test(start_paused = true)]
async fn a_producers_sequence_decides_and_the_original_receipt_comes_back() {
    let _clean = clean();
    let bed = Bed::start().await;
    assert_eq!(bed.base_of(to(0, sent(1, 0, 2))).await, Ok(0));
    let again = bed.append(to(0, sent(1, 0, 2))).await.expect("the same batch");
    assert!(again.receipt.duplicate);
    assert_eq!(again.receipt.base_offset, 0);
    let gap = refusal(&bed, to(0, sent(1, 5, 1))).await;
    assert_eq!((gap.code, gap.expected), (FailureCode::OutOfOrderSequence, Some(2)));
    for sequence in 2..8 {
        bed.append(to(0, sent(1, sequence, 1))).await.expect("the next one");
    }
    let code = async |batch| refusal(&bed, to(0, batch)).await.code;
    assert_eq!(code(sent(1, 0, 2)).await, FailureCode::DuplicateSequence);
    assert_eq!(code(sent(0, 0, 1)).await, FailureCode::ProducerFenced);
    assert_eq!(code(sent(2, 4, 1)).await, FailureCode::UnknownProducer);
    assert_eq!(bed.base_of(to(0, sent(2, 0, 1))).await, Ok(8));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_a_batch_on_its_way_shares_its_outcome() {
    let _clean = clean();
    let bed = Bed::start().await;
    let (one, two) =
        futures::join!(bed.append(to(0, sent(1, 0, 2))), bed.append(to(0, sent(1, 0, 2))));
    let (one, two) = (one.expect("appended").receipt, two.expect("the same").receipt);
    assert_eq!((one.base_offset, one.duplicate), (0, false));
    assert_eq!((two.base_offset, two.duplicate), (0, true));
}

#[tokio::test(start_paused = true)]
async fn conditions_and_places_that_do_not_hold_are_told_apart() {
    let _clean = clean();
    let bed = Bed::start().await;
    let conditional =
        |offset| Append { expected_base_offset: Some(offset), ..to(0, batch(1, None)) };
    let wrong = refusal(&bed, conditional(3)).await;
    assert_eq!((wrong.code, wrong.actual), (FailureCode::ConditionFailed, Some(0)));
    assert_eq!(bed.base_of(conditional(0)).await, Ok(0));
    let epoch = |epoch| Append { leader_epoch: Some(epoch), ..to(0, batch(1, None)) };
    assert_eq!(refusal(&bed, epoch(1)).await.code, FailureCode::LeaderEpochAhead);
    assert_eq!(bed.base_of(epoch(0)).await, Ok(1));
    assert_eq!(refusal(&bed, to(9, batch(1, None))).await.code, FailureCode::PartitionNotFound);
    let stranger = TopicPartition { topic: TopicId([9; 16]), partition: PartitionId(0) };
    let nowhere = Append { at: stranger, ..to(0, batch(1, None)) };
    assert_eq!(refusal(&bed, nowhere).await.code, FailureCode::TopicNotFound);
    let nowhere = ReadAt { at: stranger, ..from(0, 0) };
    let failure = bed.read(nowhere).await.expect_err("no such topic");
    assert_eq!(failure.code, FailureCode::TopicNotFound);
}
