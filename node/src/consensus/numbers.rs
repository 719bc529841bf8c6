//! Owns what is told of the replicas on this node to whoever watches it: terms, positions, how far followers are. As of
//! now, from what openraft measures; it asks nobody and waits for nothing.

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use waymark_proto::ids::{NodeId, ShardId};

use super::network::{Catching, PullNumbers};
use super::shard::Shard;
use super::{Consensus, standing};

/// Where a replica stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaNumbers {
    /// Its shard.
    pub shard: ShardId,
    /// Its term.
    pub term: u64,
    /// Raft index of the last entry applied; 0 before the first.
    pub applied: u64,
    /// It leads, whether it may serve already or not.
    pub leads: bool,
    /// Leaders that came since the replica was started here.
    pub leader_changes: u64,
    /// Entries that each follower that votes lacks; only where it leads.
    pub lags: Vec<(NodeId, u64)>,
}

/// Bytes that wait for the disks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingBytes {
    /// Of entries that the journal has not synced.
    pub journal: usize,
    /// Of committed batches that are in no segment yet.
    pub segments: usize,
}

impl Consensus {
    /// Replicas of shards led here that took another one's place, since the node started.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.member.replaced.get()
    }

    /// Followers of shards led here that had lost entries which they had acknowledged, since the node started.
    #[must_use]
    pub fn reversions(&self) -> u64 {
        self.member.reversions.get()
    }

    /// Replicas that come instead of others, in the shards led here, and how far they are.
    #[must_use]
    pub fn catching(&self) -> Vec<Catching> {
        standing::catching(&self.member)
    }

    /// Segment bytes between this node and others, since it started.
    #[must_use]
    pub fn pull_numbers(&self) -> &PullNumbers {
        self.member.network.pull_numbers()
    }

    /// Bytes of this node that its disks have not taken yet.
    #[must_use]
    pub fn waiting_bytes(&self) -> WaitingBytes {
        let parts = &self.member.parts;
        let (journal, segments) = (parts.journal.queued_bytes(), parts.store.pending_bytes());
        WaitingBytes { journal, segments }
    }

    /// Where every replica of this node stands, sorted by shard.
    #[must_use]
    pub fn replica_numbers(&self) -> Vec<ReplicaNumbers> {
        self.shards().iter().map(numbers).collect()
    }
}

fn numbers(shard: &Shard) -> ReplicaNumbers {
    let applied = shard.applied_index().unwrap_or(0);
    let followers = shard.progress();
    let metrics = shard.core.raft.metrics();
    let metrics = metrics.borrow_watched();
    let last = metrics.last_log_index.unwrap_or(0);
    let lags = followers
        .into_iter()
        .map(|(id, matched)| (id.node, last.saturating_sub(matched.unwrap_or(0))));
    ReplicaNumbers {
        shard: shard.id(),
        term: metrics.current_term,
        applied,
        leads: metrics.state == ServerState::Leader,
        leader_changes: shard.core.leader_changes.get(),
        lags: lags.collect(),
    }
}
