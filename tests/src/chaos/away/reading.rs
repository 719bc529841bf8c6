//! Reads everything back and judges it: each record once, in the order of its partition, every byte as it was written. Owns
//! the verdict; what was written is `post`'s.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::time::Duration;

use indicatif::ProgressBar;
use waymark_client::{Client, ConsumerConfig, ConsumerRecord, OffsetReset, OffsetSpec, StartAt};

use super::post::{TOPIC, VALUE, number, value};
use crate::waymark::translation::failed;

/// Without a record for so long, nothing is read any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was read, compared with what was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) records: u64,
    lost: u64,
    duplicated: u64,
    /// After one that was written later.
    late: u64,
    /// Never written so.
    wrong: u64,
    /// Offsets that nobody has.
    gaps: u64,
    /// The first that is not as it should be.
    first: Option<String>,
}

impl Verdict {
    pub(super) fn is_sound(&self) -> bool {
        self.first.is_none()
    }

    fn blame(&mut self, what: impl FnOnce() -> String) {
        self.first.get_or_insert_with(what);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, lost, duplicated, late, wrong, gaps, first } = self;
        write!(
            f,
            "{records} records read: lost {lost}, duplicated {duplicated}, out of order {late}, \
             changed {wrong}, offsets skipped {gaps}"
        )?;
        first.as_ref().map_or(Ok(()), |first| write!(f, "; the first: {first}"))
    }
}

/// How far a partition was read.
#[derive(Debug, Default)]
struct Seen {
    /// The number after the highest one.
    next: u64,
    /// Below it, and not seen.
    missing: BTreeSet<u64>,
    offset: i64,
}

/// Takes records as they are read.
#[derive(Debug)]
pub(super) struct Judge {
    seed: u64,
    /// By partition.
    given: Vec<u64>,
    seen: Vec<Seen>,
    verdict: Verdict,
}

impl Judge {
    pub(super) fn new(seed: u64, given: Vec<u64>) -> Self {
        let seen = given.iter().map(|_| Seen::default()).collect();
        Self { seed, given, seen, verdict: Verdict::default() }
    }

    fn take(&mut self, (partition, offset): (u32, i64), found: &[u8]) {
        let verdict = &mut self.verdict;
        let at = || format!("partition {partition}, offset {offset}");
        verdict.records += 1;
        let Some(seen) = self.seen.get_mut(partition as usize) else { return };
        if offset != seen.offset {
            verdict.gaps += offset.abs_diff(seen.offset);
            verdict.blame(|| format!("{}, read where offset {} was to be", at(), seen.offset));
        }
        seen.offset = offset + 1;
        let told = found.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let written = |number: &u64| {
            *number < self.given[partition as usize]
                && found == value(self.seed, partition, *number)
        };
        let Some(number) = told.filter(written) else {
            verdict.wrong += 1;
            verdict.blame(|| format!("{}, which nobody wrote so", at()));
            return;
        };
        if number >= seen.next {
            seen.missing.extend(seen.next..number);
            seen.next = number + 1;
        } else if seen.missing.remove(&number) {
            verdict.late += 1;
            verdict.blame(|| format!("{}, number {number}, after {}", at(), seen.next - 1));
        } else {
            verdict.duplicated += 1;
            verdict.blame(|| format!("{}, number {number}, for the second time", at()));
        }
    }

    fn finish(mut self) -> Verdict {
        for (partition, (seen, given)) in self.seen.iter().zip(&self.given).enumerate() {
            let lost = seen.missing.len() as u64 + (given - seen.next);
            self.verdict.lost += lost;
            if lost > 0 {
                let first = seen.missing.first().unwrap_or(&seen.next);
                self.verdict.blame(|| format!("partition {partition}, number {first}, is lost"));
            }
        }
        self.verdict
    }

    /// Reads until every partition has given as many records as it was given, or has no more.
    ///
    /// # Errors
    /// When a partition cannot be read.
    pub(super) async fn read(mut self, client: &Client, bar: &ProgressBar) -> io::Result<Verdict> {
        let config = ConsumerConfig::default().auto_commit(false).group_id("judges");
        let consumer = client.consumer(config.auto_offset_reset(OffsetReset::Earliest));
        let consumer = consumer.map_err(failed)?;
        let all = (0..).zip(&self.given).map(|(partition, _)| (TOPIC, number(partition)));
        let admin = client.admin();
        let ends = admin.list_offsets(all.clone(), OffsetSpec::Latest).await.map_err(failed)?;
        let total: i64 = ends.iter().filter_map(|it| it.offset).sum();
        consumer.assign_from(all, StartAt::Beginning).await.map_err(failed)?;
        let total = u64::try_from(total).unwrap_or(0);
        while self.verdict.records < total {
            let records = consumer.poll(PATIENCE).await.map_err(failed)?;
            if records.is_empty() {
                let read = self.verdict.records;
                let why = format!("{read} of {total} records read, then none in {PATIENCE:?}");
                return Err(io::Error::other(why));
            }
            records.iter().for_each(|it| self.take(place(it), it.value.as_deref().unwrap_or(&[])));
            bar.inc(records.len() as u64 * VALUE as u64);
        }
        Ok(self.finish())
    }
}

fn place(record: &ConsumerRecord) -> (u32, i64) {
    (u32::try_from(record.partition).unwrap_or(u32::MAX), record.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two partitions, of which the first was given four records; these of them are read.
    fn judged(numbers: &[u64]) -> Verdict {
        let mut judge = Judge::new(7, vec![4, 0]);
        for (offset, number) in (0..).zip(numbers) {
            judge.take((0, offset), &value(7, 0, *number));
        }
        judge.finish()
    }

    #[test]
    fn everything_once_and_in_order_is_sound() {
        let verdict = judged(&[0, 1, 2, 3]);
        assert!(verdict.is_sound() && verdict.records == 4, "{verdict}");
    }

    #[test]
    fn what_is_lost_read_twice_or_too_late_is_told_apart() {
        let verdict = judged(&[0, 2, 1, 1]);
        assert_eq!((verdict.lost, verdict.duplicated, verdict.late), (1, 1, 1), "{verdict}");
        assert!(
            verdict.to_string().ends_with("the first: partition 0, offset 2, number 1, after 2"),
            "{verdict}"
        );
        assert_eq!(judged(&[]).lost, 4);
    }

    #[test]
    fn a_changed_byte_a_strange_number_and_another_partition_are_wrong() {
        let mut judge = Judge::new(7, vec![4, 4]);
        let mut changed = value(7, 0, 0);
        changed[VALUE - 1] ^= 1;
        judge.take((0, 0), &changed);
        judge.take((0, 1), &value(7, 0, 4));
        judge.take((1, 0), &value(7, 0, 0));
        judge.take((1, 1), b"short");
        let verdict = judge.finish();
        assert_eq!((verdict.wrong, verdict.lost, verdict.gaps), (4, 8, 0), "{verdict}");
    }

    #[test]
    fn an_offset_that_is_skipped_is_told() {
        let mut judge = Judge::new(7, vec![1]);
        judge.take((0, 3), &value(7, 0, 0));
        let verdict = judge.finish();
        assert!(verdict.gaps == 3 && !verdict.is_sound(), "{verdict}");
    }
}
