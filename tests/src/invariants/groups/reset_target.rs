//! G4c: after a reset, reading goes on at its target: the first record of the ownership that the reset gave is the one at
//! the target, or the first behind it that the log holds.

use std::collections::BTreeMap;

use super::{Resets, of_group};
use crate::group_history::{GroupEvent, generation_of};
use crate::history::Event;

pub(in crate::invariants) fn check(events: &[Event]) -> Vec<String> {
    let mut first: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    for (_, event) in of_group(events) {
        if let GroupEvent::HandedOut { partition, offset, fence, .. } = event {
            first.entry((*partition, generation_of(*fence))).or_insert(*offset);
        }
    }
    let mut evidence = Vec::new();
    for (partition, resets) in Resets::of(events).0 {
        for reset in resets {
            let Some((_, generation)) = reset.done else { continue };
            let begun = first.get(&(partition, generation));
            if let Some(begun) = begun.filter(|begun| **begun != reset.to) {
                evidence.push(format!(
                    "partition {partition}: reset to {} in generation {generation}, went on at {begun}",
                    reset.to
                ));
            }
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(goes_on_at: u64) -> Vec<Event> {
        let record =
            |offset, fence| GroupEvent::HandedOut { member: 1, partition: 0, offset, fence };
        let generation = 2;
        let history = [
            record(8, 1),
            GroupEvent::ResetAsked { partition: 0, to: 3 },
            record(9, 1),
            record(goes_on_at, 2),
            GroupEvent::ResetDone { partition: 0, to: 3, generation },
            record(goes_on_at + 1, 2),
        ];
        history.map(Event::from).to_vec()
    }

    #[test]
    fn going_on_elsewhere_is_found() {
        assert_eq!(check(&history(3)).len(), 0);
        assert_eq!(check(&history(4)).len(), 1);
        assert_eq!(check(&history(10)).len(), 1);
    }
}
