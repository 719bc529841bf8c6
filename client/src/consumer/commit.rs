//! Owns the order of commits: one task sends them one after the other, merging those that wait, each with a higher
//! `commit_seq`, so that a late one can never undo a newer one. Never decides what is processed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use waymark_proto::v1 as wire;

use super::state::SharedState;
use crate::answers;
use crate::client::Client;
use crate::config::ConsumerConfig;
use crate::error::{Error, Result};
use crate::record::{OffsetAndMetadata, TopicPartition};
use crate::retry::Repeat;

type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

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

/// Why offsets are committed; told to the cluster for its history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    #[default]
    Auto,
    Async,
    Sync,
}

#[derive(Debug, Default)]
struct Waiting {
    offsets: Offsets,
    cause: Cause,
    callers: Vec<oneshot::Sender<Result<()>>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Committer {
    group: Option<String>,
    /// Names this consumer to the cluster, which orders the commits of one member by `commit_seq`. A consumer with assigned
    /// partitions is no member of its group: it has no epoch.
    member_id: String,
    /// Merged commits that wait for the one on the way; bounded by the number of partitions, and of callers that wait.
    waiting: Mutex<Option<Waiting>>,
    bell: Notify,
}

impl Committer {
    pub(super) fn start(
        client: &Client,
        config: &ConsumerConfig,
        shared: Arc<SharedState>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let committer = Arc::new(Self {
            group: config.group_id.clone(),
            member_id: member_id(client.config().random.next_id()),
            waiting: Mutex::default(),
            bell: Notify::new(),
        });
        if config.group_id.is_some() {
            let task = Arc::clone(&committer).run(client.clone(), config.clone(), (shared, stop));
            tokio::spawn(task);
        }
        committer
    }

    /// Queues a commit behind the one on the way; nothing to commit still waits for it.
    pub(super) fn submit(&self, offsets: Offsets, cause: Cause) -> CommitFuture {
        if self.group.is_none() {
            return CommitFuture(Err(Some(Error::NoGroup)));
        }
        let (caller, outcome) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = waiting.get_or_insert_default();
        merged.offsets.extend(offsets);
        merged.cause = merged.cause.max(cause);
        merged.callers.push(caller);
        drop(waiting);
        self.bell.notify_one();
        CommitFuture(Ok(outcome))
    }

    async fn run(
        self: Arc<Self>,
        client: Client,
        config: ConsumerConfig,
        (shared, stop): (Arc<SharedState>, CancellationToken),
    ) {
        // A later consumer of the group begins higher, as long as clocks do not go back by more than its commits.
        let mut sequence = client.config().clock.now_ms().max(1).saturating_mul(1 << 20);
        let mut tick = tokio::time::interval(config.auto_commit_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut committed = Offsets::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.bell.notified() => {}
                _ = tick.tick(), if config.auto_commit => {
                    let finished = shared.lock().positions(true);
                    if finished != committed {
                        drop(self.submit(finished, Cause::Auto));
                    }
                }
            }
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(next) = next else { continue };
            sequence += 1;
            let outcome = self.send(&client, &next, sequence).await;
            match &outcome {
                Ok(()) => committed.extend(next.offsets),
                Err(error) => tracing::warn!(group = self.group, %error, "offsets not committed"),
            }
            for caller in next.callers {
                // A caller that dropped its future does not want to know.
                let _ = caller.send(outcome.clone());
            }
        }
    }

    async fn send(&self, client: &Client, next: &Waiting, sequence: i64) -> Result<()> {
        if next.offsets.is_empty() {
            return Ok(());
        }
        let request = wire::CommitOffsetsRequest {
            group_id: self.group.clone().unwrap_or_default(),
            member: Some(wire::MemberRef {
                member_id: self.member_id.clone(),
                ..wire::MemberRef::default()
            }),
            offsets: next.offsets.iter().map(answers::offset_commit).collect(),
            all_or_nothing: Some(true),
            commit_seq: sequence,
            cause: match next.cause {
                Cause::Auto => wire::CommitCause::Auto,
                Cause::Async => wire::CommitCause::Async,
                Cause::Sync => wire::CommitCause::Sync,
            }
            .into(),
            ..wire::CommitOffsetsRequest::default()
        };
        let request = &request;
        client
            .call("committing offsets", Repeat::Harmless, |link, timeout| async move {
                answers::commit(&link, request.clone(), timeout).await
            })
            .await
    }
}

/// A random UUID of the client's own stream of random numbers.
fn member_id(random: [u8; 16]) -> String {
    uuid::Builder::from_random_bytes(random).into_uuid().to_string()
}
