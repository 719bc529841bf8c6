//! Runs a cluster of real processes under real faults, and judges it. See the library's `chaos`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use waymark_node::config::Size;
use waymark_tests::chaos::{Chaos, Harm, Story};

/// What may arrive while a node is away: enough to interrupt its catching up; no more than a disk has.
const ARRIVING: (Size, Size) = (Size::mib(16), Size::gib(100));

/// Three real node processes, killed, stopped, cut off from each other and filled up while producers and consumers work; then
/// everything is read back and judged. It exits with 0 when every promise held, 1 when one was broken, 3 when a node ended by
/// itself or nothing was served any more.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long harm is done, minutes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Another story instead: a node is away while so much arrives, and catches up though it is killed, and nodes that give
    /// it what it lacks are killed and stopped; 16 MiB to 100 GiB, of which a disk needs nearly four times as much
    #[arg(long, value_name = "SIZE", value_parser = arriving, conflicts_with = "minutes")]
    away: Option<Size>,
    /// These harms and no other, by name, in a run of their own
    #[arg(long, value_name = "HARM,…", value_delimiter = ',', conflicts_with = "away")]
    only: Vec<Harm>,
    /// Decides which harm comes when, to whom and for how long; with --away, what is written
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program of a node; without it, the release build of this source is made and taken
    #[arg(long)]
    waymark: Option<PathBuf>,
    /// On loopback, without namespaces: no link is cut, no disk filled
    #[arg(long)]
    shared: bool,
}

fn arriving(text: &str) -> Result<Size, String> {
    let (least, most) = ARRIVING;
    let size: Size = text.parse()?;
    let is_legal = (least..=most).contains(&size);
    is_legal.then_some(size).ok_or_else(|| format!("legal is {least} to {most}"))
}

fn main() -> ExitCode {
    let Arguments { minutes, away, only, seed, waymark, shared } = Arguments::parse();
    let story = match away {
        Some(Size(bytes)) => Story::Away(bytes),
        None => Story::Harm { only, time: Duration::from_secs(60 * minutes) },
    };
    Chaos { program: waymark, seed, story, shared }.run()
}
