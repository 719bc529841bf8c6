//! Owns what the measure `rebalance` counts of the records that members read: repeated, missed, read by an old owner, and how
//! long each partition stood still. Never reads anything itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::measure::Latencies;
use crate::record::ConsumerRecord;

/// What was read, by whom, when.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) partitions: BTreeMap<i32, Page>,
    /// The reset under way.
    pub(super) reset: Option<Reset>,
    /// From the reset to the first record from its target.
    pub(super) reset_took: Vec<Duration>,
    /// Partitions that went on elsewhere, or not at all.
    pub(super) astray: u64,
}

/// A live reset. Members may go on before its answer tells where to: what they did is judged when both are known.
#[derive(Debug)]
pub(super) struct Reset {
    pub(super) asked: Instant,
    /// `None` until the answer is there.
    pub(super) targets: Option<BTreeMap<i32, i64>>,
    /// Where a partition went on first, and when.
    pub(super) went_on: BTreeMap<i32, (i64, Instant)>,
}

impl Reset {
    pub(super) fn is_over(&self) -> bool {
        let all = |targets: &BTreeMap<i32, i64>| {
            targets.keys().all(|partition| self.went_on.contains_key(partition))
        };
        self.targets.as_ref().is_some_and(all)
    }
}

/// One partition's reading.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) next: i64,
    pub(super) repeated: u64,
    pub(super) missed: u64,
    /// Records handed out under a fencing epoch below one seen before: two owners at once.
    pub(super) stale: u64,
    pub(super) fence: i64,
    pub(super) last: Instant,
    pub(super) gaps: Vec<Gap>,
}

/// Time between two readings of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) ended: Instant,
    pub(super) lasted: Duration,
    pub(super) moved: bool,
}

impl Book {
    pub(super) fn read(&mut self, record: &ConsumerRecord, now: Instant) {
        let fence = record.fencing_epoch.unwrap_or_default();
        self.note((record.partition, record.offset), fence, now);
    }

    pub(super) fn note(&mut self, (partition, offset): (i32, i64), fence: i64, now: Instant) {
        let page = self.partitions.entry(partition).or_insert_with(|| Page {
            next: 0,
            repeated: 0,
            missed: 0,
            stale: 0,
            fence,
            last: now,
            gaps: Vec::new(),
        });
        if fence < page.fence {
            page.stale += 1;
            return;
        }
        let moved = fence > page.fence;
        page.fence = fence;
        if let Some(reset) = self.reset.as_mut().filter(|_| moved)
            && !reset.went_on.contains_key(&partition)
        {
            reset.went_on.insert(partition, (offset, now));
            page.next = offset;
        }
        if offset < page.next {
            page.repeated += 1;
        } else {
            page.missed += u64::try_from(offset - page.next).unwrap_or_default();
            page.next = offset + 1;
        }
        let lasted = now.saturating_duration_since(page.last);
        if moved || !lasted.is_zero() {
            page.gaps.push(Gap { ended: now, lasted, moved });
        }
        page.last = now;
    }

    pub(super) fn end_reset(&mut self) {
        let Some(Reset { asked, targets, went_on }) = self.reset.take() else { return };
        for (partition, target) in targets.unwrap_or_default() {
            let went_on = went_on.get(&partition);
            self.astray += u64::from(went_on.is_none_or(|(offset, _)| *offset != target));
            let took = went_on.map(|(_, at)| at.saturating_duration_since(asked));
            self.reset_took.extend(took);
        }
    }

    pub(super) fn sum(&self, of: impl Fn(&Page) -> u64) -> u64 {
        self.partitions.values().map(of).sum()
    }

    pub(super) fn gaps(&self, wanted: impl Fn(&Gap) -> bool) -> Latencies {
        let mut all = Latencies::new();
        let gaps = self.partitions.values().flat_map(|page| &page.gaps);
        gaps.filter(|gap| wanted(gap)).for_each(|gap| all.add(gap.lasted));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_twice_or_not_at_all_or_by_an_old_owner_is_counted() {
        let now = Instant::now();
        let mut book = Book::default();
        for (offset, fence) in [(0, 1), (1, 1), (1, 2), (2, 2), (5, 2), (6, 1)] {
            book.note((0, offset), fence, now);
        }
        let page = &book.partitions[&0];
        assert_eq!((page.repeated, page.missed, page.stale, page.next), (1, 2, 1, 6));
    }

    #[test]
    fn a_member_that_goes_on_before_the_reset_is_answered_is_judged_all_the_same() {
        let now = Instant::now();
        let mut book = Book::default();
        (0..3).for_each(|partition| book.note((partition, 9), 1, now));
        book.reset = Some(Reset { asked: now, targets: None, went_on: BTreeMap::new() });
        book.note((0, 4), 2, now);
        book.note((1, 5), 2, now);
        if let Some(reset) = &mut book.reset {
            reset.targets = Some(BTreeMap::from([(0, 4), (1, 4), (2, 4)]));
            assert!(!reset.is_over(), "one has not gone on");
        }
        book.end_reset();
        assert_eq!((book.astray, book.reset_took.len()), (2, 2));
        assert_eq!(book.sum(|page| page.repeated), 0, "a reset is no repeat");
    }

    #[test]
    fn a_gap_across_owners_is_told_from_one_within() {
        let mut book = Book::default();
        let start = Instant::now();
        for (offset, (millis, fence)) in [(0, 1), (10, 1), (40, 2)].into_iter().enumerate() {
            let at = start + Duration::from_millis(millis);
            book.note((0, i64::try_from(offset).unwrap()), fence, at);
        }
        assert!((book.gaps(|gap| gap.moved).max() - 30.0).abs() < 0.5);
        assert!((book.gaps(|gap| !gap.moved).max() - 10.0).abs() < 0.5);
    }
}
