//! Consensus over the real journal, the real store and the real network: openraft's own suite for log and state machine,
//! then whole nodes in one process, each on a runtime of its own so that it can be killed at any moment.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must stop")]
#![allow(
    clippy::await_holding_lock,
    reason = "the guard keeps planted bugs out for the whole test"
)]

mod blind_disk;
mod cluster;
mod formation;
mod journal_damage;
mod machine;
mod recovery;
mod replacement;
mod replication;
mod stalled_disk;
