//! Owns receiving: [`Consumer`] hands out the records of assigned partitions in the caller's task; one task of its own
//! fetches ahead, another commits.
//!
//! - `state` is what both sides share: positions, fetched bytes, what is paused.
//! - `driver` keeps a cursor per partition on its leader's `stream`; `decode` turns bytes into records when asked for.
//! - `positions` finds where to begin; `commit` keeps commits in order.
//!
//! Group membership will replace who calls [`Consumer::assign`], nothing else.

mod commit;
mod decode;
mod driver;
mod positions;
mod state;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use commit::CommitFuture;
pub use positions::StartAt;

use crate::client::Client;
use crate::config::ConsumerConfig;
use crate::error::{Error, Result};
use crate::record::{ConsumerRecord, OffsetAndMetadata, TopicPartition};
use commit::Committer;
use driver::Driver;
use state::SharedState;

/// Reads assigned partitions of any number of topics.
///
/// Records of a partition come in offset order; a position moves only when a record is handed out. All waiting methods are
/// cancellation-safe: what was not returned is returned by the next call. Share it by reference or `Arc`; several tasks
/// may receive, each record goes to one of them.
///
/// With a `group.id`, committed offsets are where reading begins; commit after processing for at-least-once, before it for
/// at-most-once.
///
/// ```no_run
/// # async fn example(client: waymark_client::Client) -> waymark_client::Result<()> {
/// use waymark_client::{ConsumerConfig, OffsetReset};
/// let config = ConsumerConfig::default().group_id("billing").auto_offset_reset(OffsetReset::Earliest);
/// let consumer = client.consumer(config.auto_commit(false))?;
/// consumer.assign([("orders", 0), ("orders", 1)]).await?;
/// loop {
///     let record = consumer.recv().await?;
///     println!("{}/{} {}: {:?}", record.topic, record.partition, record.offset, record.value);
///     consumer.commit_async();
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    shared: Arc<SharedState>,
    committer: Arc<Committer>,
    stop: CancellationToken,
    _stop: DropGuard,
}

/// Frames between the streams and the driver; credit bounds their bytes.
const EVENTS: usize = 256;

impl Consumer {
    pub(crate) fn start(client: Client, config: ConsumerConfig) -> Result<Self> {
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
        let committer = Committer::start(&client, &config, Arc::clone(&shared), stop.clone());
        let guard = stop.clone().drop_guard();
        Ok(Self { client, config, shared, committer, stop, _stop: guard })
    }

