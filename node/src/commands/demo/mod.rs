//! `waymark demo`: the main job before one's eyes. Three node processes take records, lose a leader, and give everything
//! back; then it is counted, and three consumers share the topic as a group. Owns the order of the story; what is counted belongs to `tally`.
//!
//! | file | owns |
//! |---|---|
//! | `input` | the records |
//! | `produce` | sending them, and how long nobody was served |
//! | `read` | the consumer |
//! | `group` | three consumers that share the topic, and what they read |
//! | `tally` | lost, duplicated, out of order |
//! | `screen` | what it looks like |

mod group;
mod input;
mod produce;
mod read;
mod screen;
mod story;
mod tally;

use std::path::{Path, PathBuf};

use super::local::{LocalCluster, free_ports};
use super::{Failure, process, runtime};
use input::Input;
use screen::Screen;
use tally::Report;

const NODES: u16 = 3;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON object at the end.
    Json,
}

/// Watch three nodes take records, lose a leader to SIGKILL, and give back every acknowledged record; then three consumers
/// share the topic, of which one is killed.
///
/// Ends with 0 only if no acknowledged record was lost, repeated or out of order, and the group lost nothing and repeated
/// nothing but what the killed consumer had not committed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Produce the lines of this file instead, and compare what is read with it byte for byte.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Records to produce while the leader is killed; a file is produced as a whole.
    #[arg(long, value_name = "COUNT", default_value_t = 6000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    records: u32,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    runtime(0)?.block_on(demonstrate(arguments))
}

async fn demonstrate(arguments: Arguments) -> Result<(), Failure> {
    let screen = Screen::new(arguments.output == Output::Json);
    let input = match &arguments.input {
        Some(path) => Input::read(path)?,
        None => Input::counted(arguments.records),
    };
    let folder = std::env::temp_dir().join(format!("waymark-demo-{}", std::process::id()));
    let mut cluster = LocalCluster::prepare(&folder, &free_ports(NODES)?)?;
    let asked_to_stop = process::asked_to_stop()?;
    let told = tokio::select! {
        told = story::tell(&screen, &mut cluster, &folder, &input) => told,
        () = asked_to_stop => Err(Failure("stopped before the end".to_owned())),
    };
    cluster.stop().await;
    let verdict = told.and_then(|report| {
        screen.result(&report);
        judge(&report)
    });
    clean_up(&folder, verdict)
}

fn judge(report: &Report) -> Result<(), Failure> {
    let broken = report.broken_promises();
    if broken.is_empty() { Ok(()) } else { Err(Failure(broken.join("; "))) }
}

/// Data of a run that kept its promises is of no use; that of any other is evidence.
fn clean_up(folder: &Path, verdict: Result<(), Failure>) -> Result<(), Failure> {
    match verdict {
        Ok(()) => std::fs::remove_dir_all(folder)
            .map_err(|error| Failure::because(folder.display(), error)),
        Err(failure) => {
            Err(Failure(format!("{failure}\ndata and logs are kept in {}", folder.display())))
        }
    }
}
