//! Owns the rows of partitions: tag 2, topic, partition.

use std::collections::BTreeMap;

use waymark_proto::ids::TopicPartition;
use waymark_proto::stored::{self, PartitionRow};

use super::key::{KeyWriter, PARTITION, read_place};
use super::{RowError, read, row};
use crate::state::codec::values::{settings, stored_settings};
use crate::state::holds::Floor;
use crate::state::partition::{EpochStart, OpenSegment, Partition};
use crate::state::partitions::Partitions;
use crate::state::reply::Row;

const FAMILY: &str = "partition";

/// Where the log of a partition stands according to its row: what a checkpoint's files must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionExtent {
    /// The partition.
    pub at: TopicPartition,
    /// The first offset held.
    pub log_start: i64,
    /// The offset after the last record.
    pub next_offset: i64,
    /// First offset of the segment that grows.
    pub segment_base: i64,
    /// Its bytes, frames included.
    pub segment_bytes: i64,
    /// Its largest timestamp.
    pub segment_max_timestamp: i64,
}

impl PartitionExtent {
    /// From a row; `None` when it is one of another family or malformed.
    #[must_use]
    pub fn of(key: &[u8], value: &[u8]) -> Option<Self> {
        let at = read_place(FAMILY, key.strip_prefix(&[PARTITION])?).ok()?;
        let row: PartitionRow = read(FAMILY, value).ok()?;
        Some(Self {
            at,
            log_start: row.log_start_offset,
            next_offset: row.next_offset,
            segment_base: row.segment_base_offset,
            segment_bytes: row.segment_bytes,
            segment_max_timestamp: row.segment_max_timestamp,
        })
    }
}

pub(super) fn drain(partitions: &mut Partitions, rows: &mut Vec<Row>) {
    for at in std::mem::take(&mut partitions.dirty) {
        let key = KeyWriter::new(PARTITION).place(at).finish();
        rows.push(row(key, partitions.by_id.get(&at).map(to_stored)));
    }
}

fn to_stored(partition: &Partition) -> PartitionRow {
    let epoch = |epoch: &EpochStart| stored::EpochStart {
        leader_epoch: epoch.leader_epoch,
        start_offset: epoch.start_offset,
    };
    let floor = |(group, floor): (&String, &Floor)| stored::GroupFloor {
        group_id: group.clone(),
        floor: floor.offset,
        coordinator_term: floor.term,
    };
    PartitionRow {
        settings: Some(stored_settings(&partition.settings)),
        log_start_offset: partition.log_start,
        next_offset: partition.next_offset,
        epoch_base: partition.epoch_base,
        segment_base_offset: partition.segment.base_offset,
        segment_bytes: partition.segment.bytes,
        segment_opened_ms: partition.segment.opened_ms,
        epochs: partition.epochs.iter().map(epoch).collect(),
        max_timestamp: partition.max_timestamp,
        segment_max_timestamp: partition.segment.max_timestamp,
        floors: partition.floors.iter().map(floor).collect(),
    }
}

pub(super) fn load(partitions: &mut Partitions, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let at = read_place(FAMILY, key)?;
    let message: PartitionRow = read(FAMILY, value)?;
    let (log_start, next_offset) = (message.log_start_offset, message.next_offset);
    if log_start < 0 || log_start > next_offset {
        let what = "the log start lies between 0 and the next offset";
        return Err(RowError::Impossible { family: FAMILY, what });
    }
    if message.epoch_base < 0 {
        let what = "it was opened under a leader that counts";
        return Err(RowError::Impossible { family: FAMILY, what });
    }
    let epoch = |epoch: stored::EpochStart| EpochStart {
        leader_epoch: epoch.leader_epoch,
        start_offset: epoch.start_offset,
    };
    let floor = |it: stored::GroupFloor| {
        (it.group_id, Floor { offset: it.floor, term: it.coordinator_term })
    };
    let malformed = |source| RowError::Value { family: FAMILY, source };
    let partition = Partition {
        settings: settings(message.settings.as_ref()).map_err(malformed)?,
        log_start,
        next_offset,
        epoch_base: message.epoch_base,
        segment: OpenSegment {
            base_offset: message.segment_base_offset,
            bytes: message.segment_bytes,
            opened_ms: message.segment_opened_ms,
            max_timestamp: message.segment_max_timestamp,
        },
        epochs: message.epochs.into_iter().map(epoch).collect(),
        max_timestamp: message.max_timestamp,
        producers: BTreeMap::new(),
        floors: message.floors.into_iter().map(floor).collect(),
    };
    partitions.by_id.insert(at, partition);
    Ok(())
}
