//! Runs one simulation: a seed and a scenario in, a verdict out. It exits with 0 when every promise held, 1 when one was
//! broken, 2 when it was called wrongly, 3 when a node fell over, 4 when real time ran out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;
use waymark_node::mutants;
use waymark_tests::cluster::Broken;
use waymark_tests::det;
use waymark_tests::scenario::{Scenario, Verdict, run};
use waymark_tests::subject::Subject;
use waymark_tests::toy::Toy;
use waymark_tests::trace_hash::{Fingerprint, TraceHash};

const USAGE: &str = "sim --scenario NAME --seed N [--plant BUG] [--hash] [--trace FILE]";
/// A task that spins without awaiting stops simulated time for ever; only real time tells.
const WATCHDOG: Duration = Duration::from_secs(300);

struct Arguments {
    scenario: Scenario,
    seed: u64,
    plant: Option<&'static str>,
    hash: bool,
    trace: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments =
            Self { scenario: Scenario::Calm, seed: 0, plant: None, hash: false, trace: None };
        while let Some(name) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--scenario" => arguments.scenario = value()?.parse()?,
                "--seed" => {
                    arguments.seed = value()?.parse().map_err(|error| format!("--seed: {error}"))?
                }
                // One name for the whole life of the process.
                "--plant" => arguments.plant = Some(value()?.leak()),
                "--hash" => arguments.hash = true,
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
    det::count_panics();
    watch();
    let _planted = arguments.plant.map(mutants::plant);
    match det::run(arguments.seed, move || simulate(&arguments)) {
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

fn simulate(arguments: &Arguments) -> Result<(Verdict, Fingerprint), Broken> {
    let everything = arguments.hash || arguments.trace.is_some();
    let level = if everything { Level::TRACE } else { Level::INFO };
    let hash = TraceHash::new(level, arguments.trace.as_deref());
    let hash = hash.map_err(|error| Broken(format!("the trace cannot be written: {error}")))?;
    let subject: Arc<dyn Subject> = Arc::new(Toy::new(3));
    let verdict = tracing::subscriber::with_default(hash.clone(), || {
        run(arguments.scenario, &subject, arguments.seed)
    })?;
    Ok((verdict, hash.fingerprint()))
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
