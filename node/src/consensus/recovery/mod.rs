//! Owns an operator's way out when a shard has lost most of its replicas (S11, "two replicas in (c)"): on a node that is
//! stopped, a sound replica's log gets one entry more, which says that the lost ones are no members. What this replica has
//! is then all there is. Never acts on its own: whatever only lost replicas had is lost with it, so somebody has to say that
//! this is so; never on a shard that could still elect a leader by itself; and never where another sound replica has more.
//!
//! Why an entry and not another start of the shard: a replica that reads its log takes the newest members in it for the
//! members, so the ones that are left elect a leader, and the leader has every lost one replaced (`replacer`).

mod fate;
mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waymark_proto::ids::{NodeId, ReplicaId, ShardId, TopicPartition};
use waymark_proto::transport::Dial;

use self::fate::ask;
use self::replay::{newest, replay};
use super::membership::{RaftMembership, encode_membership};
use super::network::{Network, NetworkOptions};
use super::types::RaftNode;
use super::{ConfiguredNode, Identity};
use crate::mutants;
use crate::state::ShardState;
use crate::storage::journal::{Journal, JournalError, ShardLog};
use crate::storage::raft_record::{EntryKind, LogEntry, LogId, Vote};
use crate::storage::shard_store::{Store, StoreError};

pub use self::fate::Fate;
pub use self::replay::topic_names;

/// Terms that only the lost replicas knew are less than this ahead: it would take days of elections that never end. They
/// vote no more, but consumers remember the leader epochs that they saw, and refuse leaders of lower ones.
const TERMS_AHEAD: u64 = 1 << 20;

/// Why a shard is not to be recovered, or not like this.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// This node has no replica of it.
    #[error("shard {0} has no replica on this node: recover it on a node that has one")]
    NotHere(ShardId),
    /// The replica here is no better than the lost ones.
    #[error(
        "the replica of shard {shard} on this node is not sound ({why}): recover the shard on a node whose replica is"
    )]
    NotSound {
        /// Which shard.
        shard: ShardId,
        /// What is wrong with it.
        why: String,
    },
    /// It needs no recovery.
    #[error(
        "shard {shard} has {sound} sound replicas of {voters}, a majority: start their nodes, and it elects a leader by itself"
    )]
    HasMajority {
        /// Which shard.
        shard: ShardId,
        /// Replicas that are not lost.
        sound: usize,
        /// All that vote.
        voters: usize,
    },
    /// Another sound replica has entries that this one lacks.
    #[error(
        "the replica of shard {shard} on node {node} is sound, too, and has more, up to entry {index} of term {term}: recover \
         the shard on that node"
    )]
    OtherHasMore {
        /// Which shard.
        shard: ShardId,
        /// Where to recover it.
        node: NodeId,
        /// The term of the last entry there.
        term: u64,
        /// Its index.
        index: u64,
    },
    /// Nobody knows whether its replica is lost.
    #[error(
        "node {node} cannot be asked about its replica ({why}): start it, or say with --gone {node} that its disk never comes back"
    )]
    Unasked {
        /// Which node.
        node: NodeId,
        /// What happened.
        why: String,
    },
    /// What was said to be gone is there.
    #[error("node {0} was said to be gone, and it answers: leave out --gone {0}")]
    NotGone(NodeId),
    /// The journal refuses.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk refuses.
    #[error("the members of shard {shard} could not be written: {why}")]
    Unwritten {
        /// Which shard.
        shard: ShardId,
        /// What happened.
        why: String,
    },
    /// An entry of the log says nothing that can be read.
    #[error("the log of shard {shard} cannot be read: {why}")]
    Unreadable {
        /// Which shard.
        shard: ShardId,
        /// What is wrong.
        why: String,
    },
}

/// A partition of the shard, as the replica here has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub at: TopicPartition,
    /// The first offset that it does not have.
    pub end: i64,
}

/// What the node that is to recover a shard stands on. It does not run.
#[derive(Debug)]
pub struct Ground<'a> {
    /// Its mark.
    pub identity: &'a Identity,
    /// Its journal.
    pub journal: &'a Journal,
    /// Its store.
    pub store: &'a Store,
    /// All nodes of the cluster.
    pub nodes: &'a [ConfiguredNode],
    /// The way to them.
    pub dial: Arc<dyn Dial>,
    /// How long that may take.
    pub network: NetworkOptions,
}

/// A shard that lost most of its replicas, looked at and not yet changed.
#[derive(Debug)]
pub struct Recovery {
    /// Which.
    pub shard: ShardId,
    /// The last entry of the replica here: everything up to it is kept.
    pub last: LogId,
    /// All that vote, and what becomes of them.
    pub voters: BTreeMap<ReplicaId, Fate>,
    /// Its partitions here.
    pub kept: Vec<Kept>,
    here: ReplicaId,
    log: ShardLog,
}

