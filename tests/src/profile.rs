//! The stories that a cluster is put through: load, faults, healing, and reading everything back. A profile decides which
//! faults happen and when; what was promised is the oracle's business. To add one: a variant, its name, its faults.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Broken, Cluster};
use crate::faults::Fault;
use crate::group::Story;
use crate::history::History;
use crate::subject::Subject;

/// A story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// No fault at all: what breaks here is broken.
    Calm,
    /// The leader of a partition is cut off under load, and joined again.
    LeaderPartition,
    /// All nodes lose power in one tick, with torn and reordered unsynced writes; several times.
    PowerLossAll,
    /// Nodes die and lose power while the cluster is born and its first topic made.
    Birth,
    /// Any faults, one after the other, also before the last one is over in its effects.
    Chaos,
    /// Bits of journals flip while their nodes are down, under load: of one node, or of two in different places.
    JournalRot,
    /// Members of a group join and leave as they should, and nothing else happens.
    GroupPlanned,
    /// The node that coordinates a group is cut off, and joined again.
    GroupCoordinatorCut,
    /// The node that coordinates a group dies, or loses power, and comes back.
    GroupCoordinatorCrash,
    /// Of the members of a group one is cut off for longer than its session, one hangs, and one dies.
    GroupMembersLost,
    /// Offsets of a running group are moved, while members come and go.
    GroupReset,
    /// Members join, leave, hang, die and are cut off while any faults happen to nodes.
    GroupChaos,
    /// Disks run full under load, one and then a majority, and have room again.
    DiskFull,
    /// Records, and what a restart begins with, rot on the disks of nodes, one node at a time.
    Rot,
    /// A node loses its disk under load and comes back with an empty one, then the next node does.
    DiskReplaced,
    /// A disk lies about syncs and loses what it lied about, which all others have; then the next node's does.
    DiskLies,
    /// The vote or the end of the log of a node's replicas is in doubt after damage to its journal; then of the next node's.
    JournalDoubt,
    /// A node is away until its peers have purged what it lacks, and dies in the middle of the pulls that give it back.
    PullInterrupted,
    /// A node is cut off from its peers while a topic grows and goes, and is asked for it; then the next node.
    CatalogCut,
    /// Faults of several classes at once, drawn by the seed, for as long as the plan says.
    Swarm,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 20] = [
        Self::Calm,
        Self::LeaderPartition,
        Self::PowerLossAll,
        Self::Birth,
        Self::Chaos,
        Self::JournalRot,
        Self::GroupPlanned,
        Self::GroupCoordinatorCut,
        Self::GroupCoordinatorCrash,
        Self::GroupMembersLost,
        Self::GroupReset,
        Self::GroupChaos,
        Self::DiskFull,
        Self::Rot,
        Self::DiskReplaced,
        Self::DiskLies,
        Self::JournalDoubt,
        Self::PullInterrupted,
        Self::CatalogCut,
        Self::Swarm,
    ];

    /// As it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::LeaderPartition => "leader-partition",
            Self::PowerLossAll => "power-loss-all",
            Self::Birth => "birth",
            Self::Chaos => "chaos",
            Self::JournalRot => "journal-rot",
            Self::GroupPlanned => "group-planned",
            Self::GroupCoordinatorCut => "group-coordinator-cut",
            Self::GroupCoordinatorCrash => "group-coordinator-crash",
            Self::GroupMembersLost => "group-members-lost",
            Self::GroupReset => "group-reset",
            Self::GroupChaos => "group-chaos",
            Self::DiskFull => "disk-full",
            Self::Rot => "rot",
            Self::DiskReplaced => "disk-replaced",
            Self::DiskLies => "disk-lies",
            Self::JournalDoubt => "journal-doubt",
            Self::PullInterrupted => "pull-interrupted",
            Self::CatalogCut => "catalog-cut",
            Self::Swarm => "swarm",
        }
    }

    /// What happens to a group, where the story is about one.
    pub(crate) fn of_a_group(self) -> Option<Story> {
        match self {
            Self::Calm
            | Self::LeaderPartition
            | Self::PowerLossAll
            | Self::Birth
            | Self::Chaos
            | Self::DiskFull
            | Self::Rot
            | Self::JournalRot
            | Self::DiskReplaced
            | Self::DiskLies
            | Self::JournalDoubt
            | Self::PullInterrupted
            | Self::CatalogCut
            | Self::Swarm => None,
            Self::GroupPlanned => Some(Story::Planned),
            Self::GroupCoordinatorCut => Some(Story::CoordinatorCut),
            Self::GroupCoordinatorCrash => Some(Story::CoordinatorCrash),
            Self::GroupMembersLost => Some(Story::MembersLost),
            Self::GroupReset => Some(Story::Reset),
            Self::GroupChaos => Some(Story::Chaos),
        }
    }

    /// What happens before the load begins, and under load.
    pub(crate) fn faults(self) -> (Series, Series) {
        match self {
            Self::Calm
            | Self::DiskFull
            | Self::Swarm
            | Self::DiskReplaced
            | Self::DiskLies
            | Self::JournalDoubt
            | Self::PullInterrupted
            | Self::CatalogCut
            | Self::GroupPlanned
            | Self::GroupCoordinatorCut
            | Self::GroupCoordinatorCrash
            | Self::GroupMembersLost
            | Self::GroupReset
            | Self::GroupChaos => (NONE, NONE),
            Self::LeaderPartition => {
                let cuts = &[Fault::LeaderAlone, Fault::LeaderDeposed, Fault::LeaderMute];
                (NONE, Series { count: 3, faults: cuts, longest_pause_ms: 3_000 })
            }
            Self::PowerLossAll => {
                let faults = &[Fault::PowerLossAll];
                (NONE, Series { count: 4, faults, longest_pause_ms: 3_000 })
            }
            Self::Birth => {
                let faults = &[Fault::Crash, Fault::PowerLoss, Fault::PowerLossAll];
                (Series { count: 6, faults, longest_pause_ms: 300 }, NONE)
            }
            Self::JournalRot => {
                let faults = &[Fault::JournalRots, Fault::TwoJournalsRot];
                (NONE, Series { count: 6, faults, longest_pause_ms: 3_000 })
            }
            Self::Chaos => {
                let faults = &Fault::ALL;
                (NONE, Series { count: 8, faults, longest_pause_ms: 2_000 })
            }
            Self::Rot => {
                let faults = &[Fault::Rot, Fault::RotAtRest];
                (NONE, Series { count: 6, faults, longest_pause_ms: 2_000 })
            }
        }
    }
}

/// Faults in a row, each one drawn.
pub(crate) struct Series {
    count: u32,
    faults: &'static [Fault],
    /// Between two of them, milliseconds.
    longest_pause_ms: u64,
}

const NONE: Series = Series { count: 0, faults: &[], longest_pause_ms: 1 };

impl Series {
    /// Strikes one after the other.
    pub(crate) fn strike(
        &self,
        cluster: &mut Cluster,
        subject: &Arc<dyn Subject>,
        history: &History,
    ) -> Result<(), Broken> {
        for _ in 0..self.count {
            let pause = Duration::from_millis(cluster.draw(0, self.longest_pause_ms));
            cluster.run_for(pause)?;
            let drawn = usize::try_from(cluster.draw(0, self.faults.len() as u64)).unwrap_or(0);
            self.faults[drawn].strike(cluster, subject, history)?;
        }
        Ok(())
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| format!("no profile {name:?}; there are {all}"))
    }
}
