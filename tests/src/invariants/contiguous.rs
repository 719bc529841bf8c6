//! G3: the offsets of a partition follow each other without gaps. The first need not be zero: retention may have been there.

use super::settled;
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let mut evidence = Vec::new();
    for (partition, records) in settled(events) {
        let offsets: Vec<u64> = records.into_keys().collect();
        for pair in offsets.windows(2).filter(|pair| pair[0] + 1 != pair[1]) {
            evidence
                .push(format!("partition {partition} goes from offset {} to {}", pair[0], pair[1]));
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(offsets: &[u64]) -> Event {
        Event::Settled {
            partition: 0,
            records: offsets.iter().map(|offset| (*offset, 100 + offset)).collect(),
        }
    }

    #[test]
    fn a_log_that_starts_late_is_no_evidence() {
        assert_eq!(check(&[end(&[3, 4, 5])]).len(), 0);
    }

    #[test]
    fn a_gap_is_found() {
        assert_eq!(check(&[end(&[0, 1, 3])]).len(), 1);
    }
}
