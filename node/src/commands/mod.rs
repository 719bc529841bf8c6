//! The command line: what each command is called, and what the process ends with. Owns nothing of what they do.

mod address;
mod demo;
mod dev;
mod local;
mod node;
mod process;
mod recover;
mod telemetry;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use waymark_client::cli;

/// A replicated log cluster: topics, partitions, offsets, producers and consumers, on Raft.
#[derive(Debug, Parser)]
#[command(name = "waymark", version, about, max_term_width = 100, after_help = cli::EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Node(node::Arguments),
    Dev(dev::Arguments),
    Demo(demo::Arguments),
    Recover(recover::Arguments),
    #[command(flatten)]
    Client(Box<cli::Call>),
}

/// A command that did not do what it was asked; the text says why and, where it can, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn because(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Node(arguments) => node::run(&arguments),
        Command::Dev(arguments) => dev::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Recover(arguments) => recover::run(&arguments),
        Command::Client(call) => return cli::run(*call),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime with so many threads; 0 for half of the processors.
fn runtime(threads: u32) -> Result<tokio::runtime::Runtime, Failure> {
    let half = || std::thread::available_parallelism().map_or(1, |all| all.get() / 2);
    let threads = usize::try_from(threads).ok().filter(|threads| *threads > 0).unwrap_or_else(half);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(threads.max(1)).enable_all().build();
    built.map_err(|error| Failure::because("cannot start", error))
}
