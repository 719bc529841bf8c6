//! Starts one simulation as a process of its own and reads what it came to. Two simulations never share a process: task
//! numbers are process-wide, and they decide the order in which a crash closes things.

use std::fmt;
use std::process::Command;

use crate::binary;
use crate::scenario::Scenario;

/// All that decides a run.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// The story.
    pub scenario: Scenario,
    /// Decides every schedule and every fault.
    pub seed: u64,
    /// A bug to plant, by name.
    pub plant: Option<&'static str>,
    /// Whether all events of all crates are hashed, which costs four times the time.
    pub hash: bool,
}

/// What a process said at its end.
#[derive(Debug)]
pub struct Ended {
    /// No promise was broken and nothing fell over.
    pub held: bool,
    /// The hash of all events, and how many they were; empty when the run broke.
    pub fingerprint: String,
    /// Everything it printed, with the command that repeats it.
    pub report: String,
}

impl Ended {
    /// How many appends were acknowledged; 0 of a run that broke.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let line = self.report.lines().find(|line| line.contains(" acknowledged in "));
        let count = line.and_then(|line| line.split(' ').next());
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Simulation {
    /// A run without planted bug and without hash.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        Self { scenario, seed, plant: None, hash: false }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn run(&self) -> Ended {
        let output = Command::new(binary::path("sim")).args(self.arguments()).output();
        let output = output.expect("the simulation can be started");
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        let fingerprint = said.lines().find_map(|line| line.strip_prefix("fingerprint "));
        Ended {
            held: output.status.success(),
            fingerprint: fingerprint.unwrap_or_default().to_owned(),
            report: format!("{said}{complained}repeat with: {self}"),
        }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["--scenario", self.scenario.name(), "--seed"].map(str::to_owned).into();
        arguments.push(self.seed.to_string());
        if let Some(plant) = self.plant {
            arguments.extend(["--plant".to_owned(), plant.to_owned()]);
        }
        if self.hash {
            arguments.extend(["--level", "trace"].map(str::to_owned));
        }
        arguments
    }
}

impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo run -p waymark-tests --bin sim -- {}", self.arguments().join(" "))
    }
}
