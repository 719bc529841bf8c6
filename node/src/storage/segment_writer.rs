//! Owns what happens to segments behind apply, in one task of the node: what waits is written, and what is written is
//! synced, a short run at a time, before a checkpoint needs it. Never decides what a checkpoint holds, and keeps no replica
//! and no disk alive.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::segment::{Replica, Shelf};

/// Replicas that are open. A clone is the same list.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenReplicas(Arc<Mutex<Vec<Weak<Replica>>>>);

impl OpenReplicas {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Replica>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, replica: &Arc<Replica>) {
        self.lock().push(Arc::downgrade(replica));
    }

    /// Damage that is not repaired yet.
    pub(super) fn damaged(&self) -> usize {
        self.alive().iter().map(|replica| replica.damaged().len()).sum()
    }

    /// Those that are open now, without keeping them so.
    pub(super) fn open_now(&self) -> Vec<Weak<Replica>> {
        self.alive().iter().map(Arc::downgrade).collect()
    }

    fn alive(&self) -> Vec<Arc<Replica>> {
        let mut open = self.lock();
        open.retain(|replica| replica.strong_count() > 0);
        open.iter().filter_map(Weak::upgrade).collect()
    }

    /// Writes every segment that has at least `least` bytes waiting.
    pub(super) async fn write_all(&self, least: u64) {
        for replica in self.alive() {
            let written = replica.write_waiting(least).await;
            let was_refused = replica.refused.swap(written.is_err(), Ordering::Relaxed);
            match written {
                // It stays readable from memory, and the journal has it; the checkpoint will say so too. Said once: it is
                // tried again many times a second.
                Err(error) if !was_refused => tracing::error!(%error, "segments cannot be written"),
                Ok(()) if was_refused => {
                    tracing::info!(key = ?replica.key, "segments are written again")
                }
                _ => {}
            }
        }
    }

    /// Syncs long runs, one at a time, so that the journal's syncs get their turn.
    async fn sync_all(&self) {
        for replica in self.alive() {
            if let Err(error) = replica.sync_long_runs().await {
                // Nothing is lost: the journal has it all. If it was a sync that failed, the checkpointers stop the node (S4).
                tracing::error!(%error, "segments cannot be synced");
            }
        }
    }
}

/// Writes and syncs until told to stop, or until the store and all its replicas are gone.
pub(super) fn behind_apply(
    shelf: &Arc<Shelf>,
    replicas: OpenReplicas,
    stopping: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let unsynced = Arc::clone(&shelf.unsynced);
    let (shelf, enough) = (Arc::downgrade(shelf), Arc::clone(&shelf.enough));
    async move {
        tokio::select! {
            () = write(&shelf, &enough, &replicas, &stopping) => {}
            () = sync(&unsynced, &replicas) => {}
        }
    }
}

/// Writes what waits: long runs as soon as there are any, the rest now and then.
async fn write(
    shelf: &Weak<Shelf>,
    enough: &Notify,
    replicas: &OpenReplicas,
    stopping: &CancellationToken,
) {
    // When the short runs were written last. Not put off by long ones: a short run keeps all of the message in memory that
    // it came with.
    let mut swept = Instant::now();
    while let Some(options) = shelf.upgrade().map(|shelf| shelf.options.clone()) {
        let sweep = tokio::select! {
            () = stopping.cancelled() => return,
            () = enough.notified() => false,
            () = sleep_until(swept + options.segment_write_after) => true,
        };
        // Many short runs can fill the room too.
        if sweep || shelf.upgrade().is_some_and(|shelf| shelf.is_full()) {
            swept = Instant::now();
            replicas.write_all(1).await;
        } else {
            replicas.write_all(options.segment_write_bytes as u64).await;
        }
    }
}

/// Never ends by itself: it goes with the writing.
async fn sync(unsynced: &Notify, replicas: &OpenReplicas) {
    loop {
        unsynced.notified().await;
        replicas.sync_all().await;
    }
}
