//! Owns what this node says of damage that is not repaired: to whoever asks whether the cluster is well. Never repairs.

use std::sync::PoisonError;

use waymark_proto::ids::ShardId;

use super::Consensus;
use super::log_mend;
use super::member::Member;
use super::network::Trouble;
use crate::storage::shard_store::DamagedRange;

/// More than these are not told one by one.
const MOST: usize = 32;

impl Consensus {
    /// What is wrong with replicas of this node.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        troubles(&self.member)
    }
}

/// What is wrong with replicas of this node.
pub(super) fn troubles(member: &Member) -> Vec<Trouble> {
    let passes = |(shard, what): (ShardId, String)| Trouble { shard, what, never_runs: false };
    let waiting = member.waiting.borrow().clone();
    let mut troubles: Vec<Trouble> = waiting.into_iter().map(passes).collect();
    for shard in member.all_shards() {
        let damaged = shard.store().damaged();
        troubles.extend(damaged.iter().map(|range| passes((shard.id(), describe(range)))));
    }
    troubles.extend(log_mend::troubles(member));
    let reverted = member.reverted.lock().unwrap_or_else(PoisonError::into_inner);
    troubles.extend(reverted.iter().map(|(shard, replica)| {
        let what = format!(
            "it has seen replica {replica} lose entries which that had acknowledged; it is replaced once the shard has a majority \
             without it"
        );
        passes((*shard, what))
    }));
    drop(reverted);
    troubles.extend(member.network.lacking().into_iter().map(|(shard, bytes)| {
        passes((shard, format!("it pulls segments from its peers, {bytes} bytes are left")))
    }));
    troubles.truncate(MOST);
    troubles
}

fn describe(range: &DamagedRange) -> String {
    let DamagedRange { at, path, from_byte, to_byte, offsets: (from, to), what, .. } = range;
    format!(
        "offsets {from} to {to} of partition {at} are damaged and refused until a peer has given them again: bytes \
         {from_byte} to {to_byte} of {path}, {what}"
    )
}
