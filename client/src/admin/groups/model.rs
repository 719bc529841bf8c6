//! Owns the words for groups and their members, and how the wire's are read. Never calls a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waymark_proto::v1 as wire;

use super::{at_ref, id_text, some};
use crate::error::{Error, Result};
use crate::record::TopicPartition;
use crate::refusal::check;

/// Whether a group has members, and whether each partition is where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GroupState {
    /// No members; its offsets are kept.
    Empty,
    /// Every partition is with the member that should have it.
    Stable,
    /// Some partitions are on their way from one member to another; all others go on.
    Moving,
    /// A state that this client does not know.
    Unknown,
}

impl GroupState {
    /// In the contract's words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "EMPTY",
            Self::Stable => "STABLE",
            Self::Moving => "MOVING",
            Self::Unknown => "UNKNOWN",
        }
    }

    pub(super) fn read(state: wire::GroupState) -> Self {
        match state {
            wire::GroupState::Empty => Self::Empty,
            wire::GroupState::Stable => Self::Stable,
            wire::GroupState::Moving => Self::Moving,
            wire::GroupState::Unspecified => Self::Unknown,
        }
    }

    fn to_wire(self) -> wire::GroupState {
        match self {
            Self::Empty => wire::GroupState::Empty,
            Self::Stable => wire::GroupState::Stable,
            Self::Moving => wire::GroupState::Moving,
            Self::Unknown => wire::GroupState::Unspecified,
        }
    }
}

/// Which groups to list. The default: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupFilter {
    /// Only groups in one of these states; empty: in any.
    pub states: Vec<GroupState>,
    /// Only groups whose name matches this pattern somewhere (RE2 syntax); empty: any name.
    pub pattern: String,
}

impl GroupFilter {
    pub(super) fn page(&self, page_size: i32, page_token: String) -> wire::ListGroupsRequest {
        let states = self.states.iter().map(|state| state.to_wire().into()).collect();
        wire::ListGroupsRequest { states, pattern: self.pattern.clone(), page_size, page_token }
    }
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub group: String,
    /// What state it is in.
    pub state: GroupState,
    /// How often it has changed.
    pub generation: i32,
    /// How many members.
    pub members: i32,
    /// How many partitions with a committed offset.
    pub committed: i32,
    /// How partitions are shared out; empty where nobody has joined yet.
    pub assignor: String,
    /// The node that looks after it, where known.
    pub coordinator: Option<i32>,
}

impl From<wire::GroupSummary> for GroupListing {
    fn from(group: wire::GroupSummary) -> Self {
        Self {
            state: GroupState::read(group.state()),
            group: group.group_id,
            generation: group.generation,
            members: group.members,
            committed: group.committed,
            assignor: group.assignor,
            coordinator: group.coordinator.map(|node| node.node_id),
        }
    }
}

/// All groups that a filter lets through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupListings {
    /// By name.
    pub groups: Vec<GroupListing>,
    /// Nodes whose groups are missing here, because they did not answer.
    pub silent_nodes: Vec<i32>,
}

/// A group in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// What state it is in.
    pub state: GroupState,
    /// How often it has changed.
    pub generation: i32,
    /// How partitions are shared out; empty where nobody has joined yet.
    pub assignor: String,
    /// The node that looks after it, where known.
    pub coordinator: Option<i32>,
    /// Its members.
    pub members: Vec<GroupMember>,
    /// Unix ms.
    pub created_time_ms: i64,
    /// Since when it has no members, Unix ms; `None`: it has some.
    pub empty_since_ms: Option<i64>,
    /// When its offsets will be removed if it stays empty, Unix ms; `None`: never.
    pub expires_time_ms: Option<i64>,
    /// Partitions of its topics that nobody owns just now.
    pub unowned: Vec<TopicPartition>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// One start of one process.
    pub member_id: String,
    /// The seat that it keeps over restarts, if it has one.
    pub instance_id: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it comes from, as its coordinator sees it.
    pub address: String,
    /// Where it stands.
    pub rack: String,
    /// The topics that it named.
    pub topics: Vec<String>,
    /// And the pattern; empty: none.
    pub pattern: String,
    /// When it joined, Unix ms.
    pub joined_time_ms: i64,
    /// Since its last sign of life; `None`: none since this coordinator began.
    pub silent: Option<Duration>,
    /// How long it has been at work on the same records; `None`: it waits for records.
    pub working: Option<Duration>,
    /// Without a sign of life for this long, it is expelled.
    pub session_timeout: Duration,
    /// At work on the same records for this long, it is expelled.
    pub processing_timeout: Duration,
    /// How long it may take to give a partition up.
    pub drain_timeout: Duration,
    /// What it owns.
    pub assigned: Vec<MemberPartition>,
    /// What it has been asked to give up.
    pub revoking: Vec<Revoking>,
    /// It has left to return; its partitions wait for it.
    pub away: bool,
    /// It has a session open now.
    pub connected: bool,
}

