//! Runs a plan in a process of its own and reads what it came to. Two simulations never share a process: task numbers are
//! process-wide, and they decide the order in which a crash closes things.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::binary;
use crate::outcome::Outcome;
use crate::plan::Plan;

/// Runs that were made here, or are being made, by what decides them.
static MADE: Mutex<BTreeMap<String, Arc<OnceLock<Ended>>>> = Mutex::new(BTreeMap::new());

/// A run to be started.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// All that decides it.
    pub plan: Plan,
    /// Whether all events of all crates are hashed, which costs four times the time.
    pub detailed: bool,
    /// Where its events are written as well.
    pub trace: Option<PathBuf>,
}

/// A run that ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What it came to; one that the watchdog or a signal ended broke.
    pub outcome: Outcome,
    /// Everything it printed, with the command that repeats it.
    pub report: String,
}

impl Ended {
    /// No promise was broken and nothing fell over.
    #[must_use]
    pub fn held(&self) -> bool {
        self.outcome.held()
    }
}

impl Simulation {
    /// A run without detail and without trace.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self { plan, detailed: false, trace: None }
    }

    /// What a run without detail and without trace comes to. A run repeats, so one that several tests ask for is made once;
    /// who asks while it is made waits for it.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn once(plan: &Plan) -> Ended {
        let made = {
            let mut all = MADE.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(plan.arguments().join(" ")).or_default())
        };
        made.get_or_init(|| Self::new(plan.clone()).run()).clone()
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[allow(clippy::disallowed_methods, reason = "how long the process took is shown to a person")]
    #[must_use]
    pub fn run(&self) -> Ended {
        let mut command = Command::new(binary::path("sim"));
        command.args(self.plan.arguments());
        if self.detailed {
            command.args(["--level", "trace"]);
        }
        if let Some(trace) = &self.trace {
            command.arg("--trace").arg(trace);
        }
        let begun = Instant::now();
        let output = command.output().expect("the simulation can be started");
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        let ended_early =
            || Outcome { broken: Some(format!("{}", output.status)), ..Outcome::default() };
        let mut outcome = Outcome::among(&said).unwrap_or_else(ended_early);
        outcome.real_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ended { outcome, report: format!("{said}{complained}repeat with: {}", self.plan) }
    }
}
