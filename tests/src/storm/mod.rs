//! A storm: faults of several classes at the same time, each class on its own schedule. Which classes a seed draws, and how
//! often each strikes, is its weather. A class that is left out changes nothing in the schedules of the others, so that a
//! failing run can be made smaller. Never judges.

mod ailments;
mod classes;
mod deeds;
mod disks;
mod errands;
mod flood;
mod rots;
mod wires;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub use classes::FaultClass;
pub(crate) use disks::LIES_LOST;
pub(crate) use errands::LOG_LIMIT_SET;
pub(crate) use rots::{JOURNAL_CUT, JOURNAL_DOUBTED, ROTS};

use self::deeds::{Deed, World};
use crate::cluster::{Broken, Cluster};
use crate::history::History;
use crate::plan::Plan;
use crate::subject::Subject;
use crate::tally::Tally;
use crate::workload::SETTLE;

/// How often a seed draws a class.
const DRAWN: f64 = 0.35;
/// Between two faults of a class on average, milliseconds: from a class that rages to one that hardly strikes.
const PAUSES_MS: [u64; 4] = [700, 2_000, 6_000, 15_000];
/// Most storms are over so many nodes.
const FEW: usize = 3;
/// What a class does is drawn apart from whether it strikes.
const ACTING: u64 = 1 << 63;
/// A node that ended by itself comes back within this, milliseconds.
const BACK_WITHIN_MS: u64 = 4_000;
/// As in a batch's table: a storm over more than three nodes.
pub(crate) const MANY_NODES: &str = "more-than-three-nodes";
/// After the storm, while a minority is still frozen, everything must be served again within this.
pub(crate) const CALM_WITHIN: Duration = Duration::from_secs(10);

/// The classes that strike in a run, and how long they pause on average, milliseconds. Of some classes named, only these
/// strike, and each does.
#[must_use]
pub fn weather(seed: u64, only: &BTreeSet<FaultClass>) -> Vec<(FaultClass, u64)> {
    let mut drawn = Vec::new();
    for class in FaultClass::all() {
        // Each draws for itself, so that one more class leaves the others as they are.
        let mut random = SmallRng::seed_from_u64(seed ^ class.salt());
        let (strikes, pause) = (random.random_bool(DRAWN), random.random_range(0..PAUSES_MS.len()));
        if only.contains(&class) || (strikes && only.is_empty()) {
            drawn.push((class, PAUSES_MS[pause]));
        }
    }
    if drawn.is_empty() {
        drawn.push((FaultClass::Crash, PAUSES_MS[1]));
    }
    drawn
}

/// One class at work.
struct Actor {
    class: FaultClass,
    pause_ms: u64,
    random: SmallRng,
    /// When it strikes next, in simulated time.
    next: Duration,
}

impl Actor {
    fn new(seed: u64, (class, pause_ms): (FaultClass, u64), now: Duration) -> Self {
        let random = SmallRng::seed_from_u64(seed ^ class.salt() ^ ACTING);
        let mut actor = Self { class, pause_ms, random, next: now };
        actor.rest();
        actor
    }

    /// Until its next fault: as likely short as long, twice the average at most.
    fn rest(&mut self) {
        self.next += Duration::from_millis(self.random.random_range(1..2 * self.pause_ms));
    }

    fn lasts(&mut self) -> Duration {
        let (shortest, longest) = self.class.lasts();
        Duration::from_millis(self.random.random_range(shortest..=longest))
    }
}

/// A fault under way.
struct Active {
    until: Duration,
    deed: Deed,
}

/// A storm over one cluster.
pub(crate) struct Storm {
    actors: Vec<Actor>,
    active: Vec<Active>,
    world: World,
    tally: Tally,
    /// For what no class decides.
    random: SmallRng,
}

impl Storm {
    pub(crate) fn new(
        plan: &Plan,
        cluster: &mut Cluster,
        subject: &Arc<dyn Subject>,
        (history, tally): (&History, &Tally),
    ) -> Self {
        let (weather, now) = (plan.weather().into_iter(), cluster.elapsed());
        let actors = weather.map(|drawn| Actor::new(plan.seed, drawn, now)).collect();
        let world = World::new(cluster, subject, (history, tally));
        if cluster.nodes().count() > FEW {
            tally.count(MANY_NODES);
        }
        let random = SmallRng::seed_from_u64(plan.seed ^ ACTING);
        Self { actors, active: Vec::new(), world, tally: tally.clone(), random }
    }

    /// Rages for so long. What has begun goes on after it.
    pub(crate) fn rage(&mut self, cluster: &mut Cluster, time: Duration) -> Result<(), Broken> {
        let end = cluster.elapsed() + time;
        while cluster.elapsed() < end {
            let next = self.actors.iter().map(|actor| actor.next);
            let over = self.active.iter().map(|active| active.until);
            let wake = next.chain(over).fold(end, Duration::min);
            let (rest, world) = (wake.saturating_sub(cluster.elapsed()), &self.world);
            let nodes = cluster.nodes();
            cluster.run_until(rest, || world.some_ended(nodes.clone()))?;
            self.take_those_ended(cluster);
            self.end_those_due(cluster, cluster.elapsed());
            self.begin_those_due(cluster, end);
        }
        Ok(())
    }

    fn begin_those_due(&mut self, cluster: &mut Cluster, end: Duration) {
        let now = cluster.elapsed();
        for actor in &mut self.actors {
            if actor.next > now || now >= end {
                continue;
            }
            let until = now + actor.lasts();
            let deed = self.world.strike(actor.class, cluster, &mut actor.random);
            // A class that finds nobody to strike tries again later.
            if let Some(deed) = deed {
                tracing::info!(class = %actor.class, ?deed, "fault");
                self.tally.count(actor.class.name());
                self.active.push(Active { until, deed });
            }
            actor.rest();
        }
    }

    /// Who stopped, or died at a point, is away for a while.
    fn take_those_ended(&mut self, cluster: &mut Cluster) {
        for deed in self.world.take_those_ended(cluster, &mut self.random) {
            let away = Duration::from_millis(self.random.random_range(1..BACK_WITHIN_MS));
            self.active.push(Active { until: cluster.elapsed() + away, deed });
        }
    }

    fn end_those_due(&mut self, cluster: &mut Cluster, now: Duration) {
        while let Some(due) = self.active.iter().position(|active| active.until <= now) {
            let Active { deed, .. } = self.active.remove(due);
            tracing::info!(?deed, "over");
            if let Some((later, deed)) = self.world.end(deed, cluster) {
                self.active.push(Active { until: now + later, deed });
            }
        }
    }

    /// Ends every fault.
    pub(crate) fn abate(&mut self, cluster: &mut Cluster) {
        for active in std::mem::take(&mut self.active) {
            let mut left = Some(active.deed);
            while let Some(deed) = left {
                left = self.world.end(deed, cluster).map(|(_, deed)| deed);
            }
        }
        self.world.dismiss();
        self.world.renew_those_in_doubt(cluster);
    }

    /// A minority of the nodes is frozen in what it has come to, or cut off if it is well. Returns which.
    pub(crate) fn freeze(&mut self, cluster: &mut Cluster) -> Vec<u32> {
        self.world.freeze(cluster)
    }

    /// Ends what is left, up to the last record of those who sent too much.
    pub(crate) fn pass(&mut self, cluster: &mut Cluster) -> Result<(), Broken> {
        self.world.thaw(cluster);
        match cluster.run_until(SETTLE, || self.world.is_calm())? {
            true => Ok(()),
            false => Err(Broken("who sent too much still waits, without a deadline".to_owned())),
        }
    }
}
