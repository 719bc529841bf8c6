//! Owns when members were last heard of, and what follows: who is silent for too long, at work for too long, late with a
//! revoke, away for too long. All of it on this node's own timer, begun anew in full by a new coordinator (S18): a member
//! that should stay is never thrown out for what nobody saw. Never proposes a verdict: `keeper` does.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::ids::TopicPartition;

use crate::state::groups::{ExpelCause, Group, MemberId};

/// For so long what is known of a group without members is kept: it may be about to get one.
const STALE: Duration = Duration::from_secs(10);

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
        Self { since: now, looked: now, members: BTreeMap::new(), revoked: BTreeMap::new() }
    }

    /// Of a group that is gone, or whose members are, and nobody speaks for it.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.looked) > STALE;
        silent && self.members.values().all(|it| it.sessions == 0)
    }

    /// A sign of life.
    pub(super) fn heard(&mut self, member: &str, working_on: Option<i64>, now: Instant) {
        let presence = self.member(member, now);
        presence.heard = now;
        presence.spoke = true;
        presence.away = None;
        presence.working = match (working_on, presence.working) {
            (None, _) => None,
            (Some(on), Some((before, since))) if on == before => Some((on, since)),
            (Some(on), _) => Some((on, now)),
        };
    }

    /// A session began or ended. Its end is no leave.
    pub(super) fn connected(&mut self, member: &str, begins: bool, now: Instant) {
        let presence = self.member(member, now);
        if begins {
            presence.sessions += 1;
            presence.broke = false;
        } else if presence.sessions > 0 {
            // One that began under an earlier coordination here was forgotten with it.
            presence.sessions -= 1;
            presence.broke = presence.sessions == 0;
        }
    }

    fn member(&mut self, member: &str, now: Instant) -> &mut Presence {
        self.members.entry(member.into()).or_insert_with(|| Presence::new(now))
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

    /// What is due by now. Learns on the way who and what the group has.
    pub(super) fn due(&mut self, group: &Group, now: Instant) -> Due {
        let mut due = Due::default();
        self.looked = now;
        self.members.retain(|id, it| group.members.contains_key(id) || it.sessions > 0);
        for (id, member) in &group.members {
            let presence = self.member(id, now);
            if member.away_since_ms.is_some() {
                presence.away.get_or_insert(now);
            } else {
                presence.away = None;
            }
            if let Some((cause, took)) = presence.verdict(member.limits, now) {
                due.expelled.push((std::sync::Arc::clone(id), cause, millis(took)));
            }
        }
        let mut seen = std::mem::take(&mut self.revoked);
        for (at, holding) in group.holdings.iter().filter(|(_, it)| it.revoke.is_some()) {
            let key = (*at, group.fencing_epoch(holding));
            let since = *self.revoked.entry(key).or_insert(seen.remove(&key).unwrap_or(now));
            let limit = group.members.get(&holding.owner).map_or(0, |it| it.limits.drain_ms);
            if now.saturating_duration_since(since) > limit_of(limit) {
                due.overdue.push(key);
            }
        }
        due
    }

    /// How long a partition's owner has had to give it up.
    pub(super) fn revoked_for(&self, at: TopicPartition, fence: i64, now: Instant) -> Duration {
        let since = self.revoked.get(&(at, fence));
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(*since))
    }
}

impl Presence {
    fn verdict(
        &self,
        limits: crate::state::groups::Limits,
        now: Instant,
    ) -> Option<(ExpelCause, Duration)> {
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
