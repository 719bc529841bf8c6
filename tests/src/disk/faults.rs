//! Owns the words for what goes wrong with a disk: what a crash leaves, and what fails while the power is on. Never does it.

use std::ops::Range;
use std::time::Duration;

/// What a crash leaves of the writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    LoseAll,
    /// Everything: the process died, the machine did not.
    KeepAll,
    /// Of each file's writes a prefix, the next one torn at a sector.
    TornPrefix,
    /// Each sector of each write on its own.
    Shuffle,
}

impl Crash {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::LoseAll, Self::KeepAll, Self::TornPrefix, Self::Shuffle];
}

/// What goes wrong while the power is on.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// How often a write fails, 0 to 1.
    pub write_errors: f64,
    /// How often a write leaves only its first bytes and then fails, 0 to 1.
    pub short_writes: f64,
    /// How often a read fails, 0 to 1.
    pub read_errors: f64,
    /// How often a sync fails, 0 to 1. What it covered is then clean in memory and not on disk, as on Linux.
    pub sync_errors: f64,
    /// How often a sync says yes and does nothing, 0 to 1.
    pub sync_lies: f64,
    /// Nothing may be changed, and nothing opened to change it.
    pub read_only: bool,
    /// Bytes that all files may have together.
    pub capacity: Option<u64>,
    /// How long a sync takes, in simulated time.
    pub sync_latency: Range<Duration>,
    /// How long the next sync of the journal takes beyond that.
    pub journal_stall: Duration,
    /// Faults hit only files whose path starts so; all when empty. The capacity holds for all.
    pub path_prefix: String,
}
