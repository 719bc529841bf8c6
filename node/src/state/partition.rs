//! Owns one partition: which offsets a batch gets, where a segment begins (S8), which leader epoch began where, and
//! what producers appended. Never keeps a batch: bytes go to storage by an effect.

use std::collections::BTreeMap;

use bytes::Bytes;
use waymark_proto::ids::TopicPartition;

use super::FRAME_OVERHEAD;
use super::batch::{BatchHeader, STAMP_LEN, stamp};
use super::command::{PartitionSettings, ProduceItem};
use super::holds::Floor;
use super::producer::{Producer, RememberedBatch, SequenceVerdict, check, forward};
use super::reply::{Receipt, Refusal, StampedBatch};

/// Where a leader epoch began to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub leader_epoch: i32,
    /// The first offset appended under it.
    pub start_offset: i64,
}

/// Where a leader epoch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The greatest epoch with records that is not above the one asked for.
    pub leader_epoch: i32,
    /// The offset after its last record.
    pub end_offset: i64,
}

/// The segment that grows, as far as it decides where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenSegment {
    /// Its first offset.
    pub base_offset: i64,
    /// Its bytes, frames included; 0: the next batch begins a segment.
    pub bytes: i64,
    /// Append time of its first batch, Unix ms.
    pub opened_ms: i64,
    /// Its largest record timestamp: reported, decides nothing (S18).
    pub max_timestamp: i64,
}

/// One partition of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub(in crate::state) settings: PartitionSettings,
    /// Only rises, and never above `next_offset`.
    pub(in crate::state) log_start: i64,
    /// The offset after the last record; what is applied is committed, so this is the high watermark.
    pub(in crate::state) next_offset: i64,
    /// Leader epoch = leaders seen by the shard − this; fixed while the partition lives here.
    pub(in crate::state) epoch_base: i64,
    pub(in crate::state) segment: OpenSegment,
    /// Epochs that appended something still held, oldest first, both fields rising.
    pub(in crate::state) epochs: Vec<EpochStart>,
    /// The largest record timestamp so far: reported, decides nothing (S18).
    pub(in crate::state) max_timestamp: i64,
    pub(in crate::state) producers: BTreeMap<i64, Producer>,
    /// Floors of groups that the settings name; one that never told is not in it.
    pub(in crate::state) floors: BTreeMap<String, Floor>,
}

/// What readers may know of a partition.
#[derive(Debug, Clone, Copy)]
pub struct PartitionView<'a> {
    /// The first offset held.
    pub log_start: i64,
    /// The offset after the last record: the high watermark.
    pub next_offset: i64,
    /// The epoch of the leader now.
    pub leader_epoch: i32,
    /// The first offset that this epoch appended, or would append.
    pub epoch_start: i64,
    /// The largest record timestamp appended so far, Unix ms.
    pub max_timestamp: i64,
    /// The least floor of the groups that hold retention up; `None`: none does.
    pub hold_floor: Option<i64>,
    /// Its settings.
    pub settings: &'a PartitionSettings,
}

/// The entry that an append belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct AppendAt {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) append_time_ms: i64,
    pub(super) leaders_seen: i64,
}

/// A batch that was not refused.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) receipt: Receipt,
    /// `None` for a repeat.
    pub(super) stored: Option<StampedBatch>,
    pub(super) producer_id: Option<i64>,
}

impl Partition {
    pub(super) fn new(settings: PartitionSettings, leaders_seen: i64) -> Self {
        Self {
            settings,
            log_start: 0,
            next_offset: 0,
            epoch_base: leaders_seen,
            segment: OpenSegment::default(),
            epochs: Vec::new(),
            max_timestamp: 0,
            producers: BTreeMap::new(),
            floors: BTreeMap::new(),
        }
    }

