//! Owns the stored form of changes of groups, and of what their rows share with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use waymark_proto::ids::{TopicId, TopicPartition};
use waymark_proto::stored::{self, group_entry::Change};

use super::DecodeError;
use super::shard_commands::{position, stored_position};
use super::values::{actor, stored_actor, topic, topic_bytes, topic_partition as place};
use crate::state::groups::{
    Assignor, ChangeKind, ExpelCause, GroupChange, GroupEntry, Join, Limits, MemberId, Release,
    Subscription, TopicFacts,
};

type Facts = BTreeMap<TopicId, TopicFacts>;
type Fenced = Vec<(TopicPartition, i64)>;

pub(super) fn to_stored(entry: &GroupEntry) -> stored::GroupEntry {
    stored::GroupEntry {
        group_id: entry.group.clone(),
        time_ms: entry.time_ms,
        actor: Some(stored_actor(&entry.actor)),
        change: Some(stored_change(&entry.change)),
    }
}

fn stored_change(change: &GroupChange) -> Change {
    match change {
        GroupChange::Join(it) => Change::Join(stored_join(it)),
        GroupChange::Release(it) => Change::Release(stored_release(it)),
        GroupChange::Leave { release, to_return } => Change::Leave(stored::GroupLeave {
            release: Some(stored_release(release)),
            to_return: *to_return,
        }),
        GroupChange::Expel { members, note } => {
            let item = |(id, cause, took_ms): &(MemberId, ExpelCause, i64)| {
                let (member_id, took_ms) = (id.to_string(), *took_ms);
                stored::group_expel::Item { member_id, cause: cause_number(*cause), took_ms }
            };
            let members = members.iter().map(item).collect();
            Change::Expel(stored::GroupExpel { members, note: note.clone() })
        }
        GroupChange::Overdue { partitions } => {
            Change::Overdue(stored::GroupOverdue { partitions: stored_fenced(partitions) })
        }
        GroupChange::Topics { seen, topics, members } => {
            let member = |(id, topics): &(MemberId, BTreeSet<TopicId>)| {
                let topic_ids = topics.iter().copied().map(topic_bytes).collect();
                stored::group_topics::Member { member_id: id.to_string(), topic_ids }
            };
            let members = members.iter().map(member).collect();
            let topics = stored_topics(topics);
            Change::Topics(stored::GroupTopics { topics, members, seen: *seen })
        }
        GroupChange::Reset { items, kind, note, seen } => {
            let item = |(at, to): &(TopicPartition, Option<i64>)| stored::group_reset::Item {
                topic_id: topic_bytes(at.topic),
                partition: at.partition.0,
                to_offset: *to,
            };
            Change::Reset(stored::GroupReset {
                items: items.iter().map(item).collect(),
                kind: kind_number(*kind),
                note: note.clone(),
                seen: *seen,
            })
        }
        GroupChange::Delete => Change::Delete(stored::GroupDelete {}),
        GroupChange::AnnounceExpiry { at_ms } => {
            Change::AnnounceExpiry(stored::GroupAnnounceExpiry { at_ms: *at_ms })
        }
        GroupChange::Expire => Change::Expire(stored::GroupExpire {}),
    }
}

fn stored_join(join: &Join) -> stored::GroupJoin {
    stored::GroupJoin {
        member_id: join.member.to_string(),
        instance_id: join.instance.clone(),
        takes_over: join.takes_over,
        rack: join.rack.clone(),
        subscription: Some(stored_subscription(&join.subscription)),
        topics: stored_topics(&join.topics),
        assignor: join.assignor.map(|it| it.name().to_owned()),
        limits: Some(stored_limits(join.limits)),
    }
}

fn stored_release(release: &Release) -> stored::GroupRelease {
    stored::GroupRelease {
        member_id: release.member.to_string(),
        member_epoch: release.member_epoch,
        partitions: stored_fenced(&release.partitions),
        offsets: release.offsets.iter().map(stored_position).collect(),
        commit_seq: release.commit_seq,
    }
}

fn stored_fenced(partitions: &Fenced) -> Vec<stored::FencedPlace> {
    let item = |(at, fencing_epoch): &(TopicPartition, i64)| stored::FencedPlace {
        topic_id: topic_bytes(at.topic),
        partition: at.partition.0,
        fencing_epoch: *fencing_epoch,
    };
    partitions.iter().map(item).collect()
}

