//! Owns what a member knows of itself: its id, the generation it has taken on, and every partition it holds with how far
//! that has come. Takes in the coordinator's updates and makes the member's messages, which say everything each time.
//! Pure: no call, no clock, and it never touches records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use waymark_proto::v1 as wire;

use super::listener::OwnedPartition;
use super::subscription::Subscription;
use crate::config::ConsumerConfig;
use crate::record::{OffsetAndMetadata, TopicPartition};

/// A partition by the id of its topic: a topic that is made again is another one.
pub(super) type Key = ([u8; 16], i32);

/// How far a partition has come with this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Where it begins is being found out.
    Starting,
    /// The application is being told; records come after that.
    Announcing,
    Flowing,
    /// To be given up: the application finishes what it has in hand.
    Draining {
        deadline: Instant,
    },
    /// As before; the application is being told, then commits on the way are waited for.
    Parting {
        deadline: Instant,
    },
    /// No longer this member's, but the coordinator has not said that it knows; with where it was left, and the number of
    /// the first message that says so.
    GivenUp {
        last: Option<OffsetAndMetadata>,
        said_in: i64,
    },
}

/// One partition.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub(super) key: Key,
    pub(super) at: TopicPartition,
    pub(super) fencing_epoch: i64,
    pub(super) phase: Phase,
    /// The application has been, or is being, told that it has it.
    pub(super) told: bool,
}

impl Holding {
    pub(super) fn owned(&self) -> OwnedPartition {
        OwnedPartition { at: self.at.clone(), fencing_epoch: self.fencing_epoch }
    }

    fn is_owned(&self) -> bool {
        !matches!(self.phase, Phase::GivenUp { .. })
    }

    /// Where it was left was said in a message after the one that is answered, if any is.
    fn waits_for_verdict(&self, answers: i64) -> bool {
        matches!(self.phase, Phase::GivenUp { last: Some(_), said_in } if answers < said_in)
    }
}

/// A partition to begin, or to begin again.
#[derive(Debug, Clone)]
pub(super) struct Beginning {
    pub(super) key: Key,
    pub(super) at: TopicPartition,
    pub(super) fencing_epoch: i64,
    pub(super) committed: Option<i64>,
    pub(super) leader: Option<wire::LeaderHint>,
}

/// What an update changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) begin: Vec<Beginning>,
    /// Taken away without having been given up.
    pub(super) lost: Vec<Key>,
    pub(super) revoked: Vec<Key>,
    /// The coordinator waits for an answer.
    pub(super) answer: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Member {
    group: Arc<str>,
    instance: Option<Arc<str>>,
    rack: Option<String>,
    assignor: &'static str,
    /// Session, processing and drain timeout, ms.
    timeouts: [i32; 3],
    pub(super) subscription: Subscription,
    pub(super) id: Arc<str>,
    /// The generation taken on; `None` until the join is answered.
    pub(super) epoch: Option<i32>,
    pub(super) holdings: BTreeMap<Key, Holding>,
    /// Of the final offsets.
    sequence: i64,
    /// It leaves: it claims what it has given up until it says goodbye, or the coordinator would give it back to this very
    /// member, and to others what waits for one that comes back to its seat.
    pub(super) leaves: bool,
    /// Messages made so far: the number of the latest.
    said: i64,
}

impl Member {
    pub(super) fn new(
        config: &ConsumerConfig,
        rack: Option<String>,
        id: Arc<str>,
        subscription: Subscription,
    ) -> Self {
        let ms = |timeout: Duration| i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        Self {
            group: config.group_id.as_deref().unwrap_or_default().into(),
            instance: config.instance_id.as_deref().map(Into::into),
            rack,
            assignor: config.assignor.map_or("", |assignor| assignor.name()),
            timeouts: [
                ms(config.session_timeout),
                ms(config.max_poll_interval),
                ms(config.drain_timeout),
            ],
            subscription,
            id,
            epoch: None,
            holdings: BTreeMap::new(),
            sequence: 0,
            leaves: false,
            said: 0,
        }
    }

