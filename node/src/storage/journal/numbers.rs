//! What the journal counts of itself. Owns the meaning of its numbers; never decides by them.

use std::time::Duration;

use crate::metrics::{Counter, Histogram};

/// Counted since the journal was opened.
#[derive(Debug, Default)]
pub struct JournalNumbers {
    /// How long the write and the sync of each flush took together: they are one trip to the disk.
    pub syncs: Histogram,
    /// Bytes of all flushes, with headers and padding.
    pub bytes: Counter,
    /// Damaged parts found when the journal was opened: each is one flush or several that stood side by side.
    pub damaged: Counter,
    /// Entries that were taken from peers, because they were missing or unreadable here.
    pub mended: Counter,
}

impl JournalNumbers {
    pub(super) fn flushed(&self, bytes: u32, took: Duration) {
        self.syncs.observe(took);
        self.bytes.add(u64::from(bytes));
    }
}
