//! Owns when a replica is checkpointed and how much log it keeps below the checkpoint (S6): after so many bytes, after so
//! long, or when the journal has grown and this replica holds its oldest file. Never touches files itself.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use super::ConsensusOptions;
use super::shard::Shard;
use super::snapshot::CheckpointError;
use crate::mutants;
use crate::reached::reached;

/// openraft learns of a checkpoint within milliseconds; a purge that is not told now is told with the next one.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where a checkpoint stood: its index, and the bytes applied until then.
struct Mark {
    index: u64,
    bytes: u64,
}

/// Checkpoints that the log still reaches back to.
struct Marks {
    kept_bytes: u64,
    /// Oldest first.
    marks: VecDeque<Mark>,
}

impl Marks {
    /// The newest checkpoint that leaves the kept margin above it, and to those who pull what follows their manifests.
    fn purgeable(&mut self, bytes: u64, pulled: Option<u64>) -> Option<u64> {
        let limit = bytes.checked_sub(self.kept_bytes)?;
        let pulled = pulled.filter(|_| !mutants::planted!("log-not-kept-for-pulls"));
        let may_go = |mark: &Mark| mark.bytes <= limit && pulled.is_none_or(|it| mark.index <= it);
        let mut upto = None;
        while self.marks.front().is_some_and(may_go) {
            upto = self.marks.pop_front().map(|mark| mark.index);
        }
        upto
    }
}

/// Checkpoints one replica until it ends.
pub(super) struct Checkpointer {
    shard: Shard,
    bytes: u64,
    interval: Duration,
    marks: Marks,
    last: Option<u64>,
    last_bytes: u64,
    /// The last attempt failed, and that was said.
    is_failing: bool,
}

impl Checkpointer {
    pub(super) fn new(shard: Shard, options: &ConsensusOptions) -> Self {
        let last = shard.store().checkpoint().map(|it| it.applied.index);
        let mut marks = VecDeque::new();
        marks.extend(last.map(|index| Mark { index, bytes: 0 }));
        Self {
            shard,
            bytes: options.checkpoint_bytes.max(1),
            interval: options.checkpoint_interval,
            marks: Marks { kept_bytes: options.kept_bytes, marks },
            last,
            last_bytes: 0,
            is_failing: false,
        }
    }

    /// `urged`: the journal needs this replica's oldest entries gone. Returns why there can be no further checkpoint: the
    /// journal would grow until the disk is full, so the node must stop (S4).
    pub(super) async fn run(mut self, urged: &Notify) -> String {
        let mut due = Instant::now() + self.interval;
        loop {
            let applied = &self.shard.core.applied;
            applied.checkpoint_at.store(self.last_bytes + self.bytes, Ordering::Relaxed);
            let give_all_up = tokio::select! {
                () = applied.checkpoint_due.notified() => false,
                () = sleep_until(due) => false,
                () = urged.notified() => true,
                () = self.shard.store().until_sync_fails() => {
                    return format!("shard {}: segments cannot be synced", self.shard.id());
                }
            };
            due = Instant::now() + self.interval;
            if self.shard.applied_index() == self.last && !give_all_up {
                continue;
            }
            let done = self.checkpoint(give_all_up).await;
            let was_failing = std::mem::replace(&mut self.is_failing, done.is_err());
            match done {
                Ok(()) if was_failing => {
                    tracing::info!(shard = %self.shard.id(), "checkpoints are written again");
                }
                Ok(()) => {}
                Err(error) => {
                    // Once: on a full disk it fails every second.
                    if !was_failing {
                        tracing::error!(shard = %self.shard.id(), %error, "checkpoint failed, the one before stays in force");
                    }
                    if self.shard.store().sync_failed() {
                        return format!("shard {}: {error}", self.shard.id());
                    }
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn checkpoint(&mut self, give_all_up: bool) -> Result<(), CheckpointError> {
        let applied = &self.shard.core.applied;
        if self.shard.applied_index().is_none() {
            return Ok(());
        }
        let bytes = applied.applied_bytes.load(Ordering::Relaxed);
        let started = Instant::now();
        let checkpoint = applied.checkpoint().await?;
        let index = checkpoint.applied.index;
        tracing::debug!(
            shard = %self.shard.id(), index, micros = started.elapsed().as_micros(), "checkpoint"
        );
        reached!("checkpoint");
        if self.last != Some(index) {
            self.marks.marks.push_back(Mark { index, bytes });
        }
        (self.last, self.last_bytes) = (Some(index), bytes);
        let pulled = self.shard.core.kept_log.lowest();
        let upto = if give_all_up { Some(index) } else { self.marks.purgeable(bytes, pulled) };
        self.tell(index, upto).await;
        Ok(())
    }

    /// Lets openraft know of the checkpoint, and only then purge.
    async fn tell(&self, index: u64, purge_upto: Option<u64>) {
        let core = &self.shard.core;
        core.applied.unannounced.store(true, Ordering::SeqCst);
        let known = async {
            core.raft.trigger().snapshot().await.ok()?;
            let mut metrics = core.raft.metrics();
            while metrics.borrow_watched().snapshot.is_none_or(|it| it.index < index) {
                metrics.changed().await.ok()?;
            }
            core.raft.trigger().purge_log(purge_upto?).await.ok()
        };
        let _ = timeout(ANNOUNCE_PATIENCE, known).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checkpoints each 100 bytes, and 150 bytes kept.
    fn purged_at(bytes: u64, pulled: Option<u64>) -> Option<u64> {
        let mark = |number: u64| Mark { index: number * 10, bytes: number * 100 };
        Marks { kept_bytes: 150, marks: (0..=5).map(mark).collect() }.purgeable(bytes, pulled)
    }

    #[test]
    fn the_log_keeps_a_margin_and_whatever_follows_a_manifest_that_is_pulled() {
        let _sound = mutants::seclude();
        assert_eq!(purged_at(100, None), None);
        assert_eq!(purged_at(550, None), Some(40));
        assert_eq!(purged_at(550, Some(20)), Some(20));
        assert_eq!(purged_at(550, Some(25)), Some(20));
        assert_eq!(purged_at(550, Some(70)), Some(40));
    }

    #[test]
    fn a_log_that_is_purged_under_a_pull_is_noticed() {
        let _bug = mutants::plant("log-not-kept-for-pulls");
        assert_eq!(purged_at(550, Some(20)), Some(40));
    }
}
