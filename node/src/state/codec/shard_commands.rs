//! Owns the stored form of the commands that every shard knows.

use waymark_proto::ids::TopicPartition;
use waymark_proto::stored::{self, stored_command::Kind};

use super::DecodeError;
use super::group_commands;
use super::values::{
    actor, settings, stored_actor, stored_settings, topic, topic_bytes, topic_partition as place,
};
use crate::state::command::{
    Command, CommitOffsets, Committer, LogStartRise, OffsetCommit, Produce, ProduceItem,
};
use crate::state::holds::Hold;

/// `None` for a command of the catalog, which has its own form.
pub(super) fn to_stored(command: &Command) -> Option<Kind> {
    Some(match command {
        Command::Produce(it) => Kind::Produce(stored_produce(it)),
        Command::OpenPartitions { topic, settings, partitions } => {
            Kind::OpenPartitions(stored::OpenPartitions {
                topic_id: topic_bytes(*topic),
                settings: Some(stored_settings(settings)),
                partitions: partitions.clone(),
            })
        }
        Command::AlterPartitions { topic, settings } => {
            Kind::AlterPartitions(stored::AlterPartitions {
                topic_id: topic_bytes(*topic),
                settings: Some(stored_settings(settings)),
            })
        }
        Command::ClosePartitions { topic } => {
            Kind::ClosePartitions(stored::ClosePartitions { topic_id: topic_bytes(*topic) })
        }
        Command::AdvanceLogStart { items } => Kind::AdvanceLogStart(stored_advance(items)),
        Command::SetHolds { items, lower } => Kind::SetHolds(stored_holds(items, *lower)),
        Command::ExpireProducers { last_append_before_ms } => {
            let last_append_before_ms = *last_append_before_ms;
            Kind::ExpireProducers(stored::ExpireProducers { last_append_before_ms })
        }
        Command::CommitOffsets(it) => Kind::CommitOffsets(stored_commit(it)),
        Command::DeleteOffsets { group, partitions, time_ms, actor } => {
            let entry = stored_delete(group, partitions);
            let actor = Some(stored_actor(actor));
            Kind::DeleteOffsets(stored::DeleteOffsetsEntry { time_ms: *time_ms, actor, ..entry })
        }
        Command::Group(entry) => Kind::Group(group_commands::to_stored(entry)),
        Command::ForgetTopic { topic } => {
            Kind::ForgetTopic(stored::ForgetTopic { topic_id: topic_bytes(*topic) })
        }
        Command::Catalog(_) => return None,
    })
}

fn stored_produce(command: &Produce) -> stored::ProduceEntry {
    let item = |item: &ProduceItem| stored::ProduceItem {
        topic_id: topic_bytes(item.at.topic),
        partition: item.at.partition.0,
        expected_base_offset: item.expected_base_offset,
        batch: item.batch.clone(),
    };
    let items = command.items.iter().map(item).collect();
    stored::ProduceEntry { append_time_ms: command.append_time_ms, items }
}

fn stored_advance(items: &[LogStartRise]) -> stored::AdvanceLogStart {
    let item = |rise: &LogStartRise| stored::advance_log_start::Item {
        topic_id: topic_bytes(rise.at.topic),
        partition: rise.at.partition.0,
        to_offset: rise.to,
        floor_seen: rise.floor_seen,
    };
    let items = items.iter().map(item).collect();
    stored::AdvanceLogStart { items, ..stored::AdvanceLogStart::default() }
}

fn stored_holds(items: &[Hold], lower: bool) -> stored::SetHolds {
    let item = |hold: &Hold| stored::set_holds::Item {
        group_id: hold.group.clone(),
        topic_id: topic_bytes(hold.at.topic),
        partition: hold.at.partition.0,
        floor: hold.floor,
        coordinator_term: hold.term,
    };
    stored::SetHolds { items: items.iter().map(item).collect(), lower }
}

fn stored_commit(command: &CommitOffsets) -> stored::CommitOffsetsEntry {
    let (member_id, member_epoch, instance_id, in_line) = match &command.committer {
        Committer::Outside { name, in_line } => (name, None, None, *in_line),
        Committer::Member { id, epoch, instance } => (id, Some(*epoch), instance.clone(), false),
    };
    stored::CommitOffsetsEntry {
        group_id: command.group.clone(),
        member_id: (!member_id.is_empty()).then(|| member_id.clone()),
        member_epoch,
        items: command.items.iter().map(stored_position).collect(),
        all_or_nothing: command.all_or_nothing,
        commit_seq: command.commit_seq,
        commit_time_ms: command.commit_time_ms,
        cause: command.cause,
        note: command.note.clone(),
        actor: Some(stored_actor(&command.actor)),
        instance_id,
        in_line,
    }
}

