//! What happened in a run, counted by name: faults that struck, and states that the nodes reached because of them. A batch
//! of runs in which one stays at zero has not tested what it claims to test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts by name. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<String, u64>>>);

impl Tally {
    /// One more.
    pub fn count(&self, name: &str) {
        let mut counts = self.lock();
        match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(counts.insert(name.to_owned(), 1)),
        }
    }

    /// So many more of each.
    pub fn add(&self, others: &BTreeMap<String, u64>) {
        let mut counts = self.lock();
        for (name, more) in others {
            *counts.entry(name.clone()).or_default() += more;
        }
    }

    /// All counts.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
