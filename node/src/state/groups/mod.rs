//! Owns the consumer groups of a shard: members, who holds which partition, committed offsets, and the history of both. One
//! entry changes one group, whole: final offsets and new owners of a hand-off stand or fall together. Never reads a clock,
//! never looks at a topic of its own: both come as data (S16, S18).
//!
//! | file | owns |
//! |---|---|
//! | `command` | what an entry may ask |
//! | `group` | what is known of a group |
//! | `holdings` | who holds which partition, by partition and by owner |
//! | `membership` | joining, leaving, being expelled |
//! | `handoff` | how partitions change hands, and who may commit |
//! | `assign` | who should have which partition |
//! | `progress` | commits, resets, undo, expiry, and their facts |
//! | `ledger` | every change of a committed offset |
//! | `events` | what happened to the group |

pub mod assign;
pub mod command;
pub mod events;
pub mod group;
mod handoff;
pub mod holdings;
pub mod ledger;
mod membership;
mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waymark_proto::ids::{ReplicaId, TopicId, TopicPartition};

pub use assign::{Assignor, MemberId, TopicFacts};
pub use command::{GroupChange, GroupEntry, Join, Release};
pub use events::{Event, EventKind, ExpelCause};
pub use group::{Actor, Group, Holding, Limits, Member, Reason, Revoke, Subscription};
pub use holdings::Holdings;
pub use ledger::{ChangeKind, Fact, PastOffset};
pub use membership::MAX_MEMBERS;

use super::offsets::Offsets;
use super::reply::Refusal;
use handoff::Change;

/// The groups of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// By name. A group is here as long as it has members, offsets or history.
    pub(in crate::state) by_name: BTreeMap<String, Group>,
    /// Committed offsets, by group.
    pub(in crate::state) offsets: Offsets,
    /// Groups that were ever made here: the incarnation of the last one.
    pub(in crate::state) made: i64,
    pub(in crate::state) dirty: Dirty,
}

/// Rows changed since the last drain: whether they are written or removed is seen then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::state) struct Dirty {
    /// The counter of groups.
    pub(in crate::state) made: bool,
    /// Groups whose own row may differ: members, holdings, generation.
    pub(in crate::state) groups: BTreeSet<String>,
    /// Events, by group.
    pub(in crate::state) events: BTreeMap<String, BTreeSet<u64>>,
    /// Facts of the ledger, by group.
    pub(in crate::state) facts: BTreeMap<String, BTreeSet<(TopicPartition, u64)>>,
}

impl Dirty {
    fn history_of(&mut self, name: &str, group: &mut Group) {
        let mut events = std::mem::take(&mut group.events.dirty);
        if !events.is_empty() {
            self.events.entry(name.to_owned()).or_default().append(&mut events);
        }
        let mut facts = std::mem::take(&mut group.ledger.dirty);
        if !facts.is_empty() {
            self.facts.entry(name.to_owned()).or_default().append(&mut facts);
        }
    }
}

/// What became of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// The group's generation after it.
    pub generation: i32,
    /// Something changed that members must know of.
    pub news: bool,
    /// Outcome of each final offset, in order.
    pub offsets: Vec<Result<(), Refusal>>,
    /// Of a reset: what was committed before, in order.
    pub before: Vec<Option<i64>>,
}

impl Groups {
    /// Changes one group.
    pub(in crate::state) fn change(
        &mut self,
        leader: (u64, ReplicaId),
        entry: GroupEntry,
    ) -> Result<Changed, Refusal> {
        let GroupEntry { group: name, time_ms, actor, change } = entry;
        if matches!(change, GroupChange::Delete) {
            return self.delete(&name);
        }
        let makes = matches!(change, GroupChange::Join(_) | GroupChange::Reset { .. });
        if !makes && !self.by_name.contains_key(&name) {
            return Err(Refusal::NoGroup);
        }
        let made = !self.by_name.contains_key(&name);
        let when = Change { time_ms, actor: Arc::new(actor) };
        let mut group = match self.by_name.remove(&name) {
            Some(group) => group,
            None => Group::new(self.made.saturating_add(1), time_ms),
        };
        let from = (group.events.next_number(), group.ledger.next());
        group.note_leader(leader, &when, made);
        group.generation = group.generation.saturating_add(1);
        let outcome = group.apply(&name, change, &when, &mut self.offsets);
        let news = matches!(&outcome, Ok(changed) if changed.news);
        if !news {
            group.generation -= 1;
        }
        group.events.stamp(from.0, group.generation);
        group.ledger.stamp(from.1, group.generation);
        let outcome = outcome.map(|it| Changed { generation: group.generation, ..it });
        let refused_new = made && outcome.is_err();
        if !refused_new {
            self.put(name, group, made);
        }
        outcome
    }