    /// Forgets everything and is another member from now on; returns what the application knew it had.
    pub(super) fn begin_anew(&mut self, id: Arc<str>) -> Vec<Holding> {
        (self.id, self.epoch, self.leaves) = (id, None, false);
        let all = std::mem::take(&mut self.holdings).into_values();
        all.filter(Holding::is_owned).collect()
    }

    /// Takes in an update of the coordinator that carries no failure.
    pub(super) fn take(&mut self, update: &wire::CoordinatorUpdate, now: Instant) -> Changes {
        let mut changes = Changes::default();
        if self.epoch.is_some_and(|known| update.member_epoch < known) {
            // From a coordinator that is behind the one before it: its successor will say it again.
            return changes;
        }
        changes.answer = self.epoch != Some(update.member_epoch);
        self.epoch = Some(update.member_epoch);
        self.take_outcomes(update.answers, &update.final_offsets);
        if let Some(assignment) = &update.assignment {
            self.take_assignment(assignment, update.answers, &mut changes);
        }
        for revoke in &update.revoke {
            self.take_revoke(revoke, now, &mut changes);
        }
        changes
    }

    fn take_assignment(
        &mut self,
        assignment: &wire::Assignment,
        answers: i64,
        changes: &mut Changes,
    ) {
        let mut rest = std::mem::take(&mut self.holdings);
        for assigned in &assignment.partitions {
            let Some(key) = key(&assigned.topic_id, assigned.partition) else { continue };
            let held = rest.remove(&key);
            if let Some(held) =
                held.as_ref().filter(|held| held.fencing_epoch >= assigned.fencing_epoch)
            {
                self.holdings.insert(key, held.clone());
                continue;
            }
            // New, or reset: the application hears of it in either case.
            let at = TopicPartition::new(assigned.topic.as_str(), key.1);
            let told = held.is_some_and(|held| held.told && held.is_owned());
            changes.begin.push(Beginning {
                key,
                at: at.clone(),
                fencing_epoch: assigned.fencing_epoch,
                committed: assigned.committed_offset,
                leader: assigned.leader.clone(),
            });
            let fencing_epoch = assigned.fencing_epoch;
            let holding = Holding { key, at, fencing_epoch, phase: Phase::Starting, told };
            self.holdings.insert(key, holding);
        }
        for (key, gone) in rest {
            if gone.is_owned() {
                changes.lost.push(key);
                self.holdings.insert(key, gone);
            } else if gone.waits_for_verdict(answers) {
                self.holdings.insert(key, gone);
            }
        }
    }

    fn take_revoke(&mut self, revoke: &wire::Revoke, now: Instant, changes: &mut Changes) {
        let Some(key) = key(&revoke.topic_id, revoke.partition) else { return };
        let Some(holding) = self.holdings.get_mut(&key) else { return };
        if matches!(holding.phase, Phase::Starting | Phase::Announcing | Phase::Flowing) {
            let left = Duration::from_millis(u64::try_from(revoke.deadline_ms).unwrap_or(0));
            tracing::debug!(at = %holding.at, ?left, reason = revoke.reason, "to be given up");
            holding.phase = Phase::Draining { deadline: now + left };
            changes.revoked.push(key);
        }
    }

    /// Final offsets that were decided need not be told again. Each outcome names its partition: the answer may be to an
    /// earlier message than the last, and then says nothing of what was given up after that one.
    fn take_outcomes(&mut self, answers: i64, outcomes: &[wire::OffsetResult]) {
        for outcome in outcomes {
            let named = outcome.topic.as_ref();
            let Some(key) = named.and_then(|it| key(&it.topic_id, outcome.partition)) else {
                continue;
            };
            let failure = outcome.failure.as_ref();
            if failure.is_some_and(|failure| failure.retry() == wire::RetryClass::Retry) {
                continue;
            }
            let Some(holding) = self.holdings.get_mut(&key) else { continue };
            if let Phase::GivenUp { last, said_in } = &mut holding.phase
                && answers >= *said_in
            {
                if let Some(failure) = failure.filter(|f| f.retry() != wire::RetryClass::Done) {
                    let (code, at) = (failure.code(), &holding.at);
                    tracing::warn!(%at, ?code, "given up too late: its next owner reads some again");
                }
                *last = None;
            }
        }
    }

