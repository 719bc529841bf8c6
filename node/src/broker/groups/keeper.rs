//! Owns what time and the catalog do to the groups that this node coordinates: members that are silent, stuck or late,
//! topics that come and go, offsets that expire. It looks on its own timer and proposes verdicts; the state applies them,
//! wherever it is led by then. Never throws anybody out for the time that this process itself slept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};
use waymark_proto::failure::RetryClass;
use waymark_proto::ids::{ShardId, TopicId};

use super::presence::{Due, due_in};
use crate::broker::Core;
use crate::consensus::Shard;
use crate::state::ShardState;
use crate::state::groups::{Actor, Group, GroupChange, Holding, Member, Subscription, TopicFacts};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// A look that comes this late: the process slept, or was starved.
const SLEPT: Duration = Duration::from_millis(1_500);
/// Topics are looked at when the catalog changed, and in any case so often.
const TOPICS_LOOK: Duration = Duration::from_secs(5);
/// Offsets that may expire are looked at so often.
const EXPIRY_LOOK: Duration = Duration::from_secs(10);
/// One proposal.
const PROPOSAL_TIME: Duration = Duration::from_secs(5);
/// An expiry is announced at least this long before, or a quarter of the retention if that is less.
const LONGEST_NOTICE: Duration = Duration::from_secs(24 * 3600);

/// Looks after the groups that this node coordinates, for ever.
pub(in crate::broker) async fn keep(core: &Arc<Core>) {
    futures::join!(feel_pauses(core), look(core));
}

/// A process that slept has heard nothing meanwhile, which says nothing about anybody. Nothing else is waited for here, so
/// that whatever is late is a pause.
async fn feel_pauses(core: &Core) {
    loop {
        sleep(LOOK).await;
        let now = Instant::now();
        if core.coordination.beat(now) > LOOK + SLEPT {
            let mut present = core.coordination.present();
            let now = Instant::now();
            let groups = present.values_mut().flat_map(BTreeMap::values_mut);
            groups.for_each(|it| it.begin_again(now));
        }
    }
}

async fn look(core: &Core) {
    let mut catalog = core.wakes.catalog();
    let (mut topics_seen, mut expiry_seen) = (Instant::now(), Instant::now());
    // A shard that does not answer keeps no other waiting: it is left alone until it does.
    let mut running = FuturesUnordered::new();
    let mut busy: BTreeSet<ShardId> = BTreeSet::new();
    loop {
        tokio::select! {
            Some(shard) = running.next(), if !running.is_empty() => {
                busy.remove(&shard);
                continue;
            }
            () = sleep(LOOK) => {}
        }
        let led = led(core);
        core.forget_groups_led_elsewhere(&led);
        let due = Looks {
            topics: catalog.has_changed().unwrap_or(false) || topics_seen.elapsed() > TOPICS_LOOK,
            expiry: expiry_seen.elapsed() > EXPIRY_LOOK,
        };
        if due.topics {
            catalog.mark_unchanged();
            topics_seen = Instant::now();
        }
        if due.expiry {
            expiry_seen = Instant::now();
        }
        for shard in led {
            if busy.insert(shard.id()) {
                running.push(look_at(core, shard, due));
            }
        }
    }
}

/// What is looked at beside members.
#[derive(Debug, Clone, Copy)]
struct Looks {
    topics: bool,
    expiry: bool,
}

async fn look_at(core: &Core, shard: Shard, due: Looks) -> ShardId {
    let (id, members) = (shard.id(), core.look_at_members(&shard).await);
    if members && due.topics && !core.look_at_topics(&shard).await {
        return id;
    }
    if members && due.expiry {
        core.look_at_expiry(&shard).await;
    }
    id
}

fn led(core: &Core) -> Vec<Shard> {
    core.consensus.shards().into_iter().filter(|shard| shard.leadership().ready).collect()
}

/// What subscriptions mean in this look: most members have the same one as others.
type Meanings = BTreeMap<Subscription, BTreeMap<TopicId, TopicFacts>>;

/// What members of a shard want, and in which state of their groups: incarnation and generation.
struct Wants {
    subscriptions: BTreeSet<Subscription>,
    /// Topics that nobody wants any more, and that some member has not given up yet.
    unwanted: BTreeSet<TopicId>,
    seen: BTreeMap<String, (i64, i32)>,
}