    /// Appends one batch, or says why not. A repeat is recognised before anything that may have changed since the first
    /// attempt is checked: the size limit, and the condition that the first attempt itself made untrue.
    pub(super) fn append(
        &mut self,
        item: &ProduceItem,
        at: &AppendAt,
    ) -> Result<Appended, Refusal> {
        let header = BatchHeader::read(&item.batch).ok_or(Refusal::BadBatch)?;
        if let Some(sequence) = header.sequence {
            let known = self.producers.get(&sequence.producer_id);
            if let SequenceVerdict::Duplicate(original) = check(known, sequence)? {
                let receipt = self.receipt_of(&original);
                return Ok(Appended { receipt, stored: None, producer_id: None });
            }
        }
        let next_offset = self.check_room(item, header.record_count)?;
        let receipt = Receipt {
            base_offset: self.next_offset,
            record_count: header.record_count,
            append_time_ms: at.append_time_ms,
            leader_epoch: self.leader_epoch(at.leaders_seen),
            log_start_offset: self.log_start,
            duplicate: false,
        };
        self.note_epoch(receipt.leader_epoch);
        self.note_producer(&header, &receipt);
        let stored = self.place(item.at, &item.batch, (&header, &receipt), at);
        self.next_offset = next_offset;
        if crate::mutants::planted!("offset-reused") && header.record_count > 1 {
            self.next_offset -= 1;
        }
        let producer_id = header.sequence.map(|sequence| sequence.producer_id);
        Ok(Appended { receipt, stored: Some(stored), producer_id })
    }

    /// The original's receipt, with the log start of now.
    pub(super) fn receipt_of(&self, original: &RememberedBatch) -> Receipt {
        Receipt {
            base_offset: original.base_offset,
            record_count: original.record_count(),
            append_time_ms: original.append_time_ms,
            leader_epoch: original.leader_epoch,
            log_start_offset: self.log_start,
            duplicate: true,
        }
    }

    fn check_room(&self, item: &ProduceItem, count: i32) -> Result<i64, Refusal> {
        let limit = self.settings.max_message_bytes;
        if i32::try_from(item.batch.len()).map_or(true, |size| size > limit) {
            return Err(Refusal::BatchTooLarge { limit });
        }
        let actual = self.next_offset;
        if item.expected_base_offset.is_some_and(|expected| expected != actual) {
            return Err(Refusal::ConditionFailed { actual: Some(actual) });
        }
        let full = || Refusal::Invalid("the partition has no offsets left".to_owned());
        actual.checked_add(count.into()).ok_or_else(full)
    }

    fn note_epoch(&mut self, leader_epoch: i32) {
        if self.epochs.last().is_none_or(|last| last.leader_epoch < leader_epoch) {
            self.epochs.push(EpochStart { leader_epoch, start_offset: self.next_offset });
        }
    }

    fn note_producer(&mut self, header: &BatchHeader, receipt: &Receipt) {
        let Some(sequence) = header.sequence else { return };
        let batch = RememberedBatch {
            first_sequence: sequence.first,
            last_sequence: forward(sequence.first, i64::from(sequence.count) - 1),
            base_offset: receipt.base_offset,
            append_time_ms: receipt.append_time_ms,
            leader_epoch: receipt.leader_epoch,
        };
        self.producers
            .entry(sequence.producer_id)
            .and_modify(|producer| producer.remember(sequence.epoch, batch))
            .or_insert_with(|| Producer::starting_with(sequence.epoch, batch));
    }

    fn place(
        &mut self,
        at: TopicPartition,
        batch: &Bytes,
        (header, receipt): (&BatchHeader, &Receipt),
        entry: &AppendAt,
    ) -> StampedBatch {
        let base_offset = receipt.base_offset;
        let framed = i64::try_from(batch.len() + FRAME_OVERHEAD).unwrap_or(i64::MAX);
        let starts_segment = self.rolls(framed, entry.append_time_ms);
        if starts_segment {
            self.segment = OpenSegment {
                base_offset,
                bytes: 0,
                opened_ms: entry.append_time_ms,
                max_timestamp: header.max_timestamp,
            };
        }
        self.segment.bytes = self.segment.bytes.saturating_add(framed);
        self.segment.max_timestamp = self.segment.max_timestamp.max(header.max_timestamp);
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        StampedBatch {
            at,
            base_offset,
            next_offset: base_offset + i64::from(header.record_count),
            max_timestamp: header.max_timestamp,
            append_time_ms: entry.append_time_ms,
            index: entry.index,
            term: entry.term,
            starts_segment,
            stamp: stamp(batch, base_offset, receipt.leader_epoch),
            body: batch.slice(STAMP_LEN..),
        }
    }

