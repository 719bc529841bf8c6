//! Whether a call to the disk meets with one of its faults. Owns the draws and what a sync waits; what a fault leaves behind is the
//! state's business.

use std::io;
use std::time::Duration;

use rand::Rng;

use super::points::{Call, Moment, Stage};
use super::{SimDisk, State, os_error};

impl State {
    pub(super) fn strikes(&mut self, chance: f64, path: &str) -> bool {
        chance > 0.0 && path.starts_with(&self.faults.path_prefix) && self.rng.random_bool(chance)
    }

    pub(super) fn can_read(&mut self, path: &str) -> io::Result<()> {
        let chance = self.faults.read_errors;
        if self.strikes(chance, path) { Err(os_error(libc::EIO)) } else { Ok(()) }
    }

    /// Ends in an error, with the power gone, where a trap was set.
    pub(super) fn pass(&mut self, call: Call<'_>, path: &str, stage: Stage) -> io::Result<()> {
        let pulling = self.trap.is_about_pulls() && self.is_pulling(path);
        let outcome = self.trap.pass(Moment { call, path, stage, pulling });
        if outcome.is_err() {
            self.generation += 1;
        }
        outcome
    }

    /// Whether the replica whose file this is has a note of a manifest that it pulls.
    fn is_pulling(&self, path: &str) -> bool {
        let mut parts = path.splitn(3, '/');
        let (Some(shards), Some(replica)) = (parts.next(), parts.next()) else { return false };
        self.names.contains_key(&format!("{shards}/{replica}/pulling"))
    }

    /// How long a sync takes, and how much longer because the disk stalls.
    pub(super) fn sync_latency(&mut self, path: &str) -> (Duration, Duration) {
        let range = self.faults.sync_latency.clone();
        let usual = if range.is_empty() { range.start } else { self.rng.random_range(range) };
        let stall = if path.starts_with("journal/") {
            std::mem::take(&mut self.faults.journal_stall)
        } else {
            Duration::ZERO
        };
        (usual, stall)
    }
}

impl SimDisk {
    /// Whether a sync hangs that met with a disk that stalled.
    #[must_use]
    pub fn hangs(&self) -> bool {
        self.lock().hanging > 0
    }

    /// What a sync waits.
    pub(super) async fn take(&self, (usual, stall): (Duration, Duration)) {
        let _hanging = (!stall.is_zero()).then(|| Hanging::on(self));
        if !(usual + stall).is_zero() {
            tokio::time::sleep(usual + stall).await;
        }
    }
}

/// A sync that hangs, for as long as it lives: it outlasts the fault that it met with.
struct Hanging(SimDisk);

impl Hanging {
    fn on(disk: &SimDisk) -> Self {
        disk.lock().hanging += 1;
        Self(disk.clone())
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.lock().hanging -= 1;
    }
}
