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

use super::presence::{Due, Presences};
use crate::broker::Core;
use crate::consensus::Shard;
use crate::state::groups::{Actor, Group, GroupChange, Member, MemberId, Subscription, TopicFacts};

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
            core.coordination.present().values_mut().for_each(|it| it.begin_again(now));
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

/// What a group knows of its topics, and what its members want to read.
struct Wants {
    group: String,
    generation: i32,
    topics: BTreeMap<TopicId, TopicFacts>,
    members: Vec<(MemberId, Subscription, BTreeSet<TopicId>)>,
}

impl Wants {
    fn of((name, group): (&str, &Group)) -> Self {
        let member = |(id, it): (&MemberId, &Member)| {
            (Arc::clone(id), it.subscription.clone(), it.topics.clone())
        };
        Self {
            group: name.to_owned(),
            generation: group.generation,
            topics: group.topics.clone(),
            members: group.members.iter().map(member).collect(),
        }
    }
}

impl Wants {
    /// Whether a member would no longer read what it reads.
    fn would_lose(&self, change: Option<&GroupChange>) -> bool {
        let Some(GroupChange::Topics { members, .. }) = change else { return false };
        let mut both = self.members.iter().zip(members);
        both.any(|((_, _, before), (_, after))| !before.is_subset(after))
    }
}

/// What subscriptions mean in this look: members of a group mostly have the same one.
type Meanings = BTreeMap<Subscription, BTreeMap<TopicId, TopicFacts>>;

impl Core {
    /// Who coordinates a group anew begins with everybody heard of just now.
    fn forget_groups_led_elsewhere(&self, led: &[Shard]) {
        let now = Instant::now();
        let mut present = self.coordination.present();
        present.retain(|name, it| {
            if it.is_stale(now) {
                return false;
            }
            let shard = self.group_shard(name).ok();
            shard.is_some_and(|shard| led.iter().any(|it| it.id() == shard))
        });
    }

    /// `false`: the shard takes no verdicts just now.
    async fn look_at_members(&self, shard: &Shard) -> bool {
        let now = Instant::now();
        // The process has just woken: whoever is late may have spoken, and was not heard yet.
        if self.coordination.since_beat(now) > LOOK + SLEPT {
            return false;
        }
        let due: Vec<(String, Due)> = {
            let mut present = self.coordination.present();
            shard.read(|state| {
                let busy = state.groups().filter(|(_, group)| !group.members.is_empty());
                let due = busy.map(|(name, group)| {
                    if !present.contains_key(name) {
                        present.insert(name.to_owned(), Presences::new(now));
                    }
                    let due = present.get_mut(name).map(|it| it.due(group, now));
                    (name, due.unwrap_or_default())
                });
                let due = due.filter(|(_, due)| *due != Due::default());
                due.map(|(name, due)| (name.to_owned(), due)).collect()
            })
        };
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
        let busy: Vec<Wants> = shard.read(|state| {
            let busy = state.groups().filter(|(_, group)| !group.members.is_empty());
            busy.map(Wants::of).collect()
        });
        let mut meanings = Meanings::new();
        let mut is_fresh = false;
        for wants in busy {
            let mut change = self.topics_now(&wants, &mut meanings);
            // This node's catalog may be behind what another coordinator saw: nobody loses a topic before that is ruled out.
            if change.is_some() && wants.would_lose(change.as_ref()) && !is_fresh {
                if self.catalog_barrier(Instant::now() + PROPOSAL_TIME).await.is_err() {
                    continue;
                }
                is_fresh = true;
                meanings.clear();
                change = self.topics_now(&wants, &mut meanings);
            }
            if let Some(change) = change
                && !self.verdict(shard, &wants.group, change).await
            {
                return false;
            }
        }
        true
    }

    /// What the members' subscriptions mean by now, if that differs from what the group knows.
    fn topics_now(&self, wants: &Wants, meanings: &mut Meanings) -> Option<GroupChange> {
        let mut topics: BTreeMap<TopicId, TopicFacts> = BTreeMap::new();
        let mut members = Vec::new();
        for (id, subscription, _) in &wants.members {
            if !meanings.contains_key(subscription) {
                meanings.insert(subscription.clone(), self.topics_of(subscription).ok()?);
            }
            let own = meanings.get(subscription)?;
            members.push((Arc::clone(id), own.keys().copied().collect::<BTreeSet<TopicId>>()));
            topics.extend(own.iter().map(|(id, facts)| (*id, facts.clone())));
        }
        for (id, facts) in &mut topics {
            // This node's catalog may be behind what another coordinator saw: partitions are only added.
            let known = wants.topics.get(id).map_or(0, |it| it.partitions);
            facts.partitions = facts.partitions.max(known);
        }
        let known = wants.members.iter().map(|(_, _, topics)| topics);
        let same = topics == wants.topics && members.iter().map(|(_, topics)| topics).eq(known);
        let seen = wants.generation;
        (!same).then_some(GroupChange::Topics { seen, topics, members })
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
