//! Owns what the coordinator's words mean for the membership: an update changes what is held, a failure is waited out,
//! followed elsewhere, or ends something. Never talks.

use std::sync::Arc;

use tokio::time::Instant;
use waymark_proto::v1 as wire;
use wire::{FailureCode as Code, RetryClass};

use super::session::Heard;
use super::task::{Link, Membership};
use crate::answers::grpc_address;
use crate::error::{Error, Refusal};
use crate::refusal;
use crate::retry::LEADER_PAUSE;

impl Membership {
    pub(super) fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Broken(error) => self.broken(error),
            Heard::Update(update) => match &update.failure {
                Some(failure) => {
                    self.exchange.refused(update.answers);
                    self.refused(&refusal::refusal(failure));
                }
                None => self.update(&update),
            },
        }
    }

    fn update(&mut self, update: &wire::CoordinatorUpdate) {
        let now = Instant::now();
        if self.exchange.answered(update.answers) {
            self.backoff.reset();
        } else if self.member.epoch.is_none() {
            // A member is who has been answered: its time runs from what it said.
            return;
        }
        let millis = |told: i32| u64::try_from(told).ok().filter(|told| *told > 0);
        if let Some(told) = millis(update.heartbeat_interval_ms) {
            self.interval = std::time::Duration::from_millis(told);
            self.say_at = self.say_at.min(now + self.interval);
        }
        if let Some(told) = millis(update.session_timeout_ms) {
            self.session_timeout = std::time::Duration::from_millis(told);
        }
        let changes = self.member.take(update, now);
        self.publish();
        if changes.answer {
            tracing::debug!(group = %self.member.group(), generation = update.generation,
                reason = ?update.reason(), "a new generation");
            self.say_at = now;
        }
        self.taken_away(&changes.lost);
        self.stop_flowing(&changes.revoked);
        self.begin(changes.begin);
    }

    /// A failure of the member's message, or of the whole session.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        let pause = self.backoff.pause(&self.core.client.config().random).max(refusal.retry_after);
        let group = self.member.group();
        tracing::info!(%group, code = ?refusal.code, message = refusal.message, "the coordinator refuses");
        match (refusal.code, refusal.retry) {
            (Code::UnknownMember | Code::MemberFenced, _) => {
                self.expelled("the coordinator says so");
            }
            (Code::InstanceFenced, _) => {
                let instance = self.member.instance().unwrap_or_default();
                self.end(Error::InstanceFenced { group, instance });
            }
            (Code::NotCoordinator | Code::NotLeader, _) => {
                let hint = refusal.leader.as_ref().and_then(|hint| self.address(hint));
                let not_before = Instant::now() + pause.min(LEADER_PAUSE);
                self.link = Link::Down { not_before, hint };
            }
            // A node that is cut off from the others takes itself for the coordinator still, and may do so for as long as
            // that lasts: another one is asked who it is.
            (Code::NoQuorum, _) => {
                self.core.client.ask_another();
                self.link = Link::Down { not_before: Instant::now() + pause, hint: None };
            }
            // Said again on the same stream, or on the next one where this one has ended.
            (_, RetryClass::Retry | RetryClass::Done) => match &mut self.link {
                Link::Down { not_before, .. } => *not_before = Instant::now() + pause,
                _ => self.say_at = Instant::now() + pause,
            },
            (_, RetryClass::Reroute | RetryClass::UnknownOutcome) => {
                self.link = Link::Down { not_before: Instant::now() + pause, hint: None };
            }
            (_, RetryClass::Fenced) => self.expelled("the coordinator says so"),
            (_, RetryClass::Fix | RetryClass::Fatal | RetryClass::Unspecified) => {
                self.end(Error::Refused(Arc::new(refusal.clone())));
            }
        }
    }

    fn address(&self, hint: &wire::LeaderHint) -> Option<Arc<str>> {
        let told = grpc_address(&hint.endpoints);
        told.or_else(|| self.core.client.metadata().address(hint.node_id))
    }

    /// The group goes on without this member. It joins again when the application comes for records.
    pub(super) fn expelled(&mut self, why: &'static str) {
        tracing::warn!(group = %self.member.group(), member = %self.member.id, why, "expelled");
        self.lose_everything();
        if let Some(leaving) = &mut self.leaving {
            leaving.expelled = true;
        }
        self.parked = Some(self.core.shared.lock().progress().0);
        self.link = Link::Down { not_before: Instant::now(), hint: None };
    }

    /// Membership is over until the application acts; it is told why at every call for records.
    fn end(&mut self, error: Error) {
        tracing::error!(group = %self.member.group(), %error, "membership ended");
        self.lose_everything();
        self.link = Link::Closed;
        self.core.shared.lock().end(Some(error));
        self.core.shared.data.notify_waiters();
        self.core.shared.data.notify_one();
    }
}