    /// Entry times of different leaders may run backwards, so that distance counts, not order: one wrong clock must not
    /// keep a segment open for ever.
    fn rolls(&self, framed: i64, append_time_ms: i64) -> bool {
        let age = append_time_ms.abs_diff(self.segment.opened_ms);
        let oldest = u64::try_from(self.settings.segment_ms).unwrap_or(0);
        self.segment.bytes == 0
            || self.segment.bytes.saturating_add(framed) > self.settings.segment_bytes
            || age >= oldest
    }

    /// Raises the first offset held. When nothing is left, the next batch begins a segment, so that storage may give
    /// back the last one too.
    pub(super) fn advance_log_start(&mut self, to: i64) -> Result<i64, Refusal> {
        let (log_start, next_offset) = (self.log_start, self.next_offset);
        if to < 0 || to > next_offset {
            return Err(Refusal::OffsetOutOfRange { log_start, next_offset });
        }
        if to > log_start {
            self.log_start = to;
            let ended = self.epochs.partition_point(|epoch| epoch.start_offset <= to);
            self.epochs.drain(..ended.saturating_sub(1));
            if to == next_offset {
                self.segment.bytes = 0;
            }
        }
        Ok(self.log_start)
    }

    pub(super) fn leader_epoch(&self, leaders_seen: i64) -> i32 {
        i32::try_from(leaders_seen - self.epoch_base).unwrap_or(i32::MAX)
    }

