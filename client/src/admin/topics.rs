//! Owns topics: create, list, describe, more partitions, fewer records.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Channel;
use waymark_proto::ids::TopicId;
use waymark_proto::v1 as wire;
use wire::topic_service_client::TopicServiceClient;

use super::model::{NewTopic, PartitionDescription, RecordsBefore, TopicDescription, TopicListing};
use super::{Admin, only};
use crate::answers::topic_ref;
use crate::connections::Link;
use crate::error::{Error, Result};
use crate::record::TopicPartition;
use crate::refusal::check;
use crate::retry::Repeat;

/// Topics of one page.
const PAGE: i32 = 1000;

pub(super) fn service(link: &Link) -> TopicServiceClient<Channel> {
    TopicServiceClient::new(link.channel.clone())
        .max_decoding_message_size(waymark_proto::transport::MAX_MESSAGE)
}

pub(super) fn topic_id(bytes: &[u8]) -> Result<TopicId> {
    TopicId::from_slice(bytes).map_err(|error| Error::protocol(error.to_string()))
}

impl Admin {
    /// Creates one topic; returns its id once its partitions are ready to be written.
    ///
    /// # Errors
    /// When the topic exists, or its name or settings are not legal.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<TopicId> {
        only(self.create_topics([topic]).await?)
    }

    /// Creates topics.
    ///
    /// # Errors
    /// When no node answers in time; each topic has its own outcome.
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Vec<Result<TopicId>>> {
        let random = &self.client.config().random;
        // The ids are made here, so that a repetition creates nothing twice.
        let topics: Vec<_> = topics.into_iter().map(|new| to_wire(new, random.next_id())).collect();
        self.each("creating topics", topics, |link, timeout, topics| async move {
            let request = wire::CreateTopicsRequest {
                topics,
                timeout_ms: millis(timeout),
                ..Default::default()
            };
            let call = link.call(request, timeout);
            let answer = service(&link)
                .create_topics(call)
                .await
                .map_err(|s| link.failure(&s))?
                .into_inner();
            check(answer.failure.as_ref())?;
            let outcome = |result: wire::TopicResult| {
                check(result.failure.as_ref())?;
                topic_id(&result.topic_id)
            };
            Ok(answer.results.into_iter().map(outcome).collect())
        })
        .await
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// When no node answers in time.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>> {
        let mut all = Vec::new();
        let mut token = Default::default();
        loop {
            let from = &token;
            let page = self
                .client
                .call("listing topics", Repeat::Harmless, |link, timeout| async move {
                    let page_token = Clone::clone(from);
                    let request = wire::ListTopicsRequest { page_size: PAGE, page_token };
                    let call = link.call(request, timeout);
                    let answer = service(&link).list_topics(call).await;
                    let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                    check(answer.failure.as_ref()).map(|()| answer)
                })
                .await?;
            for topic in page.topics {
                all.push(TopicListing {
                    id: topic_id(&topic.topic_id)?,
                    name: topic.name,
                    partitions: topic.partitions,
                    replication: topic.replication_factor,
                });
            }
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// One topic in detail.
    ///
    /// # Errors
    /// When it does not exist or no node answers in time.
    pub async fn describe_topic(&self, topic: impl Into<String>) -> Result<TopicDescription> {
        only(self.describe_topics([topic]).await?)
    }

    /// Topics in detail.
    ///
    /// # Errors
    /// When no node answers in time; each topic has its own outcome.
    pub async fn describe_topics<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Result<TopicDescription>>> {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        self.each("describing topics", topics, |link, timeout, topics| async move {
            let request = wire::DescribeTopicsRequest {
                topics: topics.iter().map(|name| topic_ref(name)).collect(),
            };
            let call = link.call(request, timeout);
            let answer = service(&link)
                .describe_topics(call)
                .await
                .map_err(|s| link.failure(&s))?
                .into_inner();
            check(answer.failure.as_ref())?;
            Ok(answer.topics.into_iter().map(description).collect())
        })
        .await
    }

    /// How many partitions a topic has at this moment; `None`: there is none of this name. As new as the newest change that
    /// was acknowledged before the call, whichever node answers: linearizable.
    ///
    /// # Errors
    /// When no node answers in time.
    pub async fn count_partitions(&self, topic: &str) -> Result<Option<i32>> {
        self.client
            .call("looking a topic up", Repeat::Harmless, |link, timeout| async move {
                let level = wire::ConsistencyLevel::Linearizable.into();
                let consistency = Some(wire::Consistency { level, ..Default::default() });
                let topics = vec![topic_ref(topic)];
                let asked = wire::GetMetadataRequest { topics, consistency, ..Default::default() };
                let call = link.call(asked, timeout);
                let answer = super::cluster::service(&link).get_metadata(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref())?;
                let found = answer.topics.into_iter().next();
                let found = found.ok_or_else(|| Error::protocol("no answer about the topic"))?;
                match found.failure.as_ref() {
                    Some(failure) if failure.code() == wire::FailureCode::TopicNotFound => Ok(None),
                    failure => check(failure).map(|()| i32::try_from(found.partitions.len()).ok()),
                }
            })
            .await
    }

    /// Gives a topic more partitions; `total` counts those it has.
    ///
    /// # Errors
    /// When the topic does not exist, has more already, or no node answers in time.
    pub async fn add_partitions(&self, topic: &str, total: i32) -> Result<()> {
        let outcome = self
            .each("adding partitions", vec![()], |link, timeout, _| async move {
                let more =
                    wire::NewPartitions { topic: Some(topic_ref(topic)), total: Some(total) };
                let request = wire::AddPartitionsRequest {
                    topics: vec![more],
                    timeout_ms: millis(timeout),
                    ..Default::default()
                };
                let call = link.call(request, timeout);
                let answer = service(&link).add_partitions(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref())?;
                Ok(answer.results.iter().map(|result| check(result.failure.as_ref())).collect())
            })
            .await?;
        only(outcome)
    }

    /// Deletes the oldest records of partitions; gives the first offset that each still has.
    ///
    /// # Errors
    /// When no node answers in time; each partition has its own outcome.
    pub async fn delete_records<P: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = (P, RecordsBefore)>,
    ) -> Result<Vec<Result<i64>>> {
        let items: Vec<(TopicPartition, RecordsBefore)> =
            partitions.into_iter().map(|(at, before)| (at.into(), before)).collect();
        self.each("deleting records", items, |link, timeout, items| async move {
            let partitions = items.iter().map(records_before).collect();
            let request = wire::DeleteRecordsRequest { partitions, timeout_ms: millis(timeout) };
            let call = link.call(request, timeout);
            let answer = service(&link)
                .delete_records(call)
                .await
                .map_err(|s| link.failure(&s))?
                .into_inner();
            check(answer.failure.as_ref())?;
            let outcome = |result: wire::DeleteRecordsResult| {
                check(result.failure.as_ref()).map(|()| result.log_start_offset)
            };
            Ok(answer.results.into_iter().map(outcome).collect())
        })
        .await
    }
}