pub(in crate::state) fn stored_subscription(it: &Subscription) -> stored::StoredSubscription {
    let names = it.names.iter().cloned().collect();
    stored::StoredSubscription { names, pattern: it.pattern.clone() }
}

pub(in crate::state) fn stored_limits(limits: Limits) -> stored::StoredLimits {
    let Limits { session_ms, processing_ms, drain_ms } = limits;
    stored::StoredLimits { session_ms, processing_ms, drain_ms }
}

pub(in crate::state) fn stored_topics(topics: &Facts) -> Vec<stored::StoredGroupTopic> {
    let item = |(id, facts): (&TopicId, &TopicFacts)| stored::StoredGroupTopic {
        topic_id: topic_bytes(*id),
        name: facts.name.clone(),
        partitions: facts.partitions,
    };
    topics.iter().map(item).collect()
}

pub(super) fn group(stored: stored::GroupEntry) -> Result<GroupEntry, DecodeError> {
    Ok(GroupEntry {
        group: stored.group_id,
        time_ms: stored.time_ms,
        actor: actor(stored.actor),
        change: change(stored.change.ok_or(DecodeError::UnknownCommand)?)?,
    })
}

fn change(stored: Change) -> Result<GroupChange, DecodeError> {
    Ok(match stored {
        Change::Join(it) => GroupChange::Join(join(it)?),
        Change::Release(it) => GroupChange::Release(release(it)?),
        Change::Leave(it) => {
            let release = release(it.release.ok_or(DecodeError::Missing("release"))?)?;
            GroupChange::Leave { release, to_return: it.to_return }
        }
        Change::Expel(it) => {
            let member = |it: stored::group_expel::Item| {
                Ok((it.member_id.into(), expel_cause(it.cause)?, it.took_ms))
            };
            let members = it.members.into_iter().map(member).collect::<Result<_, DecodeError>>()?;
            GroupChange::Expel { members, note: it.note }
        }
        Change::Overdue(it) => GroupChange::Overdue { partitions: fenced(&it.partitions)? },
        Change::Topics(it) => {
            let member = |it: stored::group_topics::Member| {
                Ok((it.member_id.into(), topic_set(&it.topic_ids)?))
            };
            let members = it.members.into_iter().map(member).collect::<Result<_, DecodeError>>()?;
            GroupChange::Topics { seen: it.seen, topics: topics(it.topics)?, members }
        }
        Change::Reset(it) => {
            let item = |it: &stored::group_reset::Item| {
                Ok((place(&it.topic_id, it.partition)?, it.to_offset))
            };
            let items = it.items.iter().map(item).collect::<Result<_, DecodeError>>()?;
            GroupChange::Reset { items, kind: change_kind(it.kind)?, note: it.note, seen: it.seen }
        }
        Change::Delete(_) => GroupChange::Delete,
        Change::AnnounceExpiry(it) => GroupChange::AnnounceExpiry { at_ms: it.at_ms },
        Change::Expire(_) => GroupChange::Expire,
    })
}

fn join(it: stored::GroupJoin) -> Result<Join, DecodeError> {
    Ok(Join {
        member: it.member_id.into(),
        instance: it.instance_id,
        takes_over: it.takes_over,
        rack: it.rack,
        subscription: subscription(it.subscription),
        topics: topics(it.topics)?,
        assignor: it.assignor.as_deref().map(assignor).transpose()?,
        limits: limits(it.limits)?,
    })
}

fn release(it: stored::GroupRelease) -> Result<Release, DecodeError> {
    Ok(Release {
        member: it.member_id.into(),
        member_epoch: it.member_epoch,
        partitions: fenced(&it.partitions)?,
        offsets: it.offsets.into_iter().map(position).collect::<Result<_, _>>()?,
        commit_seq: it.commit_seq,
    })
}

fn fenced(partitions: &[stored::FencedPlace]) -> Result<Fenced, DecodeError> {
    let item =
        |it: &stored::FencedPlace| Ok((place(&it.topic_id, it.partition)?, it.fencing_epoch));
    partitions.iter().map(item).collect()
}

pub(in crate::state) fn subscription(it: Option<stored::StoredSubscription>) -> Subscription {
    let it = it.unwrap_or_default();
    Subscription { names: it.names.into_iter().collect(), pattern: it.pattern }
}

