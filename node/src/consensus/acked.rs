//! What a leader says of a command that it has just called done, told at trace level, so that a test can hold it against
//! the disks at that moment (S21). Never decides anything, and costs nothing where nobody listens.

use waymark_proto::ids::ShardId;

use crate::storage::raft_record::LogId;

/// The target of these events.
pub const TARGET: &str = "acked";

/// So many replicas are told to have an entry on disk.
pub fn acked(shard: ShardId, at: LogId, replicas: u32) {
    let (term, index) = (at.term, at.index);
    let (node, incarnation) = (at.leader.node.0, at.leader.incarnation);
    tracing::trace!(target: TARGET, shard = shard.0, term, node, incarnation, index, replicas);
}
