//! Groups as operators see them: lists, members, events, the ledger, and the changes that only operators make. Owns nothing.

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;

use super::presence::{Presences, millis};
use super::seam::{
    Description, Events, GroupLag, Groups, History, MemberState, Move, Moved, Order, Phase,
    Summary, Told, Update,
};
use super::session::{assigned, count_down};
use crate::broker::refusal::{failure, refused};
use crate::broker::{Broker, Core};
use crate::consensus::Shard;
use crate::state::groups::{
    Actor, ChangeKind, ExpelCause, Group, GroupChange, Member, MemberId, PastOffset,
};
use crate::state::{Refusal, ShardState};

#[async_trait]
impl Groups for Broker {
    async fn update(&self, update: Update, deadline: Instant) -> Result<Told, Failure> {
        self.core.update_member(update, deadline).await
    }

    async fn look(&self, group: &str, member: &str) -> Result<Told, Failure> {
        let shard = self.core.coordinating(group)?;
        self.core.tell(&shard, group, member)
    }

    fn changes(&self, group: &str) -> watch::Receiver<u64> {
        self.core.wakes.group(group)
    }

    fn connected(&self, group: &str, member: &str, begins: bool) {
        let Ok(shard) = self.core.group_shard(group) else { return };
        let mut present = self.core.coordination.present();
        let now = Instant::now();
        let groups = present.entry(shard).or_default();
        // Its end is told to whom knew of its beginning.
        if begins && !groups.contains_key(group) {
            groups.insert(group.to_owned(), Presences::new(now));
        }
        if let Some(group) = groups.get_mut(group) {
            group.connected(member, begins, now);
        }
    }

    fn led(&self) -> Vec<Summary> {
        let led = self.core.consensus.shards().into_iter().filter(|it| it.leadership().ready);
        let mut all: Vec<Summary> = led
            .flat_map(|shard| {
                shard.read(|state| {
                    let each = state.groups().map(|it| self.core.summary(state, it));
                    each.collect::<Vec<_>>()
                })
            })
            .collect();
        all.sort_by(|a, b| a.group.cmp(&b.group));
        all
    }

    async fn describe(&self, group: &str, deadline: Instant) -> Result<Description, Failure> {
        let shard = self.core.fresh(group, deadline).await?;
        self.core.described(&shard, group)
    }

    async fn delete(&self, group: &str, actor: Actor, deadline: Instant) -> Result<(), Failure> {
        let shard = self.core.coordinating(group)?;
        let done = self.core.change_group(&shard, (group, actor), GroupChange::Delete, deadline);
        done.await.map(|_| ())
    }

    async fn remove(
        &self,
        group: &str,
        members: Vec<MemberId>,
        (actor, note): (Actor, String),
        deadline: Instant,
    ) -> Result<(), Failure> {
        let shard = self.core.coordinating(group)?;
        let members = members.into_iter().map(|id| (id, ExpelCause::Operator, 0)).collect();
        let expel = GroupChange::Expel { members, note };
        self.core.change_group(&shard, (group, actor), expel, deadline).await.map(|_| ())
    }

    async fn reset(
        &self,
        group: &str,
        moves: Vec<Move>,
        Order { kind, actor, note, seen }: Order,
        deadline: Instant,
    ) -> Result<Moved, Failure> {
        let shard = self.core.coordinating(group)?;
        // Asked again by the entry itself; a late copy that is known here should not hold retention first.
        let unmoved = shard.read(|state| state.group(group).map(|it| it.check_unmoved(seen)));
        unmoved.unwrap_or(Ok(())).map_err(|refusal| refused(&refusal))?;
        let back: Vec<(TopicPartition, i64)> =
            moves.iter().filter_map(|it| Some((it.at, it.to?))).collect();
        // Retention may be at what the reset goes back to: it is held first, then said what is left (S20).
        let starts = self.core.lower_holds(group, &back, deadline).await;
        let items = moves.into_iter().map(|it| {
            let start = starts.get(&it.at).filter(|_| kind == ChangeKind::Reset);
            (it.at, it.to.map(|to| start.map_or(to, |start| to.max(*start))))
        });
        let items: Vec<(TopicPartition, Option<i64>)> = items.collect();
        let after = items.iter().map(|(_, to)| *to).collect();
        let reset = GroupChange::Reset { items, kind, note, seen };
        let changed = self.core.change_group(&shard, (group, actor), reset, deadline).await?;
        let members = shard.read(|state| state.group(group).map_or(0, |it| it.members.len()));
        Ok(Moved { generation: changed.generation, before: changed.before, after, members })
    }

