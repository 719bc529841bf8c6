//! G3b: a record is stored once, however often its producer had to send it.

use std::collections::BTreeMap;

use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let mut evidence = Vec::new();
    for event in events {
        let Event::Settled { partition, records } = event else { continue };
        let mut first_at = BTreeMap::new();
        for (offset, value) in records {
            if let Some(first) = first_at.insert(*value, *offset) {
                evidence.push(format!(
                    "partition {partition} holds {value} at {first} and again at {offset}"
                ));
            }
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stored_twice_is_found() {
        let end = |records| [Event::Settled { partition: 0, records }];
        assert_eq!(check(&end(vec![(0, 5), (1, 6)])).len(), 0);
        assert_eq!(check(&end(vec![(0, 5), (1, 6), (2, 5)])).len(), 1);
    }
}
