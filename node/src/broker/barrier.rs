//! Owns the coalescing of read barriers: whoever asks a shard for one while another is on its way shares the next one with
//! everyone else who asked meanwhile. A barrier never counts for a caller who came after it began: it may have been
//! confirmed by then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use waymark_proto::ids::ShardId;

use crate::consensus::{ProposeError, Shard};

type Outcome = Result<(), ProposeError>;
type Barrier = Box<dyn FnOnce() -> BoxFuture<'static, Outcome> + Send>;

/// Callers of one shard that share its next barrier.
struct Next {
    /// How to take it: the last caller's way, because that one knows the replica as it is now.
    barrier: Barrier,
    callers: Vec<oneshot::Sender<Outcome>>,
}

/// The barriers of all shards. A shard is in the map while one is on its way; its value gathers for the one after it.
#[derive(Default)]
pub(super) struct Barriers {
    running: Mutex<BTreeMap<ShardId, Option<Next>>>,
}

impl std::fmt::Debug for Barriers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Barriers")
    }
}

impl Barriers {
    /// Returns once a barrier of the shard was taken that began after this call.
    ///
    /// # Errors
    /// As [`Shard::read_barrier`], whose `patience` is this barrier's own.
    pub(super) async fn pass(
        self: &Arc<Self>,
        shard: &Shard,
        patience: std::time::Duration,
        deadline: Instant,
    ) -> Outcome {
        let replica = shard.clone();
        let barrier = move || -> BoxFuture<'static, Outcome> {
            Box::pin(async move { replica.read_barrier(Instant::now() + patience).await })
        };
        let told = self.ask(shard.id(), Box::new(barrier));
        match timeout_at(deadline, told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(ProposeError::NotHere(shard.id())),
            Err(_) => Err(ProposeError::NoQuorum(shard.id())),
        }
    }

    fn ask(self: &Arc<Self>, shard: ShardId, barrier: Barrier) -> oneshot::Receiver<Outcome> {
        let (caller, told) = oneshot::channel();
        let mut running = self.lock();
        if let Some(next) = running.get_mut(&shard) {
            let mut callers = next.take().map(|it| it.callers).unwrap_or_default();
            callers.push(caller);
            *next = Some(Next { barrier, callers });
            return told;
        }
        running.insert(shard, None);
        drop(running);
        let first = Next { barrier, callers: vec![caller] };
        // A task of its own: its first caller may go away, the others still wait.
        tokio::spawn(take(Arc::clone(self), shard, first));
        told
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Option<Next>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes one barrier after the other until nobody asks.
async fn take(barriers: Arc<Barriers>, shard: ShardId, first: Next) {
    let mut now = first;
    loop {
        let outcome = (now.barrier)().await;
        for caller in now.callers {
            // A caller that went away does not need to know.
            let _ = caller.send(outcome.clone());
        }
        let mut running = barriers.lock();
        match running.get_mut(&shard).and_then(Option::take) {
            Some(next) => now = next,
            None => {
                running.remove(&shard);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;

    fn counted(taken: &Arc<AtomicUsize>) -> Barrier {
        let taken = Arc::clone(taken);
        Box::new(move || {
            Box::pin(async move {
                taken.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(5)).await;
                Ok(())
            })
        })
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_share_one_barrier() {
        let (barriers, taken) = (Arc::new(Barriers::default()), Arc::new(AtomicUsize::new(0)));
        let told: Vec<_> = (0..100).map(|_| barriers.ask(ShardId(1), counted(&taken))).collect();
        assert!(join_all(told).await.into_iter().all(|it| it == Ok(Ok(()))));
        // The first began at once; the 99 that came while it was on its way share the second.
        assert_eq!(taken.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_barrier_that_began_before_the_call_does_not_count() {
        let (barriers, taken) = (Arc::new(Barriers::default()), Arc::new(AtomicUsize::new(0)));
        let early = barriers.ask(ShardId(1), counted(&taken));
        sleep(Duration::from_millis(2)).await;
        let late = barriers.ask(ShardId(1), counted(&taken));
        let began = Instant::now();
        early.await.unwrap().unwrap();
        late.await.unwrap().unwrap();
        assert_eq!(began.elapsed(), Duration::from_millis(8));
        assert!(barriers.lock().is_empty(), "nothing is kept of a shard that nobody asks");
    }

    #[tokio::test(start_paused = true)]
    async fn shards_do_not_wait_for_each_other() {
        let (barriers, taken) = (Arc::new(Barriers::default()), Arc::new(AtomicUsize::new(0)));
        let began = Instant::now();
        let told: Vec<_> =
            (0..5).map(|shard| barriers.ask(ShardId(shard), counted(&taken))).collect();
        join_all(told).await;
        assert_eq!((began.elapsed(), taken.load(Ordering::SeqCst)), (Duration::from_millis(5), 5));
    }
}
