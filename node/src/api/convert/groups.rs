//! Groups: messages of members from the wire, and what members and operators are told back.

use std::collections::BTreeMap;

use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;
use waymark_proto::v1;

use super::fields::{MAX_ID, by_id, group, known, optional};
use crate::api::admin::Topic;
use crate::api::convert::offsets::MAX_PARTITIONS;
use crate::api::convert::topics::{id_bytes, topic_ref};
use crate::api::refusal::{invalid, missing, refuse, too_large};
use crate::broker::groups::seam::{
    Actor, Assigned, Assignor, Limits, Phase, Reason, Subscription, Told, Update,
};
use crate::state::command::OffsetCommit;

/// Topics that one member may name.
const MAX_NAMES: usize = 10_000;
/// Partitions that one member may hold.
const MAX_OWNED: usize = 100_000;
/// Longest pattern, bytes.
const MAX_PATTERN: usize = 4_096;
const DEFAULT_SESSION_MS: i32 = 45_000;
const DEFAULT_PROCESSING_MS: i32 = 300_000;
const DEFAULT_DRAIN_MS: i32 = 30_000;

/// A time limit, where 0 stands for its default.
fn limit(field: &str, ms: i32, default: i32, legal: (i32, i32)) -> Result<i32, Failure> {
    match ms {
        0 => Ok(default),
        ms if (legal.0..=legal.1).contains(&ms) => Ok(ms),
        ms => {
            let message = format!("{field} must be {} to {} ms, got {ms}", legal.0, legal.1);
            Err(refuse(FailureCode::InvalidTimeout, message))
        }
    }
}

fn limits(update: &v1::MemberUpdate) -> Result<Limits, Failure> {
    let session = ("session_timeout_ms", update.session_timeout_ms);
    let processing = ("processing_timeout_ms", update.processing_timeout_ms);
    let drain = ("drain_timeout_ms", update.drain_timeout_ms);
    Ok(Limits {
        session_ms: limit(session.0, session.1, DEFAULT_SESSION_MS, (6_000, 1_800_000))?,
        processing_ms: limit(processing.0, processing.1, DEFAULT_PROCESSING_MS, (1, 86_400_000))?,
        drain_ms: limit(drain.0, drain.1, DEFAULT_DRAIN_MS, (1, 3_600_000))?,
    })
}

fn subscription(given: v1::Subscription) -> Result<Subscription, Failure> {
    if given.topics.len() > MAX_NAMES {
        return Err(too_large("topics of a subscription", MAX_NAMES as i64));
    }
    if given.pattern.len() > MAX_PATTERN {
        return Err(refuse(FailureCode::InvalidPattern, "a pattern has at most 4096 bytes"));
    }
    for name in &given.topics {
        super::fields::topic_name(name)?;
    }
    Ok(Subscription { names: given.topics.into_iter().collect(), pattern: given.pattern })
}

fn assignor(name: &str) -> Result<Option<Assignor>, Failure> {
    if name.is_empty() {
        return Ok(None);
    }
    let unknown = || {
        let message = format!("assignor must be range, roundrobin or sticky, got {name:?}");
        refuse(FailureCode::UnsupportedAssignor, message)
    };
    Assignor::from_name(name).map(Some).ok_or_else(unknown)
}

fn id(field: &str, id: &str) -> Result<(), Failure> {
    match id.len() {
        0 => Err(missing(field)),
        1..=MAX_ID => Ok(()),
        _ => Err(invalid(field, "at most 1024 bytes")),
    }
}

/// A member's message. Its final offsets are read by the caller, who looks their topics up.
pub(in crate::api) fn update(
    given: v1::MemberUpdate,
    final_offsets: Vec<OffsetCommit>,
    actor: Actor,
) -> Result<Update, Failure> {
    group(&given.group_id)?;
    id("member_id", &given.member_id)?;
    if let Some(instance) = &given.instance_id {
        id("instance_id", instance)?;
    }
    let leave = match known("leave", given.leave)? {
        v1::Leave::Unspecified => None,
        v1::Leave::ForGood => Some(false),
        v1::Leave::WillReturn if given.instance_id.is_some() => Some(true),
        v1::Leave::WillReturn => return Err(invalid("leave", "FOR_GOOD without an instance_id")),
    };
    let member_epoch = optional("member_epoch", given.member_epoch)?;
    let joins = member_epoch.is_none() && leave.is_none();
    if joins && given.subscription.is_none() {
        return Err(missing("subscription"));
    }
    let limits_given =
        [given.session_timeout_ms, given.processing_timeout_ms, given.drain_timeout_ms];
    let speaks_of_limits = joins || limits_given.iter().any(|it| *it != 0);
    let limits = limits(&given)?;
    sizes(&given)?;
    Ok(Update {
        member_epoch,
        rack: given.rack.unwrap_or_default(),
        limits: speaks_of_limits.then_some(limits),
        assignor: assignor(&given.assignor)?,
        owned: given.owned.as_ref().map(owned).transpose()?,
        final_offsets,
        commit_seq: given.commit_seq,
        subscription: given.subscription.map(subscription).transpose()?,
        group: given.group_id,
        member: given.member_id,
        instance: given.instance_id,
        leave,
        working_on: given.working_on,
        actor,
    })
}

