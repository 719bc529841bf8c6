//! Owns how partitions change hands. A partition that nobody holds is given at once; one that must move is asked back, goes
//! on with its owner until that gives it up, and comes to the next one with the owner's last offset in the same entry; an
//! owner that is late is fenced. One that nobody reads any more is asked back too, for nobody: its owner has work in hand.
//! Partitions that stay are not touched. Never moves more than the assignor wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use waymark_proto::ids::TopicPartition;

use super::assign::{Candidate, Input, MemberId, assign};
use super::events::{Event, EventKind};
use super::group::{Actor, Group, Holding, Reason, Revoke};
use crate::state::command::OffsetCommit;

/// What every change of a group knows: when, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) time_ms: i64,
    pub(super) actor: Arc<Actor>,
}

/// Partitions that go from one member to another, or to nobody, and how long that took.
type Moves = BTreeMap<(String, Option<MemberId>), (Vec<TopicPartition>, Option<i64>)>;

impl Group {
    /// Shares the partitions out anew. The generation has been raised by the caller: what changes hands now does so in it.
    pub(super) fn share_out(&mut self, reason: Reason, change: &Change) {
        self.reason = reason;
        // Of a topic that is gone, nothing is left to finish.
        self.holdings.retain(|at, _| self.topics.contains_key(&at.topic));
        let mut next: BTreeMap<TopicPartition, Option<MemberId>> =
            self.holdings.keys().map(|at| (*at, None)).collect();
        next.extend(self.wanted().into_iter().map(|(at, to)| (at, Some(to))));
        let mut moves = Moves::new();
        let mut asked: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        for (at, to) in next {
            let Some(holding) = self.holdings.get_mut(&at) else {
                let (gave, _) = moves.entry((String::new(), to.clone())).or_default();
                gave.push(at);
                self.give(at, to);
                continue;
            };
            if to.as_ref() == Some(holding.owner) {
                *holding.revoke = None;
                continue;
            }
            if crate::mutants::planted!("owner-not-asked") {
                self.give(at, to);
                continue;
            }
            match holding.revoke {
                Some(revoke) => revoke.to = to,
                None => {
                    asked.entry(Arc::clone(holding.owner)).or_default().push(at);
                    *holding.revoke = Some(Revoke { to, asked_ms: change.time_ms, reason });
                }
            }
        }
        for (owner, partitions) in asked {
            let event = Event::new(EventKind::RevokeAsked, change.time_ms, &change.actor);
            let instance = self.members.get(&owner).and_then(|it| it.instance.as_deref());
            self.events.push(event.of(&owner, instance).about(&partitions));
        }
        self.tell_of(moves, change);
    }

    /// Who should have which partition: what the assignor says, of partitions on their way those they go to being their owners.
    fn wanted(&self) -> BTreeMap<TopicPartition, MemberId> {
        let candidate = |it: &super::group::Member| Candidate {
            instance: it.instance.clone(),
            topics: it.topics.clone(),
        };
        let members: BTreeMap<MemberId, Candidate> =
            self.members.iter().map(|(id, it)| (Arc::clone(id), candidate(it))).collect();
        let owner = |it: &Holding| {
            let next = it.revoke.as_ref().and_then(|revoke| revoke.to.as_ref());
            Arc::clone(next.filter(|to| self.members.contains_key(*to)).unwrap_or(&it.owner))
        };
        let owners = self.holdings.iter().map(|(at, it)| (*at, owner(it))).collect();
        assign(self.assignor, &Input { members: &members, topics: &self.topics, owners: &owners })
    }

    fn give(&mut self, at: TopicPartition, to: Option<MemberId>) {
        let Some(owner) = to else { return };
        let since = if crate::mutants::planted!("fence-stays") { 1 } else { self.generation };
        let holding = Holding { owner, since, revoke: None };
        self.holdings.insert(at, holding);
    }

    fn tell_of(&mut self, moves: Moves, change: &Change) {
        for ((from, to), (partitions, took_ms)) in moves {
            let event = Event::new(EventKind::Assigned, change.time_ms, &change.actor);
            let to = to.as_deref().unwrap_or_default();
            let instance = self.members.get(to).and_then(|it| it.instance.as_deref());
            let event = event.of(to, instance).about(&partitions);
            self.events.push(Event { from, took_ms, ..event });
        }
    }

