//! Many simulations, each in a process of its own. Owns the order, the progress and the summary; every failure is printed
//! with the command that repeats it.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::process::{Ended, Simulation};
use crate::scenario::Scenario;

/// Lines of a report that are worth reading at once; the rest comes with repeating it.
const REPORT_LINES: usize = 12;

/// What to run.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Each seed runs through all of them.
    pub scenarios: Vec<Scenario>,
    /// The first seed.
    pub first: u64,
    /// How many seeds.
    pub seeds: u64,
    /// Processes at the same time.
    pub jobs: usize,
    /// A bug to plant in all of them.
    pub plant: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Tally {
    done: usize,
    failed: usize,
    acknowledged: usize,
}

impl Batch {
    /// Runs everything; returns whether every promise held.
    #[allow(clippy::disallowed_methods, reason = "real time is shown to a person")]
    #[must_use]
    pub fn run(&self) -> bool {
        let runs = self.simulations();
        let (next, tally, begun) =
            (AtomicUsize::new(0), Mutex::new(Tally::default()), Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(simulation) = runs.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let ended = simulation.run();
                        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                        tally.count(&ended);
                        progress(&tally, runs.len());
                    }
                });
            }
        });
        let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        println!(
            "{} runs, {} failed, {} records acknowledged, {:.0} s",
            tally.done,
            tally.failed,
            tally.acknowledged,
            begun.elapsed().as_secs_f64()
        );
        tally.failed == 0
    }

    fn simulations(&self) -> Vec<Simulation> {
        let seeds = self.first..self.first.saturating_add(self.seeds);
        let each = seeds.flat_map(|seed| {
            let of = move |scenario: &Scenario| Simulation {
                plant: self.plant,
                ..Simulation::new(*scenario, seed)
            };
            self.scenarios.iter().map(of)
        });
        each.collect()
    }
}

impl Tally {
    fn count(&mut self, ended: &Ended) {
        self.done += 1;
        self.acknowledged += ended.acknowledged();
        if !ended.held {
            self.failed += 1;
            let lines: Vec<&str> = ended.report.lines().collect();
            let (shown, repeat) = lines.split_at(lines.len().saturating_sub(1));
            println!();
            shown.iter().take(REPORT_LINES).chain(repeat).for_each(|line| println!("{line}"));
        }
    }
}

fn progress(tally: &Tally, all: usize) {
    let mut out = std::io::stdout();
    if out.is_terminal() {
        // A line that cannot be shown is no reason to stop.
        let _ = write!(out, "\r{} of {all}, {} failed ", tally.done, tally.failed);
        let _ = out.flush();
    } else if tally.done.is_multiple_of(20) {
        println!("{} of {all}, {} failed", tally.done, tally.failed);
    }
}