/// What would be kept, or looked through, at any length.
fn sizes(given: &v1::MemberUpdate) -> Result<(), Failure> {
    if given.rack.as_ref().is_some_and(|rack| rack.len() > MAX_ID) {
        return Err(invalid("rack", "at most 1024 bytes"));
    }
    if given.commit_seq < 0 {
        return Err(invalid("commit_seq", "0 or more"));
    }
    if given.message_number < 0 {
        return Err(invalid("message_number", "0 or more"));
    }
    let owned = given.owned.as_ref().map_or(0, |it| it.partitions.len());
    if owned > MAX_OWNED || given.final_offsets.len() > MAX_PARTITIONS {
        return Err(too_large("partitions of a member's message", MAX_PARTITIONS as i64));
    }
    Ok(())
}

fn owned(given: &v1::Owned) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let each = given.partitions.iter();
    each.map(|it| Ok((by_id(&it.topic_id, it.partition)?, it.fencing_epoch))).collect()
}

/// What a member is told: in answer to a message, with the outcome of each of its final offsets, or (`answers` is 0) pushed.
pub(in crate::api) fn told(
    told: &Told,
    final_offsets: Vec<(v1::OffsetCommit, Result<(), Failure>)>,
    answers: i64,
) -> v1::CoordinatorUpdate {
    let revoked = told.assigned.iter().filter_map(|it| Some(revoke(it, it.revoked?)));
    let revoke = revoked.collect();
    let outcomes = final_offsets.into_iter().map(|(item, outcome)| v1::OffsetResult {
        topic: item.topic,
        partition: item.partition,
        failure: outcome.err().map(Failure::into),
    });
    v1::CoordinatorUpdate {
        generation: told.generation,
        member_epoch: told.generation,
        heartbeat_interval_ms: told.heartbeat_ms,
        final_offsets: outcomes.collect(),
        answers,
        assignment: Some(v1::Assignment {
            partitions: told.assigned.iter().map(assigned).collect(),
        }),
        revoke,
        reason: reason(told.reason).into(),
        session_timeout_ms: told.limits.session_ms,
        processing_timeout_ms: told.limits.processing_ms,
        ..v1::CoordinatorUpdate::default()
    }
}

/// A member's message was refused, or (`answers` is 0) the member itself.
pub(in crate::api) fn refused(failure: Failure, answers: i64) -> v1::CoordinatorUpdate {
    let failure = Some(failure.into());
    v1::CoordinatorUpdate { failure, answers, ..v1::CoordinatorUpdate::default() }
}

pub(in crate::api) fn assigned(it: &Assigned) -> v1::AssignedPartition {
    v1::AssignedPartition {
        topic_id: id_bytes(it.at.topic),
        topic: it.topic.clone(),
        partition: Some(it.at.partition.0),
        fencing_epoch: it.fencing_epoch,
        committed_offset: it.committed.map(|(offset, _)| offset),
        committed_leader_epoch: it.committed.and_then(|(_, epoch)| epoch),
        leader: None,
    }
}

pub(in crate::api) fn revoke(
    it: &Assigned,
    revoked: crate::broker::groups::seam::Revoked,
) -> v1::Revoke {
    v1::Revoke {
        topic_id: id_bytes(it.at.topic),
        partition: Some(it.at.partition.0),
        deadline_ms: revoked.left_ms,
        reason: words(revoked.reason).to_owned(),
    }
}

fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Created => "the group began",
        Reason::Joined => "a member joined",
        Reason::Left => "a member left",
        Reason::Expelled => "a member was expelled",
        Reason::Topics => "topics changed",
        Reason::Subscription => "a member reads other topics",
        Reason::HandedOver => "partitions changed hands",
        Reason::Reset => "offsets were moved",
        Reason::Assignor => "partitions are shared out in another way",
    }
}

fn reason(reason: Reason) -> v1::Reason {
    match reason {
        Reason::Created => v1::Reason::Unspecified,
        Reason::Joined => v1::Reason::MemberJoined,
        Reason::Left => v1::Reason::MemberLeft,
        Reason::Expelled => v1::Reason::MemberExpelled,
        Reason::Topics => v1::Reason::TopicsChanged,
        Reason::Subscription => v1::Reason::SubscriptionChanged,
        Reason::HandedOver => v1::Reason::HandedOver,
        Reason::Reset => v1::Reason::OffsetsReset,
        Reason::Assignor => v1::Reason::AssignorChanged,
    }
}

