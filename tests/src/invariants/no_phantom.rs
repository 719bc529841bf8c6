//! G2b: what is stored was sent to that partition, and what was refused is not stored. An unknown outcome may go either way.

use std::collections::BTreeSet;

use super::settled;
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let (mut sent, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for event in events {
        match event {
            Event::AppendInvoked { partition, value, .. } => sent.insert((*partition, *value)),
            Event::AppendFailed { partition, value } => refused.insert((*partition, *value)),
            _ => false,
        };
    }
    let mut evidence = Vec::new();
    for (partition, records) in settled(events) {
        for (offset, value) in records {
            if !sent.contains(&(partition, value)) {
                evidence.push(format!(
                    "partition {partition} offset {offset} holds {value}, which nobody sent"
                ));
            } else if refused.contains(&(partition, value)) {
                evidence.push(format!(
                    "partition {partition} offset {offset} holds {value}, which was refused"
                ));
            }
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Event = Event::AppendInvoked { partition: 0, producer: 1, value: 5 };

    fn end(value: u64) -> Event {
        Event::Settled { partition: 0, records: vec![(0, value)] }
    }

    #[test]
    fn an_unknown_outcome_may_be_stored_or_not() {
        let unknown = Event::AppendUnknown { partition: 0, value: 5 };
        assert_eq!(check(&[SENT, unknown.clone(), end(5)]).len(), 0);
        assert_eq!(check(&[SENT, unknown]).len(), 0);
    }

    #[test]
    fn a_value_that_nobody_sent_is_found() {
        assert_eq!(check(&[SENT, end(6)]).len(), 1);
    }

    #[test]
    fn a_value_that_was_refused_is_found() {
        assert_eq!(check(&[SENT, Event::AppendFailed { partition: 0, value: 5 }, end(5)]).len(), 1);
    }
}
