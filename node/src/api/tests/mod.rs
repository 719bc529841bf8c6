//! The protocols end to end: real gRPC over streams in memory, a paused clock, and partitions that the test writes.

mod calls;
mod fake;
mod fake_groups;
mod fetching;
mod grouping;
mod producing;
mod relaying;
mod world;

/// Keeps planted bugs out of a test while it lives.
struct Clean {
    _turn: std::sync::RwLockReadGuard<'static, ()>,
}

fn clean() -> Clean {
    Clean { _turn: crate::mutants::seclude() }
}