pub(in crate::api) fn phase(phase: Phase) -> v1::GroupState {
    match phase {
        Phase::Empty => v1::GroupState::Empty,
        Phase::Stable => v1::GroupState::Stable,
        Phase::Moving => v1::GroupState::Moving,
    }
}

/// Where a reset puts a partition that may lie between `start` and `end`; and what had to be changed for that.
pub(in crate::api) fn inside(offset: i64, start: i64, end: i64) -> (i64, String) {
    if offset < start {
        (start, format!("{offset} is before the log: it starts at {start}"))
    } else if offset > end {
        (end, format!("{offset} is beyond the log: it ends at {end}"))
    } else {
        (offset, String::new())
    }
}

/// What a move means in records, as far as the log still has them.
pub(in crate::api) fn offset_move(
    topic: &Topic,
    at: TopicPartition,
    (before, after): (Option<i64>, Option<i64>),
    (start, adjusted): (i64, String),
) -> v1::OffsetMove {
    let from = before.unwrap_or(start).max(start);
    let to = after.unwrap_or(start).max(start);
    v1::OffsetMove {
        topic: Some(topic_ref(topic)),
        partition: Some(at.partition.0),
        before,
        after,
        replayed: (from - to).max(0),
        skipped: (to - from).max(0),
        adjusted,
        failure: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() -> v1::MemberUpdate {
        v1::MemberUpdate {
            group_id: "g".to_owned(),
            member_id: "m".to_owned(),
            subscription: Some(v1::Subscription::default()),
            ..v1::MemberUpdate::default()
        }
    }

    fn code(given: v1::MemberUpdate) -> Option<FailureCode> {
        update(given, Vec::new(), Actor::default()).err().map(|failure| failure.code)
    }

    #[test]
    fn a_join_says_who_and_what_and_0_stands_for_defaults() {
        let read = update(join(), Vec::new(), Actor::default()).expect("a good join");
        let limits = read.limits.expect("a join has limits");
        assert_eq!(
            (limits.session_ms, limits.processing_ms, limits.drain_ms),
            (45_000, 300_000, 30_000)
        );
        let nameless = v1::MemberUpdate { member_id: String::new(), ..join() };
        assert_eq!(code(nameless), Some(FailureCode::InvalidArgument));
        let nothing = v1::MemberUpdate { subscription: None, ..join() };
        assert_eq!(code(nothing), Some(FailureCode::InvalidArgument));
        assert_eq!(
            code(v1::MemberUpdate { group_id: String::new(), ..join() }),
            Some(FailureCode::InvalidGroupId)
        );
    }

    #[test]
    fn what_is_out_of_range_is_named_with_its_range() {
        let short = v1::MemberUpdate { session_timeout_ms: 5_999, ..join() };
        let failure = update(short, Vec::new(), Actor::default()).expect_err("too short");
        assert_eq!(failure.code, FailureCode::InvalidTimeout);
        assert!(failure.message.contains("6000 to 1800000"), "{}", failure.message);
        let odd = v1::MemberUpdate { assignor: "eager".to_owned(), ..join() };
        assert_eq!(code(odd), Some(FailureCode::UnsupportedAssignor));
    }

    #[test]
    fn only_who_has_a_seat_may_leave_to_return() {
        let leave = v1::Leave::WillReturn.into();
        let away = v1::MemberUpdate { member_epoch: Some(1), leave, ..join() };
        assert_eq!(code(away.clone()), Some(FailureCode::InvalidArgument));
        let seated = v1::MemberUpdate { instance_id: Some("seat".to_owned()), ..away };
        assert_eq!(code(seated), None);
    }

    #[test]
    fn a_move_counts_records_that_the_log_still_has() {
        let topic = Topic {
            id: waymark_proto::ids::TopicId([1; 16]),
            name: "t".to_owned(),
            partitions: 1,
            replication: 1,
            version: 1,
            configs: BTreeMap::new(),
        };
        let at = TopicPartition::default();
        let counted = |before, after| {
            let it = offset_move(&topic, at, (before, after), (10, String::new()));
            (it.replayed, it.skipped)
        };
        assert_eq!(counted(Some(50), Some(20)), (30, 0));
        assert_eq!(counted(Some(50), Some(0)), (40, 0), "what is gone is not replayed");
        assert_eq!(counted(None, Some(30)), (0, 20));
        assert_eq!(counted(Some(5), Some(30)), (0, 20));
        assert_eq!(counted(Some(50), None), (40, 0));
    }
}
