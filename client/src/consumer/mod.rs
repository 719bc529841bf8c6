//! Owns receiving: [`Consumer`] hands out the records of assigned partitions in the caller's task; one task of its own
//! fetches ahead, another commits.
//!
//! - `state` is what both sides share: positions, fetched bytes, what is paused.
//! - `driver` keeps a cursor per partition on its leader's `stream`; `decode` turns bytes into records when asked for.
//! - `positions` finds where to begin; `commit` keeps commits in order.
//! - `membership` joins a group and assigns what its coordinator says; without it [`Consumer::assign`] does.
//! - `places` and `subscribing` are the rest of [`Consumer`]; `core` is what it shares with a rebalance listener.

mod commit;
mod core;
mod decode;
mod driver;
#[cfg(test)]
mod fuzz;
mod membership;
mod places;
mod positions;
mod state;
mod stream;
mod subscribing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use commit::CommitFuture;
pub(crate) use commit::{first_sequence, member_id};
pub use membership::{
    GroupMetadata, OwnedPartition, RebalanceContext, RebalanceListener, Subscription,
};
pub use positions::StartAt;

use self::core::Core;
use crate::client::Client;
use crate::config::{AutoCommit, CommitAfter, ConsumerConfig};
use crate::error::{Error, Result};
use crate::record::{ConsumerRecord, TopicPartition};
use commit::{Cause, Committer};
use driver::Driver;
use membership::{Handle, Standing};
use state::SharedState;

/// Reads topics together with the other members of its group ([`Self::subscribe`]), or partitions of the caller's choice
/// ([`Self::assign`]).
///
/// Records of a partition come in offset order; a position moves only when a record is handed out. All waiting methods are
/// cancellation-safe: what was not returned is returned by the next call. Share it by reference or `Arc`; several tasks
/// may receive, each record goes to one of them.
///
/// With a `group.id`, committed offsets are where reading begins; commit after processing for at-least-once, before it for
/// at-most-once.
///
/// # What is finished
///
/// Asking for more records, or closing, says that those handed out before are finished: automatic commits cover them, and a
/// partition that moves to another member is given up there. So a record is not repeated when members come and go as
/// planned. An application that works on records in several tasks, or gathers them, sets `auto_commit(false)` and commits
/// what is processed, at the latest in [`RebalanceListener::revoked`]. One that fails halfway through drops the consumer
/// instead of closing it.
///
/// ```no_run
/// # async fn example(client: waymark_client::Client) -> waymark_client::Result<()> {
/// use waymark_client::{ConsumerConfig, OffsetReset};
/// let config = ConsumerConfig::default().group_id("billing").auto_offset_reset(OffsetReset::Earliest);
/// let consumer = client.consumer(config.auto_commit(false))?;
/// consumer.subscribe(["orders"]).await?;
/// loop {
///     let record = consumer.recv().await?;
///     println!("{}/{} {}: {:?}", record.topic, record.partition, record.offset, record.value);
///     consumer.commit_async();
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    core: Core,
    /// Held while the application joins or leaves; `None`: not subscribed.
    membership: tokio::sync::Mutex<Option<Handle>>,
    /// Records finished since the last commit after records.
    uncommitted: AtomicU64,
    stop: CancellationToken,
    _stop: DropGuard,
}

/// Frames between the streams and the driver; credit bounds their bytes.
const EVENTS: usize = 256;

impl Consumer {
    pub(crate) fn start(client: Client, config: ConsumerConfig) -> Result<Self> {
        config.validate()?;
        let shared = SharedState::new(config.check_crcs);
        let stop = CancellationToken::new();
        let (events, receiver) = mpsc::channel(EVENTS);
        let driver = Driver::new(
            client.clone(),
            config.clone(),
            Arc::clone(&shared),
            (stop.clone(), events),
        );
        tokio::spawn(driver.run(receiver));
        let standing = Arc::new(Standing::default());
        let both = (Arc::clone(&shared), Arc::clone(&standing));
        let committer = Committer::start(&client, &config, both, stop.clone());
        let core = Core { client, config: Arc::new(config), shared, standing, committer };
        let (membership, uncommitted) = (tokio::sync::Mutex::default(), AtomicU64::new(0));
        let guard = stop.clone().drop_guard();
        Ok(Self { core, membership, uncommitted, stop, _stop: guard })
    }

