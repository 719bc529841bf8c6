//! All that decides a run, apart from the code: as a value, and as the arguments that repeat it.

use std::collections::BTreeSet;
use std::fmt;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::profile::Profile;
use crate::storm::FaultClass;

/// How long a storm lasts unless somebody says otherwise, simulated seconds.
pub const STORM_SECONDS: u64 = 60;

/// Of so many seeds of a storm one has a group: its members cost as much as all other clients.
const ONE_GROUP_IN: u64 = 4;

/// Nodes of a story, and of most storms.
const FEW: u32 = 3;
/// Of so many seeds of a storm, how many have five nodes, and how many four.
const SEEDS: u32 = 24;
const OF_FIVE: u32 = 4;
const OF_FOUR: u32 = 1;
/// How large a cluster is, is drawn apart from what happens to it.
const SIZE: u64 = 0x006e_6f64_6573;

/// What a run is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The story, or a storm.
    pub profile: Profile,
    /// Decides every schedule and every fault.
    pub seed: u64,
    /// How long a storm lasts, simulated seconds. Stories have their own length.
    pub seconds: u64,
    /// Classes of faults that a storm leaves out, though its seed draws them.
    pub without: BTreeSet<FaultClass>,
    /// Classes of faults that a storm is made of, whatever its seed draws; none: as the seed draws.
    pub only: BTreeSet<FaultClass>,
    /// A bug to plant, by its name in the code.
    pub plant: Option<&'static str>,
}

impl Plan {
    /// A run as its seed alone decides it.
    #[must_use]
    pub fn new(profile: Profile, seed: u64) -> Self {
        let (without, only) = (BTreeSet::new(), BTreeSet::new());
        Self { profile, seed, seconds: STORM_SECONDS, without, only, plant: None }
    }

    /// The classes of faults that strike.
    #[must_use]
    pub fn classes(&self) -> Vec<FaultClass> {
        self.weather().into_iter().map(|(class, _)| class).collect()
    }

    /// … and how long each pauses on average, milliseconds.
    pub(crate) fn weather(&self) -> Vec<(FaultClass, u64)> {
        if self.profile != Profile::Swarm {
            return Vec::new();
        }
        let drawn = crate::storm::weather(self.seed, &self.only).into_iter();
        drawn.filter(|(class, _)| !self.without.contains(class)).collect()
    }

    /// Whether a group lives through the storm.
    #[must_use]
    pub fn has_group(&self) -> bool {
        self.profile == Profile::Swarm && self.seed.is_multiple_of(ONE_GROUP_IN)
    }

    /// Nodes of the cluster. Majorities of more than three are made differently: a minority is more than one node, and cuts
    /// have shapes that three nodes do not know.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        if self.profile != Profile::Swarm {
            return FEW;
        }
        match SmallRng::seed_from_u64(self.seed ^ SIZE).random_range(0..SEEDS) {
            drawn if drawn < OF_FIVE => 5,
            drawn if drawn < OF_FIVE + OF_FOUR => 4,
            _ => FEW,
        }
    }

    /// The arguments of the binary `sim` that run it.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments =
            vec!["--profile".to_owned(), self.profile.name().to_owned(), "--seed".to_owned()];
        arguments.push(self.seed.to_string());
        if self.profile == Profile::Swarm && self.seconds != STORM_SECONDS {
            arguments.extend(["--seconds".to_owned(), self.seconds.to_string()]);
        }
        for (option, classes) in [("--only", &self.only), ("--without", &self.without)] {
            if !classes.is_empty() {
                let names: Vec<&str> = classes.iter().map(|class| class.name()).collect();
                arguments.extend([option.to_owned(), names.join(",")]);
            }
        }
        if let Some(plant) = self.plant {
            arguments.extend(["--plant".to_owned(), plant.to_owned()]);
        }
        arguments
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments = self.arguments().join(" ");
        write!(f, "cargo run --profile sim -p waymark-tests --bin sim -- {arguments}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_storms_have_more_nodes_and_what_is_left_out_of_one_leaves_them() {
        let of = |seed| Plan::new(Profile::Swarm, seed);
        let with = |nodes| (1..1_001).filter(|seed| of(*seed).nodes() == nodes).count();
        let (three, four, five) = (with(3), with(4), with(5));
        assert_eq!(three + four + five, 1_000);
        assert!((120..220).contains(&five) && four > 10, "{five} of five, {four} of four");
        for plan in (1..101).map(of) {
            let without = plan.classes().into_iter().take(1).collect();
            assert_eq!(plan.nodes(), Plan { without, seconds: 1, ..plan.clone() }.nodes());
        }
    }
}
