//! Owns the count of the group's part: what was read once, again, never, and by two at once. It trusts nothing but offsets
//! and fencing epochs of records, and is shown to fail by its tests.

use std::collections::BTreeMap;

use serde::Serialize;

/// What members read, in the order in which they were given it.
#[derive(Debug, Default)]
pub(super) struct Book {
    pages: BTreeMap<i32, Page>,
}

/// One partition's reading.
#[derive(Debug, Default)]
struct Page {
    next: i64,
    fence: i64,
    missed: u64,
    /// Records read again though nobody was killed.
    repeated: u64,
    /// Records read again by the next owner of a partition whose owner was killed.
    again: u64,
    /// Records given out under an ownership that was over.
    stale: u64,
    killed: Option<Killed>,
}

/// How far the owner that was killed had read; what it had not committed comes again, once.
#[derive(Debug)]
struct Killed {
    read_to: i64,
    fence: i64,
    again_to: i64,
}

impl Page {
    fn read(&mut self, offset: i64, fence: i64) {
        if fence < self.fence {
            self.stale += 1;
            return;
        }
        self.fence = fence;
        if offset >= self.next {
            self.missed += u64::try_from(offset - self.next).unwrap_or_default();
            self.next = offset + 1;
            return;
        }
        match &mut self.killed {
            Some(killed)
                if fence > killed.fence && (killed.again_to..killed.read_to).contains(&offset) =>
            {
                killed.again_to = offset + 1;
                self.again += 1;
            }
            _ => self.repeated += 1,
        }
    }
}

impl Book {
    /// Where each partition's reading begins.
    pub(super) fn starting_at(starts: &BTreeMap<i32, i64>) -> Self {
        let page = |next: i64| Page { next, ..Page::default() };
        Self { pages: starts.iter().map(|(partition, next)| (*partition, page(*next))).collect() }
    }

    pub(super) fn read(&mut self, partition: i32, offset: i64, fence: i64) {
        self.pages.entry(partition).or_default().read(offset, fence);
    }

    /// The owner of these has just been killed.
    pub(super) fn killed(&mut self, partitions: &[i32]) {
        for partition in partitions {
            let page = self.pages.entry(*partition).or_default();
            let (read_to, fence) = (page.next, page.fence);
            page.killed = Some(Killed { read_to, fence, again_to: 0 });
        }
    }

    /// Records that a killed owner had read but not committed.
    pub(super) fn uncommitted(&self, committed: &BTreeMap<i32, i64>) -> u64 {
        let of = |(partition, page): (&i32, &Page)| {
            let read_to = page.killed.as_ref()?.read_to;
            u64::try_from(read_to - committed.get(partition)?).ok()
        };
        self.pages.iter().filter_map(of).sum()
    }

    /// Whether every partition has been read up to its end.
    pub(super) fn is_at(&self, ends: &BTreeMap<i32, i64>) -> bool {
        ends.iter().all(|(partition, end)| self.next(*partition) >= *end)
    }

    fn next(&self, partition: i32) -> i64 {
        self.pages.get(&partition).map_or(0, |page| page.next)
    }

    fn sum(&self, of: impl Fn(&Page) -> u64) -> u64 {
        self.pages.values().map(of).sum()
    }

    /// Distinct records read so far, from these starts.
    pub(super) fn distinct(&self, starts: &BTreeMap<i32, i64>) -> u64 {
        let read = |(partition, page): (&i32, &Page)| {
            let start = starts.get(partition).copied().unwrap_or_default();
            u64::try_from(page.next - start).unwrap_or_default().saturating_sub(page.missed)
        };
        self.pages.iter().map(read).sum()
    }

    /// What came out, when partitions end here.
    pub(super) fn counts(
        &self,
        starts: &BTreeMap<i32, i64>,
        ends: &BTreeMap<i32, i64>,
    ) -> GroupCounts {
        let unread = |(partition, end): (&i32, &i64)| {
            u64::try_from(*end - self.next(*partition)).unwrap_or_default()
        };
        GroupCounts {
            read: self.distinct(starts),
            lost: self.sum(|page| page.missed) + ends.iter().map(unread).sum::<u64>(),
            repeated_planned: self.sum(|page| page.repeated),
            repeated_after_kill: self.sum(|page| page.again),
            two_owners: self.sum(|page| page.stale),
        }
    }
}

/// What members read, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in super::super) struct GroupCounts {
    pub(in super::super) read: u64,
    pub(in super::super) lost: u64,
    /// Read again though the change was planned: joining and leaving repeat nothing.
    pub(in super::super) repeated_planned: u64,
    /// Read again from the last commit of the member that was killed.
    pub(in super::super) repeated_after_kill: u64,
    /// Handed out by a member after another one had the partition.
    pub(in super::super) two_owners: u64,
}

