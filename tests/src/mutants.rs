//! The planted bugs that whole clusters show: where each shows, as what, and how many seeds it may take. A suite that lets
//! one of them live would not notice such a bug made by mistake. Bugs that only smaller tests can see are listed there.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::done::Done;
use crate::plan::Plan;
use crate::process::Simulation;
use crate::profile::Profile;

/// A bug that is planted by name.
#[derive(Debug)]
pub struct Mutant {
    /// As in `mutants::planted!`.
    pub name: &'static str,
    /// Where it shows.
    pub profile: Profile,
    /// The promise that it breaks; `G4` stands for G4b and so on, too. `broken`: a node falls over, or nothing is served.
    pub breaks: &'static str,
    /// A seed that is known to show it, tried first.
    pub first_seed: u64,
}

/// A planted bug must be found within so many seeds.
pub const FOUND_WITHIN: u64 = 6;
/// How long a storm lasts that is to find one, simulated seconds.
const STORM_SECONDS: u64 = 20;

/// Every one of them.
pub const TABLE: &[Mutant] = &[
    mutant("ack-before-fsync", Profile::PowerLossAll, "R6", 1),
    mutant("dup-appends", Profile::Chaos, "G3b", 2),
    mutant("ack-before-commit", Profile::LeaderPartition, "G1", 1),
    mutant("producers-forgotten", Profile::PowerLossAll, "broken", 1),
    mutant("table-row-lost", Profile::PowerLossAll, "broken", 3),
    mutant("offset-reused", Profile::Calm, "broken", 1),
    mutant("vote-not-synced", Profile::LeaderPartition, "R6", 1),
    mutant("end-as-it-is-here", Profile::LeaderPartition, "G1b", 2),
    mutant("offsets-as-they-are-here", Profile::Chaos, "G4", 3),
    mutant("commit-of-an-old-generation", Profile::GroupReset, "G4", 1),
    mutant("handoff-in-two-entries", Profile::GroupPlanned, "G5b", 1),
    mutant("full-disk-accepted", Profile::DiskFull, "broken", 1),
    mutant("reopened-before-sync", Profile::Swarm, "R6", 3),
    mutant("ledger-loses-a-fact", Profile::GroupReset, "G4b", 1),
    mutant("reversion-unnoticed", Profile::DiskLies, "broken", 1),
    mutant("replaced-keeps-its-id", Profile::DiskReplaced, "R5", 1),
    mutant("ack-of-another-offset", Profile::Calm, "G1", 1),
    mutant("ack-wrong-tag", Profile::Swarm, "broken", 1),
    mutant("append-stream-never-ends", Profile::Calm, "broken", 1),
    mutant("answer-heartbeats-at-the-door", Profile::Swarm, "G5c", 4),
    mutant("carry-nothing", Profile::Chaos, "broken", 1),
    mutant("checkpoint-above-applied", Profile::Swarm, "broken", 1),
    mutant("checkpoint-without-sync", Profile::Swarm, "broken", 2),
    mutant("commit-dropped", Profile::Calm, "G4", 1),
    mutant("damage-is-served", Profile::Rot, "broken", 1),
    mutant("failed-write-is-done", Profile::Swarm, "R6", 6),
    mutant("offsets-forgotten", Profile::PowerLossAll, "G4", 1),
    mutant("read-skips-records", Profile::Rot, "G1", 1),
    mutant("torn-is-damage", Profile::PowerLossAll, "broken", 4),
    mutant("truncation-forgotten", Profile::LeaderPartition, "broken", 1),
    mutant("trust-the-tail", Profile::Swarm, "broken", 21),
    mutant("doubtful-votes", Profile::JournalDoubt, "R5", 3),
];

const fn mutant(
    name: &'static str,
    profile: Profile,
    breaks: &'static str,
    first_seed: u64,
) -> Mutant {
    Mutant { name, profile, breaks, first_seed }
}

/// How a bug was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Seeds that it took.
    pub seeds: u64,
    /// What it broke.
    pub breaks: String,
}

impl Mutant {
    /// Runs seeds until the bug shows as what it should.
    #[must_use]
    pub fn hunt(&self) -> Option<Found> {
        (0..FOUND_WITHIN).find_map(|turn| {
            let seed = self.first_seed + turn;
            let plant = Some(self.name);
            let plan = Plan { plant, seconds: STORM_SECONDS, ..Plan::new(self.profile, seed) };
            let outcome = Simulation::new(plan).run().outcome;
            let broken = outcome.broken.iter().map(|_| "broken");
            let ids = outcome.violations.iter().map(|it| crate::outcome::id_of(it));
            let shows = ids.chain(broken).find(|id| id.starts_with(self.breaks))?.to_owned();
            Some(Found { seeds: turn + 1, breaks: shows })
        })
    }
}

/// Hunts all of them, so many at a time, and prints and notes a line for each. Returns whether each was found.
#[must_use]
pub fn hunt_all(jobs: usize) -> bool {
    let done = Done::open();
    let (next, living) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    println!("planted bug                        profile                  breaks   found");
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(mutant) = TABLE.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let found = mutant.hunt();
                    println!("{}", line(mutant, found.as_ref()));
                    match found {
                        Some(found) => done.note_found(mutant, &found),
                        None => {
                            living.lock().unwrap_or_else(PoisonError::into_inner).push(mutant.name)
                        }
                    }
                }
            });
        }
    });
    let living = living.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} of {} found", TABLE.len() - living.len(), TABLE.len());
    if !living.is_empty() {
        println!("alive after {FOUND_WITHIN} seeds: {}", living.join(", "));
    }
    living.is_empty()
}

fn line(mutant: &Mutant, found: Option<&Found>) -> String {
    let told = found.map_or_else(
        || format!("not within {FOUND_WITHIN} seeds"),
        |found| format!("as {} after {} seeds", found.breaks, found.seeds),
    );
    let Mutant { name, profile, breaks, .. } = mutant;
    format!("{name:<34} {:<24} {breaks:<8} {told}", profile.name())
}
