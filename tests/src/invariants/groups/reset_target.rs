//! G4c: after a reset, reading goes on at its target: the first record of the ownership that the reset gave is the one at
//! the target, or the first behind it that the log holds. The target that was told is the one that was asked for, or where
//! the log began by then: at the latest where it begins in the end. An undo is looked up in the ledger, which folds older
//! facts: where that may happen between the look and the undo, only what was told is judged.

use std::collections::BTreeMap;

use super::super::log_starts;
use super::{Done, Resets, of_group};
use crate::group_history::{GroupEvent, generation_of};
use crate::history::Event;

pub(in crate::invariants) fn check(events: &[Event]) -> Vec<String> {
    let mut first: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    let mut outages = false;
    for (_, event) in of_group(events) {
        match event {
            GroupEvent::HandedOut { partition, offset, fence, .. } => {
                first.entry((*partition, generation_of(*fence))).or_insert(*offset);
            }
            GroupEvent::Outages => outages = true,
            _ => {}
        }
    }
    let starts = log_starts(events);
    let mut evidence = Vec::new();
    for (partition, resets) in Resets::of(events).0 {
        for reset in resets {
            let Some(Done { generation, to, .. }) = reset.done else { continue };
            let start = starts.get(&partition).copied().unwrap_or(0);
            let is_at = |at: u64, aim: u64| at == aim || (aim < at && at <= start);
            let any_is_right = reset.undo && outages;
            if !any_is_right && !is_at(to, reset.to) {
                evidence.push(format!("partition {partition}: reset to {}, told {to}", reset.to));
            }
            let begun = first.get(&(partition, generation)).copied();
            if let Some(begun) = begun.filter(|begun| !is_at(*begun, to)) {
                evidence.push(format!(
                    "partition {partition}: reset to {to} in generation {generation}, went on at {begun}"
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
            GroupEvent::ResetAsked { partition: 0, to: 3, undo: false },
            record(9, 1),
            record(goes_on_at, 2),
            GroupEvent::ResetDone { partition: 0, to: 3, generation },
            record(goes_on_at + 1, 2),
        ];
        history.map(Event::from).to_vec()
    }

    #[test]
    fn going_on_where_the_log_begins_by_now_is_not_elsewhere() {
        let begins = |offset| Event::LogStart { partition: 0, offset, kept: 0 };
        let judged = |offset| {
            let mut events = history(5);
            events.extend([Event::LogsLimited { bytes: 1 }, begins(0), begins(offset)]);
            check(&events).len()
        };
        assert_eq!((judged(5), judged(4)), (0, 1));
    }

    #[test]
    fn another_target_than_was_asked_for_is_found() {
        let judged = |undo, outages: &[GroupEvent]| {
            let asked = GroupEvent::ResetAsked { partition: 0, to: 3, undo };
            let done = GroupEvent::ResetDone { partition: 0, to: 4, generation: 2 };
            let events = [asked, done].into_iter().chain(outages.iter().cloned());
            check(&events.map(Event::from).collect::<Vec<_>>()).len()
        };
        assert_eq!((judged(false, &[]), judged(true, &[])), (1, 1));
        let outages = [GroupEvent::Outages];
        assert_eq!((judged(false, &outages), judged(true, &outages)), (1, 0));
    }

    #[test]
    fn going_on_elsewhere_is_found() {
        assert_eq!(check(&history(3)).len(), 0);
        assert_eq!(check(&history(4)).len(), 1);
        assert_eq!(check(&history(10)).len(), 1);
    }
}