    /// Reads exactly these partitions from now on. One that is assigned already goes on where it is; another begins at the
    /// group's committed offset, or as `auto.offset.reset` says.
    ///
    /// # Errors
    /// When a partition does not exist, when its start cannot be found out in time, [`Error::NoOffset`] where the reset
    /// policy is `none`, and [`Error::SubscriptionConflict`] while subscribed. The assignment is then as before.
    pub async fn assign<P>(&self, partitions: impl IntoIterator<Item = P>) -> Result<()>
    where
        P: Into<TopicPartition>,
    {
        self.assign_from(partitions, StartAt::Committed).await
    }

    /// As [`Self::assign`], but partitions that are new begin where `start` says.
    ///
    /// # Errors
    /// As [`Self::assign`].
    pub async fn assign_from<P>(
        &self,
        partitions: impl IntoIterator<Item = P>,
        start: StartAt,
    ) -> Result<()>
    where
        P: Into<TopicPartition>,
    {
        self.assigned_by_hand()?;
        let mut assignment = Vec::new();
        let mut fresh = Vec::new();
        for at in partitions.into_iter().map(Into::into) {
            let topic_id = positions::topic_id(&self.core.client, &at).await?;
            if self.core.shared.lock().slot(&at).is_ok_and(|slot| slot.topic_id == topic_id) {
                assignment.push((at, topic_id, None));
            } else {
                fresh.push(at.clone());
                assignment.push((at, topic_id, Some(0)));
            }
        }
        let (client, config) = (&self.core.client, &self.core.config);
        let starts = positions::resolve(client, config, &fresh, start).await?;
        for (at, _, offset) in assignment.iter_mut().filter(|(_, _, offset)| offset.is_some()) {
            *offset = starts.get(at).copied();
        }
        self.assigned_by_hand()?;
        self.core.shared.lock().assign(assignment);
        self.core.shared.changed.notify_one();
        Ok(())
    }

    fn assigned_by_hand(&self) -> Result<()> {
        let words = "the group assigns partitions to this consumer: unsubscribe before assigning";
        let subscribed = self.core.standing.is_subscribed();
        if subscribed { Err(Error::SubscriptionConflict(words)) } else { Ok(()) }
    }

