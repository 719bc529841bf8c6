//! Owns the order of commits: one task sends them one after the other, merging those that wait, each with a higher
//! `commit_seq`, so that a late one can never undo a newer one. Never decides what is processed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use waymark_proto::v1 as wire;

use super::membership::Standing;
use super::state::SharedState;
use crate::answers;
use crate::client::Client;
use crate::config::{AutoCommit, ConsumerConfig};
use crate::error::{Error, FailureCode, Result};
use crate::record::{OffsetAndMetadata, TopicPartition};
use crate::retry::Repeat;

pub(super) type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

/// The outcome of a commit, to be awaited or dropped.
#[derive(Debug)]
pub struct CommitFuture(std::result::Result<oneshot::Receiver<Result<()>>, Option<Error>>);

impl Future for CommitFuture {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.0 {
            Ok(receiver) => Pin::new(receiver)
                .poll(cx)
                .map(|outcome| outcome.unwrap_or(Err(Error::Closed("the consumer")))),
            Err(error) => Poll::Ready(Err(error.take().unwrap_or(Error::Closed("the consumer")))),
        }
    }
}

/// Why offsets are committed; told to the cluster for its history. Commits that are merged have the last of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    #[default]
    Auto,
    Async,
    Sync,
    /// Partitions are given up: what is committed before, or instead of, their final offsets.
    Revoke,
}

#[derive(Debug, Default)]
struct Waiting {
    offsets: Offsets,
    cause: Cause,
    callers: Vec<oneshot::Sender<Result<()>>>,
}

