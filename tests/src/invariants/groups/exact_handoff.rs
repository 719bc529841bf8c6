//! G5b: when members come and go as planned, each record is handed out once and in its place, and what was finished is what
//! is committed in the end. It judges only histories without any fault and without a reset.

use std::collections::BTreeMap;

use super::of_group;
use crate::group::GROUP;
use crate::group_history::GroupEvent;
use crate::history::Event;

pub(in crate::invariants) fn check(events: &[Event]) -> Vec<String> {
    if of_group(events).any(|(_, event)| is_unplanned(event)) {
        return Vec::new();
    }
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let mut evidence = Vec::new();
    for (_, event) in of_group(events) {
        let GroupEvent::HandedOut { member, partition, offset, .. } = event else { continue };
        let expected = next.entry(*partition).or_default();
        if offset < expected {
            evidence.push(format!(
                "partition {partition}: member {member} was given {offset} again, {expected} was next"
            ));
        } else if offset > expected {
            evidence.push(format!(
                "partition {partition}: member {member} was given {offset}, {expected} was next"
            ));
        }
        *expected = offset + 1;
    }
    for event in events {
        let Event::CommittedSeen { group: GROUP, partition, offset } = event else { continue };
        let finished = next.get(partition).copied().unwrap_or(0);
        if finished != *offset {
            evidence.push(format!(
                "partition {partition}: all have left after {finished}, committed is {offset}"
            ));
        }
    }
    evidence
}

fn is_unplanned(event: &GroupEvent) -> bool {
    matches!(
        event,
        GroupEvent::NodeFault
            | GroupEvent::Crashed { .. }
            | GroupEvent::CutOff { .. }
            | GroupEvent::Stuck { .. }
            | GroupEvent::WentOn { .. }
            | GroupEvent::ResetAsked { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_out(offset: u64) -> Event {
        GroupEvent::HandedOut { member: 1, partition: 0, offset, fence: 1 }.into()
    }

    #[test]
    fn a_record_that_is_repeated_or_skipped_is_found() {
        assert_eq!(check(&[handed_out(0), handed_out(1), handed_out(2)]).len(), 0);
        assert_eq!(check(&[handed_out(0), handed_out(1), handed_out(1)]).len(), 1);
        assert_eq!(check(&[handed_out(0), handed_out(2)]).len(), 1);
    }

    #[test]
    fn work_that_was_not_committed_is_found() {
        let seen = |offset| Event::CommittedSeen { group: GROUP, partition: 0, offset };
        assert_eq!(check(&[handed_out(0), seen(1)]).len(), 0);
        assert_eq!(check(&[handed_out(0), seen(0)]).len(), 1);
    }

    #[test]
    fn after_a_crash_records_may_be_repeated() {
        let crash = GroupEvent::Crashed { member: 1 }.into();
        assert_eq!(check(&[handed_out(0), crash, handed_out(0)]).len(), 0);
    }
}
