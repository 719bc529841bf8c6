//! Owns what the past of a group teaches: each cause once for each member, with how often and what to do, crash loops and
//! slow drains.

use std::collections::BTreeMap;

use super::super::groups::{GroupEvent, GroupEventKind};
use super::words::{count, millis, partitions, span, when};
use super::{Cause, Facts, Finding, Gravity, PhaseName, Round, Seats};

/// A member that took longer than this to give partitions up is worth a word.
const SLOW_DRAIN_MS: i64 = 5_000;
/// So many starts of one seat within [`LOOP_SPAN_MS`] are a crash loop.
const LOOP_STARTS: usize = 3;
const LOOP_SPAN_MS: i64 = 10 * 60 * 1000;

/// What is to be learnt from the changes of a group.
pub(super) fn of_rounds(facts: &Facts<'_>, seats: &Seats, rounds: &[Round]) -> Vec<Finding> {
    let mut findings = crash_loops(facts, seats);
    findings.extend(overdue(facts, seats));
    findings.extend(slow_drains(rounds));
    findings.extend(triggers(facts, rounds));
    findings
}

/// One finding per cause and member. Of what is only good to know, one per cause.
fn triggers(facts: &Facts<'_>, rounds: &[Round]) -> Vec<Finding> {
    let mut found: BTreeMap<(Cause, Option<String>), Finding> = BTreeMap::new();
    for trigger in rounds.iter().flat_map(|round| &round.triggers) {
        let (cause, gravity) = (trigger.cause, trigger.cause.gravity());
        if cause == Cause::Created || is_past(cause, facts) {
            continue;
        }
        let member = trigger.member.clone().filter(|_| gravity < Gravity::Note);
        let finding = found.entry((cause, member)).or_insert_with(|| Finding {
            gravity,
            cause,
            member: trigger.member.clone(),
            count: 0,
            last_time_ms: None,
            text: String::new(),
            advice: cause.advice().replace("GROUP", facts.group),
        });
        finding.count += 1;
        finding.last_time_ms = Some(trigger.time_ms);
        finding.member.clone_from(&trigger.member);
        finding.text.clone_from(&trigger.text);
    }
    let mut findings: Vec<Finding> = found.into_values().collect();
    for finding in &mut findings {
        if finding.cause == Cause::ExpiryAnnounced {
            finding.text = expiry(facts, &finding.text);
        }
    }
    findings
}

/// An announcement that a member has made void since.
fn is_past(cause: Cause, facts: &Facts<'_>) -> bool {
    let void = |group: &super::GroupDescription| group.expires_time_ms.is_none();
    cause == Cause::ExpiryAnnounced && facts.description.is_some_and(void)
}

fn expiry(facts: &Facts<'_>, said: &str) -> String {
    match facts.description.and_then(|group| group.expires_time_ms) {
        Some(at) => format!("the group's offsets will be removed on {}", when(at)),
        None => said.to_owned(),
    }
}

fn overdue(facts: &Facts<'_>, seats: &Seats) -> Vec<Finding> {
    let mut by_member: BTreeMap<Option<String>, Vec<&GroupEvent>> = BTreeMap::new();
    let late = facts.events.iter().filter(|event| event.kind == GroupEventKind::DrainOverdue);
    for event in late {
        by_member.entry(seats.concerned(event)).or_default().push(event);
    }
    let finding = |(member, events): (Option<String>, Vec<&GroupEvent>)| {
        let last = events.last()?;
        let who = member.as_deref().unwrap_or("a member");
        let within = last.took.map(|took| format!(" within {}", span(millis(took))));
        let text = format!(
            "{who} did not give up {}{}: it was fenced there, and the new owner began at the last committed offset",
            partitions(&last.partitions),
            within.unwrap_or_default()
        );
        let time_ms = last.time_ms;
        Some(Finding { count: events.len(), ..past(Cause::DrainOverdue, member, (time_ms, text)) })
    };
    by_member.into_iter().filter_map(finding).collect()
}

fn slow_drains(rounds: &[Round]) -> Vec<Finding> {
    let mut slowest: BTreeMap<String, Finding> = BTreeMap::new();
    let mut longest: BTreeMap<String, i64> = BTreeMap::new();
    for round in rounds {
        let slow = round.phases.iter().filter(|phase| {
            phase.name == PhaseName::HandingOver && !phase.overdue && phase.took_ms >= SLOW_DRAIN_MS
        });
        for phase in slow {
            let Some(member) = &phase.member else { continue };
            let longest = longest.entry(member.clone()).or_insert(0);
            *longest = phase.took_ms.max(*longest);
            let text = format!("{member} took up to {} to give partitions up", span(*longest));
            let new = past(Cause::SlowDrain, Some(member.clone()), (round.time_ms, text));
            let before = slowest.get(member).map_or(0, |finding| finding.count);
            slowest.insert(member.clone(), Finding { count: before + 1, ..new });
        }
    }
    slowest.into_values().collect()
}

/// A seat is an instance. Without one, it is what a process calls itself and the host that it starts on, and only counts
/// where the one before had gone: several processes of one host are no loop.
fn crash_loops(facts: &Facts<'_>, seats: &Seats) -> Vec<Finding> {
    let mut starts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut present: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in facts.events {
        let member = event.member_id.clone().unwrap_or_default();
        match event.kind {
            GroupEventKind::Joined | GroupEventKind::Returned => {
                let Some(seat) = event.instance_id.clone().or_else(|| origin(event)) else {
                    continue;
                };
                let there = present.entry(seat.clone()).or_default();
                let restart = event.instance_id.is_some() || there.is_empty();
                there.push(member);
                if restart {
                    starts.entry(seat).or_default().push(event.time_ms);
                }
            }
            GroupEventKind::Left | GroupEventKind::Expelled(_) => {
                for there in present.values_mut() {
                    there.retain(|id| *id != member);
                }
            }
            _ => {}
        }
    }
    let finding = |(seat, starts): (String, Vec<i64>)| {
        let (times, (first, last)) = busiest(&starts)?;
        let often = count(times as i128, "time");
        let text = format!("{seat} started {often} within {}", span(last - first));
        let member = Some(seats.name(&seat));
        Some(Finding { count: times, ..past(Cause::CrashLoop, member, (last, text)) })
    };
    starts.into_iter().filter_map(finding).collect()
}

/// The most starts within the span of a loop, and from when to when; the latest of equals.
fn busiest(starts: &[i64]) -> Option<(usize, (i64, i64))> {
    let window = |(index, first): (usize, &i64)| {
        let within: Vec<i64> =
            starts[index..].iter().copied().take_while(|at| at - first <= LOOP_SPAN_MS).collect();
        Some((within.len(), (*first, *within.last()?)))
    };
    let most = starts.iter().enumerate().filter_map(window).max_by_key(|(times, _)| *times);
    most.filter(|(times, _)| *times >= LOOP_STARTS)
}

/// Where a member without an instance starts: its client id and its host, without the port.
fn origin(event: &GroupEvent) -> Option<String> {
    let (client, address) = (event.actor.client_id.as_ref()?, event.actor.address.as_ref()?);
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    Some(format!("{client} on {host}"))
}

fn past(cause: Cause, member: Option<String>, (time_ms, text): (i64, String)) -> Finding {
    Finding {
        gravity: cause.gravity(),
        cause,
        member,
        count: 1,
        last_time_ms: Some(time_ms),
        text,
        advice: cause.advice().to_owned(),
    }
}