    fn put(&mut self, name: String, mut group: Group, made: bool) {
        if made {
            self.made = self.made.saturating_add(1);
            self.dirty.made = true;
        }
        self.dirty.history_of(&name, &mut group);
        self.dirty.groups.insert(name.clone());
        self.by_name.insert(name, group);
    }

    fn delete(&mut self, name: &str) -> Result<Changed, Refusal> {
        let Some(group) = self.by_name.get(name) else { return Err(Refusal::NoGroup) };
        if !group.members.is_empty() {
            return Err(Refusal::GroupNotEmpty);
        }
        self.offsets.delete(name, &[]);
        let Some(mut group) = self.by_name.remove(name) else { return Err(Refusal::NoGroup) };
        group.events.forget();
        group.ledger.forget(|_| true);
        self.dirty.history_of(name, &mut group);
        self.dirty.groups.insert(name.to_owned());
        Ok(Changed { news: true, ..Changed::default() })
    }

    /// A topic is gone: whoever comes later under its name inherits nothing. Who reads it is told by the coordinator, which
    /// sees it gone as well (S16).
    pub(in crate::state) fn forget_topic(&mut self, topic: TopicId) {
        self.offsets.forget_topic(topic);
        let tells_of = |group: &Group| group.ledger.places().any(|at| at.topic == topic);
        for (name, group) in self.by_name.iter_mut().filter(|(_, group)| tells_of(group)) {
            group.ledger.forget(|at| at.topic == topic);
            self.dirty.history_of(name, group);
            // Knows which numbers were given: the rows that did are gone.
            self.dirty.groups.insert(name.clone());
        }
    }
}

impl Group {
    fn apply(
        &mut self,
        name: &str,
        what: GroupChange,
        change: &Change,
        offsets: &mut Offsets,
    ) -> Result<Changed, Refusal> {
        let mut changed = Changed::default();
        match what {
            GroupChange::Join(join) => changed.news = self.join(join, change)?,
            GroupChange::Release(release) => {
                changed.offsets = self.final_offsets(name, &release, change, offsets)?;
                changed.news = self.release(&release.member, &release.partitions, change);
            }
            GroupChange::Leave { release, to_return } => {
                changed.offsets = self.final_offsets(name, &release, change, offsets)?;
                changed.news = self.leave(&release.member, to_return, change)?;
            }
            GroupChange::Expel { members, note } => {
                changed.news = self.expel(&members, &note, change);
            }
            GroupChange::Overdue { partitions } => {
                changed.news = self.fence_late(&partitions, change);
            }
            GroupChange::Topics { seen, topics, members } => {
                changed.news = self.set_topics(seen, topics, members, change);
            }
            GroupChange::Reset { items, kind, note, seen } => {
                self.check_unmoved(seen)?;
                changed.before = self.reset((name, offsets), &items, (kind, &note), change);
                changed.news = true;
            }
            GroupChange::AnnounceExpiry { at_ms } => self.announce_expiry(at_ms, change),
            GroupChange::Expire => self.expire(name, change, offsets),
            GroupChange::Delete => {}
        }
        Ok(changed)
    }

    /// Nobody has moved its positions since it was seen in a generation.
    ///
    /// # Errors
    /// [`Refusal::MovedSince`], with the generation of the move, where somebody has.
    pub fn check_unmoved(&self, seen: Option<i32>) -> Result<(), Refusal> {
        let late = seen.is_some_and(|seen| seen < self.moved);
        match late && !crate::mutants::planted!("late-reset-moves") {
            true => Err(Refusal::MovedSince { generation: self.moved }),
            false => Ok(()),
        }
    }

    /// The group's own record of who coordinates it. Its first entry says nothing: it has had no other.
    fn note_leader(&mut self, leader: (u64, ReplicaId), change: &Change, made: bool) {
        let before = self.last_leader.replace(leader);
        if made {
            self.events.push(Event::new(EventKind::Created, change.time_ms, &change.actor));
        } else if before.is_some_and(|it| it != leader) {
            let cluster = Arc::new(Actor::default());
            let event = Event::new(EventKind::CoordinatorChanged, change.time_ms, &cluster);
            let detail = format!("node {}", leader.1.node.0);
            self.events.push(Event { detail, ..event });
        }
    }
}

#[cfg(test)]
mod tests;
