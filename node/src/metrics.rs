//! Instruments: what a layer counts of itself while it works. Owns how counting is done: atomics, so that it costs a few
//! nanoseconds and never waits. Never knows a metric's name, a label or who reads; the exporter does (`node/metrics`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Something that only rises while the process lives.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// So many until now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds in microseconds, from a sync of a fast disk to a request that waits for an election.
const BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// How long something took, each time, in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By bound; the last one is for all above.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds of all together: enough for five centuries.
    sum: AtomicU64,
}

/// What a histogram shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Upper bound in seconds, inclusive, and how many lie between the one below and it; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// All together.
    pub sum: Duration,
    /// How many.
    pub count: u64,
}

impl Histogram {
    /// It took so long once more.
    pub fn observe(&self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| Duration::from_micros(*bound) < took);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// All until now. The count is that of the buckets, whatever is observed meanwhile.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let bounds = BOUNDS.iter().map(|bound| Duration::from_micros(*bound).as_secs_f64());
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.sum.load(Ordering::Relaxed));
        Distribution { buckets, sum, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        for micros in [1, 100, 101, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let seen = histogram.read();
        assert_eq!((seen.buckets[0], seen.buckets[1]), ((0.0001, 2), (0.000_25, 1)));
        assert_eq!(seen.buckets[15], (10.0, 1));
        assert_eq!(seen.buckets[16], (f64::INFINITY, 1));
        assert_eq!((seen.count, seen.sum), (5, Duration::from_micros(20_000_203)));
    }

    #[test]
    fn a_counter_counts() {
        let counter = Counter::default();
        counter.one();
        counter.add(4);
        assert_eq!(counter.get(), 5);
    }
}
