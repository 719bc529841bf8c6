//! Owns offsets as an administrator sees them: of partitions, and those that groups have committed.

use std::collections::BTreeMap;

use waymark_proto::v1 as wire;
use wire::offset_service_client::OffsetServiceClient;

use super::model::{GroupOffset, ListedOffset, OffsetSpec};
use super::{Admin, Outcomes};
use crate::answers::{self, Spot, topic_ref};
use crate::consumer::{first_sequence, member_id};
use crate::error::Result;
use crate::record::{OffsetAndMetadata, TopicPartition};
use crate::refusal::check;
use crate::retry::Repeat;

impl Admin {
    /// Looks up an offset of each partition.
    ///
    /// # Errors
    /// When a partition does not exist or no node answers in time.
    pub async fn list_offsets<P: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
        spec: OffsetSpec,
    ) -> Result<Vec<ListedOffset>> {
        let partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        let spot = match spec {
            OffsetSpec::Earliest => Spot::Earliest,
            OffsetSpec::Latest => Spot::Latest,
            OffsetSpec::AtTime(time_ms) => Spot::AtTime(time_ms),
        };
        let partitions = &partitions[..];
        let found = self
            .client
            .call("listing offsets", Repeat::Harmless, |link, timeout| async move {
                answers::list_offsets(&link, (partitions, spot), timeout).await
            })
            .await?;
        let listed = found.into_iter().map(|found| ListedOffset {
            at: found.at,
            offset: found.offset,
            timestamp_ms: found.timestamp_ms,
            leader_epoch: found.leader_epoch,
        });
        Ok(listed.collect())
    }

    /// What a group has committed, of all partitions.
    ///
    /// # Errors
    /// When no node answers in time.
    pub async fn list_group_offsets(&self, group: &str) -> Result<Vec<GroupOffset>> {
        let committed = self
            .client
            .call("reading committed offsets", Repeat::Harmless, |link, timeout| async move {
                answers::committed(&link, (group, &[]), timeout).await
            })
            .await?;
        let offsets = committed.into_iter().map(|committed| GroupOffset {
            at: committed.at,
            position: committed.position,
            commit_time_ms: committed.commit_time_ms,
        });
        Ok(offsets.collect())
    }

    /// Commits offsets for a group from outside, all or none; the last to arrive stands. Refused while the group has
    /// members.
    ///
    /// # Errors
    /// When a partition does not exist, the group has members, or no node answers in time.
    pub async fn commit_group_offsets<P, O>(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = (P, O)>,
    ) -> Result<()>
    where
        P: Into<TopicPartition>,
        O: Into<OffsetAndMetadata>,
    {
        let offsets: BTreeMap<TopicPartition, OffsetAndMetadata> =
            offsets.into_iter().map(|(at, offset)| (at.into(), offset.into())).collect();
        let member_id = member_id(self.client.config().random.next_id());
        let mut request = wire::CommitOffsetsRequest {
            group_id: group.to_owned(),
            member: Some(wire::MemberRef { member_id, ..Default::default() }),
            offsets: offsets.iter().map(answers::offset_commit).collect(),
            all_or_nothing: Some(true),
            commit_seq: first_sequence(&self.client),
            commit_seq_in_line: true,
            cause: wire::CommitCause::Admin.into(),
            ..Default::default()
        };
        loop {
            let these = &request;
            let taken = self
                .client
                .call("committing offsets", Repeat::Harmless, |link, timeout| async move {
                    answers::commit(&link, these.clone(), timeout).await
                })
                .await?;
            match taken.behind {
                Some(actual) => request.commit_seq = actual.saturating_add(1),
                None => return Ok(()),
            }
        }
    }

    /// Forgets what a group has committed of these partitions.
    ///
    /// # Errors
    /// When no node answers in time; each partition has its own outcome.
    pub async fn delete_group_offsets<P: Into<TopicPartition>>(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<Vec<Result<()>>> {
        let partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        self.each(
            "deleting committed offsets",
            partitions,
            |link, timeout, partitions| async move {
                let partition = |at: TopicPartition| wire::PartitionRef {
                    topic: Some(topic_ref(&at.topic)),
                    partition: Some(at.partition),
                };
                let request = wire::DeleteOffsetsRequest {
                    group_id: group.to_owned(),
                    partitions: partitions.into_iter().map(partition).collect(),
                    ..Default::default()
                };
                let call = link.call(request, timeout);
                let answer =
                    OffsetServiceClient::new(link.channel.clone()).delete_offsets(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref())?;
                let outcomes: Outcomes<()> =
                    answer.results.iter().map(|result| check(result.failure.as_ref())).collect();
                Ok(outcomes)
            },
        )
        .await
    }
}