impl Waiting {
    /// The later of two commits of a partition stands, unless it was made under an ownership that is over.
    fn merge(&mut self, offsets: Offsets) {
        for (at, offset) in offsets {
            let newer = self.offsets.get(&at).map(|waiting| waiting.fencing_epoch);
            if newer.is_none_or(|waiting| waiting <= offset.fencing_epoch) {
                self.offsets.insert(at, offset);
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Committer {
    group: Option<Arc<str>>,
    /// Names a consumer with assigned partitions to the cluster, which orders the commits of one member by `commit_seq`. Such
    /// a consumer is no member of its group: it has no epoch.
    own_id: String,
    standing: Arc<Standing>,
    shared: Arc<SharedState>,
    /// The number of the latest commit, or of final offsets given up in a hand-off.
    sequence: AtomicI64,
    /// Merged commits that wait for the one on the way; bounded by the number of partitions, and of callers that wait.
    waiting: Mutex<Option<Waiting>>,
    bell: Notify,
    /// Until then the cluster wants no commits.
    quiet_until: Mutex<Instant>,
}

impl Committer {
    pub(super) fn start(
        client: &Client,
        config: &ConsumerConfig,
        (shared, standing): (Arc<SharedState>, Arc<Standing>),
        stop: CancellationToken,
    ) -> Arc<Self> {
        let first = first_sequence(client);
        let committer = Arc::new(Self {
            group: config.group_id.as_deref().map(Into::into),
            own_id: member_id(client.config().random.next_id()),
            standing,
            shared,
            sequence: AtomicI64::new(first),
            waiting: Mutex::default(),
            bell: Notify::new(),
            quiet_until: Mutex::new(Instant::now()),
        });
        if config.group_id.is_some() {
            tokio::spawn(Arc::clone(&committer).run(client.clone(), config.clone(), stop));
        }
        committer
    }

    /// The number of the next commit.
    pub(super) fn next_sequence(&self) -> i64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Queues a commit behind the one on the way; nothing to commit still waits for it.
    pub(super) fn submit(&self, offsets: Offsets, cause: Cause) -> CommitFuture {
        if self.group.is_none() {
            return CommitFuture(Err(Some(Error::NoGroup)));
        }
        let (caller, outcome) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = waiting.get_or_insert_default();
        merged.merge(offsets);
        merged.cause = merged.cause.max(cause);
        // Who dropped its future does not wait: with commits after each record they would pile up.
        merged.callers.retain(|caller| !caller.is_closed());
        merged.callers.push(caller);
        drop(waiting);
        self.bell.notify_one();
        CommitFuture(Ok(outcome))
    }

    /// Offsets of the caller's choice, under the ownership that the caller has of them.
    pub(super) fn owned(&self, mut offsets: Offsets) -> Result<Offsets> {
        if self.standing.is_subscribed() {
            let mut state = self.shared.lock();
            for (at, offset) in offsets.iter_mut().filter(|(_, o)| o.fencing_epoch.is_none()) {
                offset.fencing_epoch = state.epoch_in_hand(at)?;
            }
        }
        Ok(offsets)
    }

    async fn run(self: Arc<Self>, client: Client, config: ConsumerConfig, stop: CancellationToken) {
        let by_time = config.auto_commit == AutoCommit::Interval;
        // One that is not by time may have been given none.
        let interval = config.auto_commit_interval.max(Duration::from_millis(1));
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first one comes at once: on a busy machine it would commit what the interval was to wait for.
        tick.tick().await;
        let mut committed = Offsets::new();
        loop {
            let quiet_until = *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.bell.notified() => {}
                () = sleep_until(quiet_until), if Instant::now() < quiet_until => {}
                _ = tick.tick(), if by_time => {
                    let finished = self.shared.lock().positions(true);
                    committed.retain(|at, _| finished.contains_key(at));
                    if finished != committed {
                        drop(self.submit(finished, Cause::Auto));
                    }
                }
            }
            let Some(next) = self.due(Instant::now() < quiet_until) else { continue };
            let outcome = self.send(&client, next.offsets.clone(), next.cause).await;
            match &outcome {
                Ok(()) => committed.extend(next.offsets),
                Err(error) => {
                    tracing::warn!(group = self.group.as_deref(), %error, "offsets not committed");
                }
            }
            for caller in next.callers {
                // A caller that dropped its future does not want to know.
                let _ = caller.send(outcome.clone());
            }
        }
    }

    /// What is to be sent now. A hand-over, which has a deadline, waits for no quiet.
    fn due(&self, quiet: bool) -> Option<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take_if(|it| !quiet || it.cause == Cause::Revoke)
    }

    /// Sends until it is decided. Partitions that are no longer this member's are left out, the others are committed.
    async fn send(&self, client: &Client, mut offsets: Offsets, cause: Cause) -> Result<()> {
        let mut outcome = Ok(());
        while !offsets.is_empty() {
            let (sequence, these) = (self.next_sequence(), &offsets);
            let taken = client
                .call("committing offsets", Repeat::Harmless, |link, timeout| {
                    // Made anew for each attempt: a new generation may have been taken on.
                    let request = self.request(these, cause, sequence);
                    async move { answers::commit(&link, request?, timeout).await }
                })
                .await
                .map_err(|error| self.as_member(error))?;
            *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) =
                Instant::now() + taken.throttle;
            if let Some(actual) = taken.behind {
                self.sequence.fetch_max(actual, Ordering::Relaxed);
                continue;
            }
            if taken.disowned.is_empty() {
                break;
            }
            let all: Vec<TopicPartition> = offsets.keys().cloned().collect();
            for at in taken.disowned.into_iter().filter_map(|place| all.get(place)) {
                let offset = offsets.remove(at);
                outcome = outcome.and(self.disowned(at, offset.and_then(|o| o.fencing_epoch)));
            }
        }
        outcome
    }

    /// A commit of one partition was refused. After a reset that is how it should be.
    fn disowned(&self, at: &TopicPartition, epoch: Option<i64>) -> Result<()> {
        let now = self.shared.lock().slot(at).ok().and_then(|slot| slot.fencing_epoch);
        if now > epoch {
            tracing::debug!(%at, ?epoch, ?now, "a commit of before a reset was refused");
            return Ok(());
        }
        if let (Some(epoch), true) = (epoch, now.is_some()) {
            self.standing.disown(at.clone(), epoch);
            self.shared.returned.notify_one();
        }
        Err(Error::PartitionLost { at: at.clone() })
    }

    /// A refusal of the member as a whole, in words that say what to do.
    fn as_member(&self, error: Error) -> Error {
        let group = || self.group.clone().unwrap_or_default();
        if !self.standing.is_subscribed() {
            return error;
        }
        match error.code() {
            Some(FailureCode::UnknownMember | FailureCode::MemberFenced) => {
                Error::MemberFenced { group: group() }
            }
            Some(FailureCode::InstanceFenced) => {
                let metadata = self.standing.metadata();
                let instance = metadata.and_then(|known| known.instance_id).unwrap_or_default();
                Error::InstanceFenced { group: group(), instance }
            }
            _ => error,
        }
    }

    fn member(&self) -> Result<wire::MemberRef> {
        if !self.standing.is_subscribed() {
            let member_id = self.own_id.clone();
            return Ok(wire::MemberRef { member_id, ..wire::MemberRef::default() });
        }
        let known = self.standing.metadata().filter(|known| known.generation.is_some());
        let fenced = || Error::MemberFenced { group: self.group.clone().unwrap_or_default() };
        let known = known.ok_or_else(fenced)?;
        Ok(wire::MemberRef {
            member_id: known.member_id.to_string(),
            member_epoch: known.generation,
            instance_id: known.instance_id.map(|id| id.to_string()),
        })
    }

    fn request(
        &self,
        offsets: &Offsets,
        cause: Cause,
        sequence: i64,
    ) -> Result<wire::CommitOffsetsRequest> {
        Ok(wire::CommitOffsetsRequest {
            group_id: self.group.as_deref().unwrap_or_default().to_owned(),
            member: Some(self.member()?),
            offsets: offsets.iter().map(answers::offset_commit).collect(),
            all_or_nothing: Some(true),
            commit_seq: sequence,
            commit_seq_in_line: !self.standing.is_subscribed(),
            cause: match cause {
                Cause::Auto => wire::CommitCause::Auto,
                Cause::Async => wire::CommitCause::Async,
                Cause::Sync => wire::CommitCause::Sync,
                Cause::Revoke => wire::CommitCause::Revoke,
            }
            .into(),
            ..wire::CommitOffsetsRequest::default()
        })
    }
}

/// Where a consumer's sequences begin: a later one of the group begins higher, unless clocks differ. One whose clock is behind is
/// told what to be above.
pub(crate) fn first_sequence(client: &Client) -> i64 {
    client.config().clock.now_ms().max(1).saturating_mul(1 << 20)
}

/// A random UUID of the client's own stream of random numbers.
pub(crate) fn member_id(random: [u8; 16]) -> String {
    uuid::Builder::from_random_bytes(random).into_uuid().to_string()
}
