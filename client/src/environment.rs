//! Owns the client's seams to the world: wall clock and randomness. Both are parameters of [`crate::ClientConfig`], so that
//! a simulation can run the same code twice with the same outcome. Never measures durations: those come from `tokio::time`.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

/// The wall clock: stamps records and orders commits of successive consumers.
pub trait Clock: Send + Sync + Debug + 'static {
    /// Unix time in milliseconds.
    fn now_ms(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_ms(&self) -> i64 {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

/// One stream of random numbers, shared by all parts of a client.
#[derive(Debug)]
pub struct Random {
    /// The counter of `SplitMix64`; each draw takes one step, from whichever task.
    state: AtomicU64,
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// A stream that is a function of the seed alone.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// A stream seeded by the operating system.
    #[must_use]
    pub fn from_os() -> Self {
        Self::seeded(rand::random())
    }

    /// The next 64 bits (`SplitMix64`: Steele, Lea and Flood, OOPSLA 2014).
    pub fn next_u64(&self) -> u64 {
        let step = self.state.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed);
        let mut z = step.wrapping_add(GOLDEN_GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 when the bound is 0. The bias is below 2⁻³² for the bounds used here.
    pub fn below(&self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// Sixteen bytes, for ids.
    pub fn next_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next_u64().to_be_bytes());
        id[8..].copy_from_slice(&self.next_u64().to_be_bytes());
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (one, two) = (Random::seeded(7), Random::seeded(7));
        let draws = |random: &Random| (0..4).map(|_| random.next_u64()).collect::<Vec<_>>();
        assert_eq!(draws(&one), draws(&two));
        assert_ne!(draws(&one), draws(&Random::seeded(8)));
    }

    #[test]
    fn a_number_below_nothing_is_zero() {
        assert_eq!(Random::seeded(1).below(0), 0);
        assert!(Random::seeded(1).below(3) < 3);
    }
}