    /// Reads exactly these partitions from now on. One that is assigned already goes on where it is; another begins at the
    /// group's committed offset, or as `auto.offset.reset` says.
    ///
    /// # Errors
    /// When a partition does not exist, when its start cannot be found out in time, and [`Error::NoOffset`] where the reset
    /// policy is `none`. The assignment is then as before.
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
        let mut assignment = Vec::new();
        let mut fresh = Vec::new();
        for at in partitions.into_iter().map(Into::into) {
            let topic_id = positions::topic_id(&self.client, &at).await?;
            if self.shared.lock().slot(&at).is_ok_and(|slot| slot.topic_id == topic_id) {
                assignment.push((at, topic_id, None));
            } else {
                fresh.push(at.clone());
                assignment.push((at, topic_id, Some(0)));
            }
        }
        let starts = positions::resolve(&self.client, &self.config, &fresh, start).await?;
        for (at, _, offset) in assignment.iter_mut().filter(|(_, _, offset)| offset.is_some()) {
            *offset = starts.get(at).copied();
        }
        self.shared.lock().assign(assignment);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// The partitions that are read.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.lock().slots().iter().map(|slot| slot.at.clone()).collect()
    }

    /// The next record.
    ///
    /// # Errors
    /// When a partition cannot be read on ([`Error::NoOffset`], a deleted topic, damage); the others go on, and this one
    /// after a seek. [`Error::Closed`] once closed.
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
        let most = self.config.max_poll_records;
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
        self.shared.lock().finish_handed();
        loop {
            if self.stop.is_cancelled() {
                return Err(Error::Closed("the consumer"));
            }
            let outcome = self.shared.lock().hand_out(most, into);
            if outcome.is_err() || !into.is_empty() {
                // More may be left for another receiver, and the driver may have credit to return.
                self.shared.data.notify_one();
                self.shared.changed.notify_one();
                return outcome;
            }
            tokio::select! {
                () = self.shared.data.notified() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// The next offset that will be handed out.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn position(&self, at: impl Into<TopicPartition>) -> Result<i64> {
        self.shared.lock().slot(&at.into()).map(|slot| slot.position)
    }

    /// How many records of a partition were not handed out yet, by the newest watermark seen; `None` before the first
    /// answer of its leader.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn lag(&self, at: impl Into<TopicPartition>) -> Result<Option<i64>> {
        let mut state = self.shared.lock();
        let slot = state.slot(&at.into())?;
        Ok(slot.high_watermark.map(|watermark| (watermark - slot.position).max(0)))
    }

    /// Goes on from an offset. One outside the log is answered by `auto.offset.reset` when it is read.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn seek(&self, at: impl Into<TopicPartition>, offset: i64) -> Result<()> {
        self.shared.lock().seek(&at.into(), offset)?;
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Goes on from the first record the log still has.
    ///
    /// # Errors
    /// When the partition is not assigned or the offset cannot be found out in time.
    pub async fn seek_to_beginning(&self, at: impl Into<TopicPartition>) -> Result<i64> {
        self.seek_to(at.into(), StartAt::Beginning).await
    }

    /// Goes on after the last record.
    ///
    /// # Errors
    /// When the partition is not assigned or the offset cannot be found out in time.
    pub async fn seek_to_end(&self, at: impl Into<TopicPartition>) -> Result<i64> {
        self.seek_to(at.into(), StartAt::End).await
    }

    /// Goes on from the first record, in offset order, whose timestamp is at or after a time (Unix ms), or from the end if
    /// there is none.
    ///
    /// # Errors
    /// When the partition is not assigned or the offset cannot be found out in time.
    pub async fn seek_to_time(&self, at: impl Into<TopicPartition>, time_ms: i64) -> Result<i64> {
        self.seek_to(at.into(), StartAt::Time(time_ms)).await
    }

    async fn seek_to(&self, at: TopicPartition, start: StartAt) -> Result<i64> {
        self.shared.lock().slot(&at)?;
        let only = std::slice::from_ref(&at);
        let found = positions::resolve(&self.client, &self.config, only, start).await?;
        let offset = found.get(&at).copied().unwrap_or(0);
        self.seek(at, offset)?;
        Ok(offset)
    }

    /// Hands out nothing of a partition until it is resumed.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn pause(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.set_paused(&at.into(), true)
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn resume(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.set_paused(&at.into(), false)
    }

    fn set_paused(&self, at: &TopicPartition, paused: bool) -> Result<()> {
        self.shared.lock().set_paused(at, paused)?;
        self.shared.changed.notify_one();
        self.shared.data.notify_one();
        Ok(())
    }

    /// Commits the position of every assigned partition: everything handed out so far counts as processed.
    ///
    /// # Errors
    /// Without a group, and when the commit was refused or not confirmed in time.
    pub async fn commit_sync(&self) -> Result<()> {
        self.commit_async().await
    }

    /// As [`Self::commit_sync`], without waiting: the future may be dropped. Commits are sent one after the other; those
    /// that wait are merged.
    pub fn commit_async(&self) -> CommitFuture {
        let positions = self.shared.lock().positions(false);
        self.committer.submit(positions, commit::Cause::Async)
    }

    /// Commits offsets of the caller's choice: each is the next to read.
    ///
    /// # Errors
    /// As [`Self::commit_sync`].
    pub async fn commit_offsets<P, O>(
        &self,
        offsets: impl IntoIterator<Item = (P, O)>,
    ) -> Result<()>
    where
        P: Into<TopicPartition>,
        O: Into<OffsetAndMetadata>,
    {
        let offsets = offsets.into_iter().map(|(at, offset)| (at.into(), offset.into())).collect();
        self.committer.submit(offsets, commit::Cause::Sync).await
    }

    /// The group's committed offsets of these partitions; one that was never committed is left out.
    ///
    /// # Errors
    /// Without a group, and when they cannot be read in time.
    pub async fn committed<P>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>>
    where
        P: Into<TopicPartition>,
    {
        let group = self.config.group_id.as_deref().ok_or(Error::NoGroup)?;
        let partitions: Vec<_> = partitions.into_iter().map(Into::into).collect();
        positions::committed(&self.client, group, &partitions).await
    }

    /// Commits what is finished (with `enable.auto.commit`), waits up to `deadline` for commits on the way, and stops.
    ///
    /// # Errors
    /// When the last commit failed or took too long.
    pub async fn close(&self, deadline: Duration) -> Result<()> {
        let commits = self.config.auto_commit && self.config.group_id.is_some();
        let positions = if commits { self.shared.lock().positions(true) } else { BTreeMap::new() };
        let last = self.committer.submit(positions, commit::Cause::Auto);
        let outcome = if self.config.group_id.is_some() {
            let late = Error::Timeout {
                what: "closing the consumer",
                after: deadline,
                last: None,
                ambiguous: true,
            };
            tokio::time::timeout(deadline, last).await.unwrap_or(Err(late))
        } else {
            Ok(())
        };
        self.stop.cancel();
        outcome
    }
}
