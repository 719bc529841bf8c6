//! Many simulations, each in a process of its own. Owns the order, the progress, the summary, and going on after an
//! interruption; every failure is made smaller and printed with the command that repeats it.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::done::Done;
use crate::plan::Plan;
use crate::process::{Ended, Simulation};
use crate::profile::Profile;
use crate::shrink::shrink;
use crate::table::{self, ENOUGH, TOLD_ENOUGH};

/// Lines of a report that are worth reading at once; the rest comes with repeating it.
const REPORT_LINES: usize = 20;
/// Failures that are made smaller: what comes after them is mostly the same bug again.
const SHRUNK: usize = 3;

/// What to run.
#[derive(Debug, Clone)]
pub struct Batch {
    /// In this order.
    pub plans: Vec<Plan>,
    /// Processes at the same time.
    pub jobs: usize,
    /// No run begins after so long.
    pub at_most: Option<Duration>,
    /// Runs that are done with this very binary need not be repeated.
    pub resumes: bool,
}

/// What has come to light so far.
#[derive(Debug, Default)]
struct Sum {
    done: usize,
    again: usize,
    failed: usize,
    acknowledged: u64,
    simulated_ms: u64,
    storms: usize,
    /// Runs of each profile.
    profiles: BTreeMap<&'static str, usize>,
    counts: BTreeMap<String, u64>,
    failures: Vec<(Plan, String)>,
}

impl Batch {
    /// Runs everything; returns whether every promise held and everything that can happen did.
    #[allow(clippy::disallowed_methods, reason = "real time is shown to a person")]
    #[must_use]
    pub fn run(&self) -> bool {
        let begun = Instant::now();
        let done = self.resumes.then(Done::open);
        let sum = Mutex::new(Sum::default());
        let next = AtomicUsize::new(0);
        let lock = || -> MutexGuard<'_, Sum> { sum.lock().unwrap_or_else(PoisonError::into_inner) };
        let in_time = || self.at_most.is_none_or(|most| begun.elapsed() < most);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(plan) = self.plans.get(next.fetch_add(1, Ordering::SeqCst))
                        && in_time()
                    {
                        if let Some(outcome) = done.as_ref().and_then(|done| done.outcome_of(plan))
                        {
                            lock().add(plan, &outcome, true);
                            continue;
                        }
                        let ended = Simulation::new(plan.clone()).run();
                        if let Some(done) = &done {
                            done.note(plan, &ended.outcome);
                        }
                        let mut sum = lock();
                        sum.add(plan, &ended.outcome, false);
                        sum.report(plan, &ended);
                        sum.show_progress(self.plans.len(), begun.elapsed());
                    }
                });
            }
        });
        let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        sum.conclude(begun.elapsed())
    }
}

impl Sum {
    fn add(&mut self, plan: &Plan, outcome: &crate::outcome::Outcome, again: bool) {
        self.done += 1;
        self.again += usize::from(again);
        self.acknowledged += outcome.acknowledged;
        self.simulated_ms += outcome.simulated_ms;
        self.storms += usize::from(plan.profile == Profile::Swarm);
        *self.profiles.entry(plan.profile.name()).or_default() += 1;
        for (name, count) in &outcome.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
        if let Some(signature) = outcome.signature() {
            self.failed += 1;
            self.failures.push((plan.clone(), signature));
        }
    }

    fn report(&self, plan: &Plan, ended: &Ended) {
        if ended.held() {
            return;
        }
        let lines: Vec<&str> = ended.report.lines().collect();
        let (shown, repeat) = lines.split_at(lines.len().saturating_sub(1));
        println!("\n{} with seed {} failed:", plan.profile, plan.seed);
        let told = shown.iter().filter(|line| !line.starts_with("outcome "));
        told.take(REPORT_LINES).chain(repeat).for_each(|line| println!("{line}"));
    }

    fn show_progress(&self, all: usize, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let speed = Duration::from_millis(self.simulated_ms).as_secs_f64() / seconds;
        let fresh = (self.done - self.again).max(1);
        #[allow(clippy::cast_precision_loss, reason = "an estimate for a person")]
        let left = seconds / fresh as f64 * all.saturating_sub(self.done) as f64;
        let line = format!(
            "{} of {all}, {} failed, {speed:.1} simulated seconds a second, {left:.0} s left",
            self.done, self.failed
        );
        let mut out = std::io::stdout();
        if out.is_terminal() {
            // A line that cannot be shown is no reason to stop.
            let _ = write!(out, "\r{line} ");
            let _ = out.flush();
        } else if self.done.is_multiple_of(20) {
            println!("{line}");
        }
    }

    fn conclude(mut self, elapsed: Duration) -> bool {
        println!("\n{}", table::of(&self.counts));
        println!(
            "{} runs ({} done before), {} failed, {} records acknowledged, {} simulated s in {:.0} s",
            self.done,
            self.again,
            self.failed,
            self.acknowledged,
            self.simulated_ms / 1000,
            elapsed.as_secs_f64()
        );
        for (plan, signature) in self.failures.drain(..).take(SHRUNK) {
            println!("making {} with seed {} smaller …", plan.profile, plan.seed);
            let run = |plan: &Plan| Simulation::new(plan.clone()).run().outcome;
            println!("smallest that shows {signature}: {}", shrink(&plan, &signature, run));
        }
        self.failed == 0 && self.has_tested()
    }

    /// Whether everything happened that so many runs of these profiles lead to.
    fn has_tested(&self) -> bool {
        let storms = (self.storms >= ENOUGH).then(|| table::never(&self.counts));
        let runs = |it: &Profile| self.profiles.get(it.name()).copied().unwrap_or(0);
        let told = Profile::ALL.iter().all(|it| runs(it) >= TOLD_ENOUGH);
        let stories = told.then(|| table::never_in_stories(&self.counts));
        let missing: Vec<&str> = storms.into_iter().chain(stories).flatten().collect();
        if !missing.is_empty() {
            println!("never happened in {} runs: {}", self.done, missing.join(", "));
        }
        missing.is_empty()
    }
}
