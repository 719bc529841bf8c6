//! Owns one message of a member: what it asks for becomes an entry of the group's shard, or nothing if it says nothing new,
//! and the answer is read from the state after it. Never keeps a stream: the api does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;

use super::presence::{Presences, millis};
use super::seam::{Assigned, Revoked, Told, Update};
use crate::broker::Core;
use crate::broker::refusal::{failure, refused};
use crate::consensus::Shard;
use crate::state::ShardState;
use crate::state::groups::{Changed, Group, GroupChange, Join, Limits, MemberId, Release};

/// A heartbeat is confirmed by a quorum at least this often: a coordinator that was deposed and does not know it yet must
/// not keep members alive that its successor has thrown out.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// Three heartbeats fit into a session …
const HEARTBEATS_PER_SESSION: i32 = 3;
/// … and come no more seldom than this, ms.
const LONGEST_HEARTBEAT_MS: i32 = 3_000;
/// Who lives is heard of more often than this: two heartbeats.
const LONGEST_SILENCE: Duration = Duration::from_secs(6);
/// A coordinator that has just begun does not know yet who is connected: for so long nobody takes a seat from another.
const SEATS_STAY: Duration = Duration::from_secs(6);

impl Core {
    pub(super) async fn update_member(
        &self,
        update: Update,
        deadline: Instant,
    ) -> Result<Told, Failure> {
        let shard = self.coordinating(&update.group)?;
        let (group, member) = (update.group.clone(), update.member.clone());
        let leaves = update.leave.is_some();
        let final_offsets = if update.member_epoch.is_none() && !leaves {
            self.join(&shard, update, deadline).await?;
            Vec::new()
        } else {
            self.hear(&shard, update, deadline).await?
        };
        if leaves {
            return Ok(Told { final_offsets, ..gone() });
        }
        Ok(Told { final_offsets, ..self.tell(&shard, &group, &member)? })
    }

    /// Takes a member in. A repeat of a join that was taken changes nothing, in the state.
    async fn join(&self, shard: &Shard, update: Update, deadline: Instant) -> Result<(), Failure> {
        let (Some(subscription), Some(limits)) = (update.subscription, update.limits) else {
            return Err(failure(FailureCode::InvalidArgument, "a join needs a subscription"));
        };
        // A catalog that is behind here would take topics from a member that joins again.
        self.catalog_barrier(deadline).await?;
        let topics = self.topics_of(&subscription)?;
        let member: MemberId = update.member.as_str().into();
        let join = Join {
            member: Arc::clone(&member),
            takes_over: self.seat_is_free(shard, &update.group, update.instance.as_deref()),
            instance: update.instance,
            rack: update.rack,
            subscription,
            topics,
            assignor: update.assignor,
            limits,
        };
        let who = (update.group.as_str(), update.actor);
        self.change_group(shard, who, GroupChange::Join(join), deadline).await?;
        self.note_heard(shard, &update.group, &member, update.working_on);
        Ok(())
    }

    fn seat_is_free(&self, shard: &Shard, group: &str, instance: Option<&str>) -> bool {
        let Some(instance) = instance else { return false };
        let seated = shard.read(|state| state.group(group)?.seated(instance).cloned());
        let present = self.coordination.present();
        let group = present.get(&shard.id()).and_then(|it| it.get(group));
        let (Some(seated), Some(group)) = (seated, group) else { return false };
        let now = Instant::now();
        let gone = group.get(&seated).is_none_or(|it| it.is_gone(LONGEST_SILENCE, now));
        gone && group.since.elapsed() > SEATS_STAY
    }

