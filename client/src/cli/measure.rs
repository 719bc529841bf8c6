//! Owns counts and latencies of records on their way: filled by acknowledgements, read by summaries. Never sends.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart, µs; what took longer counts as this long. Two minutes, as Waymark's peers are
/// measured.
const LONGEST_MICROS: u64 = 120_000_000;

/// Latencies to three significant digits, from 1 µs.
#[derive(Debug)]
pub(super) struct Latencies(Option<Histogram<u64>>);

impl Latencies {
    pub(super) fn new() -> Self {
        // The bounds are constants that the histogram accepts; a test sees to it.
        Self(Histogram::new_with_bounds(1, LONGEST_MICROS, 3).ok())
    }

    pub(super) fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(micros.clamp(1, LONGEST_MICROS));
        }
    }

    /// Milliseconds that this share of the records (0 to 1) did not exceed.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |h| as_millis(h.value_at_quantile(share)))
    }

    pub(super) fn max(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |h| as_millis(h.max()))
    }
}

#[allow(clippy::cast_precision_loss, reason = "microseconds below two minutes are exact in f64")]
fn as_millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// A number of things per second.
#[allow(clippy::cast_precision_loss, reason = "for people: three digits are shown")]
pub(super) fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

/// A rate without its fraction.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are finite and not negative; `as` saturates"
)]
pub(super) fn whole(rate: f64) -> u64 {
    rate as u64
}

/// What became of the records of one `produce`. Filled by acknowledgements in the producer's task, read by the command.
#[derive(Debug)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    records: u64,
    bytes: u64,
    failed: u64,
    /// The first that failed: which line, and why.
    first_failure: Option<(u64, crate::Error)>,
    latencies: Latencies,
}

/// Records, rates and latencies for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Acknowledged.
    pub(super) records: u64,
    /// Of their keys and values.
    pub(super) bytes: u64,
    pub(super) failed: u64,
    pub(super) seconds: f64,
    pub(super) records_per_second: u64,
    /// Of 10^6 bytes.
    pub(super) megabytes_per_second: f64,
    pub(super) latency_ms: Quantiles,
    pub(super) interrupted: bool,
}

/// From sending to the acknowledgement, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Quantiles {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latencies = Latencies::new();
        Self(Mutex::new(Counts { records: 0, bytes: 0, failed: 0, first_failure: None, latencies }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn acknowledged(&self, bytes: u64, latency: Duration) {
        let mut counts = self.lock();
        counts.records += 1;
        counts.bytes += bytes;
        counts.latencies.add(latency);
    }

    pub(super) fn failed(&self, line: u64, error: crate::Error) {
        let mut counts = self.lock();
        counts.failed += 1;
        if counts.first_failure.as_ref().is_none_or(|(first, _)| line < *first) {
            counts.first_failure = Some((line, error));
        }
    }

    pub(super) fn first_failure(&self) -> Option<(u64, crate::Error)> {
        self.lock().first_failure.clone()
    }

    pub(super) fn records(&self) -> u64 {
        self.lock().records
    }

    pub(super) fn summary(&self, took: Duration, interrupted: bool) -> Summary {
        let counts = self.lock();
        let quantile = |share| counts.latencies.quantile(share);
        Summary {
            records: counts.records,
            bytes: counts.bytes,
            failed: counts.failed,
            seconds: took.as_secs_f64(),
            records_per_second: whole(per_second(counts.records, took)),
            megabytes_per_second: (per_second(counts.bytes, took) / 1e5).round() / 10.0,
            latency_ms: Quantiles {
                p50: quantile(0.5),
                p95: quantile(0.95),
                p99: quantile(0.99),
                max: counts.latencies.max(),
            },
            interrupted,
        }
    }
}

impl Summary {
    /// One or two lines for people.
    pub(super) fn text(&self) -> String {
        let Quantiles { p50, p95, p99, max } = &self.latency_ms;
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} NOT acknowledged"),
        };
        format!(
            "{} records acknowledged{failed}, {} in {:.2} s: {} records/s, {:.1} MB/s\n\
             acknowledged after p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms, max {max:.2} ms",
            self.records,
            indicatif::HumanBytes(self.bytes),
            self.seconds,
            self.records_per_second,
            self.megabytes_per_second,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_kept_and_extremes_are_bounded() {
        let mut latencies = Latencies::new();
        assert!(latencies.0.is_some(), "the constant bounds are legal");
        for ms in 1..=100 {
            latencies.add(Duration::from_millis(ms));
        }
        assert!((latencies.quantile(0.5) - 50.0).abs() < 0.1);
        latencies.add(Duration::ZERO);
        latencies.add(Duration::MAX);
        assert!((latencies.max() - 120_000.0).abs() < 200.0, "{}", latencies.max());
    }

    #[test]
    fn the_earliest_line_that_failed_is_the_one_to_tell() {
        let tally = Tally::new();
        tally.failed(7, crate::Error::BufferFull);
        tally.failed(3, crate::Error::NoGroup);
        tally.failed(9, crate::Error::BufferFull);
        let (line, error) = tally.first_failure().unwrap();
        assert_eq!((line, matches!(error, crate::Error::NoGroup)), (3, true));
    }

    #[test]
    fn a_summary_says_what_was_not_acknowledged() {
        let tally = Tally::new();
        tally.acknowledged(1_000_000, Duration::from_millis(2));
        tally.failed(2, crate::Error::BufferFull);
        let text = tally.summary(Duration::from_secs(2), false).text();
        assert!(text.contains("1 records acknowledged, 1 NOT acknowledged"), "{text}");
        assert!(text.contains("0.5 MB/s"), "{text}");
    }
}