pub(super) fn stored_position(item: &OffsetCommit) -> stored::commit_offsets_entry::Item {
    stored::commit_offsets_entry::Item {
        topic_id: topic_bytes(item.at.topic),
        partition: item.at.partition.0,
        offset: item.offset,
        leader_epoch: item.leader_epoch,
        metadata: item.metadata.clone(),
        expected_offset: item.expected_offset,
        fencing_epoch: item.fencing_epoch,
    }
}

fn stored_delete(group: &str, partitions: &[TopicPartition]) -> stored::DeleteOffsetsEntry {
    let item = |at: &TopicPartition| stored::delete_offsets_entry::Item {
        topic_id: topic_bytes(at.topic),
        partition: at.partition.0,
    };
    let items = partitions.iter().map(item).collect();
    let group_id = group.to_owned();
    stored::DeleteOffsetsEntry { group_id, items, ..stored::DeleteOffsetsEntry::default() }
}

pub(super) fn produce(entry: stored::ProduceEntry) -> Result<Command, DecodeError> {
    let item = |item: stored::ProduceItem| {
        Ok(ProduceItem {
            at: place(&item.topic_id, item.partition)?,
            expected_base_offset: item.expected_base_offset,
            batch: item.batch,
        })
    };
    let items = entry.items.into_iter().map(item).collect::<Result<_, DecodeError>>()?;
    Ok(Command::Produce(Produce { append_time_ms: entry.append_time_ms, items }))
}

pub(super) fn open_partitions(entry: stored::OpenPartitions) -> Result<Command, DecodeError> {
    Ok(Command::OpenPartitions {
        topic: topic(&entry.topic_id)?,
        settings: settings(entry.settings.as_ref())?,
        partitions: entry.partitions,
    })
}

pub(super) fn alter_partitions(entry: &stored::AlterPartitions) -> Result<Command, DecodeError> {
    let topic = topic(&entry.topic_id)?;
    Ok(Command::AlterPartitions { topic, settings: settings(entry.settings.as_ref())? })
}

pub(super) fn advance_log_start(entry: &stored::AdvanceLogStart) -> Result<Command, DecodeError> {
    let item = |item: &stored::advance_log_start::Item| {
        let at = place(&item.topic_id, item.partition)?;
        Ok(LogStartRise { at, to: item.to_offset, floor_seen: item.floor_seen })
    };
    let items = entry.items.iter().map(item).collect::<Result<_, DecodeError>>()?;
    Ok(Command::AdvanceLogStart { items })
}

pub(super) fn set_holds(entry: stored::SetHolds) -> Result<Command, DecodeError> {
    let item = |item: stored::set_holds::Item| {
        let at = place(&item.topic_id, item.partition)?;
        Ok(Hold { group: item.group_id, at, floor: item.floor, term: item.coordinator_term })
    };
    let items = entry.items.into_iter().map(item).collect::<Result<_, DecodeError>>()?;
    Ok(Command::SetHolds { items, lower: entry.lower })
}

pub(super) fn commit_offsets(entry: stored::CommitOffsetsEntry) -> Result<Command, DecodeError> {
    let name = entry.member_id.unwrap_or_default();
    let committer = match entry.member_epoch {
        None => Committer::Outside { name, in_line: entry.in_line },
        Some(epoch) => Committer::Member { id: name, epoch, instance: entry.instance_id },
    };
    Ok(Command::CommitOffsets(CommitOffsets {
        group: entry.group_id,
        committer,
        items: entry.items.into_iter().map(position).collect::<Result<_, DecodeError>>()?,
        all_or_nothing: entry.all_or_nothing,
        commit_seq: entry.commit_seq,
        commit_time_ms: entry.commit_time_ms,
        cause: entry.cause,
        note: entry.note,
        actor: actor(entry.actor),
    }))
}

pub(super) fn position(
    item: stored::commit_offsets_entry::Item,
) -> Result<OffsetCommit, DecodeError> {
    Ok(OffsetCommit {
        at: place(&item.topic_id, item.partition)?,
        offset: item.offset,
        leader_epoch: item.leader_epoch,
        metadata: item.metadata,
        expected_offset: item.expected_offset,
        fencing_epoch: item.fencing_epoch,
    })
}

pub(super) fn delete_offsets(entry: stored::DeleteOffsetsEntry) -> Result<Command, DecodeError> {
    let item = |item: &stored::delete_offsets_entry::Item| place(&item.topic_id, item.partition);
    Ok(Command::DeleteOffsets {
        partitions: entry.items.iter().map(item).collect::<Result<_, DecodeError>>()?,
        group: entry.group_id,
        time_ms: entry.time_ms,
        actor: actor(entry.actor),
    })
}
