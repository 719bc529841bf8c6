//! The topic service: each item of a list is checked, asked for and answered by itself, in order. The catalog's leader is
//! found by the layer below, so that any node answers.

use std::collections::BTreeMap;

use futures::future::join_all;
use tonic::{Request, Response, Status};
use waymark_proto::failure::Failure;
use waymark_proto::ids::{TopicId, TopicPartition};
use waymark_proto::v1;
use waymark_proto::v1::topic_service_client::TopicServiceClient;
use waymark_proto::v1::topic_service_server::TopicService;

use super::Api;
use super::admin::{Change, NewConfigs, PartitionPlace, Stand, Topic};
use super::call::Call;
use super::convert::fields::{count, optional, timeout, topic};
use super::convert::topics::{
    MAX_TIMEOUT, config_entries, config_op, new_topic, page_after, page_size, page_token,
    partition_description, topic_ref, topic_result, total,
};
use super::naming::bounded;
use super::refusal::invalid;
use super::spread::ask_leaders;
use super::status::whole_call;

/// Where partitions stand at their leaders.
type Stands = BTreeMap<TopicPartition, Stand>;

#[async_trait::async_trait]
impl TopicService for Api {
    async fn create_topics(
        &self,
        request: Request<v1::CreateTopicsRequest>,
    ) -> Result<Response<v1::CreateTopicsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        bounded(request.topics.len())?;
        let change = change(&call, request.timeout_ms, request.validate_only)?;
        let each = request.topics.into_iter().map(|given| async move {
            let name = (given.name.clone(), given.topic_id.clone());
            let made = match new_topic(given) {
                Ok(topic) => self.admin().create_topic(topic, change).await,
                Err(failure) => Err(failure),
            };
            topic_result(name, made)
        });
        let results = join_all(each).await;
        Ok(Response::new(v1::CreateTopicsResponse { results, ..Default::default() }))
    }

    async fn delete_topics(
        &self,
        request: Request<v1::DeleteTopicsRequest>,
    ) -> Result<Response<v1::DeleteTopicsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        bounded(request.topics.len())?;
        let change = change(&call, request.timeout_ms, request.validate_only)?;
        let each = request.topics.into_iter().map(|given| async move {
            let gone = match topic("topics", Some(&given)) {
                Ok(named) => self.admin().delete_topic(&named, change).await,
                Err(failure) => Err(failure),
            };
            topic_result((given.name, given.topic_id), gone)
        });
        let results = join_all(each).await;
        Ok(Response::new(v1::DeleteTopicsResponse { results, ..Default::default() }))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let size = page_size(request.page_size).map_err(|failure| whole_call(&failure))?;
        let after = page_after(&request.page_token).map_err(|failure| whole_call(&failure))?;
        // One more than asked for tells whether there is another page.
        let mut topics = self
            .admin()
            .topics(after, size + 1)
            .await
            .map_err(|failure| self.refused(&call, &failure))?;
        let more = topics.len() > size;
        topics.truncate(size);
        let last = topics.last().filter(|_| more);
        let next_page_token = last.map_or_else(String::new, |topic| page_token(&topic.name));
        let topics = topics.iter().map(listing).collect();
        Ok(Response::new(v1::ListTopicsResponse { topics, next_page_token, ..Default::default() }))
    }

    async fn describe_topics(
        &self,
        request: Request<v1::DescribeTopicsRequest>,
    ) -> Result<Response<v1::DescribeTopicsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        bounded(request.topics.len())?;
        let each = request.topics.into_iter().map(|given| async move {
            self.named(Some(&given)).await.map_err(|failure| (given, failure))
        });
        let named = join_all(each).await;
        let ids: Vec<TopicId> = named.iter().flatten().map(|topic| topic.id).collect();
        let stands = self.admin().stands(&ids, call.deadline).await;
        let described = named.into_iter().map(|topic| match topic {
            Ok(topic) => self.described(&topic, &stands),
            Err((given, failure)) => v1::TopicDescription {
                name: given.name,
                topic_id: given.topic_id,
                failure: Some(failure.into()),
                ..v1::TopicDescription::default()
            },
        });
        let topics = described.collect();
        Ok(Response::new(v1::DescribeTopicsResponse { topics, ..Default::default() }))
    }

    async fn list_partitions(
        &self,
        request: Request<v1::ListPartitionsRequest>,
    ) -> Result<Response<v1::ListPartitionsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let size = page_size(request.page_size).map_err(|failure| whole_call(&failure))?;
        let first = first_partition(&request.page_token).map_err(|failure| whole_call(&failure))?;
        let topic = self.named(request.topic.as_ref()).await;
        let topic = topic.map_err(|failure| self.refused(&call, &failure))?;
        let places = self.admin().places(topic.id);
        let rest = places.into_iter().filter(|place| place.partition.0 >= first);
        let mut page: Vec<_> = rest.take(size + 1).collect();
        let more = page.len() > size;
        page.truncate(size);
        let last = page.last().filter(|_| more);
        let next_page_token = last.map_or_else(String::new, |place| page_token(place.partition));
        let stands = self.admin().stands(&[topic.id], call.deadline).await;
        let partitions = page.into_iter().map(|place| placed(&topic, place, &stands)).collect();
        Ok(Response::new(v1::ListPartitionsResponse {
            topic: Some(topic_ref(&topic)),
            partitions,
            next_page_token,
            ..Default::default()
        }))
    }

    async fn add_partitions(
        &self,
        request: Request<v1::AddPartitionsRequest>,
    ) -> Result<Response<v1::AddPartitionsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        bounded(request.topics.len())?;
        let change = change(&call, request.timeout_ms, request.validate_only)?;
        let each = request.topics.into_iter().map(|given| async move {
            let asked = topic("topic", given.topic.as_ref())
                .and_then(|named| Ok((named, total(given.total)?)));
            let grown = match asked {
                Ok((named, total)) => self.admin().add_partitions(&named, total, change).await,
                Err(failure) => Err(failure),
            };
            topic_result(names(given.topic), grown)
        });
        let results = join_all(each).await;
        Ok(Response::new(v1::AddPartitionsResponse { results, ..Default::default() }))
    }

    async fn describe_configs(
        &self,
        request: Request<v1::DescribeConfigsRequest>,
    ) -> Result<Response<v1::DescribeConfigsResponse>, Status> {
        let request = request.into_inner();
        bounded(request.topics.len())?;
        let keys = &request.keys;
        let each = request.topics.into_iter().map(|given| async move {
            let topic = self.named(Some(&given)).await;
            match topic.and_then(|topic| Ok((config_entries(&topic, keys)?, topic))) {
                Ok((entries, topic)) => v1::TopicConfigs {
                    topic: Some(topic_ref(&topic)),
                    entries,
                    version: topic.version,
                    failure: None,
                },
                Err(failure) => v1::TopicConfigs {
                    topic: Some(given),
                    failure: Some(failure.into()),
                    ..v1::TopicConfigs::default()
                },
            }
        });
        let topics = join_all(each).await;
        Ok(Response::new(v1::DescribeConfigsResponse { topics, ..Default::default() }))
    }

    async fn alter_configs(
        &self,
        request: Request<v1::AlterConfigsRequest>,
    ) -> Result<Response<v1::AlterConfigsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        bounded(request.topics.len())?;
        let change = change(&call, request.timeout_ms, request.validate_only)?;
        let each = request.topics.into_iter().map(|given| async move {
            let altered = self.altered(&given, change).await;
            topic_result(names(given.topic), altered)
        });
        let results = join_all(each).await;
        Ok(Response::new(v1::AlterConfigsResponse { results, ..Default::default() }))
    }

    async fn delete_records(
        &self,
        request: Request<v1::DeleteRecordsRequest>,
    ) -> Result<Response<v1::DeleteRecordsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        bounded(request.partitions.len())?;
        let change = change(&call, request.timeout_ms, false)?;
        let each = request.partitions.iter().map(|given| self.records_deleted(given, change));
        let mut results = join_all(each).await;
        let timeout_ms = request.timeout_ms;
        ask_leaders(self, &call, &request.partitions, &mut results, |channel, part| {
            Box::pin(async move {
                let part =
                    part.map(|partitions| v1::DeleteRecordsRequest { partitions, timeout_ms });
                let answer = TopicServiceClient::new(channel).delete_records(part).await?;
                Ok(answer.into_inner().results)
            })
        })
        .await?;
        Ok(Response::new(v1::DeleteRecordsResponse { results, ..Default::default() }))
    }
}

