//! Owns what is told of a replica's log and vote to whoever looks at all replicas and disks at once: where they stand, and what
//! Raft was told to be on this disk. As of now; it asks nobody and decides nothing.

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use waymark_proto::ids::ReplicaId;

use super::Consensus;
use super::shard::Shard;
use super::types::{from_raft_log_id, from_raft_vote};
use crate::storage::journal::ShardLog;
use crate::storage::raft_record::{LogId, Vote};

/// Where a replica's log and vote stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStand {
    /// The last entry applied.
    pub applied: Option<LogId>,
    /// The last entry of the log, on disk or not, or the purge mark.
    pub last: Option<LogId>,
    /// The last entry purged.
    pub purged: Option<LogId>,
    /// The greatest vote, on disk or not.
    pub vote: Option<Vote>,
    /// The greatest vote that the journal holds as durable.
    pub durable_vote: Option<Vote>,
    /// The vote that Raft believes to be durable.
    pub believed_vote: Vote,
    /// It leads, whether it may serve already or not.
    pub leads: bool,
    /// Where it leads: up to where it believes each replica, itself included, to have the log on disk.
    pub believed: Vec<(ReplicaId, LogId)>,
}

impl Consensus {
    /// Each file of this node's journal with how many of its first bytes are durable.
    #[must_use]
    pub fn durable_bytes(&self) -> Vec<(String, u64)> {
        self.member.parts.journal.durable_bytes()
    }
}

impl Shard {
    /// Where its log and vote stand.
    #[must_use]
    pub fn log_stand(&self) -> LogStand {
        let log = self.log();
        let metrics = self.core.raft.metrics();
        let metrics = metrics.borrow_watched();
        let (vote, believed_vote) = (log.vote(), from_raft_vote(metrics.vote));
        // Once it has voted again, its metrics still tell of the leadership before, when its log may be cut already.
        let is_of_now = vote.is_none_or(|vote| vote.rank() <= believed_vote.rank());
        let held = metrics.replication.iter().flatten().filter(|_| is_of_now);
        let held = held.filter_map(|(id, matched)| Some((id.0, from_raft_log_id((*matched)?))));
        LogStand {
            applied: self.core.applied.look().applied,
            last: log.last(),
            purged: log.last_purged(),
            vote,
            durable_vote: log.durable_vote(),
            believed_vote,
            leads: is_of_now && metrics.state == ServerState::Leader,
            believed: held.collect(),
        }
    }

    /// The id of the entry at an index of its log, the purge mark's own index included.
    #[must_use]
    pub fn entry_id(&self, index: u64) -> Option<LogId> {
        self.log().id_at(index)
    }

    /// Whether its journal holds an entry as durable, or has purged it.
    #[must_use]
    pub fn has_on_disk(&self, id: LogId) -> bool {
        self.log().is_durable(id)
    }

    fn log(&self) -> ShardLog {
        self.core.applied.journal.shard(self.core.applied.key())
    }
}