    /// A member gives partitions up: each goes to whom it was asked for, if to anybody; what was not asked for is shared out
    /// anew. Whether any did.
    pub(super) fn release(
        &mut self,
        member: &MemberId,
        partitions: &[(TopicPartition, i64)],
        change: &Change,
    ) -> bool {
        let own: Vec<TopicPartition> = partitions
            .iter()
            .filter(|(at, fence)| {
                let holding = self.holdings.get(at);
                holding.is_some_and(|it| it.owner == *member && self.fencing_epoch(it) == *fence)
            })
            .map(|(at, _)| *at)
            .collect();
        self.hand_over(&own, change)
    }

    /// Owners that are late are fenced. Whether any was.
    pub(super) fn fence_late(
        &mut self,
        partitions: &[(TopicPartition, i64)],
        change: &Change,
    ) -> bool {
        let mut late: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        for (at, fence) in partitions {
            let Some(holding) = self.holdings.get(at) else { continue };
            if self.fencing_epoch(holding) == *fence && holding.revoke.is_some() {
                late.entry(Arc::clone(&holding.owner)).or_default().push(*at);
            }
        }
        let mut all = Vec::new();
        for (owner, partitions) in late {
            let event = Event::new(EventKind::DrainOverdue, change.time_ms, &change.actor);
            let instance = self.members.get(&owner).and_then(|it| it.instance.as_deref());
            let event = event.of(&owner, instance).about(&partitions);
            let limit = self.members.get(&owner).map(|it| i64::from(it.limits.drain_ms));
            self.events.push(Event { took_ms: limit, ..event });
            all.extend(partitions);
        }
        self.hand_over(&all, change)
    }

    /// Partitions that their owners no longer have come to their next ones, in the present generation.
    fn hand_over(&mut self, partitions: &[TopicPartition], change: &Change) -> bool {
        if partitions.is_empty() {
            return false;
        }
        let mut moves = Moves::new();
        let mut unclaimed = false;
        for at in partitions {
            let Some(holding) = self.holdings.remove(at) else { continue };
            let there = |it: &MemberId| self.members.contains_key(it);
            let next = holding.revoke.filter(|it| it.to.as_ref().is_none_or(there));
            let Some(revoke) = next else {
                unclaimed = true;
                continue;
            };
            let took = change.time_ms.saturating_sub(revoke.asked_ms);
            let from = holding.owner.to_string();
            let (gave, longest) = moves.entry((from, revoke.to.clone())).or_default();
            gave.push(*at);
            *longest = (*longest).max(Some(took));
            self.give(*at, revoke.to);
        }
        self.tell_of(moves, change);
        self.reason = Reason::HandedOver;
        if unclaimed {
            self.share_out(Reason::HandedOver, change);
        }
        true
    }

    /// A position was moved: whoever holds the partition starts again, under a new fencing epoch. One on its way goes at
    /// once, because nothing that its owner has in hand counts any more.
    pub(super) fn restart(&mut self, at: TopicPartition) {
        let Some(mut holding) = self.holdings.get(&at).cloned() else { return };
        holding.since = self.generation;
        let there = |it: &MemberId| self.members.contains_key(it);
        let sure = |it: &mut Revoke| it.to.as_ref().is_none_or(there);
        if let Some(revoke) = holding.revoke.take_if(sure) {
            match revoke.to {
                Some(next) => holding.owner = next,
                None => {
                    self.holdings.remove(&at);
                    return;
                }
            }
        }
        self.holdings.insert(at, holding);
    }

    /// The right to commit (CONTRACT §0.6): the member holds the partition, and has taken on the generation that gave it.
    /// A member that keeps its partitions is not refused because others joined meanwhile. What it read before a reset it
    /// must not commit after it, though it has taken the reset on: the fencing epoch of the records says so.
    pub(super) fn may_commit(&self, item: &OffsetCommit, member: &str, member_epoch: i32) -> bool {
        let Some(holding) = self.holdings.get(&item.at) else { return false };
        let of_before = item.fencing_epoch.is_some_and(|it| it != self.fencing_epoch(holding));
        let fenced = holding.since > member_epoch || of_before;
        if fenced && !crate::mutants::planted!("commit-of-an-old-generation") {
            return false;
        }
        *holding.owner == *member && member_epoch <= self.generation
    }
}