impl Api {
    fn described(&self, topic: &Topic, stands: &Stands) -> v1::TopicDescription {
        let places = self.admin().places(topic.id);
        let partitions = places.into_iter().map(|place| placed(topic, place, stands)).collect();
        let v1::TopicRef { name, topic_id } = topic_ref(topic);
        v1::TopicDescription {
            name,
            topic_id,
            replication_factor: topic.replication,
            partitions,
            internal: false,
            failure: None,
        }
    }

    /// Words are added to and taken from what is set now, so such a change holds only while that is still set.
    async fn altered(
        &self,
        given: &v1::AlterTopicConfigs,
        change: Change,
    ) -> Result<Topic, Failure> {
        let expected = optional("expected_version", given.expected_version)?;
        let topic = self.named(given.topic.as_ref()).await?;
        let words = [v1::ConfigOp::Append, v1::ConfigOp::Subtract];
        let relative = given.changes.iter().any(|change| words.contains(&change.op()));
        let ops = given.changes.iter().map(|change| config_op(change, &topic));
        let ops = ops.collect::<Result<Vec<_>, _>>()?;
        let expected_version = expected.or(relative.then_some(topic.version));
        let configs = NewConfigs { topic: topic.id, ops, expected_version };
        self.admin().alter_configs(configs, change).await
    }

