//! Owns how fast partitions grow, measured between two looks at their segments: what tells when a limit of bytes will be
//! reached. Never looks itself, and forgets a partition that nobody asks about.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::ids::TopicPartition;

use crate::storage::shard_store::SegmentInfo;

/// Looks that follow each other sooner count as one: a rate over less is chance.
const SHORTEST: Duration = Duration::from_secs(1);
/// What a time as long as this shows weighs as much as all that was seen before.
const HALF: Duration = Duration::from_secs(30);
/// A partition that was not asked about for this long is forgotten: what it grew by meanwhile tells nothing of today.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Where a partition ended at a look.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    /// First offset of its newest segment …
    base: i64,
    /// … and that segment's bytes.
    bytes: u64,
    /// Bytes a second.
    rate: Option<u64>,
}

/// The partitions that were looked at lately.
#[derive(Debug, Default)]
pub(super) struct Growths(BTreeMap<TopicPartition, Seen>);

impl Growths {
    /// Takes a look at a partition's segments; returns the bytes a second that it grows by, once two looks were taken.
    pub(super) fn look(
        &mut self,
        at: TopicPartition,
        segments: &[SegmentInfo],
        now: Instant,
    ) -> Option<u64> {
        let newest = segments.last()?;
        let (base, bytes) = (newest.base_offset, newest.bytes);
        let fresh = Seen { at: now, base, bytes, rate: None };
        let seen = self.0.entry(at).or_insert(fresh);
        let elapsed = now.saturating_duration_since(seen.at);
        if elapsed < SHORTEST {
            return seen.rate;
        }
        let after = segments.iter().filter(|it| it.base_offset > seen.base);
        let same = segments.iter().find(|it| it.base_offset == seen.base);
        // A partition that was opened anew may hold less than it did.
        let grown = after.map(|it| it.bytes).sum::<u64>()
            + same.map_or(0, |it| it.bytes.saturating_sub(seen.bytes));
        let rate = blend(seen.rate, per_second(grown, elapsed), elapsed);
        *seen = Seen { rate: Some(rate), ..fresh };
        Some(rate)
    }

    /// Forgets what was not looked at lately.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, seen| now.saturating_duration_since(seen.at) < FORGOTTEN);
    }
}

fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The longer the time that a rate was measured over, the more it counts.
fn blend(before: Option<u64>, now: u64, elapsed: Duration) -> u64 {
    let Some(before) = before else { return now };
    let (old, new) = (HALF.as_millis(), elapsed.as_millis());
    let sum = u128::from(before) * old + u128::from(now) * new;
    u64::try_from(sum / (old + new)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: TopicPartition = TopicPartition {
        topic: waymark_proto::ids::TopicId([1; 16]),
        partition: waymark_proto::ids::PartitionId(0),
    };

    /// Segments of ten offsets each, the first one with this base.
    fn segments(first: i64, bytes: &[u64]) -> Vec<SegmentInfo> {
        let segment = |(base_offset, bytes): (i64, &u64)| SegmentInfo {
            base_offset,
            next_offset: base_offset + 10,
            bytes: *bytes,
            max_timestamp: 0,
            sealed: false,
        };
        (first..).step_by(10).zip(bytes).map(segment).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_what_came_between_two_looks_whatever_was_removed() {
        let (mut growths, start) = (Growths::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(growths.look(AT, &segments(0, &[100, 50]), after(0)), None);
        // The first segment has gone; the second one grew by 150, and 50 bytes are in a third one.
        assert_eq!(growths.look(AT, &segments(10, &[200, 50]), after(2)), Some(100));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_in_quick_succession_do_not_make_a_rate() {
        let (mut growths, start) = (Growths::default(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(growths.look(AT, &segments(0, &[0]), start), None);
        assert_eq!(growths.look(AT, &segments(0, &[500]), after(10)), None);
        assert_eq!(growths.look(AT, &segments(0, &[1000]), after(1000)), Some(1000));
        assert_eq!(growths.look(AT, &segments(0, &[9000]), after(1010)), Some(1000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_lull_lowers_a_rate_and_a_long_one_ends_it() {
        let (mut growths, start) = (Growths::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        growths.look(AT, &segments(0, &[0]), start);
        assert_eq!(growths.look(AT, &segments(0, &[3000]), after(30)), Some(100));
        assert_eq!(growths.look(AT, &segments(0, &[3000]), after(60)), Some(50));
        growths.forget(after(60));
        assert_eq!(growths.look(AT, &segments(0, &[3000]), after(60)), Some(50));
        growths.forget(after(900));
        assert_eq!(growths.look(AT, &segments(0, &[9000]), after(900)), None);
    }
}