    pub(super) fn view(&self, leaders_seen: i64) -> PartitionView<'_> {
        let leader_epoch = self.leader_epoch(leaders_seen);
        let last = self.epochs.last().filter(|last| last.leader_epoch == leader_epoch);
        PartitionView {
            log_start: self.log_start,
            next_offset: self.next_offset,
            leader_epoch,
            epoch_start: last.map_or(self.next_offset, |last| last.start_offset),
            max_timestamp: self.max_timestamp,
            hold_floor: self.hold_floor(),
            settings: &self.settings,
        }
    }

    /// Where an epoch ended; `None` for one that has not begun.
    pub(super) fn epoch_end(&self, asked: i32, leaders_seen: i64) -> Option<EpochEnd> {
        if asked < 0 || asked > self.leader_epoch(leaders_seen) {
            return None;
        }
        let above = self.epochs.partition_point(|epoch| epoch.leader_epoch <= asked);
        let end_offset = self.epochs.get(above).map_or(self.next_offset, |next| next.start_offset);
        let below = above.checked_sub(1).and_then(|last| self.epochs.get(last));
        let leader_epoch = below.map_or(asked, |epoch| epoch.leader_epoch);
        Some(EpochEnd { leader_epoch, end_offset })
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::batch;
    use super::super::tests::arbitrary::without_bugs;
    use super::*;

    fn settings() -> PartitionSettings {
        PartitionSettings {
            segment_bytes: 300,
            segment_ms: 1_000,
            retention_bytes: None,
            retention_ms: None,
            max_message_bytes: 200,
            log_append_time: false,
            hold_groups: Vec::new(),
            hold_max_bytes: None,
            version: 1,
        }
    }

    fn at(append_time_ms: i64, leaders_seen: i64) -> AppendAt {
        AppendAt { index: 1, term: 1, append_time_ms, leaders_seen }
    }

    fn item(batch: Bytes) -> ProduceItem {
        ProduceItem { at: TopicPartition::default(), expected_base_offset: None, batch }
    }

    fn append(partition: &mut Partition, size: usize, time: i64) -> StampedBatch {
        partition.append(&item(batch(None, 2, size)), &at(time, 4)).unwrap().stored.unwrap()
    }

    #[test]
    fn the_first_batch_begins_a_segment_and_the_next_ones_fill_it() {
        let _alone = without_bugs();
        let mut partition = Partition::new(settings(), 4);
        assert!(append(&mut partition, 100, 0).starts_segment);
        assert!(!append(&mut partition, 100, 999).starts_segment);
        assert!(append(&mut partition, 100, 999).starts_segment, "three frames exceed 300 bytes");
        assert_eq!(partition.segment.base_offset, 4);
    }

    #[test]
    fn a_segment_rolls_by_entry_time_in_either_direction() {
        let _alone = without_bugs();
        let mut partition = Partition::new(settings(), 4);
        append(&mut partition, 61, 5_000);
        assert!(append(&mut partition, 61, 6_000).starts_segment);
        assert!(append(&mut partition, 61, 4_000).starts_segment);
        assert!(!append(&mut partition, 61, 4_100).starts_segment);
    }

    #[test]
    fn a_batch_over_the_limit_or_at_another_offset_is_refused() {
        let _alone = without_bugs();
        let mut partition = Partition::new(settings(), 0);
        let refused = partition.append(&item(batch(None, 1, 201)), &at(0, 0)).unwrap_err();
        assert_eq!(refused, Refusal::BatchTooLarge { limit: 200 });
        let conditional = ProduceItem { expected_base_offset: Some(3), ..item(batch(None, 1, 90)) };
        let refused = partition.append(&conditional, &at(0, 0)).unwrap_err();
        assert_eq!(refused, Refusal::ConditionFailed { actual: Some(0) });
        assert_eq!(partition, Partition::new(settings(), 0), "a refusal changes nothing");
    }

    #[test]
    fn a_repeat_of_a_conditional_append_gets_the_original_receipt() {
        let _alone = without_bugs();
        let mut partition = Partition::new(settings(), 0);
        let sent = batch(Some((7, 0, 0)), 2, 90);
        let conditional = ProduceItem { expected_base_offset: Some(0), ..item(sent) };
        let first = partition.append(&conditional, &at(50, 0)).unwrap().receipt;
        let again = partition.append(&conditional, &at(60, 1)).unwrap();
        assert_eq!(again.receipt, Receipt { duplicate: true, ..first });
        assert!(again.stored.is_none());
        assert_eq!(partition.next_offset, 2);
    }

    #[test]
    fn epochs_end_where_the_next_one_with_records_begins() {
        let _alone = without_bugs();
        let mut partition = Partition::new(settings(), 10);
        for leaders in [10, 10, 12, 13] {
            partition.append(&item(batch(None, 5, 61)), &at(0, leaders)).unwrap();
        }
        let end = |asked| partition.epoch_end(asked, 15).map(|it| (it.leader_epoch, it.end_offset));
        assert_eq!(end(0), Some((0, 10)));
        assert_eq!(end(1), Some((0, 10)));
        assert_eq!(end(2), Some((2, 15)));
        assert_eq!(end(5), Some((3, 20)));
        assert_eq!(end(6), None);
    }

    #[test]
    fn a_log_start_only_rises_and_drops_the_epochs_below_it() {
        let _alone = without_bugs();
        let mut partition = Partition::new(settings(), 0);
        for leaders in [0, 1, 2] {
            partition.append(&item(batch(None, 5, 61)), &at(0, leaders)).unwrap();
        }
        assert_eq!(partition.advance_log_start(7), Ok(7));
        assert_eq!(partition.advance_log_start(2), Ok(7));
        assert_eq!(partition.epochs.iter().map(|it| it.leader_epoch).collect::<Vec<_>>(), [1, 2]);
        let beyond = Refusal::OffsetOutOfRange { log_start: 7, next_offset: 15 };
        assert_eq!(partition.advance_log_start(16), Err(beyond));
        assert_eq!(partition.advance_log_start(15), Ok(15));
        let next = partition.append(&item(batch(None, 5, 61)), &at(0, 2)).unwrap().stored.unwrap();
        assert!(next.starts_segment, "an emptied partition begins anew");
    }
}
