//! Owns reading what happened to a group: who came and went, what moved, and who decided it.

use std::time::Duration;

use waymark_proto::v1 as wire;

use super::model::span;
use super::{PAGE, at_ref, service, some};
use crate::admin::Admin;
use crate::error::Result;
use crate::record::TopicPartition;
use crate::refusal::check;
use crate::retry::Repeat;

/// Who did something: what a node knows of the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// `None`: an operator, or the cluster itself.
    pub member_id: Option<String>,
    /// What it calls itself; `None`: the cluster itself.
    pub client_id: Option<String>,
    /// Where it comes from.
    pub address: Option<String>,
}

impl From<wire::Actor> for Actor {
    fn from(actor: wire::Actor) -> Self {
        let (member_id, client_id) = (some(actor.member_id), some(actor.client_id));
        Self { member_id, client_id, address: some(actor.address) }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEventKind {
    /// The group came to be.
    Created,
    /// A member joined.
    Joined,
    /// A member left for good.
    Left,
    /// A member left to return.
    Away,
    /// A new process took over the seat of its instance.
    Returned,
    /// A member was expelled.
    Expelled(ExpelCause),
    /// A member wants other topics than before.
    SubscriptionChanged,
    /// Topics came, went, or got more partitions.
    TopicsChanged,
    /// Partitions are shared out in another way.
    AssignorChanged,
    /// A partition was asked back from its owner.
    RevokeAsked,
    /// A partition changed hands; no member: nobody reads it now.
    Assigned,
    /// The owner did not give a partition up in time: it was fenced.
    DrainOverdue,
    /// An operator moved offsets.
    OffsetsReset,
    /// An operator put offsets back.
    OffsetsUndone,
    /// An operator removed offsets.
    OffsetsDeleted,
    /// Offsets will be removed if the group stays empty.
    ExpiryAnnounced,
    /// Offsets were removed.
    OffsetsExpired,
    /// Another node coordinates the group.
    CoordinatorChanged,
    /// A kind that this client does not know.
    Unknown,
}

/// Why a member was expelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpelCause {
    /// Connected, yet no sign of life for the session timeout.
    Heartbeat,
    /// At work on the same records for longer than the processing timeout.
    Progress,
    /// Its connection broke and it did not come back within the session timeout.
    Crash,
    /// An operator decided it.
    Operator,
    /// Left to return, and did not.
    DidNotReturn,
    /// Another process took over its instance.
    Replaced,
    /// A cause that this client does not know.
    Unknown,
}

/// Something that happened to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEvent {
    /// Its place in the list.
    pub sequence: i64,
    /// When, Unix ms.
    pub time_ms: i64,
    /// The group's generation from then on.
    pub generation: i32,
    /// What.
    pub kind: GroupEventKind,
    /// Who did it.
    pub actor: Actor,
    /// Whom it concerns; `None`: nobody.
    pub member_id: Option<String>,
    /// The instance of that member, if it has one.
    pub instance_id: Option<String>,
    /// Who owned the partitions before; `None`: nobody.
    pub from_member: Option<String>,
    /// Which partitions.
    pub partitions: Vec<TopicPartition>,
    /// How long it took, where it took time: a hand-off, an absence, a silence.
    pub took: Option<Duration>,
    /// Words for people.
    pub detail: String,
}

impl Admin {
    /// What happened to a group, oldest first; with a time, from then on.
    ///
    /// # Errors
    /// When the group does not exist or no node answers in time.
    pub async fn group_events(
        &self,
        group: &str,
        since_ms: Option<i64>,
    ) -> Result<Vec<GroupEvent>> {
        let mut events = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = &wire::ListGroupEventsRequest {
                group_id: group.to_owned(),
                since_ms,
                page_size: PAGE,
                page_token,
            };
            let page = self
                .client
                .call("reading a group's events", Repeat::Harmless, |link, timeout| async move {
                    let call = link.call(request.clone(), timeout);
                    let answer = service(&link).list_group_events(call).await;
                    let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                    check(answer.failure.as_ref()).map(|()| answer)
                })
                .await?;
            for event in page.events {
                events.push(read(event)?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(events);
            }
        }
    }
}

fn read(event: wire::GroupEvent) -> Result<GroupEvent> {
    Ok(GroupEvent {
        kind: kind(&event),
        partitions: event.partitions.iter().map(at_ref).collect::<Result<_>>()?,
        sequence: event.sequence,
        time_ms: event.time_ms,
        generation: event.generation,
        actor: event.actor.map(Actor::from).unwrap_or_default(),
        member_id: some(event.member_id),
        instance_id: some(event.instance_id),
        from_member: some(event.from_member),
        took: event.took_ms.map(span),
        detail: event.detail,
    })
}

fn kind(event: &wire::GroupEvent) -> GroupEventKind {
    match event.kind() {
        wire::GroupEventKind::Unspecified => GroupEventKind::Unknown,
        wire::GroupEventKind::Created => GroupEventKind::Created,
        wire::GroupEventKind::Joined => GroupEventKind::Joined,
        wire::GroupEventKind::Left => GroupEventKind::Left,
        wire::GroupEventKind::Away => GroupEventKind::Away,
        wire::GroupEventKind::Returned => GroupEventKind::Returned,
        wire::GroupEventKind::Expelled => GroupEventKind::Expelled(cause(event.expel_cause())),
        wire::GroupEventKind::SubscriptionChanged => GroupEventKind::SubscriptionChanged,
        wire::GroupEventKind::TopicsChanged => GroupEventKind::TopicsChanged,
        wire::GroupEventKind::AssignorChanged => GroupEventKind::AssignorChanged,
        wire::GroupEventKind::RevokeAsked => GroupEventKind::RevokeAsked,
        wire::GroupEventKind::Assigned => GroupEventKind::Assigned,
        wire::GroupEventKind::DrainOverdue => GroupEventKind::DrainOverdue,
        wire::GroupEventKind::OffsetsReset => GroupEventKind::OffsetsReset,
        wire::GroupEventKind::OffsetsUndone => GroupEventKind::OffsetsUndone,
        wire::GroupEventKind::OffsetsDeleted => GroupEventKind::OffsetsDeleted,
        wire::GroupEventKind::ExpiryAnnounced => GroupEventKind::ExpiryAnnounced,
        wire::GroupEventKind::OffsetsExpired => GroupEventKind::OffsetsExpired,
        wire::GroupEventKind::CoordinatorChanged => GroupEventKind::CoordinatorChanged,
    }
}

fn cause(cause: wire::ExpelCause) -> ExpelCause {
    match cause {
        wire::ExpelCause::Unspecified => ExpelCause::Unknown,
        wire::ExpelCause::Heartbeat => ExpelCause::Heartbeat,
        wire::ExpelCause::Progress => ExpelCause::Progress,
        wire::ExpelCause::Crash => ExpelCause::Crash,
        wire::ExpelCause::Operator => ExpelCause::Operator,
        wire::ExpelCause::DidNotReturn => ExpelCause::DidNotReturn,
        wire::ExpelCause::Replaced => ExpelCause::Replaced,
    }
}
