//! The stories that a cluster is put through: load, faults, healing, and reading everything back. A scenario decides which
//! faults happen and when; what was promised is the oracle's business. To add one: a variant, its name, its faults.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Broken, Cluster};
use crate::faults::Fault;
use crate::history::History;
use crate::oracle::{Violation, judge};
use crate::subject::Subject;
use crate::workload::{Load, prepare, settle};

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
    /// Any faults, one after the other, also before the last one is over in its effects.
    Chaos,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Self; 4] = [Self::Calm, Self::LeaderPartition, Self::PowerLossAll, Self::Chaos];

    /// As it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::LeaderPartition => "leader-partition",
            Self::PowerLossAll => "power-loss-all",
            Self::Chaos => "chaos",
        }
    }

    /// How many faults, which ones, and the longest time between two of them.
    fn faults(self) -> (u32, &'static [Fault], Duration) {
        match self {
            Self::Calm => (0, &[], Duration::ZERO),
            Self::LeaderPartition => {
                let cuts = &[Fault::LeaderAlone, Fault::LeaderDeposed, Fault::LeaderMute];
                (3, cuts, Duration::from_secs(3))
            }
            Self::PowerLossAll => (4, &[Fault::PowerLossAll], Duration::from_secs(3)),
            Self::Chaos => (8, &Fault::ALL, Duration::from_secs(2)),
        }
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
    prepare(&mut cluster, subject)?;
    let load = Load::start(&mut cluster, subject, &history);
    cluster.run_for(Duration::from_secs(1))?;
    let (count, faults, pause) = scenario.faults();
    for _ in 0..count {
        let drawn = usize::try_from(cluster.draw(0, faults.len() as u64)).unwrap_or(0);
        faults[drawn].strike(&mut cluster, subject, &history)?;
        let milliseconds = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let pause = Duration::from_millis(cluster.draw(1, milliseconds));
        cluster.run_for(pause)?;
    }
    cluster.run_for(Duration::from_secs(1))?;
    load.stop(&mut cluster)?;
    settle(&mut cluster, subject, &history)?;
    let violations = judge(&history.snapshot());
    Ok(Verdict { acknowledged: history.acknowledged(), violations, elapsed: cluster.elapsed() })
}
