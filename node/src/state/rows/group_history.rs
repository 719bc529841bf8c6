//! Owns the rows of what happened to groups: tag 11, group, number: an event; tag 12, group, topic, partition, sequence: a
//! fact of the ledger.

use std::sync::Arc;

use waymark_proto::stored::{GroupEventRow, OffsetFactRow, StoredPlace};

use super::key::{FACT, GROUP_EVENT, KeyReader, KeyWriter};
use super::{RowError, read, row};
use crate::state::codec::DecodeError;
use crate::state::codec::group_commands::{
    cause_number, change_kind, expel_cause, kind_number, named_in, number_in,
};
use crate::state::codec::values::{actor, stored_actor, topic_bytes, topic_partition};
use crate::state::groups::{Event, EventKind, ExpelCause, Fact, Group, Groups};
use crate::state::reply::Row;

const EVENT: &str = "group event";
const LEDGER: &str = "offset fact";
/// No group lives long enough to count further.
const LAST_NUMBER: u64 = 1 << 62;

/// Numbers as `waymark.v1.GroupEventKind` counts. An expulsion stands here for all its causes.
const KINDS: [EventKind; 18] = [
    EventKind::Created,
    EventKind::Joined,
    EventKind::Left,
    EventKind::Away,
    EventKind::Returned,
    EventKind::Expelled(ExpelCause::Heartbeat),
    EventKind::Subscribed,
    EventKind::Topics,
    EventKind::AssignorChanged,
    EventKind::RevokeAsked,
    EventKind::Assigned,
    EventKind::DrainOverdue,
    EventKind::Reset,
    EventKind::Undone,
    EventKind::Deleted,
    EventKind::ExpiryAnnounced,
    EventKind::Expired,
    EventKind::CoordinatorChanged,
];

pub(super) fn drain(groups: &mut Groups, rows: &mut Vec<Row>) {
    let first = rows.len();
    for (name, numbers) in std::mem::take(&mut groups.dirty.events) {
        let group = groups.by_name.get(&name);
        for number in numbers {
            let key = KeyWriter::new(GROUP_EVENT).text(&name).uint64(number).finish();
            let event = group.and_then(|group| group.events.get(number));
            rows.push(row(key, event.map(stored_event)));
        }
    }
    for (name, keys) in std::mem::take(&mut groups.dirty.facts) {
        let group = groups.by_name.get(&name);
        for (at, number) in keys {
            let key = KeyWriter::new(FACT).text(&name).place(at).uint64(number).finish();
            let fact = group.and_then(|group| Some((group, group.ledger.get(at, number)?)));
            let stored =
                fact.map(|(group, fact)| stored_fact(fact, group.ledger.is_cut_before(at, fact)));
            rows.push(row(key, stored));
        }
    }
    // Keys begin with the length of the group's name, so they do not sort as the names do.
    rows[first..].sort_by(|a, b| a.key.cmp(&b.key));
}

fn stored_event(event: &Event) -> GroupEventRow {
    let (kind, expel_cause) = match event.kind {
        EventKind::Expelled(cause) => {
            (EventKind::Expelled(ExpelCause::Heartbeat), cause_number(cause))
        }
        other => (other, 0),
    };
    let place = |at: &waymark_proto::ids::TopicPartition| StoredPlace {
        topic_id: topic_bytes(at.topic),
        partition: at.partition.0,
    };
    GroupEventRow {
        time_ms: event.time_ms,
        generation: event.generation,
        kind: number_in(&KINDS, kind),
        expel_cause,
        actor: Some(stored_actor(&event.actor)),
        member_id: event.member.clone(),
        instance_id: event.instance.clone(),
        from_member: event.from.clone(),
        partitions: event.partitions.iter().map(place).collect(),
        took_ms: event.took_ms,
        detail: event.detail.clone(),
    }
}

fn event(stored: GroupEventRow) -> Result<Event, DecodeError> {
    let kind = match named_in(&KINDS, stored.kind) {
        Some(EventKind::Expelled(_)) => EventKind::Expelled(expel_cause(stored.expel_cause)?),
        Some(other) => other,
        None => return Err(DecodeError::OutOfRange("kind of event")),
    };
    let places = stored.partitions.iter().map(|it| topic_partition(&it.topic_id, it.partition));
    Ok(Event {
        time_ms: stored.time_ms,
        generation: stored.generation,
        kind,
        actor: Arc::new(actor(stored.actor)),
        member: stored.member_id,
        instance: stored.instance_id,
        from: stored.from_member,
        partitions: places.collect::<Result<_, _>>()?,
        took_ms: stored.took_ms,
        detail: stored.detail,
    })
}

fn stored_fact(fact: &Fact, cut_before: bool) -> OffsetFactRow {
    OffsetFactRow {
        time_ms: fact.time_ms,
        first_time_ms: fact.first_time_ms,
        count: fact.count,
        before: fact.before,
        after: fact.after,
        kind: kind_number(fact.kind),
        cause: fact.cause,
        actor: Some(stored_actor(&fact.actor)),
        generation: fact.generation,
        note: fact.note.clone(),
        cut_before,
    }
}

fn fact(stored: OffsetFactRow, sequence: u64) -> Result<Fact, DecodeError> {
    Ok(Fact {
        sequence,
        time_ms: stored.time_ms,
        first_time_ms: stored.first_time_ms,
        count: stored.count,
        before: stored.before,
        after: stored.after,
        kind: change_kind(stored.kind)?,
        cause: stored.cause,
        actor: Arc::new(actor(stored.actor)),
        generation: stored.generation,
        note: stored.note,
    })
}

/// Rows come by key: a group's own row before its history, and that in order.
fn group<'a>(
    groups: &'a mut Groups,
    name: &str,
    family: &'static str,
) -> Result<&'a mut Group, RowError> {
    let what = "its group is there";
    groups.by_name.get_mut(name).ok_or(RowError::Impossible { family, what })
}

pub(super) fn load_event(groups: &mut Groups, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let mut reader = KeyReader::new(EVENT, key);
    let (name, number) = (reader.text()?, reader.uint64()?);
    reader.finish()?;
    let stored: GroupEventRow = read(EVENT, value)?;
    let event = event(stored).map_err(|source| RowError::Value { family: EVENT, source })?;
    let events = &mut group(groups, name, EVENT)?.events;
    if number > LAST_NUMBER || !events.restore(number, event) {
        return Err(RowError::Impossible { family: EVENT, what: "numbers follow each other" });
    }
    Ok(())
}

pub(super) fn load_fact(groups: &mut Groups, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let mut reader = KeyReader::new(LEDGER, key);
    let (name, at, number) = (reader.text()?, reader.place()?, reader.uint64()?);
    reader.finish()?;
    if number > LAST_NUMBER {
        return Err(RowError::Impossible { family: LEDGER, what: "its number can be reached" });
    }
    let stored: OffsetFactRow = read(LEDGER, value)?;
    let cut = stored.cut_before;
    let fact = fact(stored, number).map_err(|source| RowError::Value { family: LEDGER, source })?;
    group(groups, name, LEDGER)?.ledger.restore(at, fact, cut);
    Ok(())
}
