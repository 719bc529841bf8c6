//! Owns what a consumer and its rebalance listener can both do: positions, pauses, commits. Never waits for records.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commit::{Cause, CommitFuture, Committer, Offsets};
use super::membership::Standing;
use super::positions;
use super::state::SharedState;
use crate::client::Client;
use crate::config::ConsumerConfig;
use crate::error::{Error, Result};
use crate::record::{OffsetAndMetadata, TopicPartition};

/// Shared parts of one consumer; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Core {
    pub(super) client: Client,
    pub(super) config: Arc<ConsumerConfig>,
    pub(super) shared: Arc<SharedState>,
    pub(super) standing: Arc<Standing>,
    pub(super) committer: Arc<Committer>,
}

impl Core {
    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.lock().slots().iter().map(|slot| slot.at.clone()).collect()
    }

    pub(super) fn position(&self, at: &TopicPartition) -> Result<i64> {
        self.shared.lock().slot(at).map(|slot| slot.position)
    }

    pub(super) fn seek(&self, at: &TopicPartition, offset: i64) -> Result<()> {
        self.shared.lock().seek(at, offset)?;
        self.shared.changed.notify_one();
        Ok(())
    }

    pub(super) fn set_paused(&self, at: &TopicPartition, paused: bool) -> Result<()> {
        self.shared.lock().set_paused(at, paused)?;
        self.shared.changed.notify_one();
        self.shared.data.notify_one();
        Ok(())
    }

    pub(super) fn commit_positions(&self, cause: Cause) -> CommitFuture {
        let positions = self.shared.lock().positions(false);
        self.committer.submit(positions, cause)
    }

    pub(super) async fn commit_offsets(&self, offsets: Offsets, cause: Cause) -> Result<()> {
        let offsets = self.committer.owned(offsets)?;
        self.committer.submit(offsets, cause).await
    }

    pub(super) async fn committed(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>> {
        let group = self.config.group_id.as_deref().ok_or(Error::NoGroup)?;
        positions::committed(&self.client, group, &partitions).await
    }
}
