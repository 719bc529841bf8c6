//! The offset service: offsets of partitions are asked of their leaders, offsets of a group of its coordinator. Any node
//! answers, itself or through those.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use tonic::{Request, Response, Status};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{TopicId, TopicPartition};
use waymark_proto::v1;
use waymark_proto::v1::offset_service_client::OffsetServiceClient;
use waymark_proto::v1::offset_service_server::OffsetService;

use super::Api;
use super::admin::Topic;
use super::call::Call;
use super::convert::fields::{count, group, optional};
use super::convert::offsets::{commit, commit_head, commit_item, committed, spot};
use super::convert::topics::{id_bytes, topic_ref};
use super::naming::bounded;
use super::refusal::{missing, refuse};
use super::spread::ask_leaders;
use super::status::whole_call;

#[async_trait::async_trait]
impl OffsetService for Api {
    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let call = Call::of(&request);
        let queries = request.into_inner().queries;
        bounded(queries.len())?;
        let mut answers = join_all(queries.iter().map(|query| self.found(query))).await;
        ask_leaders(self, &call, &queries, &mut answers, |channel, part| {
            Box::pin(async move {
                let part = part.map(|queries| v1::ListOffsetsRequest { queries });
                let answer = OffsetServiceClient::new(channel).list_offsets(part).await?;
                Ok(answer.into_inner().answers)
            })
        })
        .await?;
        Ok(Response::new(v1::ListOffsetsResponse { answers, ..Default::default() }))
    }

    async fn epoch_end_offsets(
        &self,
        request: Request<v1::EpochEndOffsetsRequest>,
    ) -> Result<Response<v1::EpochEndOffsetsResponse>, Status> {
        let call = Call::of(&request);
        let queries = request.into_inner().queries;
        bounded(queries.len())?;
        let mut answers = join_all(queries.iter().map(|query| self.epoch_ended(query))).await;
        ask_leaders(self, &call, &queries, &mut answers, |channel, part| {
            Box::pin(async move {
                let part = part.map(|queries| v1::EpochEndOffsetsRequest { queries });
                let answer = OffsetServiceClient::new(channel).epoch_end_offsets(part).await?;
                Ok(answer.into_inner().answers)
            })
        })
        .await?;
        Ok(Response::new(v1::EpochEndOffsetsResponse { answers, ..Default::default() }))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        commit_head(&request).map_err(|failure| whole_call(&failure))?;
        let topics = self.topics_of(request.offsets.iter().map(|item| item.topic.as_ref())).await;
        let items = request.offsets.iter().map(|item| {
            let (_, at) = topics.partition(item.topic.as_ref(), item.partition)?;
            commit_item(at, item)
        });
        let checked: Vec<Result<_, Failure>> = items.collect();
        let outcomes = self.commit_checked(&call, &request, checked).await?;
        let results = request.offsets.into_iter().zip(outcomes).map(|(item, outcome)| {
            let topic = topics.both_names(item.topic);
            v1::OffsetResult {
                topic,
                partition: item.partition,
                failure: outcome.err().map(Failure::into),
            }
        });
        let results = results.collect();
        Ok(Response::new(v1::CommitOffsetsResponse { results, ..Default::default() }))
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Result<Response<v1::FetchOffsetsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let group = group(&request.group_id).map_err(|failure| whole_call(&failure))?;
        let offsets = if request.partitions.is_empty() {
            let stored = self.admin().fetch_offsets(group, None, call.deadline).await;
            let stored = stored.map_err(|failure| self.refused(&call, &failure))?;
            let named =
                stored.into_iter().map(|stored| committed(self.name_of(stored.at.topic), stored));
            named.collect()
        } else {
            self.fetched(&call, group, request.partitions).await?
        };
        Ok(Response::new(v1::FetchOffsetsResponse { offsets, ..Default::default() }))
    }

    async fn delete_offsets(
        &self,
        request: Request<v1::DeleteOffsetsRequest>,
    ) -> Result<Response<v1::DeleteOffsetsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let group = group(&request.group_id).map_err(|failure| whole_call(&failure))?;
        let checked = match (request.all, request.partitions.is_empty()) {
            (true, true) => None,
            (false, false) => Some(self.partitions(&request.partitions).await),
            (true, false) => {
                return Err(whole_call(&refuse(
                    FailureCode::InvalidArgument,
                    "all or partitions, not both",
                )));
            }
            (false, true) => return Err(whole_call(&missing("partitions"))),
        };
        let good =
            checked.as_ref().map(|all| all.iter().flatten().map(|(_, at)| *at).collect::<Vec<_>>());
        if good.as_ref().is_none_or(|good| !good.is_empty()) {
            let deleted =
                self.admin().delete_offsets(group, good, call.actor(""), call.deadline).await;
            deleted.map_err(|failure| self.refused(&call, &failure))?;
        }
        let outcomes = checked.unwrap_or_default().into_iter();
        let results = request.partitions.into_iter().zip(outcomes).map(|(given, outcome)| {
            let (topic, failure) = match outcome {
                Ok((topic, _)) => (Some(topic_ref(&topic)), None),
                Err(failure) => (given.topic, Some(Failure::into(failure))),
            };
            v1::OffsetResult { topic, partition: given.partition, failure }
        });
        let results = results.collect();
        Ok(Response::new(v1::DeleteOffsetsResponse { results, ..Default::default() }))
    }
}

