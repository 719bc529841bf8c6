//! Runs simulations. One seed of one profile runs in this process; more of them run in processes of their own, as many at
//! once as there are cores. It exits with 0 when every promise held, 1 when one was broken, 2 when it was called wrongly, 3
//! when a node fell over, 4 when real time ran out.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tracing::Level;
use waymark_node::mutants;
use waymark_tests::batch::Batch;
use waymark_tests::checkout::Checkout;
use waymark_tests::cluster::Broken;
use waymark_tests::course::{Verdict, run};
use waymark_tests::done::Done;
use waymark_tests::log_lines::Unexpected;
use waymark_tests::outcome::Outcome;
use waymark_tests::plan::{Plan, STORM_SECONDS};
use waymark_tests::profile::Profile;
use waymark_tests::storm::FaultClass;
use waymark_tests::subject::Subject;
use waymark_tests::tally::Tally;
use waymark_tests::trace_hash::{Fingerprint, TraceHash};
use waymark_tests::waymark::Waymark;
use waymark_tests::{det, evidence, meta};

/// A run is many small allocations on one thread; this makes it a tenth shorter.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds of a batch without a range, and without an end while there is time.
const SEEDS: Range<u64> = 1..101;
const UNTIL_TIME_ENDS: u64 = 1_000_000;
/// Real time that a run may take, and more for each simulated second of a storm.
const PATIENCE: Duration = Duration::from_secs(300);
const PATIENCE_PER_SECOND: Duration = Duration::from_secs(10);
/// Looks, one a second of real time, that may find the world in the same step. A step takes milliseconds; tasks that never
/// come to rest stop simulated time for ever, and only real time tells.
const MOST_LOOKS_IN_VAIN: u32 = 30;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs the real nodes and clients on a simulated network, disk and clock, under faults that follow from a seed, and checks
/// what was promised. The same seed gives the same run.
#[derive(Debug, Parser)]
struct Arguments {
    /// One run, in this process
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Runs of these seeds, the last one excluded, as 1..2001; 1..101 without it
    #[arg(long, value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// No run begins after so many minutes; without a range, seeds from 1 on until then
    #[arg(long)]
    minutes: Option<u64>,
    /// A story by its name, `swarm` for storms of any faults, `all`, or `mixed`: storms, and a story with each twentieth seed
    #[arg(long, default_value = "mixed", value_parser = profiles)]
    profile: Profiles,
    /// How long a storm lasts, simulated seconds
    #[arg(long, default_value_t = STORM_SECONDS, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Faults that a storm leaves out, by name or id
    #[arg(long, value_delimiter = ',')]
    without: Vec<FaultClass>,
    /// Faults that a storm is made of, by name or id, whatever its seed draws
    #[arg(long, value_delimiter = ',')]
    only: Vec<FaultClass>,
    /// Runs with a planted bug, by its name in the code
    #[arg(long)]
    plant: Option<String>,
    /// Plants every bug of the table in turn, and fails when one is not found
    #[arg(long, conflicts_with_all = ["seed", "seeds", "minutes", "plant"])]
    mutants: bool,
    /// Writes what this build's runs have shown so far
    #[arg(long, conflicts_with_all = ["seed", "seeds", "minutes", "mutants"])]
    evidence: Option<PathBuf>,
    /// Runs a seed twice, with every event hashed, and shows the first that differs
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "mutants"])]
    twice: bool,
    /// Processes at the same time; as many as there are cores without it
    #[arg(long)]
    jobs: Option<usize>,
    /// Runs again what was done before with this build
    #[arg(long)]
    fresh: bool,
    /// One run: which events of all crates are hashed, error to trace; trace takes four times as long
    #[arg(long, default_value = "info")]
    level: Level,
    /// One run: write its events as well, to be read, or compared with another run
    #[arg(long, requires = "seed", conflicts_with = "twice")]
    trace: Option<PathBuf>,
}