    async fn past(
        &self,
        group: &str,
        at_ms: i64,
        deadline: Instant,
    ) -> Result<Vec<(TopicPartition, PastOffset)>, Failure> {
        let shard = self.core.fresh(group, deadline).await?;
        let plan = shard.read(|state| Some(state.group(group)?.undo_plan(at_ms)));
        plan.ok_or_else(|| refused(&Refusal::NoGroup))
    }

    async fn lags(&self, groups: &[String], deadline: Instant) -> Vec<Result<GroupLag, Failure>> {
        self.core.confirmed_lags(groups, deadline).await
    }

    fn last_lags(&self) -> Vec<GroupLag> {
        self.core.coordination.last_lags()
    }

    async fn events(
        &self,
        group: &str,
        from: u64,
        limit: usize,
        deadline: Instant,
    ) -> Result<Events, Failure> {
        let shard = self.core.fresh(group, deadline).await?;
        let events = shard.read(|state| {
            let all = state.group(group)?.events.iter();
            let wanted = all.filter(|(number, _)| *number >= from).take(limit);
            Some(wanted.map(|(number, event)| (number, event.clone())).collect())
        });
        events.ok_or_else(|| refused(&Refusal::NoGroup))
    }

    async fn history(
        &self,
        group: &str,
        from: u64,
        limit: usize,
        deadline: Instant,
    ) -> Result<History, Failure> {
        let shard = self.core.fresh(group, deadline).await?;
        let history = shard.read(|state| {
            let ledger = &state.group(group)?.ledger;
            let page = ledger.page(from, limit).into_iter();
            Some((page.map(|(at, fact)| (at, fact.clone())).collect(), ledger.exact_since_ms()))
        });
        history.ok_or_else(|| refused(&Refusal::NoGroup))
    }
}

impl Core {
    /// The group's replica here, with all that was committed before the call.
    async fn fresh(&self, group: &str, deadline: Instant) -> Result<Shard, Failure> {
        let shard = self.coordinating(group)?;
        self.confirm_coordinator(&shard, deadline).await?;
        Ok(shard)
    }

    fn summary(&self, state: &ShardState, (name, group): (&str, &Group)) -> Summary {
        Summary {
            group: name.to_owned(),
            phase: phase(group),
            generation: group.generation,
            members: group.members.len(),
            committed: state.group_offsets(name).count(),
            assignor: group.assignor,
            coordinator: self.node,
        }
    }

    fn described(&self, shard: &Shard, name: &str) -> Result<Description, Failure> {
        let mut described = shard.read(|state| {
            let group = state.group(name).ok_or_else(no_group)?;
            let member = |(id, it): (&MemberId, &Member)| MemberState {
                assigned: assigned(state, (name, group), id),
                ..member_state(id, it)
            };
            let unowned = group.places().filter(|at| !group.holdings.contains_key(at));
            Ok(Description {
                summary: self.summary(state, (name, group)),
                members: group.members.iter().map(member).collect(),
                created_ms: group.created_ms,
                empty_since_ms: group.empty_since_ms,
                expires_ms: group.expires_ms,
                unowned: unowned.collect(),
            })
        })?;
        let present = self.coordination.present();
        if let Some(group) = present.get(&shard.id()).and_then(|it| it.get(name)) {
            let now = Instant::now();
            described.members.iter_mut().for_each(|it| add_presence(it, group, now));
        }
        Ok(described)
    }
}

pub(super) fn no_group() -> Failure {
    let message = "no such group: one begins with its first member or commit";
    failure(FailureCode::GroupNotFound, message)
}

pub(super) fn phase(group: &Group) -> Phase {
    match (group.members.is_empty(), group.is_moving()) {
        (true, _) => Phase::Empty,
        (false, true) => Phase::Moving,
        (false, false) => Phase::Stable,
    }
}

/// What the group's state knows of a member.
fn member_state(id: &MemberId, member: &Member) -> MemberState {
    MemberState {
        member: id.to_string(),
        instance: member.instance.clone().unwrap_or_default(),
        actor: Actor::clone(&member.actor),
        rack: member.rack.clone(),
        subscription: member.subscription.clone(),
        joined_ms: member.joined_ms,
        silent_ms: None,
        working_ms: None,
        limits: member.limits,
        assigned: Vec::new(),
        away: member.away_since_ms.is_some(),
        connected: false,
    }
}

/// What only its coordinator knows of it.
fn add_presence(member: &mut MemberState, presences: &Presences, now: Instant) {
    count_down(&mut member.assigned, presences, now);
    let Some(presence) = presences.get(&member.member) else { return };
    member.silent_ms = presence.spoke.then(|| millis(presence.silent(now)));
    member.working_ms = presence.working(now).map(millis);
    member.connected = presence.is_connected();
}
