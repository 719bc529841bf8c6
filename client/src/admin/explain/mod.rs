//! Owns telling why a group did what it did: from its events, its members and its lag to a story and to advice. Pure: the
//! same facts always give the same words. Never calls a node and never reads a clock.
//!
//! - `cause` names what can be behind a change, how grave it is and what to do about it
//! - `rounds` cuts the events into changes of the group: what began one, what moved, who held it up
//! - `sentence` says one event in words
//! - `findings` draws the conclusions: from the rounds here, from members and lag in `present`
//! - `text` writes it down, with the `words` for spans, times and lists

mod cause;
mod findings;
mod present;
mod rounds;
mod sentence;
mod text;
pub(crate) mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::groups::{GroupDescription, GroupEvent, GroupLag};
pub use cause::{Cause, Gravity};

/// What is known of a group.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The group's name.
    pub group: &'a str,
    /// What happened, oldest first.
    pub events: &'a [GroupEvent],
    /// How it is now, where known.
    pub description: Option<&'a GroupDescription>,
    /// How far it is behind, where known.
    pub lag: Option<&'a GroupLag>,
}

/// Why a group did what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Explanation {
    /// The group's name.
    pub group: String,
    /// How it is now, in a sentence.
    pub summary: String,
    /// Each change of the group, oldest first.
    pub rounds: Vec<Round>,
    /// What to know and what to do, gravest first.
    pub findings: Vec<Finding>,
}

/// One change of a group, from what began it to the last partition that moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Round {
    /// When it began, Unix ms.
    pub time_ms: i64,
    /// The last generation that it brought.
    pub generation: i32,
    /// What began it; empty where that happened before the first event that is known.
    pub triggers: Vec<Trigger>,
    /// Partitions that got an owner.
    pub moved: Vec<Moved>,
    /// Partitions that their owner has not given up yet.
    pub pending: Vec<Pending>,
    /// What took time, in order.
    pub phases: Vec<Phase>,
    /// From its beginning to the last partition that moved; absent where none has.
    pub took_ms: Option<i64>,
    /// The member that took longest to give its partitions up.
    pub held_up_by: Option<String>,
}

/// What began a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Trigger {
    /// Why.
    pub cause: Cause,
    /// When, Unix ms.
    pub time_ms: i64,
    /// Whom it concerns: the instance, or else the member id.
    pub member: Option<String>,
    /// The same in words.
    pub text: String,
}

/// A partition that got an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Moved {
    /// `topic/partition`.
    pub partition: String,
    /// Who had it; absent: nobody.
    pub owner_before: Option<String>,
    /// Who has it now; absent: nobody.
    pub owner: Option<String>,
    /// From asking it back to the new owner; absent where nobody had to be asked.
    pub took_ms: Option<i64>,
}

/// A partition that was asked back and has not been given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Pending {
    /// `topic/partition`.
    pub partition: String,
    /// Who has it.
    pub owner: Option<String>,
    /// When it was asked back, Unix ms.
    pub since_ms: i64,
}

/// A part of a change that took time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Phase {
    /// Which part.
    pub name: PhaseName,
    /// Whose.
    pub member: Option<String>,
    /// How long.
    pub took_ms: i64,
    /// It took longer than it was allowed, and was ended.
    pub overdue: bool,
}

/// The parts of a change that take time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "cli", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum PhaseName {
    /// Until the group knew: a silence, an absence, work without an end.
    Noticing,
    /// From asking partitions back until their new owner had them.
    HandingOver,
}

/// Something to know, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Finding {
    /// How grave it is.
    pub gravity: Gravity,
    /// Why.
    pub cause: Cause,
    /// Whom it concerns: the instance, or else the member id.
    pub member: Option<String>,
    /// How often.
    pub count: usize,
    /// The last time, Unix ms; absent where it is so now.
    pub last_time_ms: Option<i64>,
    /// What was seen.
    pub text: String,
    /// What to do.
    pub advice: String,
}

impl Explanation {
    /// Finds out why. The same facts always give the same explanation.
    #[must_use]
    pub fn of(facts: Facts<'_>) -> Self {
        let seats = Seats::of(&facts);
        let rounds = rounds::rounds(&facts, &seats);
        let mut findings = findings::of_rounds(&facts, &seats, &rounds);
        findings.extend(present::of_members(&facts));
        findings.extend(present::of_lag(&facts));
        // Stable: of equal gravity, what was found first stays first.
        findings.sort_by_key(|finding| finding.gravity);
        let summary = present::summary(&facts, &rounds);
        Self { group: facts.group.to_owned(), summary, rounds, findings }
    }
}

/// What to call a member: by its instance where it has one, because that is the name that its people gave it.
#[derive(Debug, Default)]
struct Seats(BTreeMap<String, String>);

impl Seats {
    fn of(facts: &Facts<'_>) -> Self {
        let members = facts.description.iter().flat_map(|group| &group.members);
        let members = members.map(|member| (Some(&member.member_id), member.instance_id.as_ref()));
        let events = facts.events.iter().map(|e| (e.member_id.as_ref(), e.instance_id.as_ref()));
        let seats =
            members.chain(events).filter_map(|(id, seat)| Some((id?.clone(), seat?.clone())));
        Self(seats.collect())
    }

    fn name(&self, member_id: &str) -> String {
        self.0.get(member_id).map_or(member_id, String::as_str).to_owned()
    }

    fn maybe(&self, member_id: Option<&String>) -> Option<String> {
        member_id.map(|id| self.name(id))
    }

    /// Of the member that an event concerns.
    fn concerned(&self, event: &GroupEvent) -> Option<String> {
        event.instance_id.clone().or_else(|| self.maybe(event.member_id.as_ref()))
    }
}
