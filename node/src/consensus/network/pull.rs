//! Owns the taking side of a snapshot (S9): pulls what a manifest names and this node lacks, from the leader or from any
//! other node that has it, and only then lets openraft install it. While it pulls, the replica votes and answers as ever.
//!
//! One pull per shard: a second call with the same manifest joins the running pull, one with another manifest replaces it
//! (what was pulled stays). A pull outlives its callers, and installs with the newest vote that any of them brought.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use waymark_proto::ids::{NodeId, ShardId};
use waymark_proto::peer;

use super::PeerHost;
use super::door::{SegmentFiles, Snapshot};
use super::link::Links;
use super::source::MOST_RANGES;
use super::wire::{self, Route};
use crate::consensus::types::Vote;
use crate::mutants;
use crate::storage::shard_store::MissingRange;

/// Pause after every source was tried in vain.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// A pull gives up after this many stalls in a row; the leader has given up by then and calls again when it can.
const PATIENCE: u32 = 3;

/// So many pulled bytes are synced together: what a crash of this machine costs a pull.
const SETTLE_EVERY: u64 = 32 << 20;

/// A call to install a manifest.
pub(super) struct Job {
    pub(super) route: Route,
    pub(super) vote: Vote,
    pub(super) snapshot: Snapshot,
}

/// How far a pull is.
#[derive(Debug, Clone)]
pub(super) enum Progress {
    /// Bytes so far.
    Pulling(u64),
    /// Installed or refused: the replica's vote; or why not.
    Done(Result<Vote, String>),
}

struct Running {
    route: Route,
    manifest: Bytes,
    /// The newest vote brought by any call.
    vote: Mutex<Vote>,
    progress: watch::Sender<Progress>,
    replaced: CancellationToken,
}

