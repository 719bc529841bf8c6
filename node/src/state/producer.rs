//! Owns idempotence: what one producer has appended to one partition, and the verdict on its next batch (CONTRACT
//! §5.2). Never asks who a producer is: any higher epoch that starts at sequence 0 is taken.
//!
//! Sequences count records, from 0 to 2³¹ − 1 and then from 0 again: a ring, on which "before" is only told within
//! half of it.

use std::collections::VecDeque;

use super::batch::BatchSequence;
use super::reply::Refusal;

/// Batches whose receipts are remembered per producer and partition: the most a client may have in flight. Kafka's
/// number, told to clients.
pub const PRODUCER_WINDOW: usize = 5;
/// Sequences of the ring.
const RING: i64 = 1 << 31;
/// How far back a sequence counts as appended earlier: half of the ring, because farther back and ahead look the same.
const KNOWN_RANGE: i64 = RING / 2;

/// A batch that was appended, as its receipt needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedBatch {
    /// Sequence of its first record.
    pub first_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// The offset that it got.
    pub base_offset: i64,
    /// Its append time, Unix ms.
    pub append_time_ms: i64,
    /// The leader epoch under which it was appended.
    pub leader_epoch: i32,
}

impl RememberedBatch {
    /// Its records.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        let count = backward(self.last_sequence, self.first_sequence) + 1;
        i32::try_from(count).unwrap_or(i32::MAX)
    }
}

/// What to do with a batch that is not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceVerdict {
    /// It comes next.
    Append,
    /// It was appended by an earlier attempt.
    Duplicate(RememberedBatch),
}

/// What one producer appended to one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// The newest epoch heard.
    pub(in crate::state) epoch: i16,
    /// The last batches of this epoch, oldest first; never empty, at most [`PRODUCER_WINDOW`].
    pub(in crate::state) batches: VecDeque<RememberedBatch>,
    /// Append time of the last batch, Unix ms: what idle time counts from.
    pub(in crate::state) last_append_ms: i64,
    /// Records appended under this epoch: tells a forgotten duplicate from a gap.
    pub(in crate::state) appended_in_epoch: i64,
}

/// The verdict on a batch, given what is known of its producer on the partition.
///
/// # Errors
/// When the batch must not be appended: fenced, unknown, a gap, or a duplicate whose offset is forgotten.
pub fn check(known: Option<&Producer>, batch: BatchSequence) -> Result<SequenceVerdict, Refusal> {
    match known {
        Some(producer) if batch.epoch < producer.epoch => Err(Refusal::ProducerFenced),
        Some(producer) if batch.epoch == producer.epoch => producer.check_in_epoch(batch),
        _ if batch.first == 0 || crate::mutants::planted!("epoch-from-zero-skipped") => {
            Ok(SequenceVerdict::Append)
        }
        _ => Err(Refusal::UnknownProducer),
    }
}

impl Producer {
    /// A producer after its first batch here.
    #[must_use]
    pub(in crate::state) fn starting_with(epoch: i16, batch: RememberedBatch) -> Self {
        let mut batches = VecDeque::with_capacity(PRODUCER_WINDOW);
        batches.push_back(batch);
        Self {
            epoch,
            batches,
            last_append_ms: batch.append_time_ms,
            appended_in_epoch: i64::from(batch.record_count()),
        }
    }

    /// Remembers a batch that [`check`] let pass.
    pub(in crate::state) fn remember(&mut self, epoch: i16, batch: RememberedBatch) {
        if epoch != self.epoch {
            *self = Self::starting_with(epoch, batch);
            return;
        }
        if self.batches.len() >= PRODUCER_WINDOW {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
        self.last_append_ms = batch.append_time_ms;
        self.appended_in_epoch = self.appended_in_epoch.saturating_add(batch.record_count().into());
    }

    fn check_in_epoch(&self, batch: BatchSequence) -> Result<SequenceVerdict, Refusal> {
        let Some(newest) = self.batches.back() else { return Err(Refusal::UnknownProducer) };
        let expected = forward(newest.last_sequence, 1);
        if batch.first == expected || crate::mutants::planted!("dup-appends") {
            return Ok(SequenceVerdict::Append);
        }
        let last = forward(batch.first, i64::from(batch.count) - 1);
        let same =
            |it: &&RememberedBatch| it.first_sequence == batch.first && it.last_sequence == last;
        if let Some(original) = self.batches.iter().find(same) {
            return Ok(SequenceVerdict::Duplicate(*original));
        }
        if self.is_older_than_window(newest.last_sequence, batch.first, last) {
            return Err(Refusal::DuplicateSequence);
        }
        Err(Refusal::OutOfOrderSequence { expected })
    }

    /// Wholly before the oldest batch remembered, and wholly within what this epoch appended.
    fn is_older_than_window(&self, newest: i32, first: i32, last: i32) -> bool {
        let remembered: i64 =
            self.batches.iter().map(|batch| i64::from(batch.record_count())).sum();
        let known = self.appended_in_epoch.min(KNOWN_RANGE);
        let (back_to_first, back_to_last) = (backward(newest, first), backward(newest, last));
        remembered <= back_to_last && back_to_last <= back_to_first && back_to_first < known
    }
}

/// The sequence `steps` after `sequence` on the ring.
#[must_use]
pub fn forward(sequence: i32, steps: i64) -> i32 {
    let place = (i64::from(sequence) + steps).rem_euclid(RING);
    i32::try_from(place).unwrap_or(i32::MAX)
}

/// Steps back from one sequence to an earlier one on the ring.
fn backward(later: i32, earlier: i32) -> i64 {
    (i64::from(later) - i64::from(earlier)).rem_euclid(RING)
}

#[cfg(test)]
mod tests {
    use super::super::tests::arbitrary::without_bugs;
    use super::*;

