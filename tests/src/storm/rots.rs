//! Owns what rots in a storm: records, what a restart begins with, and journals, each counted by its kind. Never decides when.

use rand::Rng;
use rand::rngs::SmallRng;

use super::deeds::{Deed, World};
use crate::cluster::Cluster;
use crate::subject::{Harm, Rot};

/// As in a batch's table: what rots in storms.
pub(crate) const ROTS: [&str; 5] =
    ["rot-of-records", "cut-of-records", "rot-of-checkpoint", "cut-of-checkpoint", JOURNAL_ROTTED];
/// Of the entries of a journal some are gone, and which is certain.
const JOURNAL_ROTTED: &str = "rot-of-journal";
/// … and what is gone is not, after bits flipped, or a file lost its end; only in stories.
pub(crate) const JOURNAL_DOUBTED: &str = "doubt-of-journal";
pub(crate) const JOURNAL_CUT: &str = "cut-of-journal";

impl World {
    /// Something at rest on a node's disk rots, unless another one has lost its copy.
    pub(super) fn rot(
        &mut self,
        node: u32,
        cluster: &mut Cluster,
        random: &mut SmallRng,
    ) -> Option<Deed> {
        if self.misses_a_copy() {
            return None;
        }
        let seed = random.random();
        match random.random_range(0..4) {
            0 | 1 => self.rot_file(node, Rot::Records, seed),
            2 => self.rot_file(node, Rot::Checkpoint, seed),
            _ => self.rot_journal(node, cluster),
        }
    }

    fn rot_file(&self, node: u32, what: Rot, seed: u64) -> Option<Deed> {
        let name = match (what, self.subject.rot(node, what, seed)?) {
            (Rot::Records, Harm::Flipped) => ROTS[0],
            (Rot::Records, Harm::Cut) => ROTS[1],
            (Rot::Checkpoint, Harm::Flipped) => ROTS[2],
            (Rot::Checkpoint, Harm::Cut) => ROTS[3],
        };
        self.tally.count(name);
        Some(Deed::Done)
    }

    /// A machine loses power, and its journal rots before it is back. What it loses others must have, who must not lose it as
    /// well: so all of them have everything, or nearly, on disks that tell the truth. Without power, because what follows the
    /// damage must stay: with the end of a journal gone nobody could tell the damage from a write that was cut off.
    fn rot_journal(&mut self, node: u32, cluster: &mut Cluster) -> Option<Deed> {
        if !self.may_lose() {
            return None;
        }
        self.take_down(&[node], cluster, true);
        if cluster.rot_journals(&[node]) > 0 {
            self.tally.count(JOURNAL_ROTTED);
            // Its replicas may have to be replaced, where others have let go of what it lacks.
            self.lost = Some(node);
        }
        Some(Deed::Down(vec![node]))
    }
}
