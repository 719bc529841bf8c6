//! The one binary: nodes, a cluster for development, a demonstration, and the commands of a client.

mod commands;

// What is shipped has no planted bugs, not even switched off.
#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!(
    "the binary is built without the feature `mutants`: build it alone, with `cargo build --release`"
);

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run()
}