impl Running {
    fn vote(&self) -> MutexGuard<'_, Vote> {
        self.vote.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All pulls of a node.
pub(super) struct Pulls {
    links: Arc<Links>,
    host: Arc<dyn PeerHost>,
    permits: Semaphore,
    /// At most one per shard. Entries leave when the pull is done.
    running: Mutex<BTreeMap<ShardId, Arc<Running>>>,
}

impl Pulls {
    pub(super) fn new(links: Arc<Links>, host: Arc<dyn PeerHost>) -> Self {
        let permits = Semaphore::new(links.shared.options.pulls.max(1));
        Self { links, host, permits, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<ShardId, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the pull of this manifest, or starts it.
    pub(super) fn join(self: &Arc<Self>, job: Job) -> watch::Receiver<Progress> {
        let mut all = self.running();
        let previous = all.get(&job.route.shard).cloned();
        if let Some(same) = &previous
            && same.manifest == job.snapshot.snapshot
            && same.route.to == job.route.to
        {
            let mut vote = same.vote();
            if job.vote > *vote {
                *vote = job.vote;
            }
            return same.progress.subscribe();
        }
        let running = Arc::new(Running {
            route: job.route,
            manifest: job.snapshot.snapshot.clone(),
            vote: Mutex::new(job.vote),
            progress: watch::channel(Progress::Pulling(0)).0,
            replaced: CancellationToken::new(),
        });
        all.insert(job.route.shard, Arc::clone(&running));
        let receiver = running.progress.subscribe();
        tokio::spawn(Arc::clone(self).run(running, previous, job.snapshot));
        receiver
    }

    async fn run(
        self: Arc<Self>,
        running: Arc<Running>,
        previous: Option<Arc<Running>>,
        snapshot: Snapshot,
    ) {
        if let Some(previous) = previous {
            previous.replaced.cancel();
            // Never two writers of one file.
            let mut progress = previous.progress.subscribe();
            let _gone = progress.wait_for(|now| matches!(now, Progress::Done(_))).await;
        }
        let shard = running.route.shard;
        let pulled = self.pull_all(&running).await;
        let outcome = match pulled {
            Ok(()) => self.install(&running, snapshot).await,
            Err(reason) => Err(reason),
        };
        self.leave(&running);
        match &outcome {
            Ok(_) => tracing::info!(%shard, "manifest installed"),
            Err(reason) => tracing::warn!(%shard, reason, "manifest not installed"),
        }
        running.progress.send_replace(Progress::Done(outcome));
    }

    /// Installs, again if a call brought a newer vote meanwhile: the answer to an older vote may be a refusal that looks
    /// like success to the newer leader.
    async fn install(&self, running: &Arc<Running>, snapshot: Snapshot) -> Result<Vote, String> {
        let route = running.route;
        let door = self.host.raft(route.shard, route.to).ok_or("the replica is not here")?;
        loop {
            let vote = *running.vote();
            let answer = door.install(vote, snapshot.clone()).await;
            let answer = answer.map_err(|error| error.to_string())?;
            // The leader takes this for everything up to the snapshot's end being on disk. openraft answers at once where that
            // is committed here already, and what is committed may still be on its way to the disk (S3).
            if !mutants::planted!("install-before-disk") {
                self.host.on_disk().await?;
            }
            let mut all = self.running();
            if *running.vote() == vote {
                forget(&mut all, running);
                return Ok(answer.vote);
            }
        }
    }

    fn leave(&self, running: &Arc<Running>) {
        self.links.shared.lacking().remove(&running.route.shard);
        forget(&mut self.running(), running);
    }

    async fn pull_all(&self, running: &Running) -> Result<(), String> {
        let _permit = self.permits.acquire().await.map_err(|error| error.to_string())?;
        let files = self.host.store(running.route.shard).ok_or("the replica is not here")?;
        files.begin(&running.manifest).await.map_err(|error| error.to_string())?;
        let patience = self.links.shared.options.pull_stall * PATIENCE;
        let mut progressed = Instant::now();
        let mut least = u64::MAX;
        // Who is asked first: the leader, and after it whoever follows the one that gave what was refused.
        let mut turn = 0;
        loop {
            if let Some(reason) = self.host.refuses_entries() {
                // The leader asks again at once.
                sleep(RETRY_PAUSE).await;
                return Err(reason);
            }
            let missing = files.missing(&running.manifest).await;
            let mut missing = missing.map_err(|error| error.to_string())?;
            if missing.is_empty() {
                return Ok(());
            }
            let left = missing.iter().map(|range| range.to_byte - range.from_byte).sum();
            if self.links.shared.lacking().insert(running.route.shard, left).is_none() {
                tracing::info!(
                    shard = %running.route.shard, bytes = left,
                    "the log that is missing here is kept by nobody any more, pulling segments from peers"
                );
            }
            if left < least {
                (least, progressed) = (left, Instant::now());
            } else if progressed.elapsed() > patience {
                return Err("no node gives what is missing".to_owned());
            } else {
                turn += 1;
            }
            missing.truncate(MOST_RANGES);
            if !self.pull_round((running, turn), files.as_ref(), &missing).await {
                sleep(RETRY_PAUSE).await;
            }
            if running.replaced.is_cancelled() {
                return Err("replaced by another manifest".to_owned());
            }
        }
    }

    /// Asks one node after the other, from the leader on or so many turns after it, until one gave something; whether one
    /// did.
    async fn pull_round(
        &self,
        (running, turn): (&Running, usize),
        files: &dyn SegmentFiles,
        missing: &[MissingRange],
    ) -> bool {
        let leader = running.route.from.node;
        let others = self.links.others().filter(|node| *node != leader);
        let mut sources: Vec<NodeId> = std::iter::once(leader).chain(others).collect();
        let first = turn % sources.len();
        sources.rotate_left(first);
        for source in sources {
            let before = pulled(running);
            let outcome = self.pull_from(source, running, files, missing).await;
            let settled = files.settle().await.map_err(|error| error.to_string());
            if let Err(reason) = outcome.and(settled) {
                tracing::debug!(shard = %running.route.shard, node = %source, reason, "pull failed");
            }
            if pulled(running) > before || running.replaced.is_cancelled() {
                return true;
            }
        }
        false
    }

    async fn pull_from(
        &self,
        source: NodeId,
        running: &Running,
        files: &dyn SegmentFiles,
        missing: &[MissingRange],
    ) -> Result<(), String> {
        let link = self.links.get(source).map_err(|error| error.to_string())?;
        let stall = link.shared.options.pull_stall;
        let mut client = link.client(true).map_err(|error| error.to_string())?;
        let request = peer::PullRequest {
            shard: running.route.shard.0,
            ranges: missing.iter().map(wire::range_to).collect(),
        };
        let opening = timeout(stall, client.pull(link.streaming(request))).await;
        let opened = opening.map_err(|_| "no answer")?.map_err(|status| status.to_string())?;
        let mut chunks = opened.into_inner();
        let mut unsettled = 0;
        loop {
            let next = tokio::select! {
                biased;
                () = running.replaced.cancelled() => return Ok(()),
                next = timeout(stall, chunks.message()) => next.map_err(|_| "stalled")?,
            };
            let Some(chunk) = next.map_err(|status| status.to_string())? else { return Ok(()) };
            if let Some(reason) = self.host.refuses_entries() {
                return Err(reason);
            }
            let range = part_of(missing, &chunk)?;
            let bytes = chunk.data.len() as u64;
            link.shared.pulls.pulled.add(bytes);
            files.write_pulled(&range, chunk.data).await.map_err(|error| error.to_string())?;
            unsettled += bytes;
            if unsettled >= SETTLE_EVERY {
                files.settle().await.map_err(|error| error.to_string())?;
                unsettled = 0;
            }
            running.progress.send_modify(|progress| {
                if let Progress::Pulling(sum) = progress {
                    *sum += bytes;
                }
            });
        }
    }
}

fn forget(all: &mut BTreeMap<ShardId, Arc<Running>>, running: &Arc<Running>) {
    let shard = running.route.shard;
    if all.get(&shard).is_some_and(|now| Arc::ptr_eq(now, running)) {
        all.remove(&shard);
    }
}

fn pulled(running: &Running) -> u64 {
    match *running.progress.borrow() {
        Progress::Pulling(bytes) => bytes,
        Progress::Done(_) => 0,
    }
}

/// The run that a chunk holds; a source may send no byte that was not asked for.
pub(super) fn part_of(
    missing: &[MissingRange],
    chunk: &peer::PullChunk,
) -> Result<MissingRange, String> {
    let asked = usize::try_from(chunk.range).ok().and_then(|number| missing.get(number));
    let asked = asked.ok_or("a chunk of a range that was not asked for")?;
    let to_byte = chunk.from_byte.saturating_add(chunk.data.len() as u64);
    if chunk.from_byte < asked.from_byte || to_byte > asked.to_byte {
        return Err("a chunk outside its range".to_owned());
    }
    Ok(MissingRange { from_byte: chunk.from_byte, to_byte, ..asked.clone() })
}
