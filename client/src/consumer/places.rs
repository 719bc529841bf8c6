//! Owns the consumer's questions and orders about offsets: positions, seeks, pauses, commits, ends and times.

use std::collections::BTreeMap;

use super::Consumer;
use super::commit::{Cause, CommitFuture};
use super::positions::{self, StartAt};
use crate::answers::Spot;
use crate::error::Result;
use crate::record::{OffsetAndMetadata, OffsetAndTimestamp, TopicPartition};

impl Consumer {
    /// The next offset that will be handed out.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn position(&self, at: impl Into<TopicPartition>) -> Result<i64> {
        self.core.position(&at.into())
    }

    /// How many records of a partition were not handed out yet, by the newest watermark seen; `None` before the first
    /// answer of its leader.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn lag(&self, at: impl Into<TopicPartition>) -> Result<Option<i64>> {
        let mut state = self.core.shared.lock();
        let slot = state.slot(&at.into())?;
        Ok(slot.high_watermark.map(|watermark| (watermark - slot.position).max(0)))
    }

    /// Goes on from an offset. One outside the log is answered by `auto.offset.reset` when it is read.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn seek(&self, at: impl Into<TopicPartition>, offset: i64) -> Result<()> {
        self.core.seek(&at.into(), offset)
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
        self.core.shared.lock().slot(&at)?;
        let (client, config) = (&self.core.client, &self.core.config);
        let only = std::slice::from_ref(&at);
        let found = positions::resolve(client, config, only, start).await?;
        let offset = found.get(&at).copied().unwrap_or(0);
        self.seek(at, offset)?;
        Ok(offset)
    }

    /// Hands out nothing of a partition until it is resumed.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn pause(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.core.set_paused(&at.into(), true)
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn resume(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.core.set_paused(&at.into(), false)
    }

    /// The partitions that are paused.
    #[must_use]
    pub fn paused(&self) -> Vec<TopicPartition> {
        let state = self.core.shared.lock();
        state.slots().iter().filter(|slot| slot.paused).map(|slot| slot.at.clone()).collect()
    }

    /// Commits the position of every assigned partition: everything handed out so far counts as processed.
    ///
    /// # Errors
    /// Without a group, and when the commit was refused or not confirmed in time; [`crate::Error::PartitionLost`] for a partition
    /// that is another member's by now (all others are committed), [`crate::Error::MemberFenced`] for all.
    pub async fn commit_sync(&self) -> Result<()> {
        self.commit_async().await
    }

    /// As [`Self::commit_sync`], without waiting: the future may be dropped. Commits are sent one after the other; those
    /// that wait are merged.
    pub fn commit_async(&self) -> CommitFuture {
        self.core.commit_positions(Cause::Async)
    }

    /// Commits offsets of the caller's choice: each is the next to read. [`ConsumerRecord::next_position`] gives the exact one.
    ///
    /// [`ConsumerRecord::next_position`]: crate::ConsumerRecord::next_position
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
        self.core.commit_offsets(offsets, Cause::Sync).await
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
        self.core.committed(partitions.into_iter().map(Into::into).collect()).await
    }

    /// Of each partition the first record, in offset order, whose timestamp is at or after a time (Unix ms); `None` where
    /// there is none. The partitions need not be assigned.
    ///
    /// # Errors
    /// When they cannot be found out in time.
    pub async fn offsets_for_times<P>(
        &self,
        times: impl IntoIterator<Item = (P, i64)>,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>>
    where
        P: Into<TopicPartition>,
    {
        let times = times.into_iter().map(|(at, time_ms)| (at.into(), time_ms)).collect();
        positions::at_times(&self.core.client, &times).await
    }

    /// The first offset that the log of each partition still has. The partitions need not be assigned.
    ///
    /// # Errors
    /// When they cannot be found out in time.
    pub async fn beginning_offsets<P>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, i64>>
    where
        P: Into<TopicPartition>,
    {
        let partitions: Vec<_> = partitions.into_iter().map(Into::into).collect();
        positions::ends(&self.core.client, &partitions, Spot::Earliest).await
    }

    /// The offset after the last record of each partition. The partitions need not be assigned.
    ///
    /// # Errors
    /// When they cannot be found out in time.
    pub async fn end_offsets<P>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, i64>>
    where
        P: Into<TopicPartition>,
    {
        let partitions: Vec<_> = partitions.into_iter().map(Into::into).collect();
        positions::ends(&self.core.client, &partitions, Spot::Latest).await
    }
}
