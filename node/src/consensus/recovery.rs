//! Owns an operator's way out when a shard has lost most of its replicas (S11, "two replicas in (c)"): on a node that is
//! stopped, a sound replica's log gets one entry more, which says that the lost ones are no members. What the sound ones
//! have is then all there is. Never acts on its own: whatever only lost replicas had is lost with it, so somebody has to
//! say that this is so; and never on a shard that could still elect a leader by itself.
//!
//! Why an entry and not another start of the shard: a replica that reads its log takes the newest members in it for the
//! members, so the ones that are left elect a leader, and the leader has every lost one replaced (`replacer`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::ids::{NodeId, ReplicaId, ReplicaKey, ShardId, TopicId, TopicPartition};
use waymark_proto::transport::Dial;

use super::machine::load;
use super::membership::{BadMembership, RaftMembership, decode_membership, encode_membership};
use super::network::{Network, NetworkOptions, Question, ReplicaFate};
use super::types::RaftNode;
use super::{ConfiguredNode, Identity};
use crate::mutants;
use crate::state::{EntryAt, ShardState};
use crate::storage::journal::{Journal, JournalError, ShardLog};
use crate::storage::raft_record::{EntryKind, LogEntry, LogId, Vote};
use crate::storage::shard_store::{Store, StoreError};

/// Bytes of the log that are read at a time.
const PAGE: usize = 4 << 20;
/// Terms that only the lost replicas knew are less than this ahead: it would take days of elections that never end. They
/// vote no more, but consumers remember the leader epochs that they saw, and refuse leaders of lower ones.
const TERMS_AHEAD: u64 = 1 << 20;
/// A node that is up answers at once.
const ANSWER_TIME: Duration = Duration::from_secs(5);

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

