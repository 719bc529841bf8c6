//! Owns what happens to segments behind apply, in one task of the node: what waits is written, and what is written is
//! synced, a short run at a time, before a checkpoint needs it. Never decides what a checkpoint holds, and keeps no replica
//! and no disk alive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::time::sleep;
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

    fn alive(&self) -> Vec<Arc<Replica>> {
        let mut open = self.lock();
        open.retain(|replica| replica.strong_count() > 0);
        open.iter().filter_map(Weak::upgrade).collect()
    }

    /// What a segment for which bytes wait has waiting on average.
    fn mean_waiting(&self) -> u64 {
        let all = self.alive().into_iter().map(|replica| replica.waiting());
        let (bytes, segments) = all.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        bytes / segments.max(1)
    }

    /// Writes every segment that has at least `least` bytes waiting.
    pub(super) async fn write_all(&self, least: u64) {
        for replica in self.alive() {
            if let Err(error) = replica.write_waiting(least).await {
                // It stays readable from memory, and the journal has it; the checkpoint will say so too.
                tracing::error!(%error, "segments cannot be written");
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
    while let Some(options) = shelf.upgrade().map(|shelf| shelf.options.clone()) {
        let least = tokio::select! {
            () = stopping.cancelled() => return,
            () = enough.notified() => options.segment_write_bytes as u64,
            () = sleep(options.segment_write_after) => 1,
        };
        // Many short runs can fill the room too: the longer ones make most of it for the fewest writes.
        let full = shelf.upgrade().is_some_and(|shelf| shelf.is_full());
        replicas.write_all(if full { replicas.mean_waiting().min(least) } else { least }).await;
    }
}

/// Never ends by itself: it goes with the writing.
async fn sync(unsynced: &Notify, replicas: &OpenReplicas) {
    loop {
        unsynced.notified().await;
        replicas.sync_all().await;
    }
}
