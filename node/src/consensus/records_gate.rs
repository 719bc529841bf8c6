//! Owns whether a leader may take records (S19): only while a quorum of the shard's replicas has room for them, as their
//! nodes told with heartbeats, and never while its own disk is below its last mark, since what a follower would refuse a
//! leader must not write itself. Never proposes, and never looks at anything but room.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

use waymark_proto::ids::NodeId;

use super::Consensus;
use super::member::Member;
use super::room::{DiskRoom, Level};
use super::shard::Shard;
use crate::mutants;

/// The disks that are in the way, by node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NoRoom(Vec<(NodeId, Arc<DiskRoom>)>);

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the disks are full")?;
        self.0.iter().try_for_each(|(node, disk)| write!(f, "; node {node} has {disk}"))
    }
}

impl Consensus {
    /// Whether this node, which leads, may take records for a shard.
    ///
    /// # Errors
    /// When too many of the shard's replicas have no room; names them.
    pub fn check_room(&self, shard: &Shard) -> Result<(), NoRoom> {
        let full = full_disks(&self.member);
        if full.is_empty() || mutants::planted!("full-disk-accepted") {
            return Ok(());
        }
        let own = full.get(&self.member.node);
        let voters = shard.voters();
        if own.is_none_or(|disk| disk.level != Level::Nothing)
            && quorum_has_room(&voters, |node| full.contains_key(node))
        {
            return Ok(());
        }
        let is_voter = |node: &NodeId| voters.iter().any(|half| half.contains(node));
        Err(NoRoom(full.into_iter().filter(|(node, _)| is_voter(node)).collect()))
    }

    /// This node's disk, once it was looked at.
    #[must_use]
    pub fn disk_room(&self) -> Option<Arc<DiskRoom>> {
        self.member.disk.borrow().clone()
    }
}

/// Nodes without room for records, this one and others. A node that is silent counts as it said last: whether it takes part
/// is not a question of room.
fn full_disks(member: &Member) -> BTreeMap<NodeId, Arc<DiskRoom>> {
    let is_full = |disk: &Arc<DiskRoom>| disk.level != Level::Records;
    let own = member.disk.borrow().clone().filter(is_full).map(|disk| (member.node, disk));
    let heard = member.heard.lock().unwrap_or_else(PoisonError::into_inner);
    let others = heard.iter().filter_map(|(node, heard)| {
        let disk = heard.vitals.disk.as_ref().filter(|disk| is_full(disk))?;
        Some((*node, Arc::clone(disk)))
    });
    own.into_iter().chain(others).collect()
}

/// Of each set of voters, of which there are two while a membership changes, a majority has room.
fn quorum_has_room(voters: &[Vec<NodeId>], is_full: impl Fn(&NodeId) -> bool) -> bool {
    voters.iter().all(|half| half.iter().filter(|node| !is_full(node)).count() > half.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(voters: &[&[u32]], full: &[u32]) -> bool {
        let set = |half: &&[u32]| half.iter().copied().map(NodeId).collect();
        let voters: Vec<Vec<NodeId>> = voters.iter().map(set).collect();
        quorum_has_room(&voters, |node| full.contains(&node.0))
    }

    #[test]
    fn a_majority_of_the_voters_needs_room() {
        assert!(quorum(&[&[1, 2, 3]], &[]));
        assert!(quorum(&[&[1, 2, 3]], &[1]));
        assert!(!quorum(&[&[1, 2, 3]], &[1, 3]));
        assert!(!quorum(&[&[1]], &[1]));
        assert!(!quorum(&[&[1, 2]], &[2]));
        assert!(quorum(&[&[1, 2, 3]], &[4, 5]), "who holds no replica does not count");
    }

    #[test]
    fn both_sets_of_a_membership_that_changes_need_room() {
        assert!(quorum(&[&[1, 2, 3], &[1, 2, 4]], &[3, 4]));
        assert!(!quorum(&[&[1, 2, 3], &[2, 3, 4]], &[3, 4]));
    }
}
