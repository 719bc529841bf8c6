//! The table at the end of a batch: how often each fault struck and each state was reached. What never happened was not
//! tested, whatever the verdicts say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use waymark_node::reached;

use crate::caretaker;
use crate::disk::Point;
use crate::net::relay::TROUBLES;
use crate::storm::{FaultClass, LIES_LOST, LOG_LIMIT_SET};

/// Storms after which everything must have happened at least once.
pub const ENOUGH: usize = 40;

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
    for state in states() {
        let _ = writeln!(table, "{state:<23} {:>6}", count(state));
    }
    table
}

/// Every state that is counted: of nodes, of whoever looks after them, of calls and of disks.
pub fn states() -> impl Iterator<Item = &'static str> {
    let of_nodes =
        reached::STATES.iter().copied().chain(caretaker::CHORES).chain([LOG_LIMIT_SET, LIES_LOST]);
    of_nodes.chain(TROUBLES).chain(Point::NAMES)
}

/// What stayed at zero.
#[must_use]
pub fn never(counts: &BTreeMap<String, u64>) -> Vec<&'static str> {
    let all = FaultClass::all().map(FaultClass::name).chain(states());
    all.filter(|name| counts.get(*name).copied().unwrap_or(0) == 0).collect()
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
    }
}
