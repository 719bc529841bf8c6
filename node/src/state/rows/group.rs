//! Owns the rows of groups: tag 9, the counter of groups; tag 10, group: members and holdings, one row, because they change
//! together and seldom. Commits leave it alone.

use std::sync::Arc;

use waymark_proto::stored::{self, GroupRow, GroupsRow};

use super::key::{GROUP, GROUPS, KeyReader, KeyWriter};
use super::{RowError, read, row};
use crate::state::codec::DecodeError;
use crate::state::codec::group_commands::{
    assignor, limits, named_in, number_in, stored_limits, stored_subscription, stored_topics,
    subscription, topic_set, topics,
};
use crate::state::codec::values::{
    actor, replica, stored_actor, stored_replica, topic_bytes, topic_partition,
};
use crate::state::groups::{Group, Groups, Holding, Member, MemberId, Reason, Revoke};
use crate::state::reply::Row;

const FAMILY: &str = "group";

/// Numbers as `waymark.v1.Reason` counts, but for the first.
const REASONS: [Reason; 9] = [
    Reason::Created,
    Reason::Joined,
    Reason::Left,
    Reason::Expelled,
    Reason::Topics,
    Reason::Subscription,
    Reason::HandedOver,
    Reason::Reset,
    Reason::Assignor,
];

pub(super) fn drain(groups: &mut Groups, rows: &mut Vec<Row>) {
    if std::mem::take(&mut groups.dirty.made) {
        let key = KeyWriter::new(GROUPS).finish();
        rows.push(row(key, Some(GroupsRow { made: groups.made })));
    }
    let first = rows.len();
    for name in std::mem::take(&mut groups.dirty.groups) {
        let key = KeyWriter::new(GROUP).text(&name).finish();
        rows.push(row(key, groups.by_name.get(&name).map(to_stored)));
    }
    rows[first..].sort_by(|a, b| a.key.cmp(&b.key));
}

fn to_stored(group: &Group) -> GroupRow {
    let (leader_term, leader) = group.last_leader.unwrap_or_default();
    GroupRow {
        incarnation: group.incarnation,
        generation: group.generation,
        reason: number_in(&REASONS, group.reason),
        moved: group.moved,
        assignor: group.assignor.name().to_owned(),
        members: group.members.iter().map(stored_member).collect(),
        topics: stored_topics(&group.topics),
        holdings: group.holdings.iter().map(stored_holding).collect(),
        created_ms: group.created_ms,
        empty_since_ms: group.empty_since_ms,
        expires_ms: group.expires_ms,
        leader_term,
        leader: group.last_leader.map(|_| stored_replica(leader)),
        next_fact: group.ledger.next(),
    }
}

fn stored_member((id, member): (&MemberId, &Member)) -> stored::group_row::Member {
    stored::group_row::Member {
        member_id: id.to_string(),
        instance_id: member.instance.clone(),
        actor: Some(stored_actor(&member.actor)),
        rack: member.rack.clone(),
        subscription: Some(stored_subscription(&member.subscription)),
        topic_ids: member.topics.iter().copied().map(topic_bytes).collect(),
        limits: Some(stored_limits(member.limits)),
        joined_ms: member.joined_ms,
        away_since_ms: member.away_since_ms,
    }
}

fn stored_holding(
    (at, holding): (&waymark_proto::ids::TopicPartition, &Holding),
) -> stored::group_row::Holding {
    let revoke = holding.revoke.as_ref();
    stored::group_row::Holding {
        topic_id: topic_bytes(at.topic),
        partition: at.partition.0,
        owner: holding.owner.to_string(),
        since: holding.since,
        revoked_for: revoke.and_then(|it| it.to.as_ref()).map(ToString::to_string),
        revoked_for_nobody: revoke.is_some_and(|it| it.to.is_none()),
        asked_ms: revoke.map_or(0, |it| it.asked_ms),
        reason: revoke.map_or(0, |it| number_in(&REASONS, it.reason)),
    }
}

pub(super) fn load_counter(groups: &mut Groups, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    KeyReader::new("groups", key).finish()?;
    let stored: GroupsRow = read("groups", value)?;
    groups.made = stored.made;
    Ok(())
}

pub(super) fn load(groups: &mut Groups, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let mut reader = KeyReader::new(FAMILY, key);
    let name = reader.text()?;
    reader.finish()?;
    let stored: GroupRow = read(FAMILY, value)?;
    let group = from_stored(stored).map_err(|source| RowError::Value { family: FAMILY, source })?;
    groups.by_name.insert(name.to_owned(), group);
    Ok(())
}

fn from_stored(stored: GroupRow) -> Result<Group, DecodeError> {
    let reason = |number| named_in(&REASONS, number).ok_or(DecodeError::OutOfRange("reason"));
    // Fencing epochs are made of both.
    if !(0..1 << 31).contains(&stored.incarnation) || stored.generation < 0 {
        return Err(DecodeError::OutOfRange("incarnation or generation"));
    }
    let mut group = Group::new(stored.incarnation, stored.created_ms);
    group.generation = stored.generation;
    group.reason = reason(stored.reason)?;
    group.moved = stored.moved;
    group.assignor = assignor(&stored.assignor)?;
    group.topics = topics(stored.topics)?;
    group.empty_since_ms = stored.empty_since_ms;
    group.expires_ms = stored.expires_ms;
    group.last_leader = stored.leader.map(|it| (stored.leader_term, replica(it)));
    group.ledger.go_on_from(stored.next_fact);
    for it in stored.members {
        let member = Member {
            instance: it.instance_id,
            actor: Arc::new(actor(it.actor)),
            rack: it.rack,
            subscription: subscription(it.subscription),
            topics: topic_set(&it.topic_ids)?,
            limits: limits(it.limits)?,
            joined_ms: it.joined_ms,
            away_since_ms: it.away_since_ms,
        };
        group.members.insert(it.member_id.into(), member);
    }
    for it in stored.holdings {
        let at = topic_partition(&it.topic_id, it.partition)?;
        let to: Option<MemberId> = it.revoked_for.map(Into::into);
        let revoke = if to.is_some() || it.revoked_for_nobody {
            Some(Revoke { to, asked_ms: it.asked_ms, reason: reason(it.reason)? })
        } else {
            None
        };
        let holding = Holding { owner: it.owner.into(), since: it.since, revoke };
        group.holdings.insert(at, holding);
    }
    Ok(group)
}
