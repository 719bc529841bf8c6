//! The one binary: nodes, a cluster for development, a demonstration, and the commands of a client.

mod commands;

// What is shipped has no planted bugs, not even switched off.
#[cfg(feature = "mutants")]
compile_error!("the binary is never built with the feature `mutants`: see tests/mutated");

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run()
}
