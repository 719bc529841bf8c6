//! G3d: a reader is given the records of a partition one after the other, from where it sought; none is skipped but those
//! that retention has removed by the end, and none comes twice.

use std::collections::BTreeMap;

use super::settled;
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let settled = settled(events);
    // Offsets below may be gone: retention took them, some time.
    let kept_from = |partition: &u32| {
        let first = settled.get(partition).and_then(|records| records.keys().next());
        first.copied().unwrap_or(u64::MAX)
    };
    let mut next: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let mut evidence = Vec::new();
    for event in events {
        match event {
            Event::Sought { reader, partition, offset } => {
                next.insert((*reader, *partition), *offset);
            }
            Event::Read { reader: Some(reader), partition, offset, .. } => {
                let expected = next.insert((*reader, *partition), offset + 1);
                let Some(expected) = expected.filter(|expected| expected != offset) else {
                    continue;
                };
                if *offset < expected
                    || expected >= kept_from(partition)
                    || *offset > kept_from(partition)
                {
                    evidence.push(format!(
                        "partition {partition}: reader {reader} was given {offset}, {expected} was next"
                    ));
                }
            }
            _ => {}
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(offset: u64) -> Event {
        Event::Read { reader: Some(1), partition: 0, offset, value: 100 + offset }
    }

    fn sought(offset: u64) -> Event {
        Event::Sought { reader: 1, partition: 0, offset }
    }

    fn end(first: u64) -> Event {
        Event::Settled { partition: 0, records: (first..9).map(|it| (it, 100 + it)).collect() }
    }

    #[test]
    fn a_reader_that_goes_on_where_it_was_or_sought_is_no_evidence() {
        let history = [sought(3), read(3), read(4), sought(1), read(1), read(2), end(0)];
        assert_eq!(check(&history).len(), 0);
    }

    #[test]
    fn a_record_that_is_skipped_or_repeated_is_found() {
        assert_eq!(check(&[sought(3), read(3), read(5), end(0)]).len(), 1);
        assert_eq!(check(&[sought(3), read(4), end(0)]).len(), 1);
        assert_eq!(check(&[sought(3), read(3), read(3), end(0)]).len(), 1);
        assert_eq!(check(&[sought(3), read(3), read(2), end(0)]).len(), 1);
    }

    #[test]
    fn what_retention_removed_may_be_skipped_and_no_more() {
        assert_eq!(check(&[sought(0), read(4), end(5)]).len(), 0);
        assert_eq!(check(&[sought(0), read(6), end(5)]).len(), 1);
        assert_eq!(check(&[sought(5), read(6), end(5)]).len(), 1);
    }
}
