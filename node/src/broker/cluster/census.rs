//! Owns what is told of partitions to whoever watches the node: those with a replica here, how the led ones stand, and how
//! many of the cluster have no leader. A look at a shard covers some partitions only, so that apply is never held up for
//! long, however many there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use waymark_proto::ids::{PartitionId, ShardId, TopicId, TopicPartition};

use super::places::ShardPlace;
use crate::broker::logs::Marks;
use crate::broker::{Broker, Core};
use crate::consensus::Shard;
use crate::state::catalog::TopicPhase;

/// Partitions that are looked at under one hold of a shard's state.
const LOOK: usize = 512;

/// A led partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedPartition {
    /// Where it stands.
    pub marks: Marks,
    /// Its replicas.
    pub replicas: usize,
    /// Those that keep up.
    pub in_sync: usize,
}

/// A partition with a replica here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedPartition {
    /// Its topic's name.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: PartitionId,
    /// Bytes of its segments here.
    pub bytes: u64,
    /// How it stands, if this node leads it.
    pub led: Option<LedPartition>,
}

/// Partitions as this node knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// With a replica here.
    pub hosted: Vec<HostedPartition>,
    /// Of the whole cluster, those without a leader that this node knows of.
    pub offline: usize,
    /// The names of all topics.
    pub topics: BTreeMap<TopicId, Arc<str>>,
}

impl Census {
    /// Those that this node leads.
    pub fn led(&self) -> impl Iterator<Item = (&HostedPartition, LedPartition)> {
        self.hosted.iter().filter_map(|it| Some((it, it.led?)))
    }

    /// Those of them that have fewer replicas in sync than they have.
    #[must_use]
    pub fn under_replicated(&self) -> usize {
        self.led().filter(|(_, led)| led.in_sync < led.replicas).count()
    }
}

impl Broker {
    /// Partitions as this node knows them now.
    #[must_use]
    pub fn census(&self) -> Census {
        self.core.census()
    }
}

impl Core {
    fn census(&self) -> Census {
        let mut census = Census::default();
        let mut by_shard: BTreeMap<ShardId, Vec<TopicPartition>> = BTreeMap::new();
        // Before the cluster is formed there is nothing to count.
        let _ = self.catalog(|catalog| {
            for topic in catalog.topics().filter(|it| it.phase != TopicPhase::Deleting) {
                census.topics.insert(topic.id, topic.name.as_str().into());
                for (number, shard) in (0..).zip(&topic.partition_shards) {
                    let at = TopicPartition { topic: topic.id, partition: PartitionId(number) };
                    by_shard.entry(*shard).or_default().push(at);
                }
            }
        });
        let places = self.shard_places();
        for (shard, partitions) in by_shard {
            let place = places.get(&shard);
            if place.is_none_or(|place| place.leader.is_none()) {
                census.offline += partitions.len();
            }
            if let (Some(replica), Some(place)) = (self.consensus.shard(shard), place) {
                count(&replica, place, &partitions, &mut census);
            }
        }
        census
    }
}

fn count(shard: &Shard, place: &ShardPlace, partitions: &[TopicPartition], census: &mut Census) {
    let leads = shard.leadership().ready;
    let (replicas, in_sync) = (place.voters.len(), place.in_sync.len());
    for some in partitions.chunks(LOOK) {
        let marks: Vec<Option<Marks>> = shard.read(|state| {
            let each = some.iter().map(|at| {
                let view = state.partition(*at)?;
                Some(Marks {
                    log_start: view.log_start,
                    high_watermark: view.next_offset,
                    leader_epoch: view.leader_epoch,
                })
            });
            each.collect()
        });
        for (at, marks) in some.iter().zip(marks) {
            // One that is about to be opened, or a topic that left this moment.
            let (Some(marks), Some(topic)) = (marks, census.topics.get(&at.topic)) else {
                continue;
            };
            census.hosted.push(HostedPartition {
                topic: Arc::clone(topic),
                partition: at.partition,
                bytes: shard.store().stored_bytes(*at),
                led: leads.then_some(LedPartition { marks, replicas, in_sync }),
            });
        }
    }
}
