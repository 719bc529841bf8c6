//! Owns the wake-ups: whoever waits for a shard to apply something, or for metadata to change, is told by a counter. A
//! waiter looks again by itself, so a wake-up too many costs a look and one too few cannot happen.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use waymark_proto::ids::ShardId;

use crate::consensus::{ApplyObserver, Leadership};
use crate::state::Effect;

/// Low bits of a metadata version: leaders; above them the catalog's own version.
const LEADER_BITS: u32 = 32;

/// Counters of what was applied. Told by consensus, watched by the broker.
#[derive(Debug)]
pub struct Wakes {
    shards: Mutex<BTreeMap<ShardId, watch::Sender<u64>>>,
    /// The last term heard of, by shard.
    terms: Mutex<BTreeMap<ShardId, u64>>,
    /// Rises the same way on every node, so that a client may compare what different nodes say.
    metadata: watch::Sender<i64>,
}

impl Default for Wakes {
    fn default() -> Self {
        Self { shards: Mutex::default(), terms: Mutex::default(), metadata: watch::channel(0).0 }
    }
}

impl Wakes {
    fn shard(&self, shard: ShardId) -> watch::Sender<u64> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.entry(shard).or_insert_with(|| watch::channel(0).0).clone()
    }

    /// Changes of a shard from now on.
    pub(super) fn watch(&self, shard: ShardId) -> watch::Receiver<u64> {
        self.shard(shard).subscribe()
    }

    pub(super) fn metadata(&self) -> watch::Receiver<i64> {
        self.metadata.subscribe()
    }

    /// Sums what is known into one number that never falls while terms and the catalog only rise.
    pub(super) fn note_metadata(&self, catalog_version: u64) {
        let terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        let leaders: u64 = terms.values().sum();
        let version = (catalog_version << LEADER_BITS) | (leaders & u64::from(u32::MAX));
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        self.metadata.send_if_modified(|known| {
            let newer = version > *known;
            *known = version.max(*known);
            newer
        });
    }
}

impl ApplyObserver for Wakes {
    fn applied(&self, shard: ShardId, _: u64, _: &[Effect]) {
        self.shard(shard).send_modify(|count| *count += 1);
    }

    fn leadership(&self, shard: ShardId, now: Leadership) {
        {
            let mut terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
            // A leader that is known counts more than a term without one.
            let seen = now.term * 2 + u64::from(now.leader.is_some());
            let known = terms.entry(shard).or_default();
            *known = seen.max(*known);
        }
        self.shard(shard).send_modify(|count| *count += 1);
    }
}
