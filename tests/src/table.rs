//! The table at the end of a batch: how often each fault struck and each state was reached. What never happened was not
//! tested, whatever the verdicts say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use waymark_node::reached;

use crate::caretaker;
use crate::disk::Point;
use crate::group::MOVES;
use crate::net::relay::TROUBLES;
use crate::storm::{
    FaultClass, JOURNAL_CUT, JOURNAL_DOUBTED, LIES_LOST, LOG_LIMIT_SET, MANY_NODES, ROTS,
};

/// Storms after which everything must have happened at least once.
pub const ENOUGH: usize = 40;

/// Runs of each story after which everything that they lead to must have happened.
pub const TOLD_ENOUGH: usize = 4;

/// Faults, then states, with their counts.
#[must_use]
pub fn of(counts: &BTreeMap<String, u64>) -> String {
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let mut table = String::from("fault                   struck\n");
    for class in FaultClass::all() {
        let (id, name) = (class.id(), class.name());
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{id:<5} {name:<17} {:>7}", count(name));
    }
    table.push_str("state                  reached\n");
    for state in states().chain(states_of_stories()) {
        let _ = writeln!(table, "{state:<23} {:>6}", count(state));
    }
    table
}

/// Every state that is counted: of nodes, of whoever looks after them, of calls and of disks.
pub fn states() -> impl Iterator<Item = &'static str> {
    let of_nodes = reached::STATES.iter().copied().chain(caretaker::CHORES);
    let of_storms = [LOG_LIMIT_SET, LIES_LOST, MANY_NODES].into_iter().chain(ROTS);
    of_nodes.chain(of_storms).chain(MOVES).chain(TROUBLES).chain(Point::NAMES)
}

/// Every state that stories lead to, and no storm has to: of damage to journals, and of what follows from it and from lies.
pub fn states_of_stories() -> impl Iterator<Item = &'static str> {
    reached::STATES_AFTER_DAMAGE.iter().copied().chain([JOURNAL_DOUBTED, JOURNAL_CUT])
}

/// What stayed at zero in storms.
#[must_use]
pub fn never(counts: &BTreeMap<String, u64>) -> Vec<&'static str> {
    those_at_zero(counts, FaultClass::all().map(FaultClass::name).chain(states()))
}

/// What stayed at zero although every story was told.
#[must_use]
pub fn never_in_stories(counts: &BTreeMap<String, u64>) -> Vec<&'static str> {
    those_at_zero(counts, states_of_stories())
}

fn those_at_zero(
    counts: &BTreeMap<String, u64>,
    names: impl Iterator<Item = &'static str>,
) -> Vec<&'static str> {
    names.filter(|name| counts.get(*name).copied().unwrap_or(0) == 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_named() {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        assert!(never(&counts).contains(&"crash"));
        counts.insert("crash".to_owned(), 2);
        assert!(!never(&counts).contains(&"crash"));
        assert!(of(&counts).contains("F6    crash                   2"));
        assert!(never(&counts).contains(&"rot-of-journal"));
        assert!(never_in_stories(&counts).contains(&"replica-doubtful"));
        assert!(!never(&counts).contains(&"replica-doubtful"));
    }
}
