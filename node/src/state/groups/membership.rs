//! Owns who is in a group: joining, leaving, being expelled, and which topics they may read. What that means for partitions
//! is `handoff`'s. Never looks at a clock: a verdict about time comes as data (S18).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waymark_proto::ids::TopicId;

use super::assign::{MemberId, TopicFacts};
use super::command::Join;
use super::events::{Event, EventKind, ExpelCause};
use super::group::{Actor, Group, Member, Reason};
use super::handoff::Change;
use crate::state::reply::Refusal;

/// Members of one group.
pub const MAX_MEMBERS: usize = 10_000;

impl Group {
    /// Whether anything changed.
    pub(super) fn join(&mut self, join: Join, change: &Change) -> Result<bool, Refusal> {
        let replaced = match self.seat_of(&join)? {
            Seat::Free => None,
            Seat::Own => return Ok(self.subscribe(join, change)),
            Seat::Taken(old) => Some(old),
        };
        if replaced.is_none() && self.members.len() >= MAX_MEMBERS {
            return Err(Refusal::GroupFull { limit: MAX_MEMBERS });
        }
        let (id, instance) = (Arc::clone(&join.member), join.instance.clone());
        let member = Member {
            instance: join.instance,
            actor: Arc::clone(&change.actor),
            rack: join.rack,
            topics: join.topics.keys().copied().collect(),
            subscription: join.subscription,
            limits: join.limits,
            joined_ms: change.time_ms,
            away_since_ms: None,
        };
        let topics_of = |it: &Member| it.subscription.clone();
        let same = replaced.as_ref().and_then(|old| self.members.get(old)).map(topics_of)
            == Some(member.subscription.clone());
        let mut event = Event::new(EventKind::Joined, change.time_ms, &change.actor)
            .of(&id, instance.as_deref());
        if let Some(old) = &replaced {
            event.kind = EventKind::Returned;
            old.to_string().clone_into(&mut event.from);
            let away = self.members.get(old).and_then(|it| it.away_since_ms);
            event.took_ms = away.map(|since| change.time_ms.saturating_sub(since));
        }
        if let Some(old) = &replaced {
            self.take_seat(old, &id);
        }
        self.members.insert(id, member);
        self.empty_since_ms = None;
        self.expires_ms = None;
        self.learn_topics(&join.topics);
        self.events.push(event);
        let assignor = join.assignor.filter(|it| *it != self.assignor);
        if let Some(assignor) = assignor {
            self.assignor = assignor;
            let event = Event::new(EventKind::AssignorChanged, change.time_ms, &change.actor);
            self.events.push(Event { detail: assignor.name().to_owned(), ..event });
        }
        // Who comes back to the same seat for the same topics moves nobody else.
        if replaced.is_none() || !same || assignor.is_some() {
            self.share_out(Reason::Joined, change);
        }
        self.reason = Reason::Joined;
        Ok(true)
    }

    fn seat_of(&self, join: &Join) -> Result<Seat, Refusal> {
        if self.members.contains_key(&join.member) {
            return Ok(Seat::Own);
        }
        let Some(instance) = &join.instance else { return Ok(Seat::Free) };
        match self.seated(instance) {
            None => Ok(Seat::Free),
            Some(old) if join.takes_over => Ok(Seat::Taken(Arc::clone(old))),
            Some(old) if self.members[old].away_since_ms.is_some() => {
                Ok(Seat::Taken(Arc::clone(old)))
            }
            Some(_) => Err(Refusal::InstanceInUse(instance.clone())),
        }
    }

    /// The new process gets what the old one held, under new fencing epochs: whatever the old one still does is refused.
    fn take_seat(&mut self, old: &MemberId, new: &MemberId) {
        self.members.remove(old);
        self.holdings.pass_on(old, new, self.generation);
    }

    /// A member that is there already: its limits and topics may have changed.
    fn subscribe(&mut self, join: Join, change: &Change) -> bool {
        let Some(member) = self.members.get_mut(&join.member) else { return false };
        let assignor = join.assignor.filter(|it| *it != self.assignor);
        let topics: BTreeSet<TopicId> = join.topics.keys().copied().collect();
        let same_topics = member.subscription == join.subscription && member.topics == topics;
        let same_limits = member.limits == join.limits && member.away_since_ms.is_none();
        if same_topics && same_limits && assignor.is_none() {
            return false;
        }
        member.limits = join.limits;
        member.away_since_ms = None;
        let subscribed = member.subscription != join.subscription;
        member.subscription = join.subscription;
        member.topics = topics;
        let instance = member.instance.clone();
        self.learn_topics(&join.topics);
        if subscribed {
            let event = Event::new(EventKind::Subscribed, change.time_ms, &change.actor);
            self.events.push(event.of(&join.member, instance.as_deref()));
        }
        if let Some(assignor) = assignor {
            self.assignor = assignor;
            let event = Event::new(EventKind::AssignorChanged, change.time_ms, &change.actor);
            self.events.push(Event { detail: assignor.name().to_owned(), ..event });
        }
        let reason = if assignor.is_some() { Reason::Assignor } else { Reason::Subscription };
        self.share_out(reason, change);
        true
    }

