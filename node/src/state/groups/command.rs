//! Owns what an entry may ask of a group. What a leader looked up or decided (topics that a pattern matches, who was silent
//! for how long, resolved offsets, the time) comes as data (S16, S18).

use std::collections::{BTreeMap, BTreeSet};

use waymark_proto::ids::{TopicId, TopicPartition};

use super::assign::{Assignor, MemberId, TopicFacts};
use super::events::ExpelCause;
use super::group::{Actor, Limits, Subscription};
use super::ledger::ChangeKind;
use crate::state::command::OffsetCommit;

/// A change of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEntry {
    /// The group.
    pub group: String,
    /// The leader's clock, Unix ms.
    pub time_ms: i64,
    /// Who asked for it.
    pub actor: Actor,
    /// What.
    pub change: GroupChange,
}

/// What may change in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupChange {
    /// A member joins, or reads other topics from now on. Repeating it changes nothing.
    Join(Join),
    /// A member gives partitions up, with where it stopped: offsets and new owners in one entry.
    Release(Release),
    /// A member leaves, with where it stopped.
    Leave {
        /// Who, and what it gives up.
        release: Release,
        /// It comes back: its partitions wait.
        to_return: bool,
    },
    /// Members are thrown out.
    Expel {
        /// Who, why, and for how long it was silent or at work, ms.
        members: Vec<(MemberId, ExpelCause, i64)>,
        /// The operator's words.
        note: String,
    },
    /// Owners did not give partitions up in time. A partition whose fencing epoch is another one by now is left alone.
    Overdue {
        /// Partition and the fencing epoch of the owner that is late.
        partitions: Vec<(TopicPartition, i64)>,
    },
    /// What names and patterns mean by now.
    Topics {
        /// The generation of the group when it was looked at: another one by now, and nothing changes.
        seen: i32,
        /// Topics that some member may read.
        topics: BTreeMap<TopicId, TopicFacts>,
        /// Which ones each member may read.
        members: Vec<(MemberId, BTreeSet<TopicId>)>,
    },
    /// Positions are moved, on a group with members too.
    Reset {
        /// Where to; `None`: nothing is committed any more.
        items: Vec<(TopicPartition, Option<i64>)>,
        /// Reset or undo.
        kind: ChangeKind,
        /// The operator's words.
        note: String,
        /// The generation of the group when it was looked at, 0 before there was one: where its positions were moved since,
        /// nothing moves. So a reset that arrives late, after its own repetition, does not undo what was read since.
        seen: Option<i32>,
    },
    /// The group goes, if it has no members.
    Delete,
    /// Positions of an empty group will go at a time; `None`: not any more.
    AnnounceExpiry {
        /// Unix ms.
        at_ms: Option<i64>,
    },
    /// Positions of an empty group go, if they were announced to go by this time.
    Expire,
}

impl GroupChange {
    /// Leaves out topics that are gone, from what members read and from what is moved.
    pub(in crate::state) fn forget_topics(&mut self, is_gone: impl Fn(TopicId) -> bool) {
        match self {
            Self::Join(join) => join.topics.retain(|topic, _| !is_gone(*topic)),
            Self::Topics { topics, members, .. } => {
                topics.retain(|topic, _| !is_gone(*topic));
                members.iter_mut().for_each(|(_, own)| own.retain(|topic| !is_gone(*topic)));
            }
            // Nothing is committed of them, and so it stays; each has its place in the answer.
            Self::Reset { items, .. } => {
                let gone = items.iter_mut().filter(|(at, _)| is_gone(at.topic));
                gone.for_each(|(_, to)| *to = None);
            }
            Self::Release(_)
            | Self::Leave { .. }
            | Self::Expel { .. }
            | Self::Overdue { .. }
            | Self::Delete
            | Self::AnnounceExpiry { .. }
            | Self::Expire => {}
        }
    }
}

/// A member that joins, or that subscribes anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Made by the client.
    pub member: MemberId,
    /// Its seat, where membership is static.
    pub instance: Option<String>,
    /// Nobody with another member id is connected for this seat: it may be taken over.
    pub takes_over: bool,
    /// Its rack, may be empty.
    pub rack: String,
    /// What it asks for.
    pub subscription: Subscription,
    /// What that means just now, with the facts of those topics.
    pub topics: BTreeMap<TopicId, TopicFacts>,
    /// `None`: the group's.
    pub assignor: Option<Assignor>,
    /// Its limits.
    pub limits: Limits,
}

/// What a member gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Who.
    pub member: MemberId,
    /// The generation that it had taken on.
    pub member_epoch: i32,
    /// Which partitions, as it had got them.
    pub partitions: Vec<(TopicPartition, i64)>,
    /// Where it stopped.
    pub offsets: Vec<OffsetCommit>,
    /// Orders `offsets` among the member's commits.
    pub commit_seq: i64,
}