/// A partition that a member owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPartition {
    /// Which one.
    pub at: TopicPartition,
    /// Rises with each owner.
    pub fencing_epoch: i64,
}

/// A partition that a member has been asked to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoking {
    /// Which one.
    pub at: TopicPartition,
    /// How long it still may take.
    pub left: Duration,
    /// Why, for people.
    pub reason: String,
}

pub(super) fn description(group: wire::GroupDescription) -> Result<GroupDescription> {
    check(group.failure.as_ref())?;
    let names: Names = group
        .members
        .iter()
        .flat_map(|member| &member.assigned)
        .map(|owned| (owned.topic_id.clone(), Arc::from(owned.topic.as_str())))
        .collect();
    let state = GroupState::read(group.state());
    let members = group.members.into_iter().map(|member| read_member(member, &names));
    Ok(GroupDescription {
        state,
        group: group.group_id,
        generation: group.generation,
        assignor: group.assignor,
        coordinator: group.coordinator.map(|node| node.node_id),
        members: members.collect::<Result<_>>()?,
        created_time_ms: group.created_time_ms,
        empty_since_ms: group.empty_since_ms,
        expires_time_ms: group.expires_time_ms,
        unowned: group.unowned.iter().map(at_ref).collect::<Result<_>>()?,
    })
}

/// Topics that some member owns a partition of: a revoke names its topic by id only.
type Names = BTreeMap<Bytes, Arc<str>>;

fn read_member(member: wire::GroupMember, names: &Names) -> Result<GroupMember> {
    let subscription = member.subscription.unwrap_or_default();
    let assigned = member.assigned.into_iter().map(|owned| {
        let at = place(&owned.topic_id, owned.partition, names)?;
        Ok(MemberPartition { at, fencing_epoch: owned.fencing_epoch })
    });
    let revoking = member.revoking.into_iter().map(|revoke| {
        let at = place(&revoke.topic_id, revoke.partition, names)?;
        Ok(Revoking { at, left: span(revoke.deadline_ms.into()), reason: revoke.reason })
    });
    Ok(GroupMember {
        member_id: member.member_id,
        instance_id: some(member.instance_id),
        client_id: member.client_id,
        address: member.address,
        rack: member.rack,
        topics: subscription.topics,
        pattern: subscription.pattern,
        joined_time_ms: member.joined_time_ms,
        silent: member.silent_ms.map(span),
        working: member.working_ms.map(span),
        session_timeout: span(member.session_timeout_ms.into()),
        processing_timeout: span(member.processing_timeout_ms.into()),
        drain_timeout: span(member.drain_timeout_ms.into()),
        assigned: assigned.collect::<Result<_>>()?,
        revoking: revoking.collect::<Result<_>>()?,
        away: member.away,
        connected: member.connected,
    })
}

fn place(id: &Bytes, partition: Option<i32>, names: &Names) -> Result<TopicPartition> {
    let partition = partition.ok_or_else(|| Error::protocol("an item that names no partition"))?;
    let name = names.get(id).filter(|name| !name.is_empty());
    let topic = name.map_or_else(|| Arc::from(id_text(id)), Arc::clone);
    Ok(TopicPartition { topic, partition })
}

/// Milliseconds of the wire; less than none is none.
pub(super) fn span(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
