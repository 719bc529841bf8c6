//! Owns from where on a replica keeps its log because followers pull manifests that end there (S9): without the entries behind
//! its manifest, a follower that has pulled it would have nothing to go on with, and would pull the next one too. Never
//! purges anything, and never says for how long: whoever sends a manifest lets go when too much has been kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one replica keeps for pulls from it.
#[derive(Debug, Default)]
pub(super) struct KeptLog {
    pulls: Mutex<Pulls>,
}

#[derive(Debug, Default)]
struct Pulls {
    /// Pulls that began; each has its number.
    begun: u64,
    /// Where the manifest of each ends.
    ends: BTreeMap<u64, u64>,
}

impl KeptLog {
    /// Entries behind this index stay until what is returned is dropped.
    pub(super) fn keep_after(self: &Arc<Self>, index: u64) -> LogHeld {
        let mut pulls = self.pulls();
        pulls.begun += 1;
        let pull = pulls.begun;
        pulls.ends.insert(pull, index);
        LogHeld { kept: Arc::clone(self), pull }
    }

    /// The lowest index behind which entries stay.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.pulls().ends.values().min().copied()
    }

    fn pulls(&self) -> MutexGuard<'_, Pulls> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pull for which entries stay.
#[derive(Debug)]
pub(super) struct LogHeld {
    kept: Arc<KeptLog>,
    pull: u64,
}

impl Drop for LogHeld {
    fn drop(&mut self) {
        self.kept.pulls().ends.remove(&self.pull);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_kept_for_the_pull_that_is_furthest_behind_and_as_long_as_it_lasts() {
        let kept = Arc::new(KeptLog::default());
        assert_eq!(kept.lowest(), None);
        let newer = kept.keep_after(70);
        let older = kept.keep_after(20);
        let same = kept.keep_after(20);
        assert_eq!(kept.lowest(), Some(20));
        drop(older);
        assert_eq!(kept.lowest(), Some(20));
        drop(same);
        assert_eq!(kept.lowest(), Some(70));
        drop(newer);
        assert_eq!(kept.lowest(), None);
    }
}
