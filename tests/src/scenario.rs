//! The stories that a cluster is put through: load, faults, healing, and reading everything back. A scenario decides which
//! faults happen and when; what was promised is the oracle's business. To add one: a variant, its name, its faults.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Broken, Cluster};
use crate::faults::Fault;
use crate::group::{Story, Tale};
use crate::history::History;
use crate::oracle::{Violation, judge};
use crate::subject::Subject;
use crate::workload::{Load, Pace, Preparation, settle};

/// Nodes of every simulated cluster.
pub const NODES: u32 = 3;

/// A story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
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
    /// Members of a group join and leave as they should, and nothing else happens.
    GroupPlanned,
    /// The node that coordinates a group is cut off, and joined again.
    GroupCoordinatorCut,
    /// The node that coordinates a group dies, or loses power, and comes back.
    GroupCoordinatorCrash,
    /// A member of a group is cut off for longer than its session, another one dies.
    GroupMembersLost,
    /// Offsets of a running group are moved, while members come and go.
    GroupReset,
    /// Members join, leave, die and are cut off while any faults happen to nodes.
    GroupChaos,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Self; 11] = [
        Self::Calm,
        Self::LeaderPartition,
        Self::PowerLossAll,
        Self::Birth,
        Self::Chaos,
        Self::GroupPlanned,
        Self::GroupCoordinatorCut,
        Self::GroupCoordinatorCrash,
        Self::GroupMembersLost,
        Self::GroupReset,
        Self::GroupChaos,
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
            Self::GroupPlanned => "group-planned",
            Self::GroupCoordinatorCut => "group-coordinator-cut",
            Self::GroupCoordinatorCrash => "group-coordinator-crash",
            Self::GroupMembersLost => "group-members-lost",
            Self::GroupReset => "group-reset",
            Self::GroupChaos => "group-chaos",
        }
    }

    /// What happens to a group, where the story is about one.
    fn of_a_group(self) -> Option<Story> {
        match self {
            Self::Calm | Self::LeaderPartition | Self::PowerLossAll | Self::Birth | Self::Chaos => {
                None
            }
            Self::GroupPlanned => Some(Story::Planned),
            Self::GroupCoordinatorCut => Some(Story::CoordinatorCut),
            Self::GroupCoordinatorCrash => Some(Story::CoordinatorCrash),
            Self::GroupMembersLost => Some(Story::MembersLost),
            Self::GroupReset => Some(Story::Reset),
            Self::GroupChaos => Some(Story::Chaos),
        }
    }

    /// What happens before the load begins, and under load.
    fn faults(self) -> (Series, Series) {
        match self {
            Self::Calm
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
            Self::Chaos => {
                let faults = &Fault::ALL;
                (NONE, Series { count: 8, faults, longest_pause_ms: 2_000 })
            }
        }
    }
}

/// Faults in a row, each one drawn.
struct Series {
    count: u32,
    faults: &'static [Fault],
    /// Between two of them, milliseconds.
    longest_pause_ms: u64,
}

const NONE: Series = Series { count: 0, faults: &[], longest_pause_ms: 1 };

impl Series {
    fn strike(
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

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        found.ok_or_else(|| format!("no scenario {name:?}; there are {all}"))
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Verdict {
    /// Appends acknowledged: a run without any proves nothing.
    pub acknowledged: usize,
    /// Promises broken.
    pub violations: Vec<Violation>,
    /// Simulated time.
    pub elapsed: Duration,
}

/// Runs a scenario on a subject. Call it inside [`crate::det::run`].
///
/// # Errors
/// When a node fell over, or the cluster did not serve again after the faults.
pub fn run(scenario: Scenario, subject: &Arc<dyn Subject>, seed: u64) -> Result<Verdict, Broken> {
    let mut cluster = Cluster::start(Arc::clone(subject), NODES, seed);
    let history = History::default();
    let (before, under_load) = scenario.faults();
    let preparation = Preparation::start(&mut cluster, subject);
    before.strike(&mut cluster, subject, &history)?;
    preparation.finish(&mut cluster)?;
    let story = scenario.of_a_group();
    let pace = if story.is_some() { Pace::STEADY } else { Pace::BUSY };
    let load = Load::start(&mut cluster, subject, &history, pace);
    cluster.run_for(Duration::from_secs(1))?;
    let mut tale = None;
    if let Some(story) = story {
        tale.insert(Tale::begin(&mut cluster, subject, &history)?).tell(&mut cluster, story)?;
    }
    under_load.strike(&mut cluster, subject, &history)?;
    cluster.run_for(Duration::from_secs(2))?;
    load.stop(&mut cluster)?;
    settle(&mut cluster, subject, &history)?;
    let reached = tale.map_or(Ok(true), |tale| tale.end(&mut cluster))?;
    let violations = judge(&history.snapshot());
    if !reached && violations.is_empty() {
        return Err(Broken("the group does not come to the end of what it reads".to_owned()));
    }
    Ok(Verdict { acknowledged: history.acknowledged(), violations, elapsed: cluster.elapsed() })
}
