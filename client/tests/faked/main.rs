//! The client against nodes and coordinators that are fakes in this process: one program for all of it, which builds faster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(feature = "cli")]
mod commands;
mod consume;
mod deletion;
mod fake;
mod group;
#[cfg(feature = "cli")]
mod groups;
mod produce;
mod throughput;
