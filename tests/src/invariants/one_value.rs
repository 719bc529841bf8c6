//! G2: an offset holds one value for every reader at every time, and nothing read is later undone.

use std::collections::BTreeMap;

use super::{log_starts, settled};
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let mut told: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    let mut evidence = Vec::new();
    let mut tell = |partition: u32, offset: u64, value: u64| {
        let first = *told.entry((partition, offset)).or_insert(value);
        if first != value {
            evidence.push(format!(
                "partition {partition} offset {offset} held {first} and then {value}"
            ));
        }
    };
    for event in events {
        match event {
            Event::Read { partition, offset, value, .. }
            | Event::AppendOk { partition, offset, value } => {
                tell(*partition, *offset, *value);
            }
            Event::Settled { partition, records } => {
                records.iter().for_each(|(offset, value)| tell(*partition, *offset, *value));
            }
            _ => {}
        }
    }
    evidence.extend(undone(events));
    evidence
}

fn undone(events: &[Event]) -> Vec<String> {
    let (settled, starts) = (settled(events), log_starts(events));
    let mut evidence = Vec::new();
    for event in events {
        let Event::Read { partition, offset, value, .. } = event else { continue };
        if starts.get(partition).is_some_and(|start| offset < start) {
            continue;
        }
        let gone = settled.get(partition).is_some_and(|records| !records.contains_key(offset));
        if gone {
            evidence.push(format!(
                "partition {partition} offset {offset} was read as {value} and is gone"
            ));
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(offset: u64, value: u64) -> Event {
        Event::Read { reader: Some(1), partition: 0, offset, value }
    }

    #[test]
    fn readers_that_agree_are_no_evidence() {
        let end = Event::Settled { partition: 0, records: vec![(0, 5)] };
        assert_eq!(check(&[read(0, 5), read(0, 5), end]).len(), 0);
    }

    #[test]
    fn two_values_at_one_offset_are_found() {
        assert_eq!(check(&[read(0, 5), read(0, 6)]).len(), 1);
        let ack = Event::AppendOk { partition: 0, offset: 0, value: 6 };
        assert_eq!(check(&[read(0, 5), ack]).len(), 1);
    }

    #[test]
    fn a_read_that_was_undone_is_found() {
        let end = Event::Settled { partition: 0, records: vec![(0, 5)] };
        assert_eq!(check(&[read(1, 6), end]).len(), 1);
    }
}
