//! Owns the leader's part in replacing a replica (S10, S11): the new one joins as a learner, catches up, and takes the old
//! one's place among the voters in one joint change; then the catalog hears of it. What is done shows in the shard's
//! members alone, so whoever leads later goes on from there. Never gives out an id: the catalog does.
//!
//! A learner becomes a voter only once it has what its leader had a moment ago, and only while a majority of the voters is
//! as far and not to be replaced itself: a second loss must not find a quorum of replicas that have nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::Precondition;
use openraft::{ChangeMembers, EmptyNode, ServerState};
use tokio::time::{Instant, sleep, timeout};
use waymark_proto::ids::{NodeId, ReplicaId, ShardId};

use super::member::Member;
use super::propose;
use super::shard::Shard;
use super::types::{LogId, RaftNode};
use crate::mutants;
use crate::reached::reached;
use crate::state::catalog::Swap;
use crate::state::{CatalogCommand, Command};

/// Between two looks at the replicas that are being replaced: a few elections' worth, so that it is hardly noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A change of members waits for a quorum for ever; whoever leads then finds it done or not.
const CHANGE_TIME: Duration = Duration::from_secs(5);
/// What is wrong with a swap that waits is told this often.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// The last entry of a leader a moment ago: who has it now, keeps up.
#[derive(Debug, Clone, Copy)]
struct Round {
    goal: u64,
    since: Instant,
}

/// What one look leaves for the next; only of shards led here.
#[derive(Debug)]
struct Course {
    round: Round,
    told: Option<Instant>,
}

/// The members of a shard as its leader sees them.
struct Members {
    /// Of the last configuration, towards which a joint one goes.
    voters: BTreeSet<RaftNode>,
    all: BTreeSet<RaftNode>,
    is_joint: bool,
    /// Committed, as applied here: nothing before it comes back.
    is_settled: bool,
    at: Option<LogId>,
    last: u64,
    matched: BTreeMap<RaftNode, u64>,
}

/// Goes on with every replica that is being replaced, in the shards led here, for ever.
pub(super) async fn replace(member: &Arc<Member>) {
    let mut courses: BTreeMap<(ShardId, ReplicaId), Course> = BTreeMap::new();
    loop {
        sleep(LOOK_AGAIN).await;
        let mut due: BTreeMap<ShardId, Vec<(NodeId, Swap)>> = BTreeMap::new();
        for (shard, node, swap) in swaps(member) {
            due.entry(shard).or_default().push((node, swap));
        }
        let mut kept = BTreeMap::new();
        let mut steps = Vec::new();
        for (id, swaps) in due {
            let Some(shard) = member.shard(id).filter(|it| it.leadership().ready) else { continue };
            let replaced: BTreeSet<NodeId> = swaps.iter().map(|(node, _)| *node).collect();
            let mut own = Vec::new();
            for (node, swap) in swaps {
                let new = ReplicaId { node, incarnation: swap.new };
                let course = courses.remove(&(id, new)).unwrap_or_else(|| Course::begin(&shard));
                own.push((new, course));
            }
            steps.push(take_steps(member, shard, replaced, own));
        }
        for (shard, own) in join_all(steps).await {
            kept.extend(own.into_iter().map(|(new, course)| ((shard, new), course)));
        }
        courses = kept;
    }
}

fn swaps(member: &Member) -> Vec<(ShardId, NodeId, Swap)> {
    let Some(shard0) = member.shard(ShardId::CATALOG) else { return Vec::new() };
    shard0.read(|state| state.catalog().into_iter().flat_map(|it| it.swaps()).collect())
}

/// One after the other: a shard's members change one at a time.
async fn take_steps(
    member: &Member,
    shard: Shard,
    replaced: BTreeSet<NodeId>,
    mut own: Vec<(ReplicaId, Course)>,
) -> (ShardId, Vec<(ReplicaId, Course)>) {
    for (new, course) in &mut own {
        if let Err(reason) = step(member, &shard, &replaced, (*new, course)).await {
            course.tell(&shard, *new, &reason);
        }
    }
    (shard.id(), own)
}

impl Course {
    fn begin(shard: &Shard) -> Self {
        let goal = shard.behind(shard.replica()).1;
        Self { round: Round { goal, since: Instant::now() }, told: None }
    }

    /// What its leader had at most so long ago, if the replica has it.
    fn keeps_up(&mut self, matched: u64, last: u64, within: Duration) -> Option<u64> {
        let Round { goal, since } = self.round;
        if matched < goal {
            return None;
        }
        self.round = Round { goal: last, since: Instant::now() };
        (since.elapsed() <= within).then_some(goal)
    }

    fn tell(&mut self, shard: &Shard, new: ReplicaId, reason: &str) {
        if self.told.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
            self.told = Some(Instant::now());
            tracing::info!(shard = %shard.id(), replica = %new, reason, "a replica is being replaced");
        }
    }
}

