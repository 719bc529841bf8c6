//! Owns what the present of a group teaches: members that will be in trouble soon, partitions without an owner, lag.

use std::time::Duration;

use super::super::groups::{GroupDescription, GroupMember, GroupState};
use super::words::{count, duration, partitions, when};
use super::{Cause, Facts, Finding, Gravity, Round};
use crate::record::TopicPartition;

/// Loss that is nearer than this is urgent; further than [`LOSS_WARNING`] it is not worth a word.
const LOSS_URGENT: Duration = Duration::from_secs(3600);
const LOSS_WARNING: Duration = Duration::from_secs(24 * 3600);
/// A lag that grows is worth a word when it is older than this: shorter ones come and go with each batch.
const BEHIND: Duration = Duration::from_secs(10);

/// How the group is, in a sentence.
pub(super) fn summary(facts: &Facts<'_>, rounds: &[Round]) -> String {
    let group = facts.group;
    let Some(now) = facts.description else {
        return format!("{group}: how it is now is not known; this is what happened");
    };
    let members = count(now.members.len() as i128, "member");
    match now.state {
        GroupState::Empty => {
            let since = now.empty_since_ms.map(|at| format!(" since {}", when(at)));
            format!("{group} has no members{}; its offsets are kept", since.unwrap_or_default())
        }
        GroupState::Stable => format!(
            "{group} is stable: {members}, generation {}; every partition is with the member that should have it",
            now.generation
        ),
        GroupState::Moving => {
            let waiting: usize = now.members.iter().map(|member| member.revoking.len()).sum();
            let holder = rounds.iter().rev().find(|round| !round.pending.is_empty());
            let holder = holder.and_then(|round| round.held_up_by.as_ref());
            let holder = holder.map(|who| format!(", held up by {who}")).unwrap_or_default();
            format!(
                "{group} is moving {}{holder}: {members}, generation {}; all others go on",
                count(waiting as i128, "partition"),
                now.generation
            )
        }
        GroupState::Unknown => format!("{group}: {members}, generation {}", now.generation),
    }
}

/// What members tell.
pub(super) fn of_members(facts: &Facts<'_>) -> Vec<Finding> {
    let Some(now) = facts.description else { return Vec::new() };
    let mut findings = Vec::new();
    for member in &now.members {
        findings.extend(slow_progress(member));
        findings.extend(going_silent(member));
        findings.extend(draining(member));
    }
    if now.state != GroupState::Moving && !now.unowned.is_empty() && !now.members.is_empty() {
        let text = format!("nobody owns {}", partitions(&now.unowned));
        findings.push(present(Cause::Unowned, None, text));
    }
    findings.extend(idle(now));
    findings
}

fn name(member: &GroupMember) -> String {
    member.instance_id.clone().unwrap_or_else(|| member.member_id.clone())
}

/// More than half of what it may.
fn nearly(spent: Option<Duration>, allowed: Duration) -> Option<Duration> {
    spent.filter(|spent| allowed > Duration::ZERO && *spent * 2 > allowed)
}

fn slow_progress(member: &GroupMember) -> Option<Finding> {
    let spent = nearly(member.working, member.processing_timeout)?;
    let text = format!(
        "{} has been at work on the same records for {} of {}",
        name(member),
        duration(spent),
        duration(member.processing_timeout)
    );
    Some(present(Cause::SlowProgress, Some(name(member)), text))
}

fn going_silent(member: &GroupMember) -> Option<Finding> {
    let spent = nearly(member.silent.filter(|_| !member.away), member.session_timeout)?;
    let how = if member.connected { "connected, but silent" } else { "not connected" };
    let text = format!(
        "{} has been {how} for {} of {}",
        name(member),
        duration(spent),
        duration(member.session_timeout)
    );
    Some(present(Cause::GoingSilent, Some(name(member)), text))
}

fn draining(member: &GroupMember) -> Option<Finding> {
    let left = member.revoking.iter().map(|revoking| revoking.left).min()?;
    let asked: Vec<TopicPartition> =
        member.revoking.iter().map(|revoking| revoking.at.clone()).collect();
    let text = format!(
        "{} has been asked for {} and has {} left to finish",
        name(member),
        partitions(&asked),
        duration(left)
    );
    Some(present(Cause::Draining, Some(name(member)), text))
}

fn idle(now: &GroupDescription) -> Option<Finding> {
    let idle = now.members.iter().filter(|m| m.assigned.is_empty() && !m.away).count();
    if idle == 0 || now.state != GroupState::Stable {
        return None;
    }
    let text =
        format!("{} of {} without a partition", idle, count(now.members.len() as i128, "member"));
    Some(present(Cause::IdleMembers, None, text))
}

/// What the lag tells.
pub(super) fn of_lag(facts: &Facts<'_>) -> Vec<Finding> {
    let Some(lag) = facts.lag else { return Vec::new() };
    let mut findings = Vec::new();
    let lost = lag.lost_records();
    if lost > 0 {
        let those = lag.partitions.iter().filter(|partition| partition.lost_records > 0);
        let those: Vec<_> = those.map(|partition| partition.at.clone()).collect();
        let what = count(lost, "unread record");
        let text = format!("retention has removed {what} of {}", partitions(&those));
        findings.push(present(Cause::RecordsLost, None, text));
    }
    let ahead = lag.partitions.iter().filter_map(|p| Some((p.loss_in?, &p.at)));
    let ahead = ahead.filter(|(left, _)| !left.is_zero()).min();
    if let Some((left, at)) = ahead.filter(|(left, _)| *left < LOSS_WARNING) {
        let text = format!("retention removes unread records of {at} in {}", duration(left));
        let gravity = if left < LOSS_URGENT { Gravity::Urgent } else { Gravity::Warning };
        findings.push(Finding { gravity, ..present(Cause::LossAhead, None, text) });
    }
    let speed = lag.catching_up_per_second().filter(|speed| *speed < 0.0);
    if let Some(speed) = speed.filter(|_| lag.behind >= BEHIND) {
        let text = format!(
            "{} and {} behind, and {:.1} more each second",
            count(lag.records, "record"),
            duration(lag.behind),
            -speed
        );
        findings.push(present(Cause::FallingBehind, None, text));
    }
    let unknown = lag.partitions.iter().filter(|partition| partition.records.is_none());
    let unknown: Vec<_> = unknown.map(|partition| partition.at.clone()).collect();
    if !unknown.is_empty() {
        let text = format!("the lag of {} is not known", partitions(&unknown));
        findings.push(present(Cause::LagUnknown, None, text));
    }
    findings
}

fn present(cause: Cause, member: Option<String>, text: String) -> Finding {
    Finding {
        gravity: cause.gravity(),
        cause,
        member,
        count: 1,
        last_time_ms: None,
        text,
        advice: cause.advice().to_owned(),
    }
}