/// All that was found about the group.
#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct GroupReport {
    /// Records acknowledged while members came and went.
    pub(in super::super) records: u64,
    #[serde(flatten)]
    pub(in super::super) counts: GroupCounts,
    /// What the member that was killed had read since its last commit.
    pub(in super::super) uncommitted_at_kill: u64,
    /// From the kill until its partitions had another owner.
    pub(in super::super) taken_over_ms: u64,
    /// Of the group, at the end.
    pub(in super::super) generation: i32,
    /// The group's own story names the kill and its victim.
    pub(in super::super) explained: bool,
}

impl GroupReport {
    pub(in super::super) fn broken_promises(&self) -> Vec<String> {
        let counts = &self.counts;
        let numbers = [
            (counts.lost, "records that the group never read"),
            (counts.repeated_planned, "records repeated by a planned change of the group"),
            (counts.two_owners, "records handed out by a member that had lost the partition"),
        ];
        let some = numbers.iter().filter(|(count, _)| *count > 0);
        let mut broken: Vec<String> = some.map(|(count, what)| format!("{count} {what}")).collect();
        if counts.read != self.records {
            broken
                .push(format!("{} records sent to the group, {} read", self.records, counts.read));
        }
        if counts.repeated_after_kill != self.uncommitted_at_kill {
            broken.push(format!(
                "{} records not committed by the member that was killed, {} read again",
                self.uncommitted_at_kill, counts.repeated_after_kill
            ));
        }
        if !self.explained {
            broken.push("the group's story does not name who was killed".to_owned());
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets with their fencing epochs; a kill where there is none.
    fn counts(read: &[Option<(i64, i64)>], end: i64) -> (u64, u64, u64, u64, u64) {
        let starts = BTreeMap::from([(0, 10)]);
        let mut book = Book::starting_at(&starts);
        for one in read {
            match one {
                Some((offset, fence)) => book.read(0, *offset, *fence),
                None => book.killed(&[0]),
            }
        }
        let all = book.counts(&starts, &BTreeMap::from([(0, end)]));
        (all.read, all.lost, all.repeated_planned, all.repeated_after_kill, all.two_owners)
    }

    #[test]
    fn what_two_owners_read_one_after_the_other_is_well() {
        let read = [Some((10, 1)), Some((11, 1)), Some((12, 2)), Some((13, 2))];
        assert_eq!(counts(&read, 14), (4, 0, 0, 0, 0));
    }

    #[test]
    fn what_is_skipped_or_left_at_the_end_is_lost() {
        assert_eq!(counts(&[Some((10, 1)), Some((12, 2))], 15), (2, 3, 0, 0, 0));
    }

    #[test]
    fn what_the_next_owner_repeats_without_a_kill_is_a_broken_promise() {
        assert_eq!(counts(&[Some((10, 1)), Some((11, 1)), Some((11, 2))], 12), (2, 0, 1, 0, 0));
    }

    #[test]
    fn after_a_kill_each_record_may_come_again_once() {
        let read = [Some((10, 1)), Some((11, 1)), None, Some((11, 2)), Some((12, 2))];
        assert_eq!(counts(&read, 13), (3, 0, 0, 1, 0));
        let twice = [Some((10, 1)), None, Some((10, 2)), Some((10, 3))];
        assert_eq!(counts(&twice, 11), (1, 0, 1, 1, 0));
        let same_owner = [Some((10, 1)), None, Some((10, 1))];
        assert_eq!(counts(&same_owner, 11), (1, 0, 1, 0, 0));
    }

    #[test]
    fn an_owner_that_goes_on_after_its_time_is_seen() {
        assert_eq!(counts(&[Some((10, 1)), Some((11, 2)), Some((12, 1))], 12), (2, 0, 0, 0, 1));
    }

    #[test]
    fn every_broken_promise_of_the_group_is_named() {
        let kept = GroupReport {
            records: 9,
            counts: GroupCounts {
                read: 9,
                lost: 0,
                repeated_planned: 0,
                repeated_after_kill: 2,
                two_owners: 0,
            },
            uncommitted_at_kill: 2,
            taken_over_ms: 6_000,
            generation: 7,
            explained: true,
        };
        assert_eq!(kept.broken_promises(), Vec::<String>::new());
        let counts =
            GroupCounts { read: 8, lost: 1, repeated_planned: 1, two_owners: 1, ..kept.counts };
        let broken = GroupReport { counts, uncommitted_at_kill: 3, explained: false, ..kept };
        assert_eq!(broken.broken_promises().len(), 6, "{:?}", broken.broken_promises());
    }

    #[test]
    fn what_was_read_but_not_committed_is_counted_from_the_commit() {
        let mut book = Book::starting_at(&BTreeMap::from([(0, 10), (1, 10)]));
        (10..20).for_each(|offset| book.read(0, offset, 1));
        book.killed(&[0]);
        assert_eq!(book.uncommitted(&BTreeMap::from([(0, 16), (1, 3)])), 4);
    }
}