#[derive(Debug, Clone)]
enum Profiles {
    /// Each with every seed.
    All(Vec<Profile>),
    /// A storm with every seed, and with some a story as well, each in its turn.
    Mixed,
}

/// Seeds between two that play a story in a mixed batch.
const ONE_STORY_IN: u64 = 20;

fn profiles(given: &str) -> Result<Profiles, String> {
    match given {
        "all" => Ok(Profiles::All(Profile::ALL.to_vec())),
        "mixed" => Ok(Profiles::Mixed),
        one => Ok(Profiles::All(vec![one.parse()?])),
    }
}

impl Profiles {
    /// What is played with a seed.
    fn of(&self, seed: u64) -> Vec<Profile> {
        let stories = || Profile::ALL.into_iter().filter(|it| *it != Profile::Swarm);
        match self {
            Self::All(each) => each.clone(),
            Self::Mixed => {
                let turn = usize::try_from(seed / ONE_STORY_IN).unwrap_or(0) % stories().count();
                let story = stories().nth(turn).filter(|_| seed.is_multiple_of(ONE_STORY_IN));
                std::iter::once(Profile::Swarm).chain(story).collect()
            }
        }
    }
}

fn seeds(given: &str) -> Result<Range<u64>, String> {
    let (from, to) = given.split_once("..").ok_or("a range is written as 1..2001")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err(format!("{given} has no seeds")) } else { Ok(range) }
}