/// What has to change in a group because of its topics, and whether a member would no longer read what it reads, or not
/// finish what it is to give up.
struct News {
    group: String,
    change: GroupChange,
    loses: bool,
}

impl Core {
    /// Who coordinates a group anew begins with everybody heard of just now.
    fn forget_groups_led_elsewhere(&self, led: &[Shard]) {
        let now = Instant::now();
        let led: BTreeSet<ShardId> = led.iter().map(Shard::id).collect();
        let mut present = self.coordination.present();
        present.retain(|shard, _| led.contains(shard));
        present.values_mut().for_each(|groups| groups.retain(|_, it| !it.is_stale(now)));
    }

    /// `false`: the shard takes no verdicts just now.
    async fn look_at_members(&self, shard: &Shard) -> bool {
        let now = Instant::now();
        // The process has just woken: whoever is late may have spoken, and was not heard yet.
        if self.coordination.since_beat(now) > LOOK + SLEPT {
            return false;
        }
        let due = shard.read(|state| {
            let mut present = self.coordination.present();
            due_in(present.entry(shard.id()).or_default(), state.groups(), now)
        });
        for (name, Due { expelled, overdue }) in due {
            for (member, cause, took_ms) in &expelled {
                tracing::warn!(group = name, %member, ?cause, took_ms, "member expelled");
            }
            let expel = GroupChange::Expel { members: expelled.clone(), note: String::new() };
            if !expelled.is_empty() && !self.verdict(shard, &name, expel).await {
                return false;
            }
            if !overdue.is_empty() {
                let partitions = overdue.len();
                tracing::warn!(group = name, partitions, "partitions not given up in time");
            }
            let fence = GroupChange::Overdue { partitions: overdue.clone() };
            if !overdue.is_empty() && !self.verdict(shard, &name, fence).await {
                return false;
            }
        }
        true
    }

    /// Whether it was put into the log, or refused by the state: the next one may be.
    async fn verdict(&self, shard: &Shard, group: &str, change: GroupChange) -> bool {
        let deadline = Instant::now() + PROPOSAL_TIME;
        let who = (group, Actor::default());
        match self.change_group(shard, who, change, deadline).await {
            Ok(_) => true,
            Err(failure) => {
                tracing::debug!(group, %failure, "a verdict has to wait");
                failure.code.retry() == RetryClass::Fix
            }
        }
    }

    async fn look_at_topics(&self, shard: &Shard) -> bool {
        let mut news = self.topics_now(shard);
        // This node's catalog may be behind what another coordinator saw: nobody loses a topic before that is ruled out.
        if news.iter().any(|it| it.loses) {
            if self.catalog_barrier(Instant::now() + PROPOSAL_TIME).await.is_ok() {
                news = self.topics_now(shard);
            } else {
                news.retain(|it| !it.loses);
            }
        }
        for News { group, change, .. } in news {
            if !self.verdict(shard, &group, change).await {
                return false;
            }
        }
        true
    }

    /// Groups whose members' subscriptions mean something else by now than what the group knows.
    fn topics_now(&self, shard: &Shard) -> Vec<News> {
        let wants = shard.read(wants);
        let meaning = |it: &Subscription| Some((it.clone(), self.topics_of(it).ok()?));
        let meanings: Meanings = wants.subscriptions.iter().filter_map(meaning).collect();
        let Ok(unwanted) = self.topics_still_there(&wants.unwanted) else { return Vec::new() };
        shard.read(|state| news(state, &wants, (&meanings, &unwanted)))
    }

    /// Offsets of groups without members, where a retention is set: announced first, then removed; then the group too. What
    /// is late because clocks disagree is kept longer (S18).
    async fn look_at_expiry(&self, shard: &Shard) {
        let Some(now_ms) = self.agreed_clock() else { return };
        let retention = self.options.offset_retention.map(|retention| Retention {
            keep_ms: super::presence::millis(retention),
            notice_ms: super::presence::millis(LONGEST_NOTICE.min(retention / 4)),
        });
        let due: Vec<(String, GroupChange)> = shard.read(|state| {
            let empty = state.groups().filter(|(_, group)| group.members.is_empty());
            let due = empty.filter_map(|(name, group)| {
                let last = state.group_offsets(name).map(|(_, it)| it.commit_time_ms).max();
                Some((name.to_owned(), due_expiry(group, last, retention, now_ms)?))
            });
            due.collect()
        });
        for (name, change) in due {
            tracing::warn!(group = name, %change, "a group without members");
            if !self.verdict(shard, &name, change).await {
                return;
            }
        }
    }
}

