//! Runs simulations. One seed of one scenario runs in this process; more of them, or all scenarios, run in processes of
//! their own, as many at once as asked for. It exits with 0 when every promise held, 1 when one was broken, 2 when it was
//! called wrongly, 3 when a node fell over, 4 when real time ran out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;
use waymark_node::mutants;
use waymark_tests::batch::Batch;
use waymark_tests::cluster::Broken;
use waymark_tests::det;
use waymark_tests::scenario::{NODES, Scenario, Verdict, run};
use waymark_tests::subject::Subject;
use waymark_tests::trace_hash::{Fingerprint, TraceHash};
use waymark_tests::waymark::Waymark;

const USAGE: &str = "sim [--scenario NAME] [--seed FIRST] [--seeds COUNT] [--jobs COUNT] [--plant BUG] [--level LEVEL] [--trace FILE]

  --scenario NAME  calm, leader-partition, power-loss-all, birth or chaos; group-planned, group-coordinator-cut,
                   group-coordinator-crash, group-members-lost, group-reset or group-chaos; all of them without it
  --seed FIRST     the seed, or the first of several; 1 without it
  --seeds COUNT    how many seeds from the first on; 1 without it
  --jobs COUNT     processes at the same time; 1 without it
  --plant BUG      runs with a planted bug, by its name in the code
  --level LEVEL    one run: which events of all crates are hashed, error to trace; info without it, and trace takes four
                   times as long
  --trace FILE     one run: write them as well, to be read, or compared with another run by diff";
/// A task that spins without awaiting stops simulated time for ever; only real time tells.
const WATCHDOG: Duration = Duration::from_secs(300);

struct Arguments {
    scenario: Option<Scenario>,
    seed: u64,
    seeds: u64,
    jobs: usize,
    plant: Option<&'static str>,
    level: Level,
    trace: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let (seed, seeds, jobs) = (1, 1, 1);
        let (plant, level, trace) = (None, Level::INFO, None);
        let mut arguments = Self { scenario: None, seed, seeds, jobs, plant, level, trace };
        while let Some(name) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{name} needs a value"));
            let wrong = |error| format!("{name}: {error}");
            match name.as_str() {
                "--scenario" => arguments.scenario = Some(value()?.parse()?),
                "--seed" => arguments.seed = value()?.parse().map_err(wrong)?,
                "--seeds" => arguments.seeds = value()?.parse().map_err(wrong)?,
                "--jobs" => arguments.jobs = value()?.parse().map_err(wrong)?,
                // One name for the whole life of the process.
                "--plant" => arguments.plant = Some(value()?.leak()),
                "--level" => {
                    arguments.level =
                        value()?.parse().map_err(|error| format!("{name}: {error}"))?;
                }
                "--trace" => arguments.trace = Some(value()?.into()),
                _ => return Err(format!("{name} is not known")),
            }
        }
        Ok(arguments)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    let Arguments { seed: first, seeds, jobs, plant, .. } = arguments;
    match arguments.scenario {
        Some(scenario) if seeds == 1 => run_here(arguments, scenario),
        scenario => {
            let scenarios = scenario.map_or_else(|| Scenario::ALL.to_vec(), |one| vec![one]);
            let held = Batch { scenarios, first, seeds, jobs, plant }.run();
            ExitCode::from(u8::from(!held))
        }
    }
}

fn run_here(arguments: Arguments, scenario: Scenario) -> ExitCode {
    det::count_panics();
    watch();
    let _planted = arguments.plant.map(mutants::plant);
    match det::run(arguments.seed, move || simulate(&arguments, scenario)) {
        Err(broken) => {
            println!("broken: {broken}");
            ExitCode::from(3)
        }
        Ok((verdict, fingerprint)) => {
            println!("fingerprint {:016x} of {} events", fingerprint.hash, fingerprint.events);
            println!("{} acknowledged in {:?} simulated", verdict.acknowledged, verdict.elapsed);
            verdict.violations.iter().for_each(|violation| println!("violated {violation}"));
            ExitCode::from(u8::from(!verdict.violations.is_empty()))
        }
    }
}

fn simulate(arguments: &Arguments, scenario: Scenario) -> Result<(Verdict, Fingerprint), Broken> {
    let hash = TraceHash::new(arguments.level, arguments.trace.as_deref());
    let hash = hash.map_err(|error| Broken(format!("the trace cannot be written: {error}")))?;
    let subject: Arc<dyn Subject> = Arc::new(Waymark::new(NODES, arguments.seed));
    let verdict =
        tracing::subscriber::with_default(hash.clone(), || run(scenario, &subject, arguments.seed));
    // Also of a run that broke: the trace is written up to there.
    let fingerprint = hash.fingerprint();
    Ok((verdict?, fingerprint))
}

#[allow(clippy::disallowed_methods, reason = "real time, on a real thread, beside the simulation")]
fn watch() {
    std::thread::spawn(|| {
        std::thread::sleep(WATCHDOG);
        eprintln!(
            "no end after {WATCHDOG:?} of real time: a task spins without awaiting, or a lock is held twice"
        );
        std::process::exit(4);
    });
}
