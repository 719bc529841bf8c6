//! Owns what this node says of the shards that it leads: who keeps up, and where their partitions stand. As of now, from
//! what is applied and what openraft measures; it asks nobody.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_proto::ids::{
    NodeId, PartitionId, ReplicaId, ReplicaKey, ShardId, TopicId, TopicPartition,
};

use super::member::Member;
use super::network::{Catching, LedShard, Question, ReplicaFate, Stand, Survey};
use super::shard::Shard;
use super::troubles::troubles;

/// Replicas that lag by fewer entries than this are in sync: what is on the way while records flow.
const IN_SYNC: u64 = 256;
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Answers a peer, or this node itself.
pub(super) async fn answer(member: &Member, question: &Question, deadline: Instant) -> Survey {
    if let Some(index) = question.catalog {
        await_catalog(member, index, deadline).await;
    }
    let stands = question.topics.iter().flat_map(|topic| stands(member, *topic)).collect();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let (troubles, catching) = (troubles(member), catching(member));
    let fate = question.replica.and_then(|key| fate(member, key));
    Survey { version, led: led(member), stands, troubles, catching, fate }
}

/// A peer that just committed something waits here for the moment that the news needs to arrive.
async fn await_catalog(member: &Member, index: u64, deadline: Instant) {
    let seen = || member.shard(ShardId::CATALOG).and_then(|it| it.applied_index());
    while seen() < Some(index) && Instant::now() < deadline {
        sleep(LOOK_AGAIN).await;
    }
}

/// Whether a replica of this node may run, whether it does or not. Of one with damage that its start has not looked at yet
/// nothing is said: a checkpoint may cover what was lost. None covers a log of which the journal has nothing left.
fn fate(member: &Member, key: ReplicaKey) -> Option<ReplicaFate> {
    let journal = &member.parts.journal;
    let log = journal.shard(key);
    let replaced = key.incarnation < member.floor(key.shard);
    let in_doubt = log.doubt().is_some();
    let doubtful = member.is_doubtful(key) || (in_doubt && !journal.keys().contains(&key));
    let is_judged = replaced || doubtful || !in_doubt;
    let fate = ReplicaFate { replaced, doubtful, last: log.last(), lost_to: log.lost_end() };
    is_judged.then_some(fate)
}

/// The shards that this node leads and serves.
pub(super) fn led(member: &Member) -> Vec<LedShard> {
    let ready = member.all_shards().into_iter().filter(|shard| shard.leadership().ready);
    ready.map(|shard| led_shard(&shard)).collect()
}

fn led_shard(shard: &Shard) -> LedShard {
    let applied = shard.applied_index().unwrap_or(0);
    let close = |matched: Option<u64>| matched.is_some_and(|it| it + IN_SYNC >= applied);
    let followers = shard.progress().into_iter().filter(|(_, matched)| close(*matched));
    let mut in_sync: Vec<NodeId> = followers.map(|(id, _)| id.node).collect();
    in_sync.push(shard.replica().node);
    in_sync.sort_unstable();
    LedShard { shard: shard.id(), term: shard.leadership().term, in_sync }
}

/// How far the replicas are that come instead of others, in the shards that this node leads.
pub(super) fn catching(member: &Member) -> Vec<Catching> {
    let Some(shard0) = member.shard(ShardId::CATALOG) else { return Vec::new() };
    let swaps: Vec<_> =
        shard0.read(|state| state.catalog().into_iter().flat_map(|it| it.swaps()).collect());
    let each = swaps.into_iter().filter_map(|(shard, node, swap)| {
        let led = member.shard(shard).filter(|it| it.leadership().ready)?;
        let (matched, last) = led.behind(ReplicaId { node, incarnation: swap.new });
        Some(Catching { shard, node, matched: matched.unwrap_or(0), last })
    });
    each.collect()
}

/// Where the partitions of a topic stand that this node leads.
fn stands(member: &Member, topic: TopicId) -> Vec<Stand> {
    let hosting = member.shard(ShardId::CATALOG).and_then(|shard0| {
        shard0.read(|state| state.catalog()?.topic(topic).map(|it| it.by_shard()))
    });
    let here = hosting.into_iter().flatten().filter_map(|(shard, numbers)| {
        let shard = member.shard(shard).filter(|it| it.leadership().ready)?;
        Some(numbers.into_iter().filter_map(move |number| {
            stand(&shard, TopicPartition { topic, partition: PartitionId(number) })
        }))
    });
    here.flatten().collect()
}

fn stand(shard: &Shard, at: TopicPartition) -> Option<Stand> {
    let marks = |view: crate::state::PartitionView<'_>| Stand {
        at,
        leader_epoch: view.leader_epoch,
        log_start: view.log_start,
        high_watermark: view.next_offset,
        bytes: 0,
    };
    let stand = shard.read(|state| state.partition(at).map(marks))?;
    Some(Stand { bytes: shard.store().stored_bytes(at), ..stand })
}
