//! Owns how an explanation is written for people: how it is, what happened, what to do.

use std::collections::BTreeMap;
use std::fmt;

use super::words::{count, listed, span, when};
use super::{Explanation, Finding, Gravity, Phase, PhaseName, Round};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)?;
        if !self.rounds.is_empty() {
            f.write_str("\n\nwhat happened")?;
        }
        for round in &self.rounds {
            write!(f, "\n{round}")?;
        }
        let (to_do, to_know): (Vec<_>, Vec<_>) =
            self.findings.iter().partition(|finding| finding.gravity < Gravity::Note);
        section(f, "what to do", &to_do)?;
        section(f, "good to know", &to_know)
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, findings: &[&Finding]) -> fmt::Result {
    if findings.is_empty() {
        return Ok(());
    }
    write!(f, "\n\n{title}")?;
    for finding in findings {
        write!(f, "\n{finding}")?;
    }
    Ok(())
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urgent = if self.gravity == Gravity::Urgent { "URGENT " } else { "" };
        write!(f, "  {urgent}[{}] {}", self.cause.as_str(), self.text)?;
        if self.count > 1 {
            write!(f, " ({} in all; this is the last)", self.count)?;
        }
        write!(f, "\n      {}", self.advice)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}  generation {}", when(self.time_ms), self.generation)?;
        if self.triggers.is_empty() {
            f.write_str("\n      (what began this is not told any more)")?;
        }
        for trigger in &self.triggers {
            write!(f, "\n      {}", trigger.text)?;
        }
        for line in moves(self) {
            write!(f, "\n      {line}")?;
        }
        if let Some(line) = pending(self) {
            write!(f, "\n      {line}")?;
        }
        if let Some(line) = times(self) {
            write!(f, "\n      {line}")?;
        }
        Ok(())
    }
}

/// One line for all that went from the same owner to the same owner.
fn moves(round: &Round) -> Vec<String> {
    let mut ways: BTreeMap<(Option<&str>, Option<&str>), Vec<&str>> = BTreeMap::new();
    for moved in &round.moved {
        let way = (moved.owner_before.as_deref(), moved.owner.as_deref());
        ways.entry(way).or_default().push(&moved.partition);
    }
    let line = |((before, now), those): ((Option<&str>, Option<&str>), Vec<&str>)| {
        let now = now.unwrap_or("nobody");
        match before {
            Some(before) => format!("moved {} from {before} to {now}", few(&those)),
            None => format!("gave {} to {now}", few(&those)),
        }
    };
    ways.into_iter().map(line).collect()
}

fn few(partitions: &[&str]) -> String {
    if partitions.len() > 8 {
        return count(partitions.len() as i128, "partition");
    }
    listed(&partitions.iter().map(|&at| at.to_owned()).collect::<Vec<_>>())
}

fn pending(round: &Round) -> Option<String> {
    let since = round.pending.iter().map(|pending| pending.since_ms).min()?;
    let those: Vec<&str> = round.pending.iter().map(|pending| pending.partition.as_str()).collect();
    let who = round.held_up_by.as_deref().unwrap_or("its owner");
    Some(format!("waits for {who} to give up {}, since {}", few(&those), when(since)))
}

fn times(round: &Round) -> Option<String> {
    let noticing = round.phases.iter().filter(|phase| phase.name == PhaseName::Noticing);
    let noticing = noticing.map(|phase| phase.took_ms).max().filter(|ms| *ms > 0);
    let noticing = noticing.map(|ms| format!("{} until it was noticed", span(ms)));
    let whole = round.took_ms.map(|ms| format!("{} until all had an owner", span(ms)));
    let whole = whole.filter(|_| round.pending.is_empty());
    let slowest =
        |phase: &&Phase| phase.name == PhaseName::HandingOver && phase.member == round.held_up_by;
    let slowest = round.phases.iter().find(slowest).filter(|phase| phase.took_ms > 0);
    let slowest = slowest.map(|phase| {
        let who = phase.member.as_deref().unwrap_or("its owner");
        let late = if phase.overdue { ", overdue" } else { "" };
        format!("longest to hand over: {who} with {}{late}", span(phase.took_ms))
    });
    let all: Vec<String> = [noticing, whole, slowest].into_iter().flatten().collect();
    if all.is_empty() { None } else { Some(format!("took {}", all.join("; "))) }
}
