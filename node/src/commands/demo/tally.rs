//! Owns the count that the demonstration ends with: what was acknowledged against what was read. It trusts nothing but the
//! receipts and the records, and is shown to fail by its tests.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::group::GroupReport;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// What was acknowledged and what was read, by the place in the order of sending.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The receipt's offset may be unknown: the record was acknowledged all the same.
    acknowledged: BTreeMap<usize, Option<Spot>>,
    refused: usize,
    read: BTreeMap<usize, BTreeSet<Spot>>,
    records_read: usize,
    /// Records that nobody sent, or whose content differs from what was sent.
    foreign: usize,
    /// The last place read in each partition.
    last: BTreeMap<i32, (Spot, usize)>,
    out_of_order: usize,
}

/// What came out, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) acknowledged: usize,
    pub(super) not_acknowledged: usize,
    pub(super) read: usize,
    pub(super) lost: usize,
    pub(super) duplicated: usize,
    pub(super) out_of_order: usize,
    pub(super) altered: usize,
}

impl Tally {
    pub(super) fn acknowledge(&mut self, place: usize, at: Option<Spot>) {
        self.acknowledged.insert(place, at);
    }

    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Takes a record in the order in which the consumer gives it; `place` is `None` where it is not one of ours.
    pub(super) fn read(&mut self, place: Option<usize>, at: Spot) {
        self.records_read += 1;
        let Some(place) = place else {
            self.foreign += 1;
            return;
        };
        let last = self.last.insert(at.partition, (at, place));
        // One producer sent all: within a partition, places and offsets rise together.
        if last.is_some_and(|(spot, before)| spot.offset >= at.offset || before > place) {
            self.out_of_order += 1;
        }
        self.read.entry(place).or_default().insert(at);
    }

    pub(super) fn counts(&self) -> Counts {
        let found = |(place, at): &(&usize, &Option<Spot>)| {
            let seen = self.read.get(*place);
            seen.is_some_and(|seen| at.is_none_or(|at| seen.contains(&at)))
        };
        let distinct = self.read.len() + self.foreign;
        Counts {
            acknowledged: self.acknowledged.len(),
            not_acknowledged: self.refused,
            read: self.records_read,
            lost: self.acknowledged.iter().filter(|entry| !found(entry)).count(),
            duplicated: self.records_read.saturating_sub(distinct),
            out_of_order: self.out_of_order,
            altered: self.foreign,
        }
    }
}

/// All that the demonstration found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// Every line of the file came back, in bytes; absent without a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file_identical: Option<bool>,
    /// The replicas of all partitions have the same bytes.
    pub(super) replicas_identical: bool,
    pub(super) killed_node: u32,
    /// Longest time without an acknowledgement in a partition that the killed node led.
    pub(super) without_service_ms: u64,
    /// The same where another node led.
    pub(super) elsewhere_ms: u64,
    /// From the restart of the killed node until it had caught up.
    pub(super) catch_up_ms: u64,
    /// What three consumers that share the topic found; absent until they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<GroupReport>,
    pub(super) seconds: f64,
}

impl Report {
    /// What a person must hear of first; empty when all is well.
    pub(super) fn broken_promises(&self) -> Vec<String> {
        let counts = &self.counts;
        let numbers = [
            (counts.lost, "acknowledged records lost"),
            (counts.duplicated, "records duplicated"),
            (counts.out_of_order, "records out of order"),
            (counts.altered, "records altered"),
            (counts.not_acknowledged, "records never acknowledged"),
        ];
        let mut broken: Vec<String> = numbers
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if self.file_identical == Some(false) {
            broken.push("the lines read do not make up the file".to_owned());
        }
        if !self.replicas_identical {
            broken.push("the replicas differ".to_owned());
        }
        broken.extend(self.group.iter().flat_map(GroupReport::broken_promises));
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(offset: i64) -> Spot {
        Spot { partition: 0, offset }
    }

    /// Three records acknowledged at 0, 1, 2; read as told.
    fn tally(read: &[(Option<usize>, i64)]) -> Counts {
        let mut tally = Tally::default();
        for (place, offset) in (0..3).zip(0..) {
            tally.acknowledge(place, Some(spot(offset)));
        }
        for (place, offset) in read {
            tally.read(*place, spot(*offset));
        }
        tally.counts()
    }

    fn faults(counts: &Counts) -> [usize; 4] {
        [counts.lost, counts.duplicated, counts.out_of_order, counts.altered]
    }

    #[test]
    fn what_was_acknowledged_and_read_once_in_order_is_well() {
        let counts = tally(&[(Some(0), 0), (Some(1), 1), (Some(2), 2)]);
        assert_eq!(faults(&counts), [0, 0, 0, 0]);
        assert_eq!((counts.acknowledged, counts.read), (3, 3));
    }

    #[test]
    fn a_missing_record_is_lost() {
        assert_eq!(faults(&tally(&[(Some(0), 0), (Some(2), 2)])), [1, 0, 0, 0]);
    }

    #[test]
    fn a_record_that_stands_twice_is_duplicated() {
        let twice = tally(&[(Some(0), 0), (Some(1), 1), (Some(1), 2), (Some(2), 3)]);
        assert_eq!(twice.duplicated, 1);
        assert_eq!(twice.lost, 1, "the third receipt named another offset");
    }

    #[test]
    fn the_same_record_given_twice_is_duplicated_and_out_of_order() {
        let again = tally(&[(Some(0), 0), (Some(1), 1), (Some(1), 1), (Some(2), 2)]);
        assert_eq!(faults(&again), [0, 1, 1, 0]);
    }

    #[test]
    fn records_that_changed_places_are_out_of_order() {
        let swapped = tally(&[(Some(0), 0), (Some(2), 2), (Some(1), 1)]);
        assert_eq!(faults(&swapped), [0, 0, 1, 0]);
    }

    #[test]
    fn a_record_that_nobody_sent_is_altered() {
        let foreign = tally(&[(Some(0), 0), (None, 1), (Some(2), 2)]);
        assert_eq!(faults(&foreign), [1, 0, 0, 1]);
    }
}