    async fn records_deleted(
        &self,
        given: &v1::DeleteRecordsTo,
        change: Change,
    ) -> v1::DeleteRecordsResult {
        let deleted = async {
            let before = before(given)?;
            let (topic, at) = self.named_partition(given.topic.as_ref(), given.partition).await?;
            let start = self.admin().delete_records(at, before, change.deadline).await?;
            Ok((topic, start))
        };
        match deleted.await {
            Ok((topic, log_start_offset)) => v1::DeleteRecordsResult {
                topic: Some(topic_ref(&topic)),
                partition: given.partition,
                log_start_offset,
                failure: None,
            },
            Err(failure) => v1::DeleteRecordsResult {
                topic: given.topic.clone(),
                partition: given.partition,
                failure: Some(Failure::into(failure)),
                ..v1::DeleteRecordsResult::default()
            },
        }
    }
}

fn placed(topic: &Topic, place: PartitionPlace, stands: &Stands) -> v1::PartitionDescription {
    let at = TopicPartition { topic: topic.id, partition: place.partition };
    partition_description(place, stands.get(&at).copied())
}

/// `None` is the high watermark.
fn before(given: &v1::DeleteRecordsTo) -> Result<Option<i64>, Failure> {
    match super::convert::fields::known("target", given.target)? {
        v1::DeleteRecordsTarget::Unspecified => {
            count("before_offset", given.before_offset).map(Some)
        }
        v1::DeleteRecordsTarget::HighWatermark if given.before_offset.is_some() => {
            Err(invalid("before_offset", "absent where target is given"))
        }
        v1::DeleteRecordsTarget::HighWatermark => Ok(None),
    }
}

fn first_partition(token: &str) -> Result<i32, Failure> {
    match page_after(token)? {
        "" => Ok(0),
        last => {
            let last: Option<i32> = last.parse().ok();
            let next = last.and_then(|last| last.checked_add(1));
            next.ok_or_else(|| invalid("page_token", "what an earlier answer gave"))
        }
    }
}

fn names(given: Option<v1::TopicRef>) -> (String, bytes::Bytes) {
    given.map(|topic| (topic.name, topic.topic_id)).unwrap_or_default()
}

fn listing(topic: &Topic) -> v1::TopicListing {
    let v1::TopicRef { name, topic_id } = topic_ref(topic);
    v1::TopicListing {
        name,
        topic_id,
        partitions: topic.partitions,
        replication_factor: topic.replication,
        internal: false,
    }
}

/// How the changes of a call are made.
fn change(call: &Call, timeout_ms: i32, validate_only: bool) -> Result<Change, Status> {
    let own =
        timeout("timeout_ms", timeout_ms, MAX_TIMEOUT).map_err(|failure| whole_call(&failure))?;
    Ok(Change { validate_only, deadline: call.deadline_within(own) })
}

#[cfg(test)]
mod tests {
    use waymark_proto::ids::PartitionId;

    use super::*;

    #[test]
    fn a_page_of_partitions_begins_after_the_last_one_told() {
        assert_eq!(first_partition("").expect("the first page"), 0);
        assert_eq!(first_partition(&page_token(PartitionId(9))).expect("ours"), 10);
        assert!(first_partition("1:x").is_err());
        assert!(first_partition(&page_token(i32::MAX)).is_err());
    }

    #[test]
    fn deleting_records_needs_an_offset_or_says_the_high_watermark() {
        let nothing = v1::DeleteRecordsTo::default();
        assert!(before(&nothing).is_err());
        let to = v1::DeleteRecordsTo { before_offset: Some(5), ..Default::default() };
        assert_eq!(before(&to).expect("an offset"), Some(5));
        let all = v1::DeleteRecordsTo {
            target: v1::DeleteRecordsTarget::HighWatermark.into(),
            ..Default::default()
        };
        assert_eq!(before(&all).expect("the high watermark"), None);
    }
}
