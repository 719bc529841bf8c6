//! Owns deleting topics. A topic is deleted by the id that its name had when the call set out: neither a repetition nor a copy
//! that waited somewhere deletes a topic that was made anew under the name meanwhile.

use std::collections::VecDeque;

use bytes::Bytes;
use waymark_proto::failure::FailureCode;
use waymark_proto::ids::TopicId;
use waymark_proto::v1 as wire;

use super::topics::{millis, service, topic_id};
use super::{Admin, Outcomes, cluster};
use crate::answers::topic_ref;
use crate::error::{Error, Result};
use crate::refusal::check;

impl Admin {
    /// Deletes topics, with all their records. One that somebody else deletes meanwhile counts as deleted. Looking the names up
    /// and deleting have the whole `api_timeout` each.
    ///
    /// # Errors
    /// When no node answers in time; each topic has its own outcome.
    pub async fn delete_topics<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Result<()>>> {
        let names: Vec<String> = topics.into_iter().map(Into::into).collect();
        let ids = self.topic_ids(names.clone()).await?;
        let known = names.iter().zip(&ids).filter_map(|(name, id)| {
            let topic_id = Bytes::copy_from_slice(&id.as_ref().ok()?.0);
            Some(wire::TopicRef { topic_id, ..topic_ref(name) })
        });
        let known: Vec<wire::TopicRef> = known.collect();
        let mut told = VecDeque::new();
        if !known.is_empty() {
            told = self.delete_known(known).await?.into();
        }
        let mut next = || told.pop_front().unwrap_or(Err(Error::protocol("no outcome")));
        Ok(ids.into_iter().map(|id| id.and_then(|_| gone(next()))).collect())
    }

    /// What the names of topics mean at this moment: as new as the newest change that was acknowledged before.
    async fn topic_ids(&self, names: Vec<String>) -> Result<Outcomes<TopicId>> {
        self.each("looking topics up", names, |link, timeout, names| async move {
            let level = wire::ConsistencyLevel::Linearizable.into();
            let consistency = Some(wire::Consistency { level, ..Default::default() });
            let topics = names.iter().map(|name| topic_ref(name)).collect();
            let request = wire::GetMetadataRequest { topics, consistency, ..Default::default() };
            let answer = cluster::service(&link).get_metadata(link.call(request, timeout)).await;
            let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
            check(answer.failure.as_ref())?;
            let id = |name: &String| {
                let found = answer.topics.iter().find(|topic| topic.name == *name);
                let topic = found.ok_or(Error::protocol("no answer about the topic"))?;
                check(topic.failure.as_ref()).and_then(|()| topic_id(&topic.topic_id))
            };
            Ok(names.iter().map(id).collect())
        })
        .await
    }

    async fn delete_known(&self, topics: Vec<wire::TopicRef>) -> Result<Outcomes<()>> {
        self.each("deleting topics", topics, |link, timeout, topics| async move {
            let timeout_ms = millis(timeout);
            let request = wire::DeleteTopicsRequest { topics, timeout_ms, ..Default::default() };
            let answer = service(&link).delete_topics(link.call(request, timeout)).await;
            let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
            check(answer.failure.as_ref())?;
            Ok(answer.results.iter().map(|result| check(result.failure.as_ref())).collect())
        })
        .await
    }
}

/// The topic was there when the call set out. That it is gone, or another one has its name, is what was asked for: an earlier
/// attempt whose answer was lost did it, or somebody else.
fn gone(told: Result<()>) -> Result<()> {
    match told.as_ref().err().and_then(Error::code) {
        Some(FailureCode::TopicNotFound | FailureCode::TopicIdMismatch) => Ok(()),
        _ => told,
    }
}
