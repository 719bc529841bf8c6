//! Owns what is known of one consumer group: who is in it, which topics they may read, who holds which partition. Never
//! decides anything: `membership` and `handoff` do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waymark_proto::ids::{ReplicaId, TopicId, TopicPartition};

use super::assign::{Assignor, MemberId, TopicFacts};
use super::events::Events;
use super::holdings::Holdings;
use super::ledger::Ledger;

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Counts the groups that were ever made in this shard: the high half of fencing epochs, so that a group that is
    /// deleted and made again goes on above its old ones.
    pub incarnation: i64,
    /// Rises with each change of members, partitions or positions that the members must know of.
    pub generation: i32,
    /// Why it rose last.
    pub reason: Reason,
    /// The generation that the last move of positions by an operator began; 0: there was none.
    pub moved: i32,
    /// How partitions are shared out.
    pub assignor: Assignor,
    /// By member id.
    pub members: BTreeMap<MemberId, Member>,
    /// The topics that members may read, or have not given up yet, as the leader last told: names and sizes are data of the
    /// log (S16).
    pub topics: BTreeMap<TopicId, TopicFacts>,
    /// Partitions with an owner. Each partition of `topics` that some member may read has one; one that nobody may read any
    /// more has one until that has given it up.
    pub holdings: Holdings,
    /// When it was made, Unix ms.
    pub created_ms: i64,
    /// Since when it has no members; `None`: it has some.
    pub empty_since_ms: Option<i64>,
    /// When its offsets will go if it stays empty; `None`: nobody announced that.
    pub expires_ms: Option<i64>,
    /// Term and leader of the last entry that touched it: another one means that another node coordinates it now.
    pub last_leader: Option<(u64, ReplicaId)>,
    /// What happened.
    pub events: Events,
    /// Every change of a committed offset.
    pub ledger: Ledger,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The seat that it sits on, where membership is static.
    pub instance: Option<String>,
    /// Who it is, as the node that took its call knows.
    pub actor: Arc<Actor>,
    /// Its rack, may be empty.
    pub rack: String,
    /// What it asked for.
    pub subscription: Subscription,
    /// What that means just now.
    pub topics: BTreeSet<TopicId>,
    /// How long it may be silent, at work, draining.
    pub limits: Limits,
    /// When it joined, Unix ms.
    pub joined_ms: i64,
    /// Since when it is away to return; `None`: it is here.
    pub away_since_ms: Option<i64>,
}

/// What a member wants to read; names and pattern add up.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subscription {
    /// Topics by name.
    pub names: BTreeSet<String>,
    /// A pattern that whole names match; empty: none.
    pub pattern: String,
}

/// A member's time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without a sign of life.
    pub session_ms: i32,
    /// At work on the same records.
    pub processing_ms: i32,
    /// From a revoke to the release.
    pub drain_ms: i32,
}

/// Who did something: what the node that took the call knows of the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// Empty: an operator, or the cluster itself.
    pub member: String,
    /// The name that the client gave itself.
    pub client_id: String,
    /// Where the call came from.
    pub address: String,
}

/// Who holds a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The one member whose commits count.
    pub owner: MemberId,
    /// The generation in which it got the partition, or in which the position was reset: commits under an older one are
    /// refused.
    pub since: i32,
    /// It was asked to give the partition up.
    pub revoke: Option<Revoke>,
}

/// A partition on its way to another member, or out of the group's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoke {
    /// Who gets it; `None`: nobody reads it any more.
    pub to: Option<MemberId>,
    /// When it was asked for, Unix ms.
    pub asked_ms: i64,
    /// Why.
    pub reason: Reason,
}

/// Why a generation began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reason {
    /// Nothing has happened yet.
    #[default]
    Created,
    /// A member joined, or came back.
    Joined,
    /// A member left.
    Left,
    /// A member was expelled.
    Expelled,
    /// Topics appeared, grew or went.
    Topics,
    /// A member reads other topics now.
    Subscription,
    /// A partition came to its new owner.
    HandedOver,
    /// Positions were moved.
    Reset,
    /// Partitions are shared out in another way.
    Assignor,
}

impl Group {
    pub(in crate::state) fn new(incarnation: i64, time_ms: i64) -> Self {
        Self {
            incarnation,
            generation: 0,
            reason: Reason::default(),
            moved: 0,
            assignor: Assignor::default(),
            members: BTreeMap::new(),
            topics: BTreeMap::new(),
            holdings: Holdings::default(),
            created_ms: time_ms,
            empty_since_ms: Some(time_ms),
            expires_ms: None,
            last_leader: None,
            events: Events::default(),
            ledger: Ledger::default(),
        }
    }

    /// The fencing epoch of a holding: monotone per group and partition for ever (CONTRACT §5.9).
    #[must_use]
    pub fn fencing_epoch(&self, holding: &Holding) -> i64 {
        (self.incarnation << 32) + i64::from(holding.since)
    }

    /// What a member holds, in the order of partitions.
    pub fn held_by<'a>(
        &'a self,
        member: &'a str,
    ) -> impl Iterator<Item = (TopicPartition, &'a Holding)> {
        self.holdings.of(member)
    }

    /// The member on an instance's seat.
    #[must_use]
    pub fn seated(&self, instance: &str) -> Option<&MemberId> {
        let of = |(_, it): &(&MemberId, &Member)| it.instance.as_deref() == Some(instance);
        self.members.iter().find(of).map(|(id, _)| id)
    }

    /// Some partition is on its way.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.holdings.values().any(|it| it.revoke.is_some())
    }

    /// Partitions that members may read and nobody holds: none, unless nobody is there.
    pub fn places(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        let wanted = |id: &&TopicId| self.members.values().any(|it| it.topics.contains(id));
        self.topics.iter().filter(move |(id, _)| wanted(id)).flat_map(|(id, facts)| {
            let partition = waymark_proto::ids::PartitionId;
            (0..facts.partitions)
                .map(move |it| TopicPartition { topic: *id, partition: partition(it) })
        })
    }
}
