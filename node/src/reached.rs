//! States that a node reaches seldom, told by name at trace level, so that a test can ask whether it reached them at all:
//! a torn tail cut off, a manifest installed, a repeated record refused. Never decides anything, and costs nothing where
//! nobody listens.

/// The target of these events.
pub const TARGET: &str = "reached";

/// Every state that `reached!` names.
pub const STATES: &[&str] = &[
    "torn-tail",
    "truncation",
    "entry-carried",
    "segment-roll",
    "checkpoint",
    "manifest-install",
    "repair-from-peer",
    "leader-handed-over",
    "lease-expired",
    "duplicate-refused",
    "room-lost",
    "room-back",
    "overloaded",
    "log-trimmed",
    "disk-admitted",
    "replica-replaced",
    "stale-leader-refused",
];

/// Those that only damage to a journal leads to, or a disk that lied: no storm has to meet them, stories do.
pub const STATES_AFTER_DAMAGE: &[&str] = &["entries-fetched", "replica-doubtful", "log-reverted"];

/// Tells that a state was reached.
macro_rules! reached {
    ($state:literal) => {
        tracing::trace!(target: "reached", state = $state)
    };
}

pub(crate) use reached;
