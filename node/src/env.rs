//! Owns the seams between a node and the world: wall clock, randomness, disk, tables, and how peers are dialled. Real
//! ones are made here; the simulation passes its own, so that product code is the same in both. Never decides anything.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use waymark_proto::transport::Dial;

use crate::storage::disk::Disk;
use crate::storage::tables::TableEngine;

/// The wall clock. Timers use `tokio::time` instead: only what is shown to people or stored as data comes from here.
pub trait Clock: Send + Sync + Debug + 'static {
    /// Unix time in milliseconds.
    fn now_ms(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_ms(&self) -> i64 {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Randomness: one seeded stream, so that a run under simulation can be repeated.
#[derive(Debug)]
pub struct Random {
    /// `SplitMix64`'s counter: every draw adds the golden gamma, so that draws from many tasks never repeat.
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
        let mut z =
            self.state.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed).wrapping_add(GOLDEN_GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Sixteen bytes, for ids.
    pub fn next_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        id[8..].copy_from_slice(&self.next_u64().to_le_bytes());
        id
    }
}

/// Everything that the outside world supplies to a node.
#[derive(Debug, Clone)]
pub struct Env {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<Random>,
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// The applied tables.
    pub tables: Arc<dyn TableEngine>,
    /// How other nodes are reached.
    pub dial: Arc<dyn Dial>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream() {
        let (a, b) = (Random::seeded(7), Random::seeded(7));
        assert_eq!(a.next_id(), b.next_id());
        assert_ne!(a.next_u64(), Random::seeded(8).next_u64());
    }
}