    fn sent(epoch: i16, first: i32, count: i32) -> BatchSequence {
        BatchSequence { producer_id: 1, epoch, first, count }
    }

    fn remembered(first: i32, count: i32) -> RememberedBatch {
        RememberedBatch {
            first_sequence: first,
            last_sequence: forward(first, i64::from(count) - 1),
            base_offset: 100 + i64::from(first),
            append_time_ms: 1,
            leader_epoch: 0,
        }
    }

    fn after(batches: &[(i32, i32)]) -> Producer {
        let mut all = batches.iter().map(|(first, count)| remembered(*first, *count));
        let mut producer = Producer::starting_with(3, all.next().unwrap());
        all.for_each(|batch| producer.remember(3, batch));
        producer
    }

    #[test]
    fn an_unknown_producer_must_start_at_zero() {
        let _alone = without_bugs();
        assert_eq!(check(None, sent(0, 0, 1)), Ok(SequenceVerdict::Append));
        assert_eq!(check(None, sent(0, 1, 1)), Err(Refusal::UnknownProducer));
    }

    #[test]
    fn a_newer_epoch_must_start_at_zero_and_an_older_one_is_fenced() {
        let _alone = without_bugs();
        let producer = after(&[(0, 2)]);
        assert_eq!(check(Some(&producer), sent(4, 0, 1)), Ok(SequenceVerdict::Append));
        assert_eq!(check(Some(&producer), sent(4, 2, 1)), Err(Refusal::UnknownProducer));
        assert_eq!(check(Some(&producer), sent(2, 0, 1)), Err(Refusal::ProducerFenced));
    }

    #[test]
    fn an_exact_repeat_in_the_window_finds_the_original() {
        let _alone = without_bugs();
        let producer = after(&[(0, 2), (2, 3), (5, 1)]);
        let original = SequenceVerdict::Duplicate(remembered(2, 3));
        assert_eq!(check(Some(&producer), sent(3, 2, 3)), Ok(original));
    }

    #[test]
    fn a_repeat_older_than_the_window_is_a_duplicate_without_offset() {
        let _alone = without_bugs();
        let producer = after(&[(0, 2), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);
        assert_eq!(check(Some(&producer), sent(3, 0, 2)), Err(Refusal::DuplicateSequence));
    }

    #[test]
    fn a_gap_and_a_batch_cut_otherwise_are_out_of_order() {
        let _alone = without_bugs();
        let producer = after(&[(0, 2), (2, 3)]);
        let gap = Err(Refusal::OutOfOrderSequence { expected: 5 });
        assert_eq!(check(Some(&producer), sent(3, 6, 1)), gap);
        assert_eq!(check(Some(&producer), sent(3, 2, 2)), gap, "inside the window, cut otherwise");
        assert_eq!(check(Some(&producer), sent(3, 4, 2)), gap, "overlaps what comes next");
    }

    #[test]
    fn a_sequence_before_the_start_of_the_epoch_is_a_gap_not_a_duplicate() {
        let _alone = without_bugs();
        let producer = after(&[(0, 2), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);
        let far_ahead = sent(3, i32::MAX - 10, 1);
        assert_eq!(
            check(Some(&producer), far_ahead),
            Err(Refusal::OutOfOrderSequence { expected: 7 })
        );
    }

    #[test]
    fn sequences_go_on_at_zero_after_the_largest() {
        let _alone = without_bugs();
        let mut producer = after(&[(0, 1)]);
        producer.batches = VecDeque::from([remembered(i32::MAX - 1, 2)]);
        producer.appended_in_epoch = RING;
        assert_eq!(check(Some(&producer), sent(3, 0, 4)), Ok(SequenceVerdict::Append));
        producer.remember(3, remembered(0, 4));
        let repeat = check(Some(&producer), sent(3, i32::MAX - 1, 2));
        assert_eq!(repeat, Ok(SequenceVerdict::Duplicate(remembered(i32::MAX - 1, 2))));
        let older = sent(3, i32::MAX - 4, 3);
        assert_eq!(check(Some(&producer), older), Err(Refusal::DuplicateSequence));
        assert_eq!(remembered(i32::MAX, 2).record_count(), 2);
    }
}