    /// Hears a member, and does what it asks for.
    async fn hear(
        &self,
        shard: &Shard,
        update: Update,
        deadline: Instant,
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        let id = match self.member_of(shard, &update) {
            Ok(id) => id,
            // Only a leader may say so: one that is behind does not know the newest members.
            Err(_) => {
                self.confirm_coordinator(shard, deadline).await?;
                self.member_of(shard, &update)?
            }
        };
        self.note_heard(shard, &update.group, &id, update.working_on);
        let release = shard.read(|state| release(state, &id, &update));
        let who = (update.group.as_str(), update.actor.clone());
        if let Some(to_return) = update.leave {
            let leave = GroupChange::Leave { release, to_return };
            let changed = self.change_group(shard, who, leave, deadline).await?;
            return Ok(verdicts(changed));
        }
        // What it gives up is given up under the subscription that gave it.
        let mut outcomes = Vec::new();
        let gives_up = !release.partitions.is_empty() || !release.offsets.is_empty();
        if gives_up {
            let release = GroupChange::Release(release);
            outcomes = verdicts(self.change_group(shard, who.clone(), release, deadline).await?);
        }
        if self.says_something_new(shard, &id, &update) {
            self.catalog_barrier(deadline).await?;
            let again = self.subscribed_anew(shard, &id, &update)?;
            self.change_group(shard, who, GroupChange::Join(again), deadline).await?;
        } else if !gives_up {
            self.confirm_lately(shard, deadline).await?;
        }
        Ok(outcomes)
    }

    fn member_of(&self, shard: &Shard, update: &Update) -> Result<MemberId, Failure> {
        shard.read(|state| {
            let group = state.group(&update.group).ok_or_else(stranger)?;
            let id = group.check_member(&update.member, update.instance.as_deref());
            id.cloned().map_err(|refusal| refused(&refusal))
        })
    }

    fn note_heard(&self, shard: &Shard, group: &str, member: &str, working_on: Option<i64>) {
        let mut present = self.coordination.present();
        // Not before: what is noted later is not of an earlier time.
        let now = Instant::now();
        let groups = present.entry(shard.id()).or_default();
        let group = groups.entry(group.to_owned()).or_insert_with(|| Presences::new(now));
        group.heard(member, working_on, now);
    }

    /// Whether a member wants something else than what the group knows of it.
    fn says_something_new(&self, shard: &Shard, id: &MemberId, update: &Update) -> bool {
        shard.read(|state| {
            let Some(group) = state.group(&update.group) else { return false };
            let Some(member) = group.members.get(id) else { return false };
            let other_topics =
                update.subscription.as_ref().is_some_and(|it| *it != member.subscription);
            let other_limits = update.limits.is_some_and(|it| it != member.limits);
            let other_way = update.assignor.is_some_and(|it| it != group.assignor);
            other_topics || other_limits || other_way || member.away_since_ms.is_some()
        })
    }

    /// What a member wants from now on.
    fn subscribed_anew(
        &self,
        shard: &Shard,
        id: &MemberId,
        update: &Update,
    ) -> Result<Join, Failure> {
        let known = shard.read(|state| state.group(&update.group)?.members.get(id).cloned());
        let member = known.ok_or_else(stranger)?;
        let subscription = update.subscription.clone().unwrap_or(member.subscription);
        Ok(Join {
            member: Arc::clone(id),
            instance: member.instance,
            takes_over: false,
            rack: member.rack,
            topics: self.topics_of(&subscription)?,
            subscription,
            assignor: update.assignor,
            limits: update.limits.unwrap_or(member.limits),
        })
    }

    async fn confirm_lately(&self, shard: &Shard, deadline: Instant) -> Result<(), Failure> {
        let last = self.coordination.confirmed().get(&shard.id()).copied();
        if last.is_some_and(|at| at.elapsed() < CONFIRM_EVERY) {
            return Ok(());
        }
        let began = Instant::now();
        self.confirm_coordinator(shard, deadline).await?;
        self.coordination.confirmed().insert(shard.id(), began);
        Ok(())
    }