/// The topics that a call names, each looked up once.
pub(super) struct Topics(BTreeMap<(String, bytes::Bytes), Result<Topic, Failure>>);

impl Topics {
    fn get(&self, given: Option<&v1::TopicRef>) -> Result<&Topic, Failure> {
        let given = given.ok_or_else(|| missing("topic"))?;
        let key = (given.name.clone(), given.topic_id.clone());
        match self.0.get(&key) {
            Some(Ok(topic)) => Ok(topic),
            Some(Err(failure)) => Err(failure.clone()),
            None => Err(missing("topic")),
        }
    }

    pub(super) fn partition(
        &self,
        given: Option<&v1::TopicRef>,
        number: Option<i32>,
    ) -> Result<(&Topic, TopicPartition), Failure> {
        let partition = super::convert::fields::partition("partition", number)?;
        let topic = self.get(given)?;
        if partition.0 >= topic.partitions {
            let message = format!("{} has {} partitions", topic.name, topic.partitions);
            return Err(refuse(FailureCode::PartitionNotFound, message));
        }
        Ok((topic, TopicPartition { topic: topic.id, partition }))
    }

    fn both_names(&self, given: Option<v1::TopicRef>) -> Option<v1::TopicRef> {
        match self.get(given.as_ref()) {
            Ok(topic) => Some(topic_ref(topic)),
            Err(_) => given,
        }
    }
}

impl Api {
    pub(super) async fn topics_of(
        &self,
        given: impl Iterator<Item = Option<&v1::TopicRef>>,
    ) -> Topics {
        let named: BTreeSet<_> =
            given.flatten().map(|topic| (topic.name.clone(), topic.topic_id.clone())).collect();
        let looked_up = named.into_iter().map(|(name, topic_id)| async move {
            let given = v1::TopicRef { name, topic_id };
            let topic = self.named(Some(&given)).await;
            ((given.name, given.topic_id), topic)
        });
        Topics(join_all(looked_up).await.into_iter().collect())
    }

    async fn partitions(
        &self,
        given: &[v1::PartitionRef],
    ) -> Vec<Result<(Topic, TopicPartition), Failure>> {
        let topics = self.topics_of(given.iter().map(|item| item.topic.as_ref())).await;
        let each = given.iter().map(|item| {
            let (topic, at) = topics.partition(item.topic.as_ref(), item.partition)?;
            Ok((topic.clone(), at))
        });
        each.collect()
    }

    fn name_of(&self, topic: TopicId) -> String {
        self.admin().topic_name(topic).unwrap_or_default()
    }

