//! Owns where log lines go and how they look. Never decides what is logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use waymark_node::config::LogSection;

use super::Failure;

/// Writes log lines to standard error from here on.
pub(super) fn start(log: &LogSection) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&log.level)
        .map_err(|error| Failure(format!("log.level = {:?} is no filter: {error}", log.level)))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let started = if log.format == "json" {
        registry.with(lines.json().flatten_event(true)).try_init()
    } else {
        registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()
    };
    started.map_err(|error| Failure::because("log lines cannot be written", error))
}
