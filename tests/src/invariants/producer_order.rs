//! G3c: the records of one producer in one partition stand in the order in which it sent them.

use std::collections::BTreeMap;

use super::settled;
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let mut sent: BTreeMap<(u32, u64), (u32, usize)> = BTreeMap::new();
    for (position, event) in events.iter().enumerate() {
        if let Event::AppendInvoked { partition, producer, value } = event {
            sent.entry((*partition, *value)).or_insert((*producer, position));
        }
    }
    let mut evidence = Vec::new();
    for (partition, records) in settled(events) {
        let mut latest: BTreeMap<u32, (usize, u64)> = BTreeMap::new();
        for (offset, value) in records {
            let Some((producer, position)) = sent.get(&(partition, value)) else { continue };
            if let Some((before, other)) = latest.insert(*producer, (*position, value))
                && before > *position
            {
                evidence.push(format!(
                    "partition {partition} offset {offset} holds {value} after {other}, but producer {producer} sent it before"
                ));
            }
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(order: &[u64]) -> Vec<Event> {
        let sent = |producer, value| Event::AppendInvoked { partition: 0, producer, value };
        let records = order.iter().enumerate().map(|(at, value)| (at as u64, *value)).collect();
        vec![sent(1, 10), sent(2, 20), sent(1, 11), Event::Settled { partition: 0, records }]
    }

    #[test]
    fn two_producers_may_interleave() {
        assert_eq!(check(&history(&[20, 10, 11])).len(), 0);
        assert_eq!(check(&history(&[10, 11, 20])).len(), 0);
    }

    #[test]
    fn one_producer_out_of_order_is_found() {
        assert_eq!(check(&history(&[11, 20, 10])).len(), 1);
    }
}
