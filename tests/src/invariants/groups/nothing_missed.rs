//! G5c: whatever happens to members and nodes, every record is finished by some member, in the end. After a reset: every
//! record from the target on that was told, after it was asked for. Except for what retention took before the group came to
//! it: where a log may begin is what G2d judges.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{log_starts, settled};
use super::of_group;
use crate::group_history::GroupEvent;
use crate::history::Event;

/// What was finished of a partition.
#[derive(Default)]
struct Finished {
    from: u64,
    all: BTreeSet<u64>,
    since_asked: BTreeSet<u64>,
}

pub(in crate::invariants) fn check(events: &[Event]) -> Vec<String> {
    let mut finished: BTreeMap<u32, Finished> = BTreeMap::new();
    let mut members = false;
    let starts = log_starts(events);
    for (_, event) in of_group(events) {
        match event {
            GroupEvent::Finished { partition, offset } => {
                let of_it = finished.entry(*partition).or_default();
                of_it.all.insert(*offset);
                of_it.since_asked.insert(*offset);
            }
            GroupEvent::ResetAsked { partition, .. } => {
                finished.entry(*partition).or_default().since_asked.clear();
            }
            GroupEvent::ResetDone { partition, to, .. } => {
                let of_it = finished.entry(*partition).or_default();
                of_it.from = *to;
                of_it.all.clone_from(&of_it.since_asked);
            }
            GroupEvent::Started { .. } => members = true,
            _ => {}
        }
    }
    let mut evidence = Vec::new();
    for (partition, records) in settled(events).into_iter().filter(|_| members) {
        let Finished { from, all: done, .. } = finished.remove(&partition).unwrap_or_default();
        let from = from.max(starts.get(&partition).copied().unwrap_or(0));
        let missed: Vec<&u64> =
            records.range(from..).map(|(offset, _)| offset).filter(|o| !done.contains(o)).collect();
        if let (Some(first), Some(last)) = (missed.first(), missed.last()) {
            let count = missed.len();
            evidence.push(format!(
                "partition {partition}: nobody finished {count} records between {first} and {last}"
            ));
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(finished: &[u64]) -> Vec<Event> {
        let mut events: Vec<Event> = vec![GroupEvent::Started { member: 1 }.into()];
        let one = |offset: &u64| GroupEvent::Finished { partition: 0, offset: *offset }.into();
        events.extend(finished.iter().map(one));
        events.push(Event::Settled { partition: 0, records: vec![(0, 7), (1, 8), (2, 9)] });
        events
    }

    #[test]
    fn a_record_that_nobody_finished_is_found() {
        assert_eq!(check(&history(&[0, 1, 1, 2])).len(), 0);
        assert_eq!(check(&history(&[0, 2])).len(), 1);
        assert_eq!(check(&history(&[])).len(), 1);
    }

    #[test]
    fn a_record_that_retention_took_first_may_be_missed() {
        let begins = |offset| Event::LogStart { partition: 0, offset, kept: 0 };
        let judged = |offset| {
            let mut events = history(&[2]);
            events.extend([Event::LogsLimited { bytes: 1 }, begins(0), begins(offset)]);
            check(&events).len()
        };
        assert_eq!(judged(2), 0);
        assert_eq!(judged(1), 1, "one that is still there");
    }

    #[test]
    fn after_a_reset_all_from_its_target_on_is_finished_again() {
        let mut events = history(&[0, 1, 2]);
        events.push(GroupEvent::ResetAsked { partition: 0, to: 1, undo: false }.into());
        assert_eq!(check(&events).len(), 0, "whether it is done, nobody knows");
        events.push(GroupEvent::ResetDone { partition: 0, to: 1, generation: 2 }.into());
        assert_eq!(check(&events).len(), 1);
        let again = [1, 2].map(|offset| GroupEvent::Finished { partition: 0, offset }.into());
        events.extend(again);
        assert_eq!(check(&events).len(), 0);
    }
}