/// What becomes of a replica that votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is the one here.
    Here,
    /// It may run, and stays a member.
    Sound,
    /// It must never run again, and is no member any more.
    Lost {
        /// Why.
        why: &'static str,
        /// The index of the last entry that it is known to have had.
        last: Option<u64>,
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
        let not_sound = |why: &str| RecoveryError::NotSound { shard, why: why.to_owned() };
        let last = log.last().ok_or_else(|| not_sound("its log is empty"))?;
        let configs: Vec<BTreeSet<ReplicaId>> = membership
            .get_joint_config()
            .iter()
            .map(|it| it.iter().map(|id| id.0).collect())
            .collect();
        let all: BTreeSet<ReplicaId> = configs.iter().flatten().copied().collect();
        if !all.contains(&here) {
            return Err(not_sound("it does not vote"));
        }
        let (nodes, dial) = (ground.nodes.to_vec(), Arc::clone(&ground.dial));
        let network = Network::new(here.node, nodes, dial, ground.network.clone());
        network.set_cluster(ground.identity.cluster);
        let mut voters = BTreeMap::new();
        for replica in all {
            let fate = match replica == here {
                true => Fate::Here,
                false => ask(&network, shard, replica, gone).await?,
            };
            voters.insert(replica, fate);
        }
        let recovery = Self { shard, last, voters, kept: kept(&state), here, log };
        recovery.check_stuck(&configs)?;
        Ok(recovery)
    }

    fn check_stuck(&self, configs: &[BTreeSet<ReplicaId>]) -> Result<(), RecoveryError> {
        let is_sound = |id: &&ReplicaId| !matches!(self.voters.get(id), Some(Fate::Lost { .. }));
        let sound = |config: &BTreeSet<ReplicaId>| config.iter().filter(is_sound).count();
        let elects = configs.iter().all(|config| sound(config) > config.len() / 2);
        if elects && !mutants::planted!("recovers-what-is-well") {
            let (sound, voters) = (self.members().len(), self.voters.len());
            return Err(RecoveryError::HasMajority { shard: self.shard, sound, voters });
        }
        Ok(())
    }

    /// Those that stay.
    fn members(&self) -> BTreeSet<RaftNode> {
        let left = self.voters.iter().filter(|(_, fate)| !matches!(fate, Fate::Lost { .. }));
        left.map(|(id, _)| RaftNode(*id)).collect()
    }

    /// The greatest index that a lost replica is known to have had, where that is beyond what is here.
    #[must_use]
    pub fn lost_up_to(&self) -> Option<u64> {
        let lasts = self.voters.values().filter_map(|fate| match fate {
            Fate::Lost { last, .. } => *last,
            Fate::Here | Fate::Sound => None,
        });
        lasts.max().filter(|index| *index > self.last.index)
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

/// The newest replica of a shard that may run on this disk.
fn newest(ground: &Ground<'_>, shard: ShardId) -> Option<ReplicaKey> {
    let key = ground.journal.keys().into_iter().rfind(|key| key.shard == shard)?;
    (key.incarnation >= ground.identity.floor(shard)).then_some(key)
}

/// Everything that a replica's log says, committed or not: the checkpoint, and each entry behind it.
async fn replay(
    ground: &Ground<'_>,
    key: ReplicaKey,
) -> Result<(ShardState, RaftMembership), RecoveryError> {
    let (shard, log) = (key.shard, ground.journal.shard(key));
    let unreadable = |why: String| RecoveryError::Unreadable { shard, why };
    let store = ground.store.open_shard(key).await?;
    let live = load(shard, &store).map_err(|error| unreadable(error.to_string()))?;
    if let Some(applied) = live.applied {
        log.covered_by(applied).await?;
    }
    if let Some(why) = log.doubt() {
        return Err(RecoveryError::NotSound { shard, why });
    }
    if let Some(hole) = log.holes().first() {
        let why = format!("damage took entries {} to {} of its log", hole.first, hole.last);
        return Err(RecoveryError::NotSound { shard, why });
    }
    let (mut state, mut membership) = (live.state, live.membership.membership().clone());
    let mut next = live.applied.map_or(0, |applied| applied.index + 1);
    let end = log.last().map_or(0, |last| last.index + 1);
    while next < end {
        for LogEntry { id, kind, payload } in log.read(next, end, PAGE).await? {
            if id.index != next {
                return Err(unreadable(format!("it has a hole at index {next}")));
            }
            let at = EntryAt { index: id.index, term: id.term, leader: id.leader };
            match kind {
                EntryKind::Command => drop(state.apply_encoded(at, payload)),
                EntryKind::Blank => drop(state.observe(at)),
                EntryKind::Membership => {
                    let newer = decode_membership(&payload);
                    membership =
                        newer.map_err(|error: BadMembership| unreadable(error.to_string()))?;
                    drop(state.observe(at));
                }
            }
            next += 1;
        }
    }
    Ok((state, membership))
}

fn kept(state: &ShardState) -> Vec<Kept> {
    state.partitions().map(|(at, view)| Kept { at, end: view.next_offset }).collect()
}

/// The topics that the catalog here knows, by id. Without a catalog that can be read topics have no names.
pub async fn topic_names(ground: &Ground<'_>) -> BTreeMap<TopicId, String> {
    let Some(key) = newest(ground, ShardId::CATALOG) else {
        return BTreeMap::new();
    };
    let replayed = replay(ground, key).await.ok();
    let catalog = replayed.as_ref().and_then(|(state, _)| state.catalog());
    let topics = catalog.into_iter().flat_map(|catalog| catalog.topics());
    topics.map(|topic| (topic.id, topic.name.clone())).collect()
}

/// What becomes of a replica on another node.
async fn ask(
    network: &Network,
    shard: ShardId,
    replica: ReplicaId,
    gone: &BTreeSet<NodeId>,
) -> Result<Fate, RecoveryError> {
    let node = replica.node;
    let hello = network.hello(node).await;
    match hello {
        Err(_) if gone.contains(&node) => {
            return Ok(Fate::Lost { why: "its node is gone", last: None });
        }
        Err(error) => return Err(RecoveryError::Unasked { node, why: error.to_string() }),
        Ok(_) if gone.contains(&node) => return Err(RecoveryError::NotGone(node)),
        Ok(answer) if answer.empty => {
            return Ok(Fate::Lost { why: "its disk is lost", last: None });
        }
        Ok(_) => {}
    }
    let key = ReplicaKey { shard, incarnation: replica.incarnation };
    let question = Question { replica: Some(key), ..Question::default() };
    let told = network.survey(node, &question, Instant::now() + ANSWER_TIME).await;
    let told = told.map_err(|error| RecoveryError::Unasked { node, why: error.to_string() })?;
    let why = "it runs a version that does not tell";
    let fate = told.fate.ok_or_else(|| RecoveryError::Unasked { node, why: why.to_owned() })?;
    Ok(fate_of(fate))
}

fn fate_of(ReplicaFate { replaced, doubtful, last_index: last }: ReplicaFate) -> Fate {
    if replaced {
        return Fate::Lost { why: "its disk is lost, or it was replaced", last: None };
    }
    if doubtful {
        return Fate::Lost { why: "its vote or the end of its log is in doubt", last };
    }
    Fate::Sound
}