/// Groups with members.
fn busy(state: &ShardState) -> impl Iterator<Item = (&str, &Group)> {
    state.groups().filter(|(_, group)| !group.members.is_empty())
}

fn subscriptions(group: &Group) -> BTreeSet<&Subscription> {
    group.members.values().map(|it| &it.subscription).collect()
}

/// Topics whose partitions their owners are to give up for nobody.
fn unwanted(group: &Group) -> BTreeSet<TopicId> {
    let for_nobody = |it: &Holding| it.revoke.as_ref().is_some_and(|it| it.to.is_none());
    group.holdings.iter().filter(|(_, it)| for_nobody(it)).map(|(at, _)| at.topic).collect()
}

fn wants(state: &ShardState) -> Wants {
    let subscriptions: BTreeSet<&Subscription> =
        busy(state).flat_map(|(_, it)| subscriptions(it)).collect();
    let seen = busy(state).map(|(name, it)| (name.to_owned(), (it.incarnation, it.generation)));
    Wants {
        subscriptions: subscriptions.into_iter().cloned().collect(),
        unwanted: busy(state).flat_map(|(_, it)| unwanted(it)).collect(),
        seen: seen.collect(),
    }
}

/// What has to change in the groups that are as they were before the catalog was looked at. One that has changed may know
/// of newer topics than that look found; its next look finds them too.
fn news(
    state: &ShardState,
    wants: &Wants,
    known: (&Meanings, &BTreeMap<TopicId, TopicFacts>),
) -> Vec<News> {
    let is_same = |(name, group): &(&str, &Group)| {
        wants.seen.get(*name) == Some(&(group.incarnation, group.generation))
    };
    busy(state).filter(is_same).filter_map(|it| news_of(it, known)).collect()
}

/// What has to change in one group; nothing where a subscription means nothing.
fn news_of(
    (name, group): (&str, &Group),
    (meanings, still_there): (&Meanings, &BTreeMap<TopicId, TopicFacts>),
) -> Option<News> {
    let mut topics: BTreeMap<TopicId, TopicFacts> = BTreeMap::new();
    for subscription in subscriptions(group) {
        let own = meanings.get(subscription)?;
        topics.extend(own.iter().map(|(id, facts)| (*id, facts.clone())));
    }
    let unwanted = unwanted(group);
    for id in &unwanted {
        if let Some(facts) = still_there.get(id) {
            topics.entry(*id).or_insert_with(|| facts.clone());
        }
    }
    for (id, facts) in &mut topics {
        // This node's catalog may be behind what another coordinator saw: partitions are only added.
        let known = group.topics.get(id).map_or(0, |it| it.partitions);
        facts.partitions = facts.partitions.max(known);
    }
    let of = |it: &Member| meanings.get(&it.subscription);
    let is_same = |it: &Member| of(it).is_some_and(|own| own.keys().eq(&it.topics));
    if topics == group.topics && group.members.values().all(is_same) {
        return None;
    }
    let mut loses = unwanted.iter().any(|id| !topics.contains_key(id));
    let mut members = Vec::with_capacity(group.members.len());
    for (id, member) in &group.members {
        let own: BTreeSet<TopicId> = of(member)?.keys().copied().collect();
        loses |= !member.topics.is_subset(&own);
        members.push((Arc::clone(id), own));
    }
    let change = GroupChange::Topics { seen: group.generation, topics, members };
    Some(News { group: name.to_owned(), change, loses })
}

/// How long offsets of a group without members are kept, and how long before their end that is announced.
#[derive(Debug, Clone, Copy)]
struct Retention {
    keep_ms: i64,
    notice_ms: i64,
}

