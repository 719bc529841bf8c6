//! Owns the client commands of the `waymark` binary: what they are called, and the one way in for the binary and for
//! tests. Built with the feature `cli` only. Never talks to a cluster but through the crate's public API.
//!
//! - a file (or folder) per family of commands: `topic`, `produce`, `consume`, `offsets`, `group`, `cluster`, `bench`
//! - `call` joins a command and the options that all share (`global`) for a binary's own command line, `exit` what a process ends with, `output` the one way to standard output
//! - `line_input`, `format`, `spot`, `measure` hold what several of them need: lines into records, records into text,
//!   places in a log, counts and latencies

mod bench;
mod call;
mod cluster;
mod consume;
mod exit;
mod format;
mod global;
mod group;
mod line_input;
mod measure;
mod offsets;
mod output;
mod produce;
mod spot;
mod topic;

use std::process::ExitCode;

use clap::Subcommand;
use tokio_util::sync::CancellationToken;

pub use call::Call;
pub use exit::{EXIT_CODES, Exit, Failure};
pub use global::{DEFAULT_BOOTSTRAP, GlobalOptions, OutputFormat};
pub use output::Output;

/// The client commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Send a record for each line of a file or of standard input
    Produce(produce::ProduceArguments),
    /// Print the records of a topic
    Consume(consume::ConsumeArguments),
    /// Look up offsets of partitions; show and set what a group has committed
    #[command(subcommand)]
    Offsets(offsets::OffsetsCommand),
    /// Consumer groups: list, describe, explain, watch; move their offsets, expel members
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Describe the cluster, check its health, compare its replicas, move leaders
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Measure the cluster, with the same load that measured its peers
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

impl Command {
    /// Whether the command finishes by itself after the first Ctrl-C.
    fn ends_gracefully(&self) -> bool {
        matches!(self, Self::Produce(_) | Self::Consume(_))
    }
}

/// What a command works with.
#[derive(Debug)]
struct Context<'a> {
    global: &'a GlobalOptions,
    out: &'a mut Output,
    /// Cancelled by the first Ctrl-C.
    interrupt: CancellationToken,
}

/// Runs a command to its end on a runtime of its own and says what the process should end with. Errors go to standard
/// error, one line.
#[must_use]
pub fn run(call: Call) -> ExitCode {
    let Call { command, global } = call;
    // One thread: a record that passes from one to another waits for a wake-up each time, and one is enough for a gigabyte
    // per second.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return Exit::Unusable.into();
        }
    };
    let mut out = Output::standard(global.output);
    let outcome = runtime.block_on(until_interrupted(command, &global, &mut out));
    // Work that is left, such as reading a terminal, must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.is_silent() {
                eprintln!("error: {failure}");
            }
            failure.exit().into()
        }
    }
}

/// The first Ctrl-C asks a command to finish, or ends one that has nothing to finish; the second ends any.
async fn until_interrupted(
    command: Command,
    global: &GlobalOptions,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let interrupt = CancellationToken::new();
    let patient = command.ends_gracefully();
    let work = execute(command, global, out, interrupt.clone());
    tokio::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            pressed = tokio::signal::ctrl_c() => {
                if pressed.is_err() || !patient || interrupt.is_cancelled() {
                    return Err(Failure::interrupted());
                }
                interrupt.cancel();
            }
        }
    }
}

/// Runs a command within a runtime, writing to `out`. Cancel `interrupt` to make `produce` and `consume` finish early.
///
/// # Errors
/// Whatever the command could not do, in words, with the exit code that it deserves.
pub async fn execute(
    command: Command,
    global: &GlobalOptions,
    out: &mut Output,
    interrupt: CancellationToken,
) -> Result<Exit, Failure> {
    let mut context = Context { global, out, interrupt };
    // Boxed: the largest command must not make the future of every other as large.
    let exit = match command {
        Command::Topic(command) => Box::pin(topic::run(command, &mut context)).await,
        Command::Produce(arguments) => Box::pin(produce::run(arguments, &mut context)).await,
        Command::Consume(arguments) => Box::pin(consume::run(arguments, &mut context)).await,
        Command::Offsets(command) => Box::pin(offsets::run(command, &mut context)).await,
        Command::Group(command) => Box::pin(group::run(command, &mut context)).await,
        Command::Cluster(command) => Box::pin(cluster::run(command, &mut context)).await,
        Command::Bench(command) => Box::pin(bench::run(command, &mut context)).await,
    }?;
    context.out.flush()?;
    Ok(exit)
}

#[cfg(test)]
mod tests;
