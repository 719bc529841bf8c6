//! G7: after faults stop, all replicas of a partition hold the same bytes. That they come to hold everything in time is the
//! profile's business, which waits for it.

use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let mut evidence = Vec::new();
    for event in events {
        let Event::Compared { partition, replicas } = event else { continue };
        let mut pairs = replicas.iter().zip(replicas.iter().skip(1));
        if let Some(((one, _), (other, _))) = pairs.find(|(one, other)| one.1 != other.1) {
            evidence.push(format!("partition {partition} differs on nodes {one} and {other}"));
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(digests: [&str; 3]) -> Event {
        let replicas = (1..).zip(digests.map(str::to_owned)).collect();
        Event::Compared { partition: 0, replicas }
    }

    #[test]
    fn one_replica_that_differs_is_found() {
        assert_eq!(check(&[compared(["a", "a", "a"])]).len(), 0);
        assert_eq!(check(&[compared(["a", "a", "b"])]).len(), 1);
    }
}
