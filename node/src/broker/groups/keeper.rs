//! Owns what time and the catalog do to the groups that this node coordinates: members that are silent, stuck or late,
//! topics that come and go, offsets that expire. It looks on its own timer and proposes verdicts; the state applies them,
//! wherever it is led by then. Never throws anybody out for the time that this process itself slept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use waymark_proto::ids::TopicId;

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
    let mut catalog = core.wakes.catalog();
    let (mut topics_seen, mut expiry_seen) = (Instant::now(), Instant::now());
    loop {
        let asleep = Instant::now();
        sleep(LOOK).await;
        let now = Instant::now();
        // Only the sleep is measured: a proposal that takes long says nothing about what this process has heard.
        if now.saturating_duration_since(asleep) > LOOK + SLEPT {
            core.coordination.present().values_mut().for_each(|it| it.begin_again(now));
        }
        let led = led(core);
        core.forget_groups_led_elsewhere(&led);
        let topics_due =
            catalog.has_changed().unwrap_or(false) || topics_seen.elapsed() > TOPICS_LOOK;
        if topics_due {
            catalog.mark_unchanged();
            topics_seen = now;
        }
        let expiry_due = expiry_seen.elapsed() > EXPIRY_LOOK;
        if expiry_due {
            expiry_seen = now;
        }
        // All at once: a shard without a quorum must not keep the others waiting.
        let looks = led.iter().map(|shard| async move {
            core.look_at_members(shard, now).await;
            if topics_due {
                core.look_at_topics(shard).await;
            }
            if expiry_due {
                core.look_at_expiry(shard).await;
            }
        });
        join_all(looks).await;
    }
}

/// What a group knows of its topics, and what its members want to read.
struct Wants {
    group: String,
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
            topics: group.topics.clone(),
            members: group.members.iter().map(member).collect(),
        }
    }
}

/// What subscriptions mean in this look: members of a group mostly have the same one.
type Meanings = BTreeMap<Subscription, BTreeMap<TopicId, TopicFacts>>;

fn led(core: &Core) -> Vec<Shard> {
    core.consensus.shards().into_iter().filter(|shard| shard.leadership().ready).collect()
}

impl Core {
    /// Who coordinates a group anew begins with everybody heard of just now.
    fn forget_groups_led_elsewhere(&self, led: &[Shard]) {
        let mut present = self.coordination.present();
        present.retain(|name, _| {
            let shard = self.group_shard(name).ok();
            shard.is_some_and(|shard| led.iter().any(|it| it.id() == shard))
        });
    }

    async fn look_at_members(&self, shard: &Shard, now: Instant) {
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
            if !expelled.is_empty() {
                for (member, cause, took_ms) in &expelled {
                    tracing::warn!(group = name, %member, ?cause, took_ms, "member expelled");
                }
                let expel = GroupChange::Expel { members: expelled, note: String::new() };
                self.verdict(shard, &name, expel).await;
            }
            if !overdue.is_empty() {
                let partitions = overdue.len();
                tracing::warn!(group = name, partitions, "partitions not given up in time");
                self.verdict(shard, &name, GroupChange::Overdue { partitions: overdue }).await;
            }
        }
    }

    async fn verdict(&self, shard: &Shard, group: &str, change: GroupChange) {
        let deadline = Instant::now() + PROPOSAL_TIME;
        let who = (group, Actor::default());
        if let Err(failure) = self.change_group(shard, who, change, deadline).await {
            tracing::debug!(group, %failure, "a verdict has to wait");
        }
    }

    async fn look_at_topics(&self, shard: &Shard) {
        let busy: Vec<Wants> = shard.read(|state| {
            let busy = state.groups().filter(|(_, group)| !group.members.is_empty());
            busy.map(Wants::of).collect()
        });
        let mut meanings = Meanings::new();
        for wants in busy {
            if let Some(change) = self.topics_now(&wants, &mut meanings) {
                self.verdict(shard, &wants.group, change).await;
            }
        }
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
        (!same).then_some(GroupChange::Topics { topics, members })
    }

    /// Offsets of groups without members, where a retention is set: announced first, then removed. What is late because
    /// clocks disagree is kept longer (S18).
    async fn look_at_expiry(&self, shard: &Shard) {
        let Some(retention) = self.options.offset_retention else { return };
        let Some(now_ms) = self.agreed_clock() else { return };
        let retention_ms = super::presence::millis(retention);
        let notice_ms = super::presence::millis(LONGEST_NOTICE.min(retention / 4));
        let due: Vec<(String, GroupChange)> = shard.read(|state| {
            let idle = state.groups().filter_map(|(name, group)| {
                let empty = group.empty_since_ms?;
                let last = state.group_offsets(name).map(|(_, it)| it.commit_time_ms).max()?;
                Some((name, group, empty.max(last).saturating_add(retention_ms)))
            });
            let due = idle.filter_map(|(name, group, at_ms)| {
                let change = match group.expires_ms {
                    Some(told) if told <= now_ms => GroupChange::Expire,
                    // The notice is given in full, however late it comes.
                    None if at_ms.saturating_sub(notice_ms) <= now_ms => {
                        let at_ms = Some(at_ms.max(now_ms.saturating_add(notice_ms)));
                        GroupChange::AnnounceExpiry { at_ms }
                    }
                    _ => return None,
                };
                Some((name.to_owned(), change))
            });
            due.collect()
        });
        for (name, change) in due {
            tracing::warn!(group = name, %change, "offsets of a group without members");
            self.verdict(shard, &name, change).await;
        }
    }
}
