//! Owns what an application is told of its partitions' coming and going, and what it may do at that moment.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::hooks::Hook;
use crate::consumer::commit::Cause;
use crate::consumer::core::Core;
use crate::error::Result;
use crate::record::{OffsetAndMetadata, TopicPartition};

/// A partition that the group has given to this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedPartition {
    /// Which.
    pub at: TopicPartition,
    /// Rises with every new owner and every reset, for ever; all records handed out under it carry it.
    pub fencing_epoch: i64,
}

/// Told of partitions that come and go, one call at a time, in order.
///
/// The calls run in a task of their own: heartbeats and all other partitions go on meanwhile, and a listener may wait for the
/// task that receives, or share a lock with it, without a deadlock. A call that takes longer than `max.poll.interval.ms` is
/// given up. A listener that keeps its [`crate::Consumer`] alive keeps it from being dropped: give it a weak reference.
#[async_trait]
pub trait RebalanceListener: Send + Sync + 'static {
    /// They are this member's now; their records come once this returns, from where it has sought. A partition that is this
    /// member's already and comes again under a greater epoch was reset: what is left of it in hand is void.
    async fn assigned(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        let _ = (context, partitions);
    }

    /// They go to another member, or this one leaves. They still are this member's, nothing of them is in the application's
    /// hands any more, and offsets may be committed. Without automatic commits the next owner begins at what is committed
    /// when this returns.
    async fn revoked(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        let _ = (context, partitions);
    }

    /// They are another's already, without a hand-over: this member was silent, too slow or expelled. Nothing can be
    /// committed; what is left of them in hand is read again by the new owner.
    async fn lost(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        let _ = (context, partitions);
    }
}

#[async_trait]
impl<L: RebalanceListener + ?Sized> RebalanceListener for Arc<L> {
    async fn assigned(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        (**self).assigned(context, partitions).await;
    }

    async fn revoked(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        (**self).revoked(context, partitions).await;
    }

    async fn lost(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        (**self).lost(context, partitions).await;
    }
}

/// What a listener may do with the consumer whose partitions come and go.
#[derive(Debug, Clone)]
pub struct RebalanceContext {
    core: Core,
    /// Given to [`RebalanceListener::revoked`]: what is committed is where the next owner begins.
    revoked: bool,
}

impl RebalanceContext {
    pub(super) fn new(core: Core, hook: Hook) -> Self {
        Self { core, revoked: hook == Hook::Revoked }
    }

    fn cause(&self, otherwise: Cause) -> Cause {
        if self.revoked { Cause::Revoke } else { otherwise }
    }

    /// As [`crate::Consumer::assignment`].
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.core.assignment()
    }

    /// As [`crate::Consumer::position`].
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn position(&self, at: impl Into<TopicPartition>) -> Result<i64> {
        self.core.position(&at.into())
    }

    /// As [`crate::Consumer::seek`]; in [`RebalanceListener::assigned`] no record is handed out before.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn seek(&self, at: impl Into<TopicPartition>, offset: i64) -> Result<()> {
        self.core.seek(&at.into(), offset)
    }

    /// As [`crate::Consumer::pause`].
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn pause(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.core.set_paused(&at.into(), true)
    }

    /// As [`crate::Consumer::resume`].
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn resume(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.core.set_paused(&at.into(), false)
    }

    /// As [`crate::Consumer::commit_sync`].
    ///
    /// # Errors
    /// When the commit was refused or not confirmed in time.
    pub async fn commit_sync(&self) -> Result<()> {
        self.core.commit_positions(self.cause(Cause::Async)).await
    }

    /// As [`crate::Consumer::commit_offsets`].
    ///
    /// # Errors
    /// When the commit was refused or not confirmed in time.
    pub async fn commit_offsets<P, O>(
        &self,
        offsets: impl IntoIterator<Item = (P, O)>,
    ) -> Result<()>
    where
        P: Into<TopicPartition>,
        O: Into<OffsetAndMetadata>,
    {
        let offsets = offsets.into_iter().map(|(at, offset)| (at.into(), offset.into())).collect();
        self.core.commit_offsets(offsets, self.cause(Cause::Sync)).await
    }

    /// As [`crate::Consumer::committed`].
    ///
    /// # Errors
    /// When they cannot be read in time.
    pub async fn committed<P>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>>
    where
        P: Into<TopicPartition>,
    {
        self.core.committed(partitions.into_iter().map(Into::into).collect()).await
    }
}