    fn learn_topics(&mut self, topics: &BTreeMap<TopicId, TopicFacts>) {
        for (id, facts) in topics {
            let known = self.topics.entry(*id).or_insert_with(|| facts.clone());
            // Partitions are only added; an answer on the way may be older.
            known.partitions = known.partitions.max(facts.partitions);
        }
    }

    /// A member goes; `None`: to return.
    pub(super) fn leave(
        &mut self,
        id: &MemberId,
        to_return: bool,
        change: &Change,
    ) -> Result<bool, Refusal> {
        let Some(member) = self.members.get_mut(id) else {
            return Err(Refusal::UnknownMember);
        };
        let instance = member.instance.clone();
        let event =
            |kind| Event::new(kind, change.time_ms, &change.actor).of(id, instance.as_deref());
        if to_return && instance.is_some() {
            if member.away_since_ms.is_some() {
                return Ok(false);
            }
            member.away_since_ms = Some(change.time_ms);
            self.events.push(event(EventKind::Away));
            self.reason = Reason::Left;
            return Ok(true);
        }
        let event = event(EventKind::Left);
        self.events.push(event);
        self.remove(&[Arc::clone(id)], Reason::Left, change);
        Ok(true)
    }

    /// Members are thrown out; those that are gone already are left alone.
    pub(super) fn expel(
        &mut self,
        members: &[(MemberId, ExpelCause, i64)],
        note: &str,
        change: &Change,
    ) -> bool {
        let mut gone = Vec::new();
        for (id, cause, took_ms) in members {
            let Some(member) = self.members.get(id) else { continue };
            if crate::mutants::planted!("expired-member-stays") && *cause != ExpelCause::Operator {
                continue;
            }
            let kind = EventKind::Expelled(*cause);
            let mut event =
                Event::new(kind, change.time_ms, &change.actor).of(id, member.instance.as_deref());
            let timed = *cause != ExpelCause::Operator;
            event.took_ms = timed.then_some(*took_ms);
            note.clone_into(&mut event.detail);
            self.events.push(event);
            gone.push(Arc::clone(id));
        }
        if gone.is_empty() {
            return false;
        }
        self.remove(&gone, Reason::Expelled, change);
        true
    }

    fn remove(&mut self, ids: &[MemberId], reason: Reason, change: &Change) {
        for id in ids {
            self.members.remove(id);
        }
        let gone: BTreeSet<&MemberId> = ids.iter().collect();
        self.holdings.retain(|_, holding| !gone.contains(&holding.owner));
        if self.members.is_empty() {
            self.empty_since_ms = Some(change.time_ms);
            self.topics.clear();
        }
        self.share_out(reason, change);
    }

    /// What names and patterns mean by now, unless the group has changed since somebody looked. Whether anything changes.
    pub(super) fn set_topics(
        &mut self,
        seen: i32,
        topics: BTreeMap<TopicId, TopicFacts>,
        members: Vec<(MemberId, BTreeSet<TopicId>)>,
        change: &Change,
    ) -> bool {
        // The generation was raised for this change.
        if self.generation - 1 != seen {
            return false;
        }
        let before: BTreeSet<&str> = self.topics.values().map(|it| it.name.as_str()).collect();
        let now: BTreeSet<&str> = topics.values().map(|it| it.name.as_str()).collect();
        let mut words: Vec<String> = now.difference(&before).map(|it| format!("+{it}")).collect();
        words.extend(before.difference(&now).map(|it| format!("-{it}")));
        for (id, facts) in &topics {
            let grew = |it: &&TopicFacts| it.partitions != facts.partitions;
            if let Some(old) = self.topics.get(id).filter(grew) {
                words.push(format!("{} {}→{}", facts.name, old.partitions, facts.partitions));
            }
        }
        let mut changed = self.topics != topics;
        self.topics = topics;
        for (id, topics) in members {
            if let Some(member) = self.members.get_mut(&id)
                && member.topics != topics
            {
                member.topics = topics;
                changed = true;
            }
        }
        if changed {
            let event = Event::new(EventKind::Topics, change.time_ms, &change.actor);
            self.events.push(Event { detail: in_short(&words), ..event });
            self.share_out(Reason::Topics, change);
        }
        changed
    }

    /// Who acts, for facts that a member's commit leaves behind.
    pub(super) fn actor_of(&self, member: &str, fallback: &Arc<Actor>) -> Arc<Actor> {
        self.members.get(member).map_or_else(|| Arc::clone(fallback), |it| Arc::clone(&it.actor))
    }
}

/// Topics that one event names.
const MAX_WORDS: usize = 20;

fn in_short(words: &[String]) -> String {
    let named = words.iter().take(MAX_WORDS).cloned().collect::<Vec<String>>().join(", ");
    match words.len().checked_sub(MAX_WORDS) {
        Some(more) if more > 0 => format!("{named} and {more} more"),
        _ => named,
    }
}

enum Seat {
    Free,
    Own,
    Taken(MemberId),
}