/// The next step of one swap. Err: why there is none yet.
async fn step(
    member: &Member,
    shard: &Shard,
    replaced: &BTreeSet<NodeId>,
    (new, course): (ReplicaId, &mut Course),
) -> Result<(), String> {
    let Some(members) = Members::of(shard) else { return Ok(()) };
    let id = RaftNode(new);
    let others: BTreeSet<RaftNode> =
        members.all.iter().copied().filter(|it| it.0.node == new.node && *it != id).collect();
    if others.iter().any(|it| it.0.incarnation > new.incarnation) {
        return Err("this node does not know the newest incarnation yet".to_owned());
    }
    if shard.replica().node == new.node && shard.replica() != new {
        return Err("it leads itself, under an id that is to be replaced".to_owned());
    }
    if !members.is_settled {
        return Err("the last change of its shard's members is not committed yet".to_owned());
    }
    if members.is_joint {
        return change(shard, members.voters.clone(), &members).await;
    }
    if members.voters.contains(&id) && others.is_empty() {
        return finish(member, shard, new).await;
    }
    let leftover: BTreeSet<RaftNode> = others.difference(&members.voters).copied().collect();
    if !leftover.is_empty() {
        return change(shard, ChangeMembers::RemoveNodes(leftover), &members).await;
    }
    if !members.all.contains(&id) {
        let added = shard.core.raft.add_learner(id, EmptyNode {}, false);
        settled(timeout(CHANGE_TIME, added).await)?;
        tracing::info!(shard = %shard.id(), replica = %new, "a learner joins, to take the place of a lost replica");
        *course = Course::begin(shard);
        return Ok(());
    }
    let within = member.options.election_max * 2;
    let matched = members.matched.get(&id).copied();
    let level = matched.and_then(|matched| course.keeps_up(matched, members.last, within));
    let level = level.or_else(|| mutants::planted!("swap-before-caught-up").then_some(0));
    let Some(level) = level else {
        let matched = matched.unwrap_or(0);
        return Err(format!("the learner has {matched} of {} entries", members.last));
    };
    let sound = members.sound(shard.replica(), level, replaced);
    let needed = members.voters.len() / 2 + 1;
    if sound < needed {
        return Err(format!("only {sound} voters are sound and keep up, and {needed} must"));
    }
    let kept = members.voters.difference(&others).copied();
    change(shard, kept.chain([id]).collect::<BTreeSet<_>>(), &members).await
}

/// The shard's members are as the catalog wants them, and now it hears of it.
async fn finish(member: &Member, shard: &Shard, new: ReplicaId) -> Result<(), String> {
    let command = CatalogCommand::ReplicaReplaced { shard: shard.id(), replica: new };
    let deadline = Instant::now() + CHANGE_TIME;
    let command = Command::Catalog(command).encode();
    let told = propose::anywhere(member, ShardId::CATALOG, &command, deadline).await;
    told.map_err(|error| error.to_string())?;
    reached!("replica-replaced");
    member.replaced.one();
    tracing::info!(shard = %shard.id(), replica = %new, "a replica has taken the place of the one that was lost");
    Ok(())
}

/// Changes the members, unless they changed since they were looked at.
async fn change(
    shard: &Shard,
    to: impl Into<ChangeMembers<RaftNode, EmptyNode>>,
    seen: &Members,
) -> Result<(), String> {
    let guard = [Precondition::LastMembershipLogId { last_membership_log_id: seen.at }];
    let changed = shard.core.raft.change_membership_if(to, false, guard);
    settled(timeout(CHANGE_TIME, changed).await)
}

fn settled<T, E: std::fmt::Display>(
    changed: Result<Result<T, E>, tokio::time::error::Elapsed>,
) -> Result<(), String> {
    match changed {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no quorum has taken the change yet".to_owned()),
    }
}

impl Members {
    /// Nothing, where this node does not lead.
    fn of(shard: &Shard) -> Option<Self> {
        let metrics = shard.core.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let stored = &metrics.membership_config;
        let configs = stored.membership().get_joint_config();
        let matched = metrics.replication.iter().flatten();
        Some(Self {
            voters: configs.last()?.clone(),
            all: stored.membership().nodes().map(|(id, _)| *id).collect(),
            is_joint: configs.len() > 1,
            is_settled: shard.core.applied.look().membership.log_id() == stored.log_id(),
            at: *stored.log_id(),
            last: metrics.last_log_index.unwrap_or(0),
            matched: matched.filter_map(|(id, at)| Some((*id, at.as_ref()?.index))).collect(),
        })
    }

    /// Voters that have this entry and are not to be replaced; the leader, `own`, has it.
    fn sound(&self, own: ReplicaId, goal: u64, replaced: &BTreeSet<NodeId>) -> usize {
        let has = |id: &RaftNode| self.matched.get(id).is_some_and(|it| *it >= goal);
        let sound = |id: &&RaftNode| id.0 == own || (has(id) && !replaced.contains(&id.0.node));
        self.voters.iter().filter(sound).count()
    }
}