impl Recovery {
    /// Looks at the shard here and asks the nodes of its other replicas. Changes nothing.
    ///
    /// # Errors
    /// When it must not be recovered on this node, or not yet.
    pub async fn look(
        ground: &Ground<'_>,
        shard: ShardId,
        gone: &BTreeSet<NodeId>,
    ) -> Result<Self, RecoveryError> {
        let key = newest(ground, shard).ok_or(RecoveryError::NotHere(shard))?;
        let log = ground.journal.shard(key);
        let here = ReplicaId { node: ground.identity.node, incarnation: key.incarnation };
        let (state, membership) = replay(ground, key).await?;
        let last = log.last().ok_or_else(|| not_sound(shard, "its log is empty"))?;
        let configs: Vec<BTreeSet<ReplicaId>> = membership
            .get_joint_config()
            .iter()
            .map(|it| it.iter().map(|id| id.0).collect())
            .collect();
        let all: BTreeSet<ReplicaId> = configs.iter().flatten().copied().collect();
        if !all.contains(&here) {
            return Err(not_sound(shard, "it does not vote"));
        }
        let (nodes, dial) = (ground.nodes.to_vec(), Arc::clone(&ground.dial));
        let network = Network::new(here.node, nodes, dial, ground.network.clone());
        network.set_cluster(ground.identity.cluster);
        let (mut voters, mut unasked) = (BTreeMap::new(), None);
        for replica in all {
            let fate = match replica == here {
                true => Ok(Fate::Here),
                false => ask(&network, shard, replica, gone).await,
            };
            match fate {
                Ok(fate) => drop(voters.insert(replica, fate)),
                Err(error) => drop(unasked.get_or_insert(error)),
            }
        }
        let recovery = Self { shard, last, voters, kept: kept(&state), here, log };
        // Those who answered may be enough.
        recovery.check_stuck(&configs)?;
        if let Some(error) = unasked {
            return Err(error);
        }
        recovery.check_newest()?;
        Ok(recovery)
    }

    fn check_newest(&self) -> Result<(), RecoveryError> {
        let sound = self.voters.iter().filter_map(|(id, fate)| match fate {
            Fate::Sound { last } => Some((last.as_ref()?, id.node)),
            Fate::Here | Fate::Lost { .. } => None,
        });
        let Some((LogId { term, index, .. }, node)) =
            sound.max().filter(|(last, _)| **last > self.last)
        else {
            return Ok(());
        };
        let (shard, term, index) = (self.shard, *term, *index);
        Err(RecoveryError::OtherHasMore { shard, node, term, index })
    }

    fn check_stuck(&self, configs: &[BTreeSet<ReplicaId>]) -> Result<(), RecoveryError> {
        let is_sound =
            |id: &&ReplicaId| matches!(self.voters.get(id), Some(Fate::Here | Fate::Sound { .. }));
        let sound = |config: &BTreeSet<ReplicaId>| config.iter().filter(is_sound).count();
        let elects = configs.iter().all(|config| sound(config) > config.len() / 2);
        if elects && !mutants::planted!("recovers-what-is-well") {
            let all: BTreeSet<&ReplicaId> = configs.iter().flatten().collect();
            let (sound, voters) = (self.members().len(), all.len());
            return Err(RecoveryError::HasMajority { shard: self.shard, sound, voters });
        }
        Ok(())
    }

    /// Those that stay.
    fn members(&self) -> BTreeSet<RaftNode> {
        let left = self.voters.iter().filter(|(_, fate)| !matches!(fate, Fate::Lost { .. }));
        left.map(|(id, _)| RaftNode(*id)).collect()
    }

    /// The greatest index that a lost replica is known to have had, where it had entries that are not here. It may be one
    /// that is here, too, with another entry: then what this log has there was never committed, or what is lost was not.
    #[must_use]
    pub fn lost_up_to(&self) -> Option<u64> {
        let beyond = self.voters.values().filter_map(|fate| match fate {
            Fate::Lost { last, lost_to, .. } => {
                let last = last.filter(|last| *last > self.last).map(|last| last.index);
                last.max(lost_to.filter(|index| *index > self.last.index))
            }
            Fate::Here | Fate::Sound { .. } => None,
        });
        beyond.max()
    }

    /// Makes what is left all there is; durable on return. The node may start then.
    ///
    /// # Errors
    /// When the journal refuses.
    pub async fn go_on(&self) -> Result<(), RecoveryError> {
        let term = self.log.vote().map_or(0, |vote| vote.term).max(self.last.term) + TERMS_AHEAD;
        self.log.save_vote(Vote { term, voted_for: self.here, committed: false }).await?;
        let membership = RaftMembership::new_with_defaults(vec![self.members()], []);
        let entry = LogEntry {
            id: LogId { term, leader: self.here, index: self.last.index + 1 },
            kind: EntryKind::Membership,
            payload: encode_membership(&membership),
        };
        let (done, written) = tokio::sync::oneshot::channel();
        let tell = move |outcome| drop(done.send(outcome));
        self.log.append(vec![entry], Box::new(tell))?;
        let unwritten = |why: String| RecoveryError::Unwritten { shard: self.shard, why };
        let outcome = written.await.map_err(|error| unwritten(error.to_string()))?;
        outcome.map_err(|error| unwritten(error.to_string()))
    }
}

fn not_sound(shard: ShardId, why: &str) -> RecoveryError {
    RecoveryError::NotSound { shard, why: why.to_owned() }
}

fn kept(state: &ShardState) -> Vec<Kept> {
    state.partitions().map(|(at, view)| Kept { at, end: view.next_offset }).collect()
}
