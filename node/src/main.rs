//! The one binary: nodes, a cluster for development, a demonstration, and the commands of a client.

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run()
}
