//! G2d: a log begins later than with its first record only where its limit lets it: only whole segments go, while there is
//! more than the limit, and the newest one stays. Says nothing of which records are gone; whoever excuses a loss by the log
//! start relies on this.

use std::collections::BTreeSet;

use super::settled;
use crate::history::Event;
use crate::subject::{FIRST_LARGE_PRODUCER, LARGEST_SEGMENT_BYTES, SEGMENT_BYTES};

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let limit = |event: &Event| match event {
        Event::LogsLimited { bytes } => Some(*bytes),
        _ => None,
    };
    // Whichever of them was in force when something went.
    let lowest = events.iter().filter_map(limit).min();
    let (mut written, mut with_large) = (BTreeSet::new(), BTreeSet::new());
    for event in events {
        match event {
            Event::AppendOk { partition, .. } => drop(written.insert(*partition)),
            Event::AppendInvoked { partition, producer, .. }
                if *producer >= FIRST_LARGE_PRODUCER =>
            {
                with_large.insert(*partition);
            }
            _ => {}
        }
    }
    let settled = settled(events);
    let mut evidence = Vec::new();
    for event in events {
        let Event::LogStart { partition, offset, kept } = event else { continue };
        if settled.get(partition).is_some_and(|it| it.is_empty() && written.contains(partition)) {
            evidence.push(format!("partition {partition} has taken records, and has none"));
        }
        if *offset == 0 {
            continue;
        }
        let Some(limit) = lowest else {
            evidence.push(format!("partition {partition} begins at {offset}, and has no limit"));
            continue;
        };
        let is_large = with_large.contains(partition);
        let segment = if is_large { LARGEST_SEGMENT_BYTES } else { SEGMENT_BYTES };
        let stay = limit.saturating_sub(segment.into());
        if *kept < stay {
            evidence.push(format!(
                "partition {partition} begins at {offset} with {kept} bytes, and {stay} were to stay"
            ));
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: Event = Event::AppendOk { partition: 0, offset: 1, value: 7 };

    fn begins(offset: u64, kept: u64) -> Vec<Event> {
        let records = (offset..3).map(|at| (at, 6 + at)).collect();
        let settled = Event::Settled { partition: 0, records };
        vec![ACK, settled, Event::LogStart { partition: 0, offset, kept }]
    }

    fn limited(stay: u64, mut events: Vec<Event>) -> Vec<Event> {
        events.insert(0, Event::LogsLimited { bytes: u64::from(SEGMENT_BYTES) + stay });
        events
    }

    #[test]
    fn a_log_that_lost_what_its_limit_lets_go_is_no_evidence() {
        assert_eq!(check(&begins(0, 0)).len(), 0);
        assert_eq!(check(&limited(100, begins(2, 100))).len(), 0);
        let twice = limited(50, limited(100, begins(2, 60)));
        assert_eq!(check(&twice).len(), 0, "the lower limit may have been in force");
    }

    #[test]
    fn a_log_start_beyond_what_its_limit_allows_is_found() {
        assert_eq!(check(&begins(2, 1_000)).len(), 1, "nobody limited it");
        assert_eq!(check(&limited(100, begins(2, 99))).len(), 1);
        let mut with_large = limited(100, begins(2, 99));
        let producer = FIRST_LARGE_PRODUCER;
        with_large.push(Event::AppendInvoked { partition: 0, producer, value: 9 });
        assert_eq!(check(&with_large).len(), 0, "a larger segment may have gone");
    }

    #[test]
    fn a_log_without_any_of_its_records_is_found() {
        assert_eq!(check(&limited(0, begins(3, 0))).len(), 1);
        let untouched = vec![
            Event::Settled { partition: 1, records: Vec::new() },
            Event::LogStart { partition: 1, offset: 0, kept: 0 },
        ];
        assert_eq!(check(&untouched).len(), 0);
    }
}
