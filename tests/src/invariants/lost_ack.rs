//! G1: an acknowledged record is readable at its offset. Says nothing of records that were never acknowledged.

use super::{log_starts, settled};
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let (settled, starts) = (settled(events), log_starts(events));
    let mut evidence = Vec::new();
    for event in events {
        let Event::AppendOk { partition, offset, value } = event else { continue };
        if starts.get(partition).is_some_and(|start| offset < start) {
            continue;
        }
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
    fn what_retention_took_is_not_lost_and_the_rest_is() {
        let end = Event::Settled { partition: 0, records: vec![(2, 8)] };
        let start = Event::LogStart { partition: 0, offset: 2, kept: 0 };
        const LIMIT: Event = Event::LogsLimited { bytes: 0 };
        let events = [LIMIT, ACK, end.clone(), start.clone()];
        assert_eq!(check(&events).len(), 0);
        assert_eq!(check(&[ACK, end.clone(), start]).len(), 1, "nobody limited the log");
        let early = Event::LogStart { partition: 0, offset: 1, kept: 0 };
        assert_eq!(check(&[LIMIT, ACK, end, early]).len(), 1);
    }

    #[test]
    fn a_record_that_moved_is_found() {
        let end = Event::Settled { partition: 0, records: vec![(0, 7), (1, 5)] };
        assert_eq!(check(&[ACK, end]).len(), 1);
    }
}
