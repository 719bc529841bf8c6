//! Owns cutting a group's events into changes: what began each, which partitions moved because of it, how long that took
//! and who held it up. Draws no conclusions.
//!
//! A partition that is handed over belongs to the change that asked for it back, however many others began meanwhile.

use std::collections::BTreeMap;

use super::super::groups::{GroupDescription, GroupEvent, GroupEventKind, GroupState};
use super::sentence::sentence;
use super::words::millis;
use super::{Cause, Facts, Moved, Pending, Phase, PhaseName, Round, Seats, Trigger};
use crate::record::TopicPartition;

/// The changes of a group, oldest first.
pub(super) fn rounds(facts: &Facts<'_>, seats: &Seats) -> Vec<Round> {
    let mut story = Story { seats, rounds: Vec::new(), mover: None, asked: BTreeMap::new() };
    for event in facts.events {
        match Cause::of(event.kind) {
            Some(cause) => story.begin(cause, event),
            None => story.follow(event),
        }
    }
    story.end(facts.description)
}

/// A partition that was asked back.
#[derive(Debug)]
struct Asked {
    round: usize,
    owner: Option<String>,
    since_ms: i64,
    overdue: bool,
}

#[derive(Debug)]
struct Story<'a> {
    seats: &'a Seats,
    rounds: Vec<Round>,
    /// The last change by which partitions may move.
    mover: Option<usize>,
    asked: BTreeMap<TopicPartition, Asked>,
}

impl Story<'_> {
    fn begin(&mut self, cause: Cause, event: &GroupEvent) {
        let trigger = Trigger {
            cause,
            time_ms: event.time_ms,
            member: self.seats.concerned(event),
            text: sentence(cause, event, self.seats),
        };
        let at = match self.mover {
            Some(last) if cause.moves_partitions() && self.belongs_to(last, event) => last,
            _ => self.new_round(event),
        };
        if cause.moves_partitions() {
            self.mover = Some(at);
        }
        let round = &mut self.rounds[at];
        round.generation = round.generation.max(event.generation);
        if let (GroupEventKind::Expelled(_), Some(took)) = (event.kind, event.took) {
            let (name, member) = (PhaseName::Noticing, trigger.member.clone());
            round.phases.push(Phase { name, member, took_ms: millis(took), overdue: false });
        }
        round.triggers.push(trigger);
    }

    /// What came in the same generation, with nothing moved in between, is one change.
    fn belongs_to(&self, last: usize, event: &GroupEvent) -> bool {
        let round = &self.rounds[last];
        let is_last = last + 1 == self.rounds.len();
        let moved = !round.moved.is_empty() || self.asked.values().any(|asked| asked.round == last);
        is_last && !moved && round.generation == event.generation
    }

    fn new_round(&mut self, event: &GroupEvent) -> usize {
        let (time_ms, generation) = (event.time_ms, event.generation);
        self.rounds.push(Round { time_ms, generation, ..Round::default() });
        self.rounds.len() - 1
    }

    fn follow(&mut self, event: &GroupEvent) {
        let latest = match self.mover {
            Some(at) => at,
            // It began before the first event that is known.
            None => self.new_round(event),
        };
        self.mover = Some(latest);
        for at in &event.partitions {
            match event.kind {
                GroupEventKind::RevokeAsked => {
                    let owner = self.seats.maybe(event.member_id.as_ref());
                    let since_ms = event.time_ms;
                    let asked = Asked { round: latest, owner, since_ms, overdue: false };
                    self.asked.insert(at.clone(), asked);
                }
                GroupEventKind::DrainOverdue => {
                    let owner = || self.seats.maybe(event.member_id.as_ref());
                    let since_ms = event.time_ms - event.took.map_or(0, millis);
                    let asked = self.asked.entry(at.clone()).or_insert_with(|| Asked {
                        round: latest,
                        owner: owner(),
                        since_ms,
                        overdue: true,
                    });
                    asked.overdue = true;
                }
                GroupEventKind::Assigned => self.assigned(at, event, latest),
                _ => {}
            }
        }
    }

    fn assigned(&mut self, at: &TopicPartition, event: &GroupEvent, latest: usize) {
        let asked = self.asked.remove(at);
        let number = asked.as_ref().map_or(latest, |asked| asked.round);
        let took = event.took.map(millis);
        let took_ms = took.or_else(|| asked.as_ref().map(|asked| event.time_ms - asked.since_ms));
        let from = self.seats.maybe(event.from_member.as_ref());
        let round = &mut self.rounds[number];
        if let (Some(asked), Some(took_ms)) = (&asked, took_ms) {
            let owner = from.clone().or_else(|| asked.owner.clone());
            handed_over(round, owner, took_ms, asked.overdue);
        }
        round.took_ms = Some(event.time_ms - round.time_ms);
        round.moved.push(Moved {
            partition: at.to_string(),
            owner_before: from,
            owner: self.seats.maybe(event.member_id.as_ref()),
            took_ms,
        });
    }

    fn end(mut self, description: Option<&GroupDescription>) -> Vec<Round> {
        // A revoke that was called off has no event: what the group itself does not wait for is not pending.
        let waits = |at: &TopicPartition| match description {
            Some(group) if group.state == GroupState::Moving => {
                let revoking = group.members.iter().flat_map(|member| &member.revoking);
                revoking.into_iter().any(|revoking| revoking.at == *at)
            }
            Some(_) => false,
            None => true,
        };
        for (at, asked) in self.asked.into_iter().filter(|(at, _)| waits(at)) {
            let pending =
                Pending { partition: at.to_string(), owner: asked.owner, since_ms: asked.since_ms };
            self.rounds[asked.round].pending.push(pending);
        }
        for round in &mut self.rounds {
            round.held_up_by = slowest(round);
        }
        self.rounds
    }
}

/// A member hands all over that it was asked for; the slowest of its partitions counts.
fn handed_over(round: &mut Round, member: Option<String>, took_ms: i64, overdue: bool) {
    let same = |phase: &&mut Phase| phase.name == PhaseName::HandingOver && phase.member == member;
    match round.phases.iter_mut().find(same) {
        Some(phase) => {
            phase.took_ms = phase.took_ms.max(took_ms);
            phase.overdue |= overdue;
        }
        None => {
            let name = PhaseName::HandingOver;
            round.phases.push(Phase { name, member, took_ms, overdue });
        }
    }
}

/// Who still holds a partition that is waited for; else who took longest.
fn slowest(round: &Round) -> Option<String> {
    let pending = round.pending.iter().min_by_key(|pending| pending.since_ms);
    if let Some(pending) = pending {
        return pending.owner.clone();
    }
    let drains = round.phases.iter().filter(|phase| phase.name == PhaseName::HandingOver);
    let longest = drains.filter(|phase| phase.took_ms > 0).max_by_key(|phase| phase.took_ms);
    longest.and_then(|phase| phase.member.clone())
}
