//! G1: an acknowledged record is readable at its offset. Says nothing of records that were never acknowledged.

use super::settled;
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let settled = settled(events);
    let mut evidence = Vec::new();
    for event in events {
        let Event::AppendOk { partition, offset, value } = event else { continue };
        let Some(records) = settled.get(partition) else { continue };
        let found = records.get(offset);
        if found != Some(value) {
            evidence.push(format!(
                "value {value} was acknowledged at partition {partition} offset {offset}, which now holds {found:?}"
            ));
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: Event = Event::AppendOk { partition: 0, offset: 1, value: 7 };

    #[test]
    fn a_record_that_is_still_there_is_no_evidence() {
        let end = Event::Settled { partition: 0, records: vec![(0, 5), (1, 7)] };
        assert_eq!(check(&[ACK, end]).len(), 0);
    }

    #[test]
    fn a_record_that_is_gone_is_found() {
        let end = Event::Settled { partition: 0, records: vec![(0, 5)] };
        assert_eq!(check(&[ACK, end]).len(), 1);
    }

    #[test]
    fn a_record_that_moved_is_found() {
        let end = Event::Settled { partition: 0, records: vec![(0, 7), (1, 5)] };
        assert_eq!(check(&[ACK, end]).len(), 1);
    }
}
