//! Owns when members were last heard of, and what follows: who is silent for too long, at work for too long, late with a
//! revoke, away for too long. All of it on this node's own timer, begun anew in full by a new coordinator (S18): a member
//! that should stay is never thrown out for what nobody saw. Never proposes a verdict: `keeper` does.
//!
//! A look at a group says until when nothing can be due in it, and until then it is not looked at again. That is right
//! because nothing brings a deadline nearer without one of these:
//! - an entry of the group's log. Whatever it changes of members, their limits and who is asked for what begins a generation;
//! - a member beginning to work, which each look takes to happen at once;
//! - a sign of life of a member that is away, or of nobody who is known, and the end of a session: the next look is taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::ids::TopicPartition;

use crate::state::groups::{ExpelCause, Group, Limits, MemberId};

/// For so long what is known of a group without members is kept: it may be about to get one.
const STALE: Duration = Duration::from_secs(10);

/// What is known of the members of a shard's groups, by group.
pub(super) type Present = BTreeMap<String, Presences>;

/// What is known of a group's members.
#[derive(Debug)]
pub(super) struct Presences {
    /// Since when this node coordinates the group.
    pub(super) since: Instant,
    /// When the group was last seen to have members.
    looked: Instant,
    members: BTreeMap<MemberId, Presence>,
    /// When a revoke was first seen, by partition and the fencing epoch of its owner.
    revoked: BTreeMap<(TopicPartition, i64), Instant>,
    /// What the last look found; `None`: the next one is needed whatever the time.
    calm: Option<Calm>,
}

/// As long as a group stays in this generation, nothing is due in it before that time has passed.
#[derive(Debug, Clone, Copy)]
struct Calm {
    incarnation: i64,
    generation: i32,
    until: Instant,
}

impl Calm {
    fn lasts(&self, group: &Group, now: Instant) -> bool {
        let same = (self.incarnation, self.generation) == (group.incarnation, group.generation);
        same && now <= self.until
    }
}

/// One member.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    /// Its last sign of life; the beginning of this coordinator's time, if none came yet.
    heard: Instant,
    /// A sign of life came since this coordinator began.
    pub(super) spoke: bool,
    /// What it works on, and since when.
    working: Option<(i64, Instant)>,
    /// Sessions that it has open.
    sessions: usize,
    /// It had a session, and lost it.
    broke: bool,
    /// Since when it is away.
    away: Option<Instant>,
}

/// What must be put into the log, because time has passed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) expelled: Vec<(MemberId, ExpelCause, i64)>,
    pub(super) overdue: Vec<(TopicPartition, i64)>,
}

impl Presence {
    fn new(now: Instant) -> Self {
        Self { heard: now, spoke: false, working: None, sessions: 0, broke: false, away: None }
    }

    /// A sign of life. Whether it was away until then.
    fn heard(&mut self, working_on: Option<i64>, now: Instant) -> bool {
        self.heard = now;
        self.spoke = true;
        self.working = match (working_on, self.working) {
            (None, _) => None,
            (Some(on), Some((before, since))) if on == before => Some((on, since)),
            (Some(on), _) => Some((on, now)),
        };
        self.away.take().is_some()
    }

    /// Whether its last session ended.
    fn connected(&mut self, begins: bool) -> bool {
        if begins {
            self.sessions += 1;
            self.broke = false;
            return false;
        }
        // One that began under an earlier coordination here was forgotten with it.
        let had_one = self.sessions > 0;
        if had_one {
            self.sessions -= 1;
            self.broke = self.sessions == 0;
        }
        had_one && self.broke
    }

    pub(super) fn silent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    pub(super) fn working(&self, now: Instant) -> Option<Duration> {
        self.working.map(|(_, since)| now.saturating_duration_since(since))
    }

    pub(super) fn is_connected(&self) -> bool {
        self.sessions > 0
    }

    /// Nobody is there: its connection broke, or it has been silent for longer than a living member is.
    pub(super) fn is_gone(&self, longest_silence: Duration, now: Instant) -> bool {
        !self.is_connected() && (self.broke || self.silent(now) > longest_silence)
    }
}

impl Presences {
    /// A coordinator's knowledge at its beginning: everybody was heard of just now.
    pub(super) fn new(now: Instant) -> Self {
        let (members, revoked) = (BTreeMap::new(), BTreeMap::new());
        Self { since: now, looked: now, members, revoked, calm: None }
    }

