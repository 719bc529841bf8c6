//! Owns the end of a membership: everything is drained as in a revoke, then the coordinator is told, within one deadline.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::coordinator;
use super::member::{Beginning, Phase};
use super::task::{Done, Link, Membership};
use crate::config::AutoCommit;
use crate::consumer::commit::{Cause, Offsets};
use crate::error::{Error, Result};
use crate::retry::Repeat;

/// A leave under way.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) deadline: Instant,
    /// The group has gone on without this member before everything was given up.
    pub(super) expelled: bool,
    began: Instant,
    said: bool,
    reply: Option<oneshot::Sender<Result<()>>>,
    over: bool,
}

impl Membership {
    pub(super) fn begin_leaving(&mut self, deadline: Instant, reply: oneshot::Sender<Result<()>>) {
        for holding in self.member.holdings.values_mut() {
            if matches!(holding.phase, Phase::Starting | Phase::Announcing | Phase::Flowing) {
                holding.phase = Phase::Draining { deadline };
                self.core.shared.lock().drain(&holding.at);
            }
        }
        self.member.leaves = true;
        let began = Instant::now();
        let reply = Some(reply);
        let (expelled, said, over) = (false, false, false);
        self.leaving = Some(Leaving { deadline, expelled, began, said, reply, over });
    }

    /// What comes while leaving is given back at once.
    pub(super) fn leaves_behind(&mut self, beginnings: &[Beginning]) -> bool {
        let Some(leaving) = &self.leaving else { return false };
        for begin in beginnings {
            if let Some(holding) = self.member.holdings.get_mut(&begin.key) {
                holding.phase = Phase::Draining { deadline: leaving.deadline };
                self.core.shared.lock().drain(&begin.at);
            }
        }
        true
    }

    /// Goes on with a leave; `true` when it is over.
    pub(super) fn leave(&mut self, now: Instant) -> bool {
        let idle = self.member.held().next().is_none() && self.hooks.are_idle();
        let Some(leaving) = &mut self.leaving else { return false };
        if leaving.over {
            return true;
        }
        if now >= leaving.deadline {
            let after = leaving.deadline.saturating_duration_since(leaving.began);
            self.left(Err(late(after)));
            return true;
        }
        if !idle || leaving.said {
            return false;
        }
        leaving.said = true;
        if leaving.expelled {
            self.left(Err(Error::MemberFenced { group: self.member.group() }));
            return true;
        }
        if !self.introduced {
            self.left(Ok(()));
            return true;
        }
        self.say_goodbye();
        false
    }

    fn say_goodbye(&mut self) {
        self.link = Link::Closed;
        // Who comes back to its seat keeps its partitions: nothing is handed over, so its places are committed.
        let by_itself = self.core.config.auto_commit != AutoCommit::Disabled;
        let seat = self.member.is_static() && by_itself;
        let places = if seat { self.member.left_at() } else { Offsets::new() };
        let last = self.core.committer.submit(places, Cause::Revoke);
        let goodbye = self.member.goodbye();
        let client = self.core.client.clone();
        self.work.push(Box::pin(async move {
            let committed = last.await;
            let goodbye = &goodbye;
            let left = client
                .call("leaving the group", Repeat::Harmless, |link, timeout| async move {
                    coordinator::leave(&link, goodbye.clone(), timeout).await
                })
                .await;
            Done::Left(committed.and(left))
        }));
    }

    pub(super) fn left(&mut self, outcome: Result<()>) {
        let gone = self.member.begin_anew(Default::default());
        self.lost(gone);
        let Some(leaving) = &mut self.leaving else { return };
        leaving.over = true;
        if let Some(reply) = leaving.reply.take() {
            // Who does not wait does not want to know.
            let _ = reply.send(outcome);
        }
    }
}

fn late(after: Duration) -> Error {
    Error::Timeout { what: "leaving the group", after, last: None, ambiguous: true }
}
