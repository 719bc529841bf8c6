//! Owns the pace of pulls: a token bucket in its one-number form (the time at which the bucket is full again). Never reads
//! a byte itself.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A second's worth may be taken at once after a pause: a short pull is not slowed at all.
const BURST: Duration = Duration::from_secs(1);

/// Shared by everyone who takes from it.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: u64,
    /// When everything taken so far will have been earned. Only ever grows.
    earned_at: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        let earned_at = Mutex::new(Instant::now());
        Self { bytes_per_second: bytes_per_second.max(1), earned_at }
    }

    /// Takes `bytes` and waits until they are earned, less the burst.
    pub(super) async fn take(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let until = {
            let mut earned_at = self.earned_at.lock().unwrap_or_else(PoisonError::into_inner);
            *earned_at = (*earned_at).max(now) + cost;
            *earned_at
        };
        if until > now + BURST {
            sleep_until(until - BURST).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_beyond_the_burst_wait_for_their_share_of_time() {
        let throttle = Throttle::new(1000);
        let start = Instant::now();
        throttle.take(1000).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        throttle.take(2000).await;
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }
}
