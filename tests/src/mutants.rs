//! The planted bugs that whole clusters show: where each shows, as what, and how many seeds it may take. A suite that lets
//! one of them live would not notice such a bug made by mistake. A find counts only where the same run without the bug
//! holds, and only if what broke is what the bug breaks. Bugs that only smaller tests can see are listed there.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::done::Done;
use crate::outcome::{Outcome, id_of};
use crate::plan::Plan;
use crate::process::Simulation;
use crate::profile::Profile;

use self::Sign::{Breaks, BreaksOrPanics, Says};

/// A bug that is planted by name.
#[derive(Debug)]
pub struct Mutant {
    /// As in `mutants::planted!`.
    pub name: &'static str,
    /// The guarantee that it takes away.
    pub against: &'static str,
    /// Where it shows.
    pub profile: Profile,
    /// As what.
    pub shows: Sign,
    /// A seed that is known to show it, tried first.
    pub first_seed: u64,
}

/// What a bug shows as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The promise or rule of this id is broken, whatever else is.
    Breaks(&'static str),
    /// A node falls over, or something is not served, and what is said of it has these words.
    Says(&'static str),
    /// The promise or rule of this id is broken, or openraft notices first and panics: it judges its own state in some
    /// builds, and in others it does not.
    BreaksOrPanics(&'static str),
}

impl Sign {
    /// Whether a run shows it.
    #[must_use]
    pub fn is_in(self, outcome: &Outcome) -> bool {
        match self {
            Self::Breaks(id) => outcome.violations.iter().any(|it| id_of(it) == id),
            Self::Says(words) => outcome.broken.as_ref().is_some_and(|it| it.contains(words)),
            Self::BreaksOrPanics(id) => {
                Self::Breaks(id).is_in(outcome) || Self::Says("panics at").is_in(outcome)
            }
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Breaks(id) => f.pad(id),
            Self::BreaksOrPanics(id) => f.pad(&format!("{id}, or a panic")),
            Self::Says(words) => f.pad(&format!("\"{words}\"")),
        }
    }
}

/// A planted bug must be found within so many seeds. Mostly it is by the first one that is tried, which was found to show it; any
/// change of the product may make it another one.
pub const FOUND_WITHIN: u64 = 40;
/// How long a storm lasts that is to find one, simulated seconds.
pub const STORM_SECONDS: u64 = 20;

/// Every one of them, by guarantee.
pub const TABLE: &[Mutant] = &[
    mutant("ack-before-fsync", "G1", Profile::PowerLossAll, Breaks("R6"), 1),
    mutant("ack-before-commit", "G1", Profile::LeaderPartition, Breaks("G1"), 1),
    mutant("vote-not-synced", "G1", Profile::LeaderPartition, Breaks("R6"), 1),
    mutant("end-as-it-is-here", "G1", Profile::LeaderPartition, Breaks("G1b"), 2),
    mutant("catalog-as-it-is-here", "G1", Profile::CatalogCut, Breaks("S14"), 1),
    mutant("reopened-before-sync", "G1", Profile::Swarm, Breaks("R6"), 12),
    mutant("replaced-keeps-its-id", "G1", Profile::DiskReplaced, Breaks("R5"), 1),
    mutant("ack-of-another-offset", "G1", Profile::Calm, Breaks("G1"), 1),
    mutant("ack-wrong-tag", "G1", Profile::Swarm, Says("take no records"), 1),
    mutant(
        "purge-past-checkpoint",
        "G1",
        Profile::LeaderPartition,
        Says("cut above the newest checkpoint"),
        24,
    ),
    mutant("carry-nothing", "G1", Profile::Chaos, Says("lacks entries before index"), 1),
    mutant(
        "checkpoint-without-sync",
        "G1",
        Profile::PowerLossAll,
        Says("reading a partition took longer"),
        1,
    ),
    mutant("failed-write-is-done", "G1", Profile::Swarm, Breaks("R6"), 6),
    mutant("failed-sync-is-done", "G1", Profile::Chaos, Breaks("R6"), 1),
    mutant("retention-keeps-nothing", "G1", Profile::Swarm, Breaks("G2d"), 6),
    mutant("grants-every-vote", "G1", Profile::Chaos, Breaks("R2"), 12),
    mutant("votes-for-who-lags", "G1", Profile::LeaderPartition, Breaks("R4"), 9),
    mutant("ack-counts-everyone", "G1", Profile::LeaderPartition, Breaks("R9"), 1),
    mutant("offset-reused", "G2", Profile::Calm, Says("reading a partition took longer"), 1),
    mutant("truncation-forgotten", "G2", Profile::LeaderPartition, Says("does not follow"), 1),
    mutant("read-above-watermark", "G2", Profile::LeaderPartition, Breaks("G2"), 1),
    mutant("refused-and-stored", "G2", Profile::Calm, Breaks("G2b"), 1),
    mutant("gone-is-skipped", "G2", Profile::Swarm, Breaks("G2c"), 2),
    mutant("dup-appends", "G3", Profile::Chaos, Breaks("G3b"), 2),
    mutant("producers-forgotten", "G3", Profile::PowerLossAll, Says("a replica is behind"), 1),
    mutant("read-skips-records", "G3", Profile::Rot, Breaks("G3d"), 1),
    mutant("remembered-batch-lost", "G3", Profile::Chaos, Breaks("R8"), 1),
    mutant("offsets-as-they-are-here", "G4", Profile::Chaos, Breaks("G4d"), 3),
    mutant("ledger-loses-a-fact", "G4", Profile::GroupReset, Breaks("G4b"), 1),
    mutant("commit-dropped", "G4", Profile::Calm, Breaks("G4"), 1),
    mutant("reset-moves-nobody", "G4", Profile::GroupReset, Breaks("G4c"), 1),
    mutant("offsets-forgotten", "G4", Profile::PowerLossAll, Breaks("G4d"), 1),
    mutant("commit-of-an-old-generation", "G5", Profile::GroupReset, Breaks("G4b"), 1),
    mutant("owner-not-asked", "G5", Profile::GroupPlanned, Breaks("G5b"), 1),
    mutant("fence-stays", "G5", Profile::GroupPlanned, Breaks("G5"), 1),
    mutant("handoff-in-two-entries", "G5", Profile::GroupPlanned, Breaks("G5b"), 1),
    mutant("answer-heartbeats-at-the-door", "G5", Profile::Swarm, Breaks("G5c"), 4),
    mutant("expired-member-stays", "G5", Profile::GroupMembersLost, Breaks("G5d"), 1),
    mutant("reversion-unnoticed", "G6", Profile::DiskLies, Says("and no leader said so"), 1),
    mutant("reverted-runs-on", "G6", Profile::DiskLies, Says("and runs on under its id"), 1),
    mutant("damage-is-served", "G6", Profile::Rot, Breaks("G6"), 1),
    mutant("trust-the-tail", "G6", Profile::Swarm, Says("take no records"), 21),
    mutant("hole-skipped", "G6", Profile::JournalRot, Breaks("R5"), 1),
    mutant(
        "install-without-verify",
        "G6",
        Profile::PullInterrupted,
        Says("not served until a peer has given it again"),
        2,
    ),
    mutant("damage-is-torn", "G6", Profile::JournalRot, Breaks("R5"), 9),
    mutant("doubtful-votes", "G6", Profile::JournalDoubt, Breaks("R5"), 3),
    mutant("table-row-lost", "G7", Profile::PowerLossAll, Breaks("G7"), 4),
    mutant("append-stream-never-ends", "G7", Profile::Calm, Says("never began to serve"), 1),
    mutant("checkpoint-above-applied", "G7", Profile::Swarm, BreaksOrPanics("R8"), 1),
    mutant("torn-is-damage", "G7", Profile::PowerLossAll, Says("the cluster is not formed yet"), 4),
    mutant(
        "heartbeat-stream-never-ends",
        "G7",
        Profile::LeaderPartition,
        Says("never began to serve"),
        1,
    ),
    mutant(
        "full-disk-accepted",
        "G8",
        Profile::DiskFull,
        Says("while a majority of disks is full"),
        1,
    ),
    mutant(
        "full-disk-ends-the-journal",
        "G8",
        Profile::DiskFull,
        Says("No space left on device"),
        1,
    ),
];

/// Promises and rules that no bug of the table is found by, and why. Each is shown to fail on a bad history made by hand.
pub const NOT_SHOWN: &[(&str, &str)] = &[
    ("G3", "`read-skips-records` breaks it too, together with G3d"),
    ("G3c", "replicas check each producer's sequence: to break the order takes two bugs at once"),
    ("R1", "it takes a vote that is lost, which R5 and R6 notice first"),
    (
        "R3",
        "the journal refuses what does not follow before it is there to be seen, as `truncation-forgotten` shows",
    ),
    (
        "R7",
        "the bounds are for the worst that may happen, and what was tried let in more and stayed within",
    ),
];

const fn mutant(
    name: &'static str,
    against: &'static str,
    profile: Profile,
    shows: Sign,
    first_seed: u64,
) -> Mutant {
    Mutant { name, against, profile, shows, first_seed }
}

/// How a bug was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The seed that showed it.
    pub seed: u64,
    /// Seeds that it took.
    pub seeds: u64,
}

/// Whether a run holds without its bug.
fn holds_without(planted: &Plan, done: &Done) -> bool {
    let plan = Plan { plant: None, ..planted.clone() };
    if done.outcome_of(&plan).is_some() {
        return true;
    }
    let outcome = Simulation::once(&plan).outcome;
    done.note(&plan, &outcome);
    if !outcome.held() {
        println!("fails without any planted bug: {plan}");
    }
    outcome.held()
}

impl Mutant {
    /// Runs seeds until the bug shows as what it should.
    fn hunt(&self, done: &Done) -> Option<Found> {
        let plans = (0..FOUND_WITHIN).map(|turn| Plan {
            plant: Some(self.name),
            seconds: STORM_SECONDS,
            ..Plan::new(self.profile, self.first_seed + turn)
        });
        let shows = |plan: &Plan| {
            let outcome = Simulation::new(plan.clone()).run().outcome;
            self.shows.is_in(&outcome) && holds_without(plan, done)
        };
        let shown = plans.zip(1..).find(|(plan, _)| shows(plan));
        shown.map(|(plan, seeds)| Found { seed: plan.seed, seeds })
    }
}

/// Hunts all of them, so many at a time, and prints and notes a line for each. Returns whether each was found.
#[must_use]
pub fn hunt_all(jobs: usize) -> bool {
    let done = Done::open();
    let (next, living) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    println!("{:<34} {:<24} {:<44} found", "planted bug", "profile", "shows as");
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(mutant) = TABLE.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let found = mutant.hunt(&done);
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
        |found| format!("by seed {}, the {} that was tried", found.seed, nth(found.seeds)),
    );
    let Mutant { name, profile, shows, .. } = mutant;
    format!("{name:<34} {:<24} {shows:<44} {told}", profile.name())
}