fn to_wire(new: NewTopic, id: [u8; 16]) -> wire::NewTopic {
    let config = |(key, value)| wire::ConfigValue { key, value: Some(value) };
    wire::NewTopic {
        name: new.name,
        topic_id: Bytes::copy_from_slice(&id),
        partitions: new.partitions,
        replication_factor: new.replication,
        configs: new.configs.into_iter().map(config).collect(),
    }
}

fn records_before((at, before): &(TopicPartition, RecordsBefore)) -> wire::DeleteRecordsTo {
    let (before_offset, target) = match before {
        RecordsBefore::Offset(offset) => (Some(*offset), wire::DeleteRecordsTarget::Unspecified),
        RecordsBefore::HighWatermark => (None, wire::DeleteRecordsTarget::HighWatermark),
    };
    wire::DeleteRecordsTo {
        topic: Some(topic_ref(&at.topic)),
        partition: Some(at.partition),
        before_offset,
        target: target.into(),
    }
}

fn description(topic: wire::TopicDescription) -> Result<TopicDescription> {
    check(topic.failure.as_ref())?;
    let partition = |p: wire::PartitionDescription| PartitionDescription {
        partition: p.partition,
        leader: p.leader,
        leader_epoch: p.leader_epoch,
        voters: p.voters,
        in_sync: p.in_sync,
        offline: p.offline,
    };
    Ok(TopicDescription {
        id: topic_id(&topic.topic_id)?,
        name: Arc::from(topic.name),
        partitions: topic.partitions.into_iter().map(partition).collect(),
    })
}

pub(super) fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
