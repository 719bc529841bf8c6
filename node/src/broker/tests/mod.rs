//! The data plane on one node in memory: a real journal, store and replica over a disk that can be made to hang, on a
//! paused clock.

mod appending;
pub(super) mod bed;
pub(super) mod catalog;
mod counting;
mod disk;
mod full;
mod grouping;
mod holding;
mod leading;
mod positions;
mod reading;
mod refusing;

/// Keeps planted bugs out of a test while it lives.
pub(super) struct Clean {
    _turn: std::sync::RwLockReadGuard<'static, ()>,
}

pub(super) fn clean() -> Clean {
    Clean { _turn: crate::mutants::seclude() }
}
