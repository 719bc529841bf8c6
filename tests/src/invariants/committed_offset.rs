//! G4: a committed offset never moves back. The histories it judges contain no reset, and one committer per group and
//! partition whose commits rise; an unknown commit may count or not.

use std::collections::BTreeMap;

use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let mut least: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let mut evidence = Vec::new();
    for event in events {
        let (Event::CommitOk { group, partition, offset }
        | Event::CommittedSeen { group, partition, offset }) = event
        else {
            continue;
        };
        let floor = least.entry((*group, *partition)).or_default();
        if offset < floor {
            evidence.push(format!(
                "group {group} partition {partition} went back from {floor} to {offset}"
            ));
        }
        *floor = (*floor).max(*offset);
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: u64) -> Event {
        Event::CommitOk { group: 1, partition: 0, offset }
    }

    fn seen(offset: u64) -> Event {
        Event::CommittedSeen { group: 1, partition: 0, offset }
    }

    #[test]
    fn an_unknown_commit_may_count_or_not() {
        let unknown = Event::CommitUnknown { group: 1, partition: 0, offset: 9 };
        assert_eq!(check(&[committed(5), unknown.clone(), seen(5)]).len(), 0);
        assert_eq!(check(&[committed(5), unknown, seen(9)]).len(), 0);
    }

    #[test]
    fn an_offset_that_moved_back_is_found() {
        assert_eq!(check(&[committed(5), seen(4)]).len(), 1);
        assert_eq!(check(&[seen(9), seen(5)]).len(), 1);
    }
}