    /// Commits what passed the checks, or nothing where one bad item refuses all.
    async fn commit_checked(
        &self,
        call: &Call,
        request: &v1::CommitOffsetsRequest,
        checked: Vec<Result<crate::state::command::OffsetCommit, Failure>>,
    ) -> Result<Vec<Result<(), Failure>>, Status> {
        let all_or_nothing = request.all_or_nothing.unwrap_or(true);
        if all_or_nothing && checked.iter().any(Result::is_err) {
            let not_attempted =
                || refuse(FailureCode::NotAttempted, "another item of the call was refused");
            return Ok(checked
                .into_iter()
                .map(|item| Err(item.err().unwrap_or_else(not_attempted)))
                .collect());
        }
        let good: Vec<_> = checked.iter().flatten().cloned().collect();
        let mut committed = Vec::new().into_iter();
        if !good.is_empty() {
            let commit = commit(request, good, call.actor(""));
            let outcome = self.admin().commit_offsets(commit, call.deadline).await;
            committed = outcome.map_err(|failure| self.refused(call, &failure))?.into_iter();
        }
        let lost = || Err(refuse(FailureCode::Internal, "an item without an outcome"));
        let merged = checked.into_iter().map(|item| match item {
            Ok(_) => committed.next().unwrap_or_else(lost),
            Err(failure) => Err(failure),
        });
        Ok(merged.collect())
    }

    async fn fetched(
        &self,
        call: &Call,
        group: &str,
        given: Vec<v1::PartitionRef>,
    ) -> Result<Vec<v1::CommittedOffset>, Status> {
        let checked = self.partitions(&given).await;
        let good: Vec<_> = checked.iter().flatten().map(|(_, at)| *at).collect();
        let stored = self.admin().fetch_offsets(group, Some(&good), call.deadline).await;
        let stored = stored.map_err(|failure| self.refused(call, &failure))?;
        let mut stored: BTreeMap<_, _> =
            stored.into_iter().map(|stored| (stored.at, stored)).collect();
        let answers = given.into_iter().zip(checked).map(|(given, outcome)| match outcome {
            Ok((topic, at)) => match stored.remove(&at) {
                Some(stored) => committed(topic.name, stored),
                None => v1::CommittedOffset {
                    topic: Some(topic_ref(&topic)),
                    partition: given.partition,
                    ..v1::CommittedOffset::default()
                },
            },
            Err(failure) => v1::CommittedOffset {
                topic: given.topic,
                partition: given.partition,
                failure: Some(Failure::into(failure)),
                ..v1::CommittedOffset::default()
            },
        });
        Ok(answers.collect())
    }

    pub(super) async fn found(&self, query: &v1::OffsetQuery) -> v1::OffsetAnswer {
        let found = async {
            let spot = spot(query)?;
            let epoch = optional("leader_epoch", query.leader_epoch)?;
            let (topic, at) = self.named_partition(query.topic.as_ref(), query.partition).await?;
            Ok((self.admin().find_offset(at, spot, epoch).await?, topic))
        };
        match found.await {
            Ok((found, topic)) => v1::OffsetAnswer {
                topic: Some(topic_ref(&topic)),
                partition: query.partition,
                offset: found.offset,
                timestamp_ms: found.timestamp_ms,
                leader_epoch: found.leader_epoch,
                failure: None,
            },
            Err(failure) => v1::OffsetAnswer {
                topic: query.topic.clone(),
                partition: query.partition,
                failure: Some(Failure::into(failure)),
                ..v1::OffsetAnswer::default()
            },
        }
    }

    async fn epoch_ended(&self, query: &v1::EpochQuery) -> v1::EpochAnswer {
        let ended = async {
            let epoch = count("epoch", query.epoch)?;
            let leader_epoch = optional("leader_epoch", query.leader_epoch)?;
            let (topic, at) = self.named_partition(query.topic.as_ref(), query.partition).await?;
            Ok((self.admin().epoch_end(at, epoch, leader_epoch).await?, topic))
        };
        match ended.await {
            Ok((end, topic)) => v1::EpochAnswer {
                topic: Some(v1::TopicRef { topic_id: id_bytes(topic.id), name: topic.name }),
                partition: query.partition,
                epoch: end.map(|end| end.epoch),
                end_offset: end.map(|end| end.end_offset),
                failure: None,
            },
            Err(failure) => v1::EpochAnswer {
                topic: query.topic.clone(),
                partition: query.partition,
                failure: Some(Failure::into(failure)),
                ..v1::EpochAnswer::default()
            },
        }
    }
}
