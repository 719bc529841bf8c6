//! Owns the answer to one question: which member of a group reads which partition. Pure functions of members, topics and
//! present owners, so that every replica gives the same answer. Never decides when to assign, nor when a partition that
//! moves may be taken from its owner.
//!
//! | file | owns |
//! |---|---|
//! | `subscribers` | who subscribes what, in Kafka's order of members and topics |
//! | `range`, `round_robin` | Kafka's assignors, partition by partition the same |
//! | `sticky` | the default: balanced first, then the least movement |
//! | `classes`, `claims` | what sticky reads: members and topics that are alike, and who has what now |
//! | `blocks` | how even loads can be |
//! | `settle` | how much everybody keeps |
//! | `deal` | who gets the rest |
//! | `flow` | flows of least cost in a network, which `blocks` and `settle` ask |
//!
//! Whichever assignor: each partition of a topic that anybody subscribes goes to exactly one member that subscribes it.

mod blocks;
mod claims;
mod classes;
mod deal;
mod flow;
mod range;
mod round_robin;
mod settle;
mod sticky;
mod subscribers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waymark_proto::ids::{TopicId, TopicPartition};

/// A member's id; shared because every partition names its owner.
pub type MemberId = Arc<str>;

/// How a group's partitions are shared out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Assignor {
    /// Each topic for itself, in contiguous ranges, the first members one partition more: topics of equal partition
    /// counts are aligned, as joins of topics need it.
    Range,
    /// All partitions in a row, dealt one by one.
    RoundRobin,
    /// As balanced as the subscriptions allow and, of all such assignments, one that moves the fewest partitions.
    #[default]
    Sticky,
}

impl Assignor {
    /// The name by which clients ask for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
        }
    }

    /// The assignor of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin, Self::Sticky].into_iter().find(|it| it.name() == name)
    }
}

/// A member, as far as an assignor looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidate {
    /// The static member's name, which outlives its ids and therefore keeps its place in Kafka's order.
    pub instance: Option<String>,
    /// What it subscribes, patterns resolved. Ids of no known topic are ignored.
    pub topics: BTreeSet<TopicId>,
}

/// A topic, as far as an assignor looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// Kafka's assignors go through topics in the order of their names.
    pub name: String,
    /// How many partitions it has, numbered from 0.
    pub partitions: i32,
}

/// Everything an assignment depends on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Who is there.
    pub members: &'a BTreeMap<MemberId, Candidate>,
    /// What there is to read. Topics that nobody subscribes are left out of the result.
    pub topics: &'a BTreeMap<TopicId, TopicFacts>,
    /// Who has what now; only sticky looks at it. Owners that left or no longer subscribe are as good as none.
    pub owners: &'a BTreeMap<TopicPartition, MemberId>,
}

/// Gives each partition of each subscribed topic to one member that subscribes it.
#[must_use]
pub fn assign(assignor: Assignor, input: &Input<'_>) -> BTreeMap<TopicPartition, MemberId> {
    match assignor {
        Assignor::Range => range::assign(input),
        Assignor::RoundRobin => round_robin::assign(input),
        Assignor::Sticky => sticky::assign(input),
    }
}