fn nth(number: u64) -> String {
    let ending = match number {
        1 => "st",
        2 => "nd",
        3 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_bug_is_not_found_by_what_another_one_breaks() {
        let violations = vec!["G1b: partition 0 was told to end at 3".to_owned()];
        let broken = Outcome { violations, ..Outcome::default() };
        assert!(Breaks("G1b").is_in(&broken));
        assert!(!Breaks("G1").is_in(&broken));
        assert!(!Says("").is_in(&broken));
        let fell = Outcome { broken: Some("a host ended: no room".to_owned()), ..broken };
        assert!(Says("no room").is_in(&fell));
        assert!(!Says("damaged").is_in(&fell));
        assert!(!BreaksOrPanics("G2").is_in(&fell) && BreaksOrPanics("G1b").is_in(&fell));
    }

    #[test]
    fn every_guarantee_has_bugs_that_take_it_away() {
        let all: BTreeSet<&str> = TABLE.iter().map(|it| it.against).collect();
        assert_eq!(Vec::from_iter(all), ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8"]);
    }

    #[test]
    fn every_promise_and_rule_has_a_bug_that_breaks_it_or_a_reason_why_not() {
        let shown = TABLE.iter().filter_map(|it| match it.shows {
            Breaks(id) | BreaksOrPanics(id) => Some(id),
            Says(_) => None,
        });
        let shown: BTreeSet<&str> = shown.collect();
        let not_shown: BTreeSet<&str> = NOT_SHOWN.iter().map(|(id, _)| *id).collect();
        assert!(shown.is_disjoint(&not_shown), "a reason is out of date");
        assert_eq!(&shown | &not_shown, ids().collect());
    }

    fn ids() -> impl Iterator<Item = &'static str> {
        let promises = crate::invariants::TABLE.iter().map(|it| it.id);
        promises.chain(crate::view::RULES.iter().map(|(id, _)| *id))
    }

    #[test]
    fn every_row_says_exactly_what_it_expects() {
        let ids: Vec<&str> = ids().collect();
        for mutant in TABLE {
            match mutant.shows {
                Breaks(id) | BreaksOrPanics(id) => {
                    assert!(ids.contains(&id), "{mutant:?}");
                }
                Says(words) => assert!(words.len() > 10, "{mutant:?}"),
            }
        }
    }
}
