//! G7: after faults stop, all replicas of a partition hold the same bytes, and none of them is missing. That they come to
//! hold everything in time is the profile's business, which waits for it.

use std::collections::BTreeSet;

use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let mut evidence = Vec::new();
    for event in events {
        let Event::Compared { partition, replicas, of } = event else { continue };
        let nodes: BTreeSet<u32> = replicas.iter().map(|(node, _)| *node).collect();
        if nodes.len() != *of as usize || replicas.len() != nodes.len() {
            evidence.push(format!(
                "partition {partition} was compared on nodes {nodes:?}, and has {of} replicas"
            ));
        }
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

    fn compared(digests: &[(u32, &str)]) -> Event {
        let replicas = digests.iter().map(|(node, digest)| (*node, (*digest).to_owned())).collect();
        Event::Compared { partition: 0, replicas, of: 3 }
    }

    #[test]
    fn one_replica_that_differs_is_found() {
        assert_eq!(check(&[compared(&[(1, "a"), (2, "a"), (3, "a")])]).len(), 0);
        assert_eq!(check(&[compared(&[(1, "a"), (2, "a"), (3, "b")])]).len(), 1);
    }

    #[test]
    fn a_replica_that_was_not_compared_is_found() {
        assert_eq!(check(&[compared(&[])]).len(), 1);
        assert_eq!(check(&[compared(&[(1, "a")])]).len(), 1);
        assert_eq!(check(&[compared(&[(1, "a"), (2, "a")])]).len(), 1);
        assert_eq!(check(&[compared(&[(1, "a"), (2, "a"), (2, "a")])]).len(), 1);
    }
}
