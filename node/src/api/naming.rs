//! What references in messages mean: topics and partitions by name, by id or by both, and lists with an end. Owns the
//! look-up that the services share.

use tonic::Status;
use waymark_proto::failure::Failure;
use waymark_proto::ids::TopicPartition;
use waymark_proto::v1;

use super::Api;
use super::admin::Topic;
use super::convert::fields::{partition, topic};
use super::refusal::{missing, too_large};
use super::status::whole_call;

/// Items of one administrative call.
const MAX_ITEMS: usize = 10_000;

/// Lists of a call are neither empty nor without end.
pub(super) fn bounded(items: usize) -> Result<(), Status> {
    match items {
        0 => Err(whole_call(&missing("the list of items"))),
        1..=MAX_ITEMS => Ok(()),
        _ => Err(whole_call(&too_large("items of a call", MAX_ITEMS as i64))),
    }
}

impl Api {
    /// The topic that a reference means.
    pub(super) async fn named(&self, given: Option<&v1::TopicRef>) -> Result<Topic, Failure> {
        self.admin().topic(&topic("topic", given)?).await
    }

    /// The partition that a reference means, with its topic.
    pub(super) async fn named_partition(
        &self,
        given: Option<&v1::TopicRef>,
        number: Option<i32>,
    ) -> Result<(Topic, TopicPartition), Failure> {
        let partition = partition("partition", number)?;
        let topic = self.named(given).await?;
        let at = TopicPartition { topic: topic.id, partition };
        Ok((topic, at))
    }
}
