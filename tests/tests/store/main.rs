//! The store of segments, tables and checkpoints on the simulated disk (S5–S9): `crash` for what a power cut leaves,
//! `pull` for a laggard that takes a manifest over, `damage` for bytes that are not what was written, `brittle_tables` for an
//! engine that refuses, `refusals` for whole disks that a node must not take, `model` for what must be there.
//!
//! Each planted bug must be found by the same search that finds nothing without it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod brittle_tables;
mod crash;
mod damage;
mod model;
mod pull;
mod refusals;
