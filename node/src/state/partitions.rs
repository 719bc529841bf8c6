//! Owns all partitions of a shard and which of their rows changed. Never encodes a row while it applies.

use std::collections::{BTreeMap, BTreeSet};

use waymark_proto::ids::{PartitionId, TopicId, TopicPartition};

use super::command::{LogStartRise, PartitionSettings, ProduceItem};
use super::holds::Hold;
use super::partition::{AppendAt, Partition};
use super::reply::{Effect, Receipt, Refusal};

/// The partitions of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Partitions {
    pub(super) by_id: BTreeMap<TopicPartition, Partition>,
    /// Partitions whose row changed since the last drain.
    pub(super) dirty: BTreeSet<TopicPartition>,
    /// Producers whose row changed since the last drain.
    pub(super) dirty_producers: BTreeSet<(TopicPartition, i64)>,
}

impl Partitions {
    pub(super) fn append(
        &mut self,
        item: &ProduceItem,
        entry: &AppendAt,
        effects: &mut Vec<Effect>,
    ) -> Result<Receipt, Refusal> {
        let at = item.at;
        let partition = self.by_id.get_mut(&at).ok_or(Refusal::NoPartition(at))?;
        let appended = partition.append(item, entry)?;
        if let Some(batch) = appended.stored {
            effects.push(Effect::Append(batch));
            self.dirty.insert(at);
        }
        if let Some(producer) = appended.producer_id {
            self.dirty_producers.insert((at, producer));
        }
        Ok(appended.receipt)
    }

    /// A partition that is already here takes newer settings, so that one step serves creating and altering.
    pub(super) fn open(
        &mut self,
        at: TopicPartition,
        settings: &PartitionSettings,
        leaders_seen: i64,
    ) -> Option<Effect> {
        if at.partition.0 < 0 {
            return None;
        }
        if let Some(partition) = self.by_id.get_mut(&at) {
            if take_settings(partition, settings) {
                self.dirty.insert(at);
            }
            return None;
        }
        self.by_id.insert(at, Partition::new(settings.clone(), leaders_seen));
        self.dirty.insert(at);
        Some(Effect::Opened(at))
    }

    pub(super) fn alter(&mut self, topic: TopicId, settings: &PartitionSettings) {
        for (at, partition) in self.by_id.range_mut(whole(topic)) {
            if take_settings(partition, settings) {
                self.dirty.insert(*at);
            }
        }
    }

    pub(super) fn close(&mut self, topic: TopicId, effects: &mut Vec<Effect>) {
        let closed: Vec<TopicPartition> =
            self.by_id.range(whole(topic)).map(|(at, _)| *at).collect();
        for at in closed {
            let Some(partition) = self.by_id.remove(&at) else { continue };
            self.dirty.insert(at);
            self.dirty_producers.extend(partition.producers.keys().map(|id| (at, *id)));
            effects.push(Effect::Closed(at));
        }
    }

    pub(super) fn advance_log_start(
        &mut self,
        LogStartRise { at, to, floor_seen }: LogStartRise,
        effects: &mut Vec<Effect>,
    ) -> Result<i64, Refusal> {
        let partition = self.by_id.get_mut(&at).ok_or(Refusal::NoPartition(at))?;
        let before = partition.log_start;
        if !partition.still_held_from(floor_seen) {
            return Ok(before);
        }
        let offset = partition.advance_log_start(to)?;
        if offset > before {
            self.dirty.insert(at);
            effects.push(Effect::LogStart { at, offset });
        }
        Ok(offset)
    }

    /// Returns the partition's log start, which a reset wants to know.
    pub(super) fn set_floor(&mut self, hold: &Hold, lower: bool) -> Result<i64, Refusal> {
        let partition = self.by_id.get_mut(&hold.at).ok_or(Refusal::NoPartition(hold.at))?;
        if partition.set_floor(hold, lower)? {
            self.dirty.insert(hold.at);
        }
        Ok(partition.log_start)
    }

    pub(super) fn expire_producers(&mut self, last_append_before_ms: i64) {
        for (at, partition) in &mut self.by_id {
            let dirty = &mut self.dirty_producers;
            partition.producers.retain(|id, producer| {
                let kept = producer.last_append_ms >= last_append_before_ms;
                if !kept {
                    dirty.insert((*at, *id));
                }
                kept
            });
        }
    }
}

/// All partitions of a topic, as a range of keys.
pub(super) fn whole(topic: TopicId) -> std::ops::RangeInclusive<TopicPartition> {
    let first = TopicPartition { topic, partition: PartitionId(i32::MIN) };
    first..=TopicPartition { topic, partition: PartitionId(i32::MAX) }
}

fn take_settings(partition: &mut Partition, settings: &PartitionSettings) -> bool {
    let newer = settings.version > partition.settings.version;
    if newer {
        partition.settings = settings.clone();
        partition.drop_floors();
    }
    newer
}
