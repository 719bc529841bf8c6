//! All that decides a run, apart from the code: as a value, and as the arguments that repeat it.

use std::collections::BTreeSet;
use std::fmt;

use crate::profile::Profile;
use crate::storm::FaultClass;

/// How long a storm lasts unless somebody says otherwise, simulated seconds.
pub const STORM_SECONDS: u64 = 60;

/// Of so many seeds of a storm one has a group: its members cost as much as all other clients.
const ONE_GROUP_IN: u64 = 4;

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