    /// The partitions that are read.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.core.assignment()
    }

    /// The next record.
    ///
    /// # Errors
    /// When a partition cannot be read on ([`Error::NoOffset`], a deleted topic, damage); the others go on, and this one
    /// after a seek. [`Error::InstanceFenced`], and whatever else ends the membership of a subscribed consumer, at every call.
    /// [`Error::Closed`] once closed.
    pub async fn recv(&self) -> Result<ConsumerRecord> {
        let mut one = Vec::with_capacity(1);
        self.receive(1, &mut one).await?;
        one.pop().ok_or(Error::Closed("the consumer"))
    }

    /// Up to `max.poll.records` records as soon as there is one, or none after `timeout`.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub async fn poll(&self, timeout: Duration) -> Result<Vec<ConsumerRecord>> {
        let most = self.core.config.max_poll_records;
        let mut records = Vec::new();
        let deadline = Instant::now() + timeout;
        match tokio::time::timeout_at(deadline, self.receive(most, &mut records)).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Ok(records),
        }
    }

    /// Records as an endless stream; dropping it loses nothing.
    pub fn stream(&self) -> impl Stream<Item = Result<ConsumerRecord>> + '_ {
        futures::stream::unfold(
            self,
            |consumer| async move { Some((consumer.recv().await, consumer)) },
        )
    }

    /// Nothing is awaited once a record has been taken out: cancelling never loses one.
    async fn receive(&self, most: usize, into: &mut Vec<ConsumerRecord>) -> Result<()> {
        let shared = &self.core.shared;
        let _waiting = self.come_back();
        loop {
            if self.stop.is_cancelled() {
                return Err(Error::Closed("the consumer"));
            }
            let (outcome, piece_ended) = {
                let mut state = shared.lock();
                (state.hand_out(most, into), state.take_piece_ended())
            };
            if piece_ended {
                self.commit_after(CommitAfter::Batch);
            }
            if outcome.is_err() || !into.is_empty() {
                // More may be left for another receiver, and the driver may have credit to return.
                shared.data.notify_one();
                shared.changed.notify_one();
                return outcome;
            }
            tokio::select! {
                () = shared.data.notified() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// The application asks for more: what it was given before is finished.
    fn come_back(&self) -> Waiting<'_> {
        let shared = &self.core.shared;
        let (finished, watched) = {
            let mut state = shared.lock();
            let watched = state.begin_waiting();
            (state.finish_handed(), watched)
        };
        if watched {
            shared.returned.notify_one();
        }
        if finished > 0 {
            self.commit_after(CommitAfter::Each);
            if let AutoCommit::After(every @ CommitAfter::EveryN(least)) =
                self.core.config.auto_commit
                && self.uncommitted.fetch_add(finished, Ordering::Relaxed) + finished
                    >= least.into()
            {
                self.uncommitted.store(0, Ordering::Relaxed);
                self.commit_after(every);
            }
        }
        Waiting(shared)
    }

    /// Commits what is finished, without waiting, if that is when commits are wanted.
    fn commit_after(&self, occasion: CommitAfter) {
        let core = &self.core;
        if core.config.auto_commit == AutoCommit::After(occasion) && core.config.group_id.is_some()
        {
            let finished = core.shared.lock().take_finished();
            if !finished.is_empty() {
                drop(core.committer.submit(finished, Cause::Auto));
            }
        }
    }

    /// Everything handed out is finished (see [`Consumer`]). Commits it (with automatic commits), gives a subscription's
    /// partitions up and leaves the group, all within `deadline`, and stops. A member with a `group.instance.id` keeps its
    /// partitions for its return, until its session ends. Dropping a consumer instead never waits, and leaves nothing.
    ///
    /// # Errors
    /// When the last commit failed or took too long, and when the coordinator was not told in time: it then goes on without
    /// this member when its session ends.
    pub async fn close(&self, deadline: Duration) -> Result<()> {
        let within = Instant::now().checked_add(deadline).unwrap_or_else(far_away);
        drop(self.come_back());
        let outcome = match tokio::time::timeout_at(within, self.membership.lock()).await {
            Ok(mut membership) => match membership.take() {
                Some(member) => member.leave(within).await,
                None => self.last_commit(within, deadline).await,
            },
            Err(_) => Err(late(deadline)),
        };
        self.stop.cancel();
        outcome
    }

    async fn last_commit(&self, within: Instant, deadline: Duration) -> Result<()> {
        if self.core.config.group_id.is_none() {
            return Ok(());
        }
        let by_itself = self.core.config.auto_commit != AutoCommit::Disabled;
        let positions =
            if by_itself { self.core.shared.lock().positions(true) } else { BTreeMap::new() };
        let last = self.core.committer.submit(positions, Cause::Auto);
        tokio::time::timeout_at(within, last).await.unwrap_or_else(|_| Err(late(deadline)))
    }
}

fn late(deadline: Duration) -> Error {
    Error::Timeout { what: "closing the consumer", after: deadline, last: None, ambiguous: true }
}

/// As good as never.
fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(86_400 * 365)
}

/// Somebody waits for records; ends when dropped, which a cancelled wait does too.
struct Waiting<'a>(&'a SharedState);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().end_waiting();
    }
}
