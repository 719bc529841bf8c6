//! Groups as operators see them, their events and their ledger, for the wire.

use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;
use waymark_proto::v1;

use crate::api::convert::groups::{assigned, phase, revoke};
use crate::api::convert::topics::id_bytes;
use crate::broker::groups::seam::{
    Actor, ChangeKind, Description, Event, EventKind, ExpelCause, Fact, GroupLag, MemberState,
    PartitionLag, Summary,
};

/// The name of a topic, where it is known still.
pub(in crate::api) type NameOf<'a> = &'a dyn Fn(TopicPartition) -> String;

fn place(at: TopicPartition, name_of: NameOf<'_>) -> v1::PartitionRef {
    let topic = v1::TopicRef { name: name_of(at), topic_id: id_bytes(at.topic) };
    v1::PartitionRef { topic: Some(topic), partition: Some(at.partition.0) }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(in crate::api) fn summary(it: &Summary, coordinator: Option<v1::Node>) -> v1::GroupSummary {
    v1::GroupSummary {
        group_id: it.group.clone(),
        kind: v1::GroupKind::Consumer.into(),
        state: phase(it.phase).into(),
        generation: it.generation,
        members: count(it.members),
        committed: count(it.committed),
        assignor: it.assignor.name().to_owned(),
        coordinator,
    }
}

pub(in crate::api) fn description(
    it: Description,
    coordinator: Option<v1::Node>,
    name_of: NameOf<'_>,
) -> v1::GroupDescription {
    v1::GroupDescription {
        group_id: it.summary.group,
        kind: v1::GroupKind::Consumer.into(),
        state: phase(it.summary.phase).into(),
        generation: it.summary.generation,
        assignor: it.summary.assignor.name().to_owned(),
        coordinator,
        members: it.members.into_iter().map(member).collect(),
        created_time_ms: it.created_ms,
        empty_since_ms: it.empty_since_ms,
        expires_time_ms: it.expires_ms,
        unowned: it.unowned.into_iter().map(|at| place(at, name_of)).collect(),
        failure: None,
    }
}

/// A group that cannot be described.
pub(in crate::api) fn undescribed(group: String, failure: Failure) -> v1::GroupDescription {
    let failure = Some(failure.into());
    v1::GroupDescription { group_id: group, failure, ..v1::GroupDescription::default() }
}

fn member(it: MemberState) -> v1::GroupMember {
    let revoking = it.assigned.iter().filter_map(|one| Some(revoke(one, one.revoked?)));
    v1::GroupMember {
        revoking: revoking.collect(),
        member_id: it.member,
        instance_id: it.instance,
        client_id: it.actor.client_id,
        address: it.actor.address,
        rack: it.rack,
        subscription: Some(v1::Subscription {
            topics: it.subscription.names.into_iter().collect(),
            pattern: it.subscription.pattern,
        }),
        joined_time_ms: it.joined_ms,
        silent_ms: it.silent_ms,
        working_ms: it.working_ms,
        session_timeout_ms: it.limits.session_ms,
        processing_timeout_ms: it.limits.processing_ms,
        drain_timeout_ms: it.limits.drain_ms,
        assigned: it.assigned.iter().map(assigned).collect(),
        away: it.away,
        connected: it.connected,
    }
}

fn actor(it: &Actor) -> v1::Actor {
    v1::Actor {
        member_id: it.member.clone(),
        client_id: it.client_id.clone(),
        address: it.address.clone(),
    }
}

pub(in crate::api) fn event(number: u64, it: Event, name_of: NameOf<'_>) -> v1::GroupEvent {
    let (kind, cause) = kind(it.kind);
    v1::GroupEvent {
        sequence: i64::try_from(number).unwrap_or(i64::MAX),
        time_ms: it.time_ms,
        generation: it.generation,
        kind: kind.into(),
        actor: Some(actor(&it.actor)),
        member_id: it.member,
        instance_id: it.instance,
        from_member: it.from,
        partitions: it.partitions.into_iter().map(|at| place(at, name_of)).collect(),
        expel_cause: cause.into(),
        took_ms: it.took_ms,
        detail: it.detail,
    }
}

fn kind(kind: EventKind) -> (v1::GroupEventKind, v1::ExpelCause) {
    use v1::GroupEventKind as Wire;
    let told = match kind {
        EventKind::Expelled(why) => return (Wire::Expelled, cause(why)),
        EventKind::Created => Wire::Created,
        EventKind::Joined => Wire::Joined,
        EventKind::Left => Wire::Left,
        EventKind::Away => Wire::Away,
        EventKind::Returned => Wire::Returned,
        EventKind::Subscribed => Wire::SubscriptionChanged,
        EventKind::Topics => Wire::TopicsChanged,
        EventKind::AssignorChanged => Wire::AssignorChanged,
        EventKind::RevokeAsked => Wire::RevokeAsked,
        EventKind::Assigned => Wire::Assigned,
        EventKind::DrainOverdue => Wire::DrainOverdue,
        EventKind::Reset => Wire::OffsetsReset,
        EventKind::Undone => Wire::OffsetsUndone,
        EventKind::Deleted => Wire::OffsetsDeleted,
        EventKind::ExpiryAnnounced => Wire::ExpiryAnnounced,
        EventKind::Expired => Wire::OffsetsExpired,
        EventKind::CoordinatorChanged => Wire::CoordinatorChanged,
    };
    (told, v1::ExpelCause::Unspecified)
}

fn cause(cause: ExpelCause) -> v1::ExpelCause {
    match cause {
        ExpelCause::Heartbeat => v1::ExpelCause::Heartbeat,
        ExpelCause::Progress => v1::ExpelCause::Progress,
        ExpelCause::Crash => v1::ExpelCause::Crash,
        ExpelCause::Operator => v1::ExpelCause::Operator,
        ExpelCause::DidNotReturn => v1::ExpelCause::DidNotReturn,
    }
}

pub(in crate::api) fn change(
    at: TopicPartition,
    it: Fact,
    name_of: NameOf<'_>,
) -> v1::OffsetChange {
    let place = place(at, name_of);
    v1::OffsetChange {
        sequence: i64::try_from(it.sequence).unwrap_or(i64::MAX),
        time_ms: it.time_ms,
        topic: place.topic,
        partition: place.partition,
        before: it.before,
        after: it.after,
        kind: change_kind(it.kind).into(),
        cause: it.cause,
        actor: Some(actor(&it.actor)),
        generation: it.generation,
        note: it.note,
        count: i32::try_from(it.count).unwrap_or(i32::MAX),
        first_time_ms: it.first_time_ms,
    }
}

fn change_kind(kind: ChangeKind) -> v1::OffsetChangeKind {
    match kind {
        ChangeKind::Commit => v1::OffsetChangeKind::Commit,
        ChangeKind::Handoff => v1::OffsetChangeKind::Handoff,
        ChangeKind::Reset => v1::OffsetChangeKind::Reset,
        ChangeKind::Undo => v1::OffsetChangeKind::Undo,
        ChangeKind::Delete => v1::OffsetChangeKind::Delete,
        ChangeKind::Expiry => v1::OffsetChangeKind::Expiry,
    }
}

/// How far a group is behind, or why that is not known.
pub(in crate::api) fn group_lag(
    name: &str,
    lag: Result<GroupLag, Failure>,
    name_of: NameOf<'_>,
) -> v1::GroupLag {
    let lag = match lag {
        Ok(lag) => lag,
        Err(failure) => {
            let (group_id, failure) = (name.to_owned(), Some(failure.into()));
            return v1::GroupLag { group_id, failure, ..v1::GroupLag::default() };
        }
    };
    let known = |of: fn(&PartitionLag) -> Option<i64>| lag.partitions.iter().filter_map(of);
    v1::GroupLag {
        group_id: lag.group.clone(),
        state: phase(lag.phase).into(),
        records: known(|it| it.records).sum(),
        behind_ms: known(|it| it.behind_ms).max().unwrap_or_default(),
        measured_time_ms: lag.measured_ms,
        partitions: lag.partitions.into_iter().map(|it| partition_lag(it, name_of)).collect(),
        failure: None,
    }
}

fn partition_lag(it: PartitionLag, name_of: NameOf<'_>) -> v1::PartitionLag {
    let place = place(it.at, name_of);
    v1::PartitionLag {
        topic: place.topic,
        partition: place.partition,
        committed_offset: it.committed,
        log_start_offset: it.log_start,
        high_watermark: it.high_watermark,
        records: it.records,
        behind_ms: it.behind_ms,
        catching_up_per_second: it.catching_up,
        loss_in_ms: it.loss_in_ms,
        lost_records: it.lost_records,
        member_id: it.owner,
        client_id: it.client_id,
        held: it.held,
        failure: None,
    }
}

/// The number after which a page of history begins.
pub(in crate::api) fn number_after(token: &str) -> Result<u64, Failure> {
    let after = crate::api::convert::topics::page_after(token)?;
    if after.is_empty() {
        return Ok(0);
    }
    let bad = || {
        let message = "page_token must be what an earlier answer gave";
        crate::api::refusal::refuse(FailureCode::InvalidArgument, message)
    };
    let last: u64 = after.parse().map_err(|_| bad())?;
    last.checked_add(1).ok_or_else(bad)
}