/// What is due for a group without members. A retention that was raised or switched off since an announcement counts.
fn due_expiry(
    group: &Group,
    last_commit_ms: Option<i64>,
    retention: Option<Retention>,
    now_ms: i64,
) -> Option<GroupChange> {
    let withdrawn = GroupChange::AnnounceExpiry { at_ms: None };
    let Some(Retention { keep_ms, notice_ms }) = retention else {
        return group.expires_ms.map(|_| withdrawn);
    };
    let Some(last_commit_ms) = last_commit_ms else {
        // What happened to it, its expiry among that, can be read for as long again.
        let last_event_ms = group.events.iter().next_back().map_or(0, |(_, it)| it.time_ms);
        let idle_since = group.empty_since_ms?.max(last_event_ms);
        let is_old = idle_since.saturating_add(keep_ms) <= now_ms;
        return is_old.then_some(GroupChange::Delete);
    };
    let end_ms = group.empty_since_ms?.max(last_commit_ms).saturating_add(keep_ms);
    let is_near = end_ms.saturating_sub(notice_ms) <= now_ms;
    // The notice is given in full, however late it comes.
    let announced = || {
        let at_ms = Some(end_ms.max(now_ms.saturating_add(notice_ms)));
        GroupChange::AnnounceExpiry { at_ms }
    };
    match group.expires_ms {
        Some(told) if told < end_ms && is_near => Some(announced()),
        Some(told) if told < end_ms => Some(withdrawn),
        Some(told) if told <= now_ms => Some(GroupChange::Expire),
        None if is_near => Some(announced()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use waymark_proto::ids::{NodeId, ReplicaId};

    use super::*;
    use crate::state::groups::{GroupEntry, Join, Limits};
    use crate::state::{Command, EntryAt};

    fn meaning(topics: &[u8]) -> BTreeMap<TopicId, TopicFacts> {
        let facts = |it: &u8| TopicFacts { name: format!("t{it}"), partitions: 1 };
        topics.iter().map(|it| (TopicId([*it; 16]), facts(it))).collect()
    }

    fn pattern() -> Subscription {
        Subscription { names: BTreeSet::new(), pattern: "t.*".to_owned() }
    }

    fn join(state: &mut ShardState, index: u64, member: &str, topics: &[u8]) {
        let join = Join {
            member: member.into(),
            instance: None,
            takes_over: false,
            rack: String::new(),
            subscription: pattern(),
            topics: meaning(topics),
            assignor: None,
            limits: Limits { session_ms: 1, processing_ms: 1, drain_ms: 1 },
        };
        let (group, actor) = ("g".to_owned(), Actor::default());
        let entry = GroupEntry { group, time_ms: 0, actor, change: GroupChange::Join(join) };
        let leader = ReplicaId { node: NodeId(1), incarnation: 1 };
        state.apply(EntryAt { index, term: 1, leader }, Command::Group(entry));
    }

    #[test]
    fn topics_that_come_and_go_are_news_of_the_groups_that_read_them() {
        let mut state = ShardState::new(ShardId(1));
        join(&mut state, 1, "a", &[1]);
        let look = |topics: &[u8]| {
            let meanings = [(pattern(), meaning(topics))].into();
            news(&state, &wants(&state), (&meanings, &BTreeMap::new()))
        };
        assert!(look(&[1]).is_empty());
        let more = look(&[1, 2]);
        assert!(matches!(&*more, [News { loses: false, .. }]));
        let GroupChange::Topics { topics, members, .. } = &more[0].change else { panic!("topics") };
        assert_eq!((topics, members.len()), (&meaning(&[1, 2]), 1));
        assert!(matches!(&*look(&[2]), [News { loses: true, .. }]));
        // A pattern that means nothing takes nothing.
        let nothing = (&Meanings::new(), &BTreeMap::new());
        assert!(news(&state, &wants(&state), nothing).is_empty());
    }

    #[test]
    fn a_member_that_came_while_the_catalog_was_looked_at_loses_no_newer_topic() {
        let mut state = ShardState::new(ShardId(1));
        join(&mut state, 1, "a", &[1]);
        let wants = wants(&state);
        let meanings = [(pattern(), meaning(&[1]))].into();
        join(&mut state, 2, "b", &[1, 2]);
        assert!(news(&state, &wants, (&meanings, &BTreeMap::new())).is_empty());
    }
}