    /// The partition is left where it stands.
    pub(super) fn give_up(&mut self, key: &Key, last: Option<OffsetAndMetadata>, sequence: i64) {
        if let Some(holding) = self.holdings.get_mut(key) {
            holding.phase = Phase::GivenUp { last, said_in: self.said + 1 };
            self.sequence = sequence;
        }
    }

    /// All that there is to say, under the next number.
    pub(super) fn message(&mut self, working_on: Option<i64>) -> wire::MemberUpdate {
        let [session_timeout_ms, processing_timeout_ms, drain_timeout_ms] = self.timeouts;
        let finals: Vec<(Key, wire::OffsetCommit)> = self.finals().collect();
        self.said += 1;
        wire::MemberUpdate {
            group_id: self.group.to_string(),
            member_id: self.id.to_string(),
            member_epoch: self.epoch,
            instance_id: self.instance.as_ref().map(ToString::to_string),
            rack: self.rack.clone(),
            subscription: Some(self.subscription.to_wire()),
            assignor: self.assignor.to_owned(),
            session_timeout_ms,
            processing_timeout_ms,
            drain_timeout_ms,
            owned: self.epoch.map(|_| self.owned()),
            commit_seq: if finals.is_empty() { 0 } else { self.sequence },
            final_offsets: finals.into_iter().map(|(_, offset)| offset).collect(),
            working_on,
            message_number: self.said,
            ..wire::MemberUpdate::default()
        }
    }

    fn owned(&self) -> wire::Owned {
        let claims = |holding: &Holding| self.leaves || holding.is_owned();
        let owned = self.holdings.iter().filter(|(_, holding)| claims(holding));
        let partitions = owned.map(|((topic_id, partition), holding)| wire::OwnedPartition {
            topic_id: Bytes::copy_from_slice(topic_id),
            partition: Some(*partition),
            fencing_epoch: holding.fencing_epoch,
        });
        wire::Owned { partitions: partitions.collect() }
    }

    fn finals(&self) -> impl Iterator<Item = (Key, wire::OffsetCommit)> + '_ {
        self.holdings.iter().filter_map(|(key, holding)| {
            let Phase::GivenUp { last: Some(last), .. } = &holding.phase else { return None };
            let mut offset = crate::answers::offset_commit((&holding.at, last));
            offset.fencing_epoch = Some(holding.fencing_epoch);
            if let Some(topic) = &mut offset.topic {
                topic.topic_id = Bytes::copy_from_slice(&key.0);
            }
            Some((*key, offset))
        })
    }

    /// The last message: for good, with where everything was left, or to come back to the same seat.
    pub(super) fn goodbye(&mut self) -> wire::MemberUpdate {
        let mut message = self.message(None);
        if self.instance.is_some() {
            message.set_leave(wire::Leave::WillReturn);
            (message.owned, message.final_offsets, message.commit_seq) = (None, Vec::new(), 0);
        } else {
            message.set_leave(wire::Leave::ForGood);
        }
        message
    }

    /// Where everything was left that was given up.
    pub(super) fn left_at(&self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let left = self.holdings.values().filter_map(|holding| match &holding.phase {
            Phase::GivenUp { last: Some(last), .. } => Some((holding.at.clone(), last.clone())),
            _ => None,
        });
        left.collect()
    }

    pub(super) fn is_static(&self) -> bool {
        self.instance.is_some()
    }

    pub(super) fn instance(&self) -> Option<Arc<str>> {
        self.instance.clone()
    }

    pub(super) fn group(&self) -> Arc<str> {
        Arc::clone(&self.group)
    }

    /// Partitions that are this member's, with their phases.
    pub(super) fn held(&self) -> impl Iterator<Item = (&Key, &Holding)> {
        self.holdings.iter().filter(|(_, holding)| holding.is_owned())
    }
}

fn key(topic_id: &[u8], partition: Option<i32>) -> Option<Key> {
    Some((<[u8; 16]>::try_from(topic_id).ok()?, partition?))
}

#[cfg(test)]
#[path = "tests/member.rs"]
mod tests;
