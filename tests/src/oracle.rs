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

/// Promises that hold at every moment, whatever is still to come.
const AT_EVERY_MOMENT: [&str; 2] = ["G2", "G6"];

/// What a run has broken that did not come to its end: most promises are of what is there then.
pub(crate) fn judge_unfinished(events: &[Event]) -> Vec<Violation> {
    let mut broken = judge(events);
    broken.retain(|it| AT_EVERY_MOMENT.contains(&it.id));
    broken
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