    /// Of a group that is gone, or whose members are, and nobody speaks for it.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.looked) > STALE;
        silent && self.members.values().all(|it| it.sessions == 0)
    }

    /// A sign of life.
    pub(super) fn heard(&mut self, member: &str, working_on: Option<i64>, now: Instant) {
        if self.note(member, now, |it| it.heard(working_on, now)) {
            self.calm = None;
        }
    }

    /// A session began or ended. Its end is no leave.
    pub(super) fn connected(&mut self, member: &str, begins: bool, now: Instant) {
        if self.note(member, now, |it| it.connected(begins)) {
            self.calm = None;
        }
    }

    fn note<T>(
        &mut self,
        member: &str,
        now: Instant,
        change: impl FnOnce(&mut Presence) -> T,
    ) -> T {
        if let Some(presence) = self.members.get_mut(member) {
            return change(presence);
        }
        let mut presence = Presence::new(now);
        let changed = change(&mut presence);
        self.members.insert(member.into(), presence);
        self.calm = None;
        changed
    }

    pub(super) fn get(&self, member: &str) -> Option<&Presence> {
        self.members.get(member)
    }

    /// This process slept: what it did not hear meanwhile says nothing about anybody.
    pub(super) fn begin_again(&mut self, now: Instant) {
        for presence in self.members.values_mut() {
            presence.heard = now;
            presence.away = presence.away.map(|_| now);
            presence.working = presence.working.map(|(on, _)| (on, now));
        }
        self.revoked.values_mut().for_each(|seen| *seen = now);
    }

    /// What is due by now. Nothing is done while nothing can be.
    pub(super) fn due(&mut self, group: &Group, now: Instant) -> Due {
        self.looked = now;
        if self.calm.is_some_and(|it| it.lasts(group, now)) {
            return Due::default();
        }
        let (expelled, of_members) = self.look_at_members(group, now);
        let (overdue, of_revokes) = self.look_at_revokes(group, now);
        let (incarnation, generation) = (group.incarnation, group.generation);
        let until = of_members.into_iter().chain(of_revokes).min();
        self.calm = until.map(|until| Calm { incarnation, generation, until });
        Due { expelled, overdue }
    }

    /// Who is to be expelled by now, and until when nobody else is. Learns on the way who the group has.
    fn look_at_members(
        &mut self,
        group: &Group,
        now: Instant,
    ) -> (Vec<(MemberId, ExpelCause, i64)>, Option<Instant>) {
        self.members.retain(|id, it| group.members.contains_key(id) || it.sessions > 0);
        let (mut expelled, mut until) = (Vec::new(), None);
        for (id, member) in &group.members {
            let is_away = member.away_since_ms.is_some();
            let (verdict, safe) = self.note(id, now, |presence| {
                presence.away = is_away.then(|| presence.away.unwrap_or(now));
                (presence.verdict(member.limits, now), presence.safe_until(member.limits, now))
            });
            if let Some((cause, took)) = verdict {
                expelled.push((Arc::clone(id), cause, millis(took)));
            }
            until = until.into_iter().chain([safe]).min();
        }
        (expelled, until)
    }

    /// Which revokes are overdue by now, and until when no other is. Learns on the way which there are.
    fn look_at_revokes(
        &mut self,
        group: &Group,
        now: Instant,
    ) -> (Vec<(TopicPartition, i64)>, Option<Instant>) {
        let mut seen = std::mem::take(&mut self.revoked);
        let (mut overdue, mut until) = (Vec::new(), None);
        for (at, holding) in group.holdings.iter().filter(|(_, it)| it.revoke.is_some()) {
            let key = (*at, group.fencing_epoch(holding));
            let since = *self.revoked.entry(key).or_insert(seen.remove(&key).unwrap_or(now));
            let limit = group.members.get(&holding.owner).map_or(0, |it| it.limits.drain_ms);
            let end = since + limit_of(limit);
            if now > end {
                overdue.push(key);
            }
            until = until.into_iter().chain([end]).min();
        }
        (overdue, until)
    }

    /// How long a partition's owner has had to give it up.
    pub(super) fn revoked_for(&self, at: TopicPartition, fence: i64, now: Instant) -> Duration {
        let since = self.revoked.get(&(at, fence));
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(*since))
    }
}

/// What is due by now in the groups of a shard that have members: one walk along both, in the order of names.
pub(super) fn due_in<'a>(
    present: &mut Present,
    groups: impl Iterator<Item = (&'a str, &'a Group)>,
    now: Instant,
) -> Vec<(String, Due)> {
    let (mut all_due, mut new) = (Vec::new(), Vec::new());
    let mut known = present.iter_mut().peekable();
    for (name, group) in groups.filter(|(_, group)| !group.members.is_empty()) {
        while known.next_if(|(it, _)| it.as_str() < name).is_some() {}
        let due = match known.next_if(|(it, _)| it.as_str() == name) {
            Some((_, presences)) => presences.due(group, now),
            None => {
                let mut presences = Presences::new(now);
                let due = presences.due(group, now);
                new.push((name.to_owned(), presences));
                due
            }
        };
        if due != Due::default() {
            all_due.push((name.to_owned(), due));
        }
    }
    present.extend(new);
    all_due
}

impl Presence {
    /// As far as it can be said at this look, it is not due before this time has passed, though it begin to work just now
    /// and be heard of no more.
    fn safe_until(&self, limits: Limits, now: Instant) -> Instant {
        let session = limit_of(limits.session_ms);
        if let Some(away) = self.away {
            return away + session;
        }
        let working = self.working.map_or(now, |(_, since)| since);
        (self.heard + session).min(working + limit_of(limits.processing_ms))
    }

    fn verdict(&self, limits: Limits, now: Instant) -> Option<(ExpelCause, Duration)> {
        let session = limit_of(limits.session_ms);
        if let Some(away) = self.away {
            let gone = now.saturating_duration_since(away);
            return (gone > session).then_some((ExpelCause::DidNotReturn, gone));
        }
        let silent = self.silent(now);
        if silent > session {
            let cause = if self.broke || !self.is_connected() && !self.spoke {
                ExpelCause::Crash
            } else {
                ExpelCause::Heartbeat
            };
            return Some((cause, silent));
        }
        let working = self.working(now)?;
        let late = working > limit_of(limits.processing_ms);
        late.then_some((ExpelCause::Progress, working))
    }
}

fn limit_of(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