impl Arguments {
    fn plan(&self, profile: Profile, seed: u64) -> Plan {
        // One name for the whole life of the process.
        let plant = self.plant.clone().map(|name| &*name.leak());
        let without: BTreeSet<FaultClass> = self.without.iter().copied().collect();
        let only: BTreeSet<FaultClass> = self.only.iter().copied().collect();
        Plan { seconds: self.seconds, without, only, plant, ..Plan::new(profile, seed) }
    }

    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or_else(cores)
    }

    fn batch(&self) -> Batch {
        let endless = || SEEDS.start..UNTIL_TIME_ENDS;
        let usual = || if self.minutes.is_some() { endless() } else { SEEDS };
        let seeds = self.seeds.clone().unwrap_or_else(usual);
        let each = |seed| self.profile.of(seed).into_iter().map(move |it| self.plan(it, seed));
        Batch {
            plans: seeds.flat_map(each).collect(),
            jobs: self.jobs(),
            at_most: self.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
            resumes: !self.fresh,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.mutants {
        let all_found = waymark_tests::mutants::hunt_all(arguments.jobs());
        return ExitCode::from(u8::from(!all_found));
    }
    if let Some(path) = &arguments.evidence {
        return write_evidence(path);
    }
    let one = match &arguments.profile {
        Profiles::All(each) => each.clone(),
        Profiles::Mixed => vec![Profile::Swarm],
    };
    match (arguments.seed, one.as_slice()) {
        (seed, [profile]) if arguments.twice => {
            let plan = arguments.plan(*profile, seed.unwrap_or(SEEDS.start));
            ExitCode::from(u8::from(!meta::repeats(&plan)))
        }
        (Some(seed), [profile]) => run_here(&arguments, arguments.plan(*profile, seed)),
        (Some(seed), _) => {
            let batch = Arguments { seeds: Some(seed..seed + 1), ..arguments }.batch();
            ExitCode::from(u8::from(!batch.run()))
        }
        (None, _) => ExitCode::from(u8::from(!arguments.batch().run())),
    }
}

fn write_evidence(path: &Path) -> ExitCode {
    match std::fs::write(path, evidence::of(&Done::open(), &Checkout::now())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}

fn run_here(arguments: &Arguments, plan: Plan) -> ExitCode {
    det::count_panics();
    watch(PATIENCE + PATIENCE_PER_SECOND * u32::try_from(plan.seconds).unwrap_or(u32::MAX));
    let _planted = plan.plant.map(mutants::plant);
    let (level, trace, tally) = (arguments.level, arguments.trace.clone(), Tally::default());
    let (seed, counted) = (plan.seed, tally.clone());
    let simulated = det::run(seed, move || simulate(&plan, (level, trace), &counted));
    let mut outcome = Outcome { counts: tally.counts(), ..Outcome::default() };
    let code = match simulated {
        Err(broken) => {
            println!("broken: {broken}");
            outcome.broken = Some(broken.to_string());
            3
        }
        Ok((verdict, fingerprint)) => {
            println!("fingerprint {fingerprint}");
            println!("{} acknowledged in {:?} simulated", verdict.acknowledged, verdict.elapsed);
            let mut violated = verdict.violations.iter().map(|it| format!("violated {it}"));
            let first = violated.next().into_iter().chain(verdict.around);
            first.chain(violated).for_each(|line| println!("{line}"));
            outcome.fingerprint = fingerprint.to_string();
            outcome.acknowledged = verdict.acknowledged as u64;
            outcome.read = verdict.read as u64;
            outcome.simulated_ms = u64::try_from(verdict.elapsed.as_millis()).unwrap_or(u64::MAX);
            if let Some(broken) = &verdict.broken {
                println!("broken: {broken}");
                outcome.broken = Some(broken.to_string());
            }
            outcome.violations = verdict.violations.iter().map(ToString::to_string).collect();
            u8::from(!verdict.violations.is_empty())
        }
    };
    println!("{}", outcome.line());
    ExitCode::from(code)
}

fn simulate(
    plan: &Plan,
    (level, trace): (Level, Option<PathBuf>),
    tally: &Tally,
) -> Result<(Verdict, Fingerprint), Broken> {
    let hash = TraceHash::new(level, trace.as_deref(), tally, Unexpected::of(plan));
    let hash = hash.map_err(|error| Broken(format!("the trace cannot be written: {error}")))?;
    let nodes = Waymark::new(plan.nodes(), plan.seed).heard_by(hash.acks());
    let calls_fail = plan.classes().contains(&FaultClass::CallFaults);
    let nodes = if calls_fail { nodes.with_faulty_calls() } else { nodes };
    let keeps_logs = matches!(plan.profile, Profile::JournalRot | Profile::JournalDoubt);
    let nodes = if keeps_logs { nodes.keeping_logs() } else { nodes };
    let subject: Arc<dyn Subject> = Arc::new(nodes);
    let verdict = tracing::subscriber::with_default(hash.clone(), || run(plan, &subject, tally));
    // Also of a run that broke: the trace is written up to there.
    let fingerprint = hash.fingerprint();
    let verdict = verdict?;
    match hash.unexpected().as_slice() {
        // A broken promise says more.
        [] => Ok((verdict, fingerprint)),
        _ if !verdict.violations.is_empty() => Ok((verdict, fingerprint)),
        lines => Err(Broken(format!("unexpected log lines: {}", lines.join("; ")))),
    }
}

#[allow(clippy::disallowed_methods, reason = "real time, on a real thread, beside the simulation")]
fn watch(patience: Duration) {
    std::thread::spawn(move || {
        let (mut waited, mut seen, mut in_vain) = (Duration::ZERO, None, 0);
        // Its own naps are counted, because a process that is stopped meanwhile has not been slow.
        while waited < patience && in_vain < MOST_LOOKS_IN_VAIN {
            std::thread::sleep(LOOK_AGAIN);
            waited += LOOK_AGAIN;
            let step = det::step_under_way();
            in_vain = if step.is_some() && step == seen { in_vain + 1 } else { 0 };
            seen = step;
        }
        let why = if in_vain < MOST_LOOKS_IN_VAIN {
            format!("no end after {waited:?} of real time")
        } else {
            let about = "a task spins, two wake each other for ever, or a lock is held twice";
            format!("simulated time stands still for {in_vain} s of real time: {about}")
        };
        println!("broken: {why}");
        println!("{}", Outcome { broken: Some(why), ..Outcome::default() }.line());
        std::process::exit(4);
    });
}
