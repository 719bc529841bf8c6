//! Judges a history by every promise in the table. A pure function of the history: it never runs anything.

use std::fmt;

use crate::history::Event;
use crate::invariants::TABLE;

/// A promise that was broken, and the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise's id.
    pub id: &'static str,
    /// What the history shows.
    pub evidence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.evidence)
    }
}

/// Every broken promise, in the order of the table.
#[must_use]
pub fn judge(events: &[Event]) -> Vec<Violation> {
    let broken = TABLE.iter().flat_map(|invariant| {
        let evidence = (invariant.check)(events);
        evidence.into_iter().map(|evidence| Violation { id: invariant.id, evidence })
    });
    broken.collect()
}
