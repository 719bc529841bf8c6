//! Runs a cluster of real processes under real faults, and judges it. See the library's `chaos`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use waymark_tests::chaos::Chaos;

/// Three real node processes, killed, stopped, cut off from each other and filled up while producers and consumers work; then
/// everything is read back and judged. It exits with 0 when every promise held, 1 when one was broken, 3 when a node ended by
/// itself or nothing was served any more.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long harm is done, minutes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Decides which harm comes when, to whom and for how long
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program of a node; without it, the release build of this source is made and taken
    #[arg(long)]
    waymark: Option<PathBuf>,
    /// On loopback, without namespaces: no link is cut, no disk filled
    #[arg(long)]
    shared: bool,
}

fn main() -> ExitCode {
    let Arguments { minutes, seed, waymark, shared } = Arguments::parse();
    let time = Duration::from_secs(60 * minutes);
    Chaos { program: waymark, seed, time, shared }.run()
}