    /// What a member may hold now.
    pub(super) fn tell(&self, shard: &Shard, group: &str, member: &str) -> Result<Told, Failure> {
        let mut told = shard.read(|state| {
            let known = state.group(group).ok_or_else(stranger)?;
            let Some(it) = known.members.get(member) else {
                let message = "the group has no such member any more: expelled, or replaced";
                return Err(failure(FailureCode::MemberFenced, message));
            };
            Ok(Told {
                generation: known.generation,
                reason: known.reason,
                assigned: assigned(state, (group, known), member),
                limits: it.limits,
                heartbeat_ms: heartbeat(it.limits),
                final_offsets: Vec::new(),
            })
        })?;
        if told.assigned.iter().any(|it| it.revoked.is_some()) {
            let present = self.coordination.present();
            if let Some(group) = present.get(&shard.id()).and_then(|it| it.get(group)) {
                count_down(&mut told.assigned, group, Instant::now());
            }
        }
        Ok(told)
    }
}

/// All that a member may hold, with where it starts; of what was asked back, with all the time that it has.
pub(super) fn assigned(
    state: &ShardState,
    (name, group): (&str, &Group),
    member: &str,
) -> Vec<Assigned> {
    let limit = group.members.get(member).map_or(0, |it| it.limits.drain_ms);
    let held = group.held_by(member).map(|(at, holding)| {
        let fencing_epoch = group.fencing_epoch(holding);
        let committed = state.committed(name, at).map(|it| (it.offset, it.leader_epoch));
        let revoke = holding.revoke.as_ref();
        let revoked = revoke.map(|it| Revoked { left_ms: limit.max(0), reason: it.reason });
        let topic = group.topics.get(&at.topic).map(|it| it.name.clone()).unwrap_or_default();
        Assigned { at, topic, fencing_epoch, committed, revoked }
    });
    held.collect()
}

/// Takes the time that has passed from what a member has to give up what was asked back.
pub(super) fn count_down(assigned: &mut [Assigned], presences: &Presences, now: Instant) {
    for it in assigned {
        let Some(revoked) = &mut it.revoked else { continue };
        let past = presences.revoked_for(it.at, it.fencing_epoch, now);
        let past_ms = i32::try_from(millis(past)).unwrap_or(i32::MAX);
        revoked.left_ms = revoked.left_ms.saturating_sub(past_ms).max(0);
    }
}

/// What a member no longer holds of what it was given. A partition that it cannot have heard of yet is none of these.
fn release(state: &ShardState, id: &MemberId, update: &Update) -> Release {
    let member_epoch = update.member_epoch.unwrap_or_default();
    let mut partitions = Vec::new();
    if let (Some(owned), Some(group)) = (&update.owned, state.group(&update.group)) {
        let heard_of = group.held_by(id).filter(|(_, it)| it.since <= member_epoch);
        let gone = heard_of.filter(|(at, it)| given_up(owned, *at, group.fencing_epoch(it)));
        partitions = gone.map(|(at, it)| (at, group.fencing_epoch(it))).collect();
    }
    Release {
        member: Arc::clone(id),
        member_epoch,
        partitions,
        offsets: update.final_offsets.clone(),
        commit_seq: update.commit_seq,
    }
}

fn given_up(owned: &BTreeMap<TopicPartition, i64>, at: TopicPartition, fence: i64) -> bool {
    owned.get(&at) != Some(&fence)
}

fn verdicts(changed: Changed) -> Vec<Result<(), Failure>> {
    changed.offsets.into_iter().map(|it| it.map_err(|refusal| refused(&refusal))).collect()
}

fn heartbeat(limits: Limits) -> i32 {
    (limits.session_ms / HEARTBEATS_PER_SESSION).clamp(1, LONGEST_HEARTBEAT_MS)
}

fn stranger() -> Failure {
    failure(FailureCode::UnknownMember, "the group has no such member: join it")
}

/// What a member that has left holds.
fn gone() -> Told {
    Told {
        generation: 0,
        reason: crate::state::groups::Reason::Left,
        assigned: Vec::new(),
        limits: Limits { session_ms: 0, processing_ms: 0, drain_ms: 0 },
        heartbeat_ms: 0,
        final_offsets: Vec::new(),
    }
}
