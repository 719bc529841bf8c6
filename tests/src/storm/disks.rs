//! Owns what a storm does to whole disks: they are spoiled and repaired, lie, and are lost. Never decides when.

use std::time::Duration;

use super::deeds::{Deed, NEXT_RESTART, World};
use crate::cluster::Cluster;
use crate::subject::DiskCondition;

/// As in a batch's table.
pub(crate) const LIES_LOST: &str = "lies-lost";

/// How often a moment is looked for in which a disk may lose what it lies about, and how soon again.
const LOOKS: u32 = 300;
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl World {
    pub(super) fn spoil(
        &mut self,
        node: u32,
        cluster: &mut Cluster,
        condition: DiskCondition,
    ) -> Option<Deed> {
        if self.disks.contains_key(&node) {
            return None;
        }
        self.disks.insert(node, condition);
        cluster.set_disk(node, condition);
        Some(Deed::Disk { node, condition })
    }

    /// Whether a node may lose what it has: all have everything, or nearly, on disks that are well and on which nothing has
    /// rotted that is not repaired. Two copies of three would be gone, or a shard could not go on from what is left of them.
    pub(super) fn may_lose(&self) -> bool {
        self.down.is_empty()
            && self.disks.is_empty()
            && self.subject.is_whole()
            && !self.subject.has_rot()
    }

    /// Whether a node lost what it had, and does not have it back.
    pub(super) fn misses_a_copy(&self) -> bool {
        self.lost.is_some() && !self.subject.is_whole()
    }

    /// What one disk alone has may go with it, so every other replica must have it, on a disk that tells the truth.
    pub(super) fn lose_disk(&mut self, node: u32, cluster: &mut Cluster) -> Option<Deed> {
        if !self.may_lose() {
            return None;
        }
        self.take_down(&[node], cluster, true);
        cluster.lose_disk(node);
        self.lost = Some(node);
        Some(Deed::Down(vec![node]))
    }

    /// A disk begins to lie, while every other tells the truth and has everything.
    pub(super) fn deceive(&mut self, node: u32, cluster: &mut Cluster) -> Option<Deed> {
        self.may_lose().then(|| self.spoil(node, cluster, DiskCondition::Lies))??;
        Some(Deed::Lies { node, looks: LOOKS })
    }

    /// It has lied: it loses what it lied about, if all others have that; or else that comes to the disk late.
    pub(super) fn lose_lies(
        &mut self,
        (node, looks): (u32, u32),
        cluster: &mut Cluster,
    ) -> Option<(Duration, Deed)> {
        let is_quiet = self.down.is_empty() && !self.subject.has_rot();
        let loses = is_quiet && self.subject.expose_lies(node);
        if !loses && looks > 0 {
            return Some((LOOK_AGAIN, Deed::Lies { node, looks: looks - 1 }));
        }
        self.disks.remove(&node);
        if loses {
            tracing::info!(node, "what its disk lied about is lost");
            self.take_down(&[node], cluster, true);
            self.lost = Some(node);
            self.tally.count(LIES_LOST);
        }
        cluster.set_disk(node, DiskCondition::Healthy);
        loses.then_some((NEXT_RESTART, Deed::Down(vec![node])))
    }

    pub(super) fn repair(&mut self, node: u32, condition: DiskCondition, cluster: &mut Cluster) {
        self.disks.remove(&node);
        cluster.set_disk(node, DiskCondition::Healthy);
        // It goes on if it could; who could not has ended, now or soon. Of those that fail whatever they do, the next life
        // begins on a disk that works, whether they stopped or met no failure in this time.
        if matches!(condition, DiskCondition::WritesFail | DiskCondition::SyncsFail) {
            self.renew(node, cluster);
        }
    }

    pub(super) fn renew(&mut self, node: u32, cluster: &mut Cluster) {
        self.take_down(&[node], cluster, false);
        self.bring_up(node, cluster);
    }
}
