//! The product's consumer as a member of a group: records in, with the ownership under which they came. It tells of
//! partitions as its rebalance listener hears of them, and never retries by itself.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use waymark_client::{
    AutoCommit, CommitAfter, Consumer, ConsumerConfig, ConsumerRecord, OffsetAndMetadata,
    OffsetReset, OwnedPartition, RebalanceContext, RebalanceListener, Result, Subscription,
};

use super::TOPIC;
use super::client::{POLL, WaymarkClient};
use super::operator::GROUP;
use super::translation::{failed, number, read_failed, unsigned, value_of};
use crate::group::seam::{Change, Committing, Delivery, GroupMember, Manner, Place, Told};
use crate::group::{LONGEST_WORK, SESSION};

/// So often that a run of seconds has many.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// So few that reading again takes several calls, with commits in between.
const AT_ONCE: usize = 10;
/// For the last commits and the goodbye.
const FAREWELL: Duration = Duration::from_secs(10);

/// A member, which joins when it is first asked for records.
pub(super) struct Member {
    client: WaymarkClient,
    manner: Manner,
    told: Told,
    consumer: Option<Arc<Consumer>>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("manner", &self.manner).finish_non_exhaustive()
    }
}

impl Member {
    pub(super) fn new(client: WaymarkClient, manner: Manner, told: Told) -> Self {
        Self { client, manner, told, consumer: None }
    }

    async fn consumer(&mut self) -> Result<Arc<Consumer>> {
        if let Some(consumer) = &self.consumer {
            return Ok(Arc::clone(consumer));
        }
        let config = ConsumerConfig::default()
            .group_id(GROUP)
            .auto_offset_reset(OffsetReset::Earliest)
            .session_timeout(SESSION)
            .max_poll_interval(LONGEST_WORK)
            .auto_commit(match self.manner {
                Manner::ByTime => AutoCommit::Interval,
                Manner::AfterEach => AutoCommit::After(CommitAfter::Each),
                Manner::Waiting | Manner::WithoutWaiting => AutoCommit::Disabled,
            })
            .auto_commit_interval(COMMIT_INTERVAL)
            .max_poll_records(AT_ONCE);
        let consumer = Arc::new(self.client.client().await?.consumer(config)?);
        let listener = Listener(Arc::clone(&self.told));
        consumer.subscribe_with(Subscription::topics([TOPIC]), listener).await?;
        Ok(Arc::clone(self.consumer.insert(consumer)))
    }
}

fn fence(epoch: Option<i64>) -> u64 {
    epoch.map_or(0, unsigned)
}

#[async_trait]
impl GroupMember for Member {
    async fn poll(&mut self) -> io::Result<Vec<Delivery>> {
        let consumer = self.consumer().await.map_err(failed)?;
        let records = consumer.poll(POLL).await.map_err(read_failed)?;
        let delivery = |record: &ConsumerRecord| Delivery {
            partition: u32::try_from(record.partition).unwrap_or(u32::MAX),
            offset: unsigned(record.offset),
            value: value_of(record),
            fence: fence(record.fencing_epoch),
        };
        Ok(records.iter().map(delivery).collect())
    }

    fn id(&self) -> Option<String> {
        let known = self.consumer.as_ref()?.group_metadata()?;
        known.generation.is_some().then(|| known.member_id.to_string())
    }

    fn commit(&mut self, places: Vec<Place>) -> Committing {
        let consumer = self.consumer.clone();
        let offsets = places.into_iter().map(|place| {
            let position = OffsetAndMetadata {
                offset: i64::try_from(place.offset).unwrap_or(i64::MAX),
                fencing_epoch: i64::try_from(place.fence).ok(),
                ..OffsetAndMetadata::default()
            };
            ((TOPIC, number(place.partition)), position)
        });
        let offsets: Vec<_> = offsets.collect();
        Box::pin(async move {
            let Some(consumer) = consumer else { return false };
            consumer.commit_offsets(offsets).await.is_ok()
        })
    }

    async fn leave(&mut self) {
        if let Some(consumer) = self.consumer.take()
            && let Err(error) = consumer.close(FAREWELL).await
        {
            tracing::debug!(%error, "left without a goodbye");
        }
    }
}

struct Listener(Told);

impl Listener {
    fn tell(&self, change: Change, partitions: &[OwnedPartition]) {
        for owned in partitions {
            let partition = u32::try_from(owned.at.partition).unwrap_or(u32::MAX);
            (self.0)(change, partition, unsigned(owned.fencing_epoch));
        }
    }
}

#[async_trait]
impl RebalanceListener for Listener {
    async fn assigned(&self, _: &RebalanceContext, partitions: &[OwnedPartition]) {
        self.tell(Change::Owned, partitions);
    }

    async fn revoked(&self, _: &RebalanceContext, partitions: &[OwnedPartition]) {
        self.tell(Change::GivenUp, partitions);
    }

    async fn lost(&self, _: &RebalanceContext, partitions: &[OwnedPartition]) {
        self.tell(Change::Lost, partitions);
    }
}
