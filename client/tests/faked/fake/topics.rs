//! The fake's topics: there is one, and all that can be done to it is to delete it.

use tonic::{Request, Response, Status};
use waymark_proto::v1 as wire;
use wire::{FailureCode as Code, RetryClass as Class};

use super::{Fake, Inner, TOPIC_ID, failure};

impl Inner {
    /// What the one topic's name means now.
    pub fn topic_id(&self) -> [u8; 16] {
        self.made_anew.unwrap_or(TOPIC_ID)
    }

    fn delete(&mut self, topic: wire::TopicRef) -> wire::TopicResult {
        let is_it = topic.topic_id.is_empty() || topic.topic_id == self.topic_id().as_slice();
        let failure = (!is_it).then(|| failure(Code::TopicIdMismatch, Class::Fix));
        self.deletions.push((topic.topic_id.to_vec(), is_it));
        wire::TopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            failure,
            ..Default::default()
        }
    }
}

macro_rules! topics {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl wire::topic_service_server::TopicService for Fake {
            async fn delete_topics(
                &self,
                request: Request<wire::DeleteTopicsRequest>,
            ) -> Result<Response<wire::DeleteTopicsResponse>, Status> {
                let mut inner = self.lock();
                let topics = request.into_inner().topics.into_iter();
                let results = topics.map(|topic| inner.delete(topic)).collect();
                if let Some(id) = inner.made_anew_unheard.take() {
                    inner.made_anew = Some(id);
                    return Err(Status::unavailable("the answer is lost"));
                }
                Ok(Response::new(wire::DeleteTopicsResponse { results, ..Default::default() }))
            }

            $(async fn $name(
                &self,
                _: Request<wire::$request>,
            ) -> Result<Response<wire::$response>, Status> {
                Err(Status::unimplemented("not in the box"))
            })*
        }
    };
}

topics! {
    create_topics(CreateTopicsRequest) -> CreateTopicsResponse;
    list_topics(ListTopicsRequest) -> ListTopicsResponse;
    describe_topics(DescribeTopicsRequest) -> DescribeTopicsResponse;
    list_partitions(ListPartitionsRequest) -> ListPartitionsResponse;
    add_partitions(AddPartitionsRequest) -> AddPartitionsResponse;
    describe_configs(DescribeConfigsRequest) -> DescribeConfigsResponse;
    alter_configs(AlterConfigsRequest) -> AlterConfigsResponse;
    delete_records(DeleteRecordsRequest) -> DeleteRecordsResponse;
}
