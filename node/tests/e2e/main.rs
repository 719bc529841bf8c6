//! Whole clusters of real processes on loopback and temporary folders, killed with SIGKILL while records flow. What must
//! hold is judged from outside: by receipts, by what a consumer reads, and by the replicas' own digests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must stop")]

mod admin;
mod cluster;
mod commands;
mod examples;
mod formation;
mod groups;
mod kafka;
mod kill;
mod laggard;
mod ledger;
mod lost_disk;
mod metrics;
mod python;
mod refusals;
mod rot;
mod sharing;