pub(in crate::state) fn limits(it: Option<stored::StoredLimits>) -> Result<Limits, DecodeError> {
    let stored::StoredLimits { session_ms, processing_ms, drain_ms } =
        it.ok_or(DecodeError::Missing("limits"))?;
    Ok(Limits { session_ms, processing_ms, drain_ms })
}

pub(in crate::state) fn topics(
    stored: Vec<stored::StoredGroupTopic>,
) -> Result<Facts, DecodeError> {
    let item = |it: stored::StoredGroupTopic| {
        if !(0..=MOST_PARTITIONS).contains(&it.partitions) {
            return Err(DecodeError::OutOfRange("partitions of a topic"));
        }
        Ok((topic(&it.topic_id)?, TopicFacts { name: it.name, partitions: it.partitions }))
    };
    stored.into_iter().map(item).collect()
}

/// More than any topic may have: a damaged number must not make a group share out billions of partitions.
const MOST_PARTITIONS: i32 = 1 << 20;

pub(in crate::state) fn topic_set(ids: &[bytes::Bytes]) -> Result<BTreeSet<TopicId>, DecodeError> {
    ids.iter().map(|id| topic(id)).collect()
}

pub(in crate::state) fn assignor(name: &str) -> Result<Assignor, DecodeError> {
    Assignor::from_name(name).ok_or(DecodeError::OutOfRange("assignor"))
}

/// Numbers as `waymark.v1.ExpelCause` counts.
const EXPEL_CAUSES: [ExpelCause; 5] = [
    ExpelCause::Heartbeat,
    ExpelCause::Progress,
    ExpelCause::Crash,
    ExpelCause::Operator,
    ExpelCause::DidNotReturn,
];

pub(in crate::state) fn cause_number(cause: ExpelCause) -> i32 {
    number_in(&EXPEL_CAUSES, cause)
}

pub(in crate::state) fn expel_cause(number: i32) -> Result<ExpelCause, DecodeError> {
    named_in(&EXPEL_CAUSES, number).ok_or(DecodeError::OutOfRange("expel cause"))
}

/// Numbers as `waymark.v1.OffsetChangeKind` counts.
const CHANGE_KINDS: [ChangeKind; 6] = [
    ChangeKind::Commit,
    ChangeKind::Handoff,
    ChangeKind::Reset,
    ChangeKind::Undo,
    ChangeKind::Delete,
    ChangeKind::Expiry,
];

pub(in crate::state) fn kind_number(kind: ChangeKind) -> i32 {
    number_in(&CHANGE_KINDS, kind)
}

pub(in crate::state) fn change_kind(number: i32) -> Result<ChangeKind, DecodeError> {
    named_in(&CHANGE_KINDS, number).ok_or(DecodeError::OutOfRange("kind of change"))
}

/// The place of a value in its list, from 1: 0 is nobody's number.
pub(in crate::state) fn number_in<T: Copy + PartialEq>(all: &[T], value: T) -> i32 {
    let place = all.iter().position(|it| *it == value).unwrap_or_default();
    i32::try_from(place).unwrap_or_default() + 1
}

pub(in crate::state) fn named_in<T: Copy>(all: &[T], number: i32) -> Option<T> {
    let place = usize::try_from(number).ok()?.checked_sub(1)?;
    all.get(place).copied()
}

/// For logs: what and how much.
impl fmt::Display for GroupChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join(it) => write!(f, "{:?} joins", it.member),
            Self::Release(it) => {
                write!(f, "{:?} gives up {} partitions", it.member, it.partitions.len())
            }
            Self::Leave { release, to_return: true } => {
                write!(f, "{:?} leaves to return", release.member)
            }
            Self::Leave { release, .. } => write!(f, "{:?} leaves", release.member),
            Self::Expel { members, .. } => write!(f, "expel {} members", members.len()),
            Self::Overdue { partitions } => write!(f, "fence {} partitions", partitions.len()),
            Self::Topics { topics, .. } => write!(f, "it reads {} topics", topics.len()),
            Self::Reset { items, .. } => write!(f, "move {} offsets", items.len()),
            Self::Delete => f.write_str("delete it"),
            Self::AnnounceExpiry { at_ms: Some(at) } => write!(f, "offsets expire at {at}"),
            Self::AnnounceExpiry { at_ms: None } => f.write_str("offsets do not expire"),
            Self::Expire => f.write_str("offsets expire"),
        }
    }
}
