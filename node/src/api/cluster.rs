//! The cluster service: what this node can do, where everything is, and how it feels. Any node answers from what it knows;
//! a topic by name is looked up so that "not found" is true, and after a look at the newest catalog unless less is asked for.

use futures::future::join_all;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use waymark_proto::failure::Failure;
use waymark_proto::ids::NodeId;
use waymark_proto::v1;
use waymark_proto::v1::cluster_service_client::ClusterServiceClient;
use waymark_proto::v1::cluster_service_server::ClusterService;

use super::Api;
use super::admin::Topic;
use super::call::Call;
use super::convert::cluster::{
    cluster_bytes, features, limits, no_metadata, node, node_number, node_status, topic_metadata,
    verdict,
};
use super::convert::fetch::consistency;
use super::convert::fields::{count, group, known, timeout};
use super::convert::topics::MAX_TIMEOUT;
use super::metadata_stream;
use super::naming::bounded;
use super::refusal::{missing, refuse};
use super::spread::ask_leaders;
use super::status::whole_call;
use crate::mutants;

/// Topics of one answer that asks for all of them.
const ALL: usize = 1 << 20;

#[async_trait::async_trait]
impl ClusterService for Api {
    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let here = self.admin().nodes().into_iter().find(|view| view.node == self.node());
        Ok(Response::new(v1::GetServerInfoResponse {
            cluster_id: cluster_bytes(self.cluster()),
            node_id: node_number(self.node()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: features(),
            limits: Some(limits()),
            listeners: here.map(|view| node(view).endpoints).unwrap_or_default(),
            ..v1::GetServerInfoResponse::default()
        }))
    }

    async fn get_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::GetMetadataResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let level = consistency(request.consistency.as_ref()).map_err(|it| whole_call(&it))?;
        if is_linearizable(level, &request) && !mutants::planted!("catalog-as-it-is-here") {
            let newest = self.admin().newest_catalog(call.deadline).await;
            newest.map_err(|failure| self.refused(&call, &failure))?;
        }
        let answer = self.metadata(request.topics, request.all_topics).await;
        answer.map(Response::new).map_err(|failure| self.refused(&call, &failure))
    }

    type WatchMetadataStream = ReceiverStream<Result<v1::GetMetadataResponse, Status>>;

    async fn watch_metadata(
        &self,
        request: Request<v1::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        Ok(Response::new(metadata_stream::open(self, request.into_inner())))
    }

    async fn find_coordinators(
        &self,
        request: Request<v1::FindCoordinatorsRequest>,
    ) -> Result<Response<v1::FindCoordinatorsResponse>, Status> {
        let request = request.into_inner();
        bounded(request.keys.len())?;
        match known("kind", request.kind) {
            Ok(v1::CoordinatorKind::Group) => {}
            Ok(v1::CoordinatorKind::Unspecified) => return Err(whole_call(&missing("kind"))),
            Err(failure) => return Err(whole_call(&failure)),
        }
        let each = request.keys.into_iter().map(|key| async move {
            let found = match group(&key) {
                Ok(group) => self.admin().coordinator(group).await,
                Err(failure) => Err(failure),
            };
            match found {
                Ok(view) => v1::Coordinator { key, node: Some(node(view)), failure: None },
                Err(failure) => v1::Coordinator { key, node: None, failure: Some(failure.into()) },
            }
        });
        let coordinators = join_all(each).await;
        Ok(Response::new(v1::FindCoordinatorsResponse { coordinators, ..Default::default() }))
    }

    async fn describe_cluster(
        &self,
        request: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        let call = Call::of(&request);
        let states = self.admin().node_states().await;
        let states = states.map_err(|failure| self.refused(&call, &failure))?;
        let topics = self.admin().topics("", ALL).await;
        let topics = topics.map_err(|failure| self.refused(&call, &failure))?;
        let partitions =
            topics.iter().fold(0i32, |sum, topic| sum.saturating_add(topic.partitions));
        Ok(Response::new(v1::DescribeClusterResponse {
            cluster_id: cluster_bytes(self.cluster()),
            metadata_version: *self.admin().metadata_version().borrow(),
            nodes: states.into_iter().map(node_status).collect(),
            topics: i32::try_from(topics.len()).unwrap_or(i32::MAX),
            partitions,
            ..v1::DescribeClusterResponse::default()
        }))
    }

    async fn get_health(
        &self,
        request: Request<v1::GetHealthRequest>,
    ) -> Result<Response<v1::GetHealthResponse>, Status> {
        let call = Call::of(&request);
        let problems = self.admin().problems().await;
        let problems = problems.map_err(|failure| self.refused(&call, &failure))?;
        let told = |problem: super::admin::Problem| v1::HealthProblem {
            subject: problem.subject,
            message: problem.message,
        };
        Ok(Response::new(v1::GetHealthResponse {
            healthy: problems.is_empty(),
            problems: problems.into_iter().map(told).collect(),
            ..v1::GetHealthResponse::default()
        }))
    }

    async fn verify_replicas(
        &self,
        request: Request<v1::VerifyReplicasRequest>,
    ) -> Result<Response<v1::VerifyReplicasResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let own = timeout("timeout_ms", request.timeout_ms, MAX_TIMEOUT);
        let deadline = call.deadline_within(own.map_err(|failure| whole_call(&failure))?);
        let named = match request.topics.is_empty() {
            true => self.admin().topics("", ALL).await.map(|all| all.into_iter().map(Ok).collect()),
            false => Ok(self.each_named(request.topics).await),
        };
        let named: Vec<Result<Topic, _>> =
            named.map_err(|failure| self.refused(&call, &failure))?;
        let mut partitions = Vec::new();
        for topic in named {
            match topic {
                Ok(topic) => match self.admin().verify(&topic, deadline).await {
                    Ok(found) => {
                        partitions.extend(found.into_iter().map(|found| verdict(&topic, found)))
                    }
                    Err(failure) => {
                        let given = super::convert::topics::topic_ref(&topic);
                        partitions.push(not_verified(given, failure));
                    }
                },
                Err((given, failure)) => partitions.push(not_verified(given, failure)),
            }
        }
        Ok(Response::new(v1::VerifyReplicasResponse { partitions, ..Default::default() }))
    }

    async fn transfer_leaders(
        &self,
        request: Request<v1::TransferLeadersRequest>,
    ) -> Result<Response<v1::TransferLeadersResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        bounded(request.moves.len())?;
        let own = timeout("timeout_ms", request.timeout_ms, MAX_TIMEOUT);
        let deadline = call.deadline_within(own.map_err(|failure| whole_call(&failure))?);
        let each = request.moves.iter().map(|given| async move {
            let moved = async {
                let to = count("to_node", given.to_node)?;
                let (_, at) = self.named_partition(given.topic.as_ref(), given.partition).await?;
                self.admin().transfer_leader(at, NodeId(to.unsigned_abs()), deadline).await
            };
            let failure = moved.await.err().map(Failure::into);
            v1::LeaderMoveResult { topic: given.topic.clone(), partition: given.partition, failure }
        });
        let mut results = join_all(each).await;
        let timeout_ms = request.timeout_ms;
        ask_leaders(self, &call, &request.moves, &mut results, |channel, part| {
            Box::pin(async move {
                let part = part.map(|moves| v1::TransferLeadersRequest { moves, timeout_ms });
                let answer = ClusterServiceClient::new(channel).transfer_leaders(part).await?;
                Ok(answer.into_inner().results)
            })
        })
        .await?;
        Ok(Response::new(v1::TransferLeadersResponse { results, ..Default::default() }))
    }
}

fn not_verified(given: v1::TopicRef, failure: Failure) -> v1::PartitionVerdict {
    v1::PartitionVerdict {
        topic: Some(given),
        failure: Some(failure.into()),
        ..v1::PartitionVerdict::default()
    }
}

impl Api {
    /// Nodes, and the topics asked for.
    pub(super) async fn metadata(
        &self,
        named: Vec<v1::TopicRef>,
        all: bool,
    ) -> Result<v1::GetMetadataResponse, Failure> {
        // Read first: what is looked at afterwards is at least as new as the version says.
        let version = *self.admin().metadata_version().borrow();
        let topics = if all {
            let topics = self.admin().topics("", ALL).await?;
            topics.iter().map(|topic| self.whole(topic)).collect()
        } else {
            bounded_or_empty(named.len())?;
            let each = self.each_named(named).await.into_iter().map(|topic| match topic {
                Ok(topic) => self.whole(&topic),
                Err((given, failure)) => no_metadata(given, failure),
            });
            each.collect()
        };
        Ok(v1::GetMetadataResponse {
            cluster_id: cluster_bytes(self.cluster()),
            metadata_version: version,
            nodes: self.admin().nodes().into_iter().map(node).collect(),
            topics,
            ..v1::GetMetadataResponse::default()
        })
    }

    fn whole(&self, topic: &Topic) -> v1::TopicMetadata {
        topic_metadata(topic, self.admin().places(topic.id))
    }

    async fn each_named(
        &self,
        given: Vec<v1::TopicRef>,
    ) -> Vec<Result<Topic, (v1::TopicRef, Failure)>> {
        let each = given.into_iter().map(|given| async move {
            self.named(Some(&given)).await.map_err(|failure| (given, failure))
        });
        join_all(each).await
    }
}

/// Metadata by name is linearizable unless the caller asks for less (CONTRACT: reads).
fn is_linearizable(level: v1::ConsistencyLevel, request: &v1::GetMetadataRequest) -> bool {
    match level {
        v1::ConsistencyLevel::Linearizable => true,
        v1::ConsistencyLevel::Unspecified => !request.topics.is_empty(),
        v1::ConsistencyLevel::AtLeast
        | v1::ConsistencyLevel::Bounded
        | v1::ConsistencyLevel::Any => false,
    }
}

fn bounded_or_empty(topics: usize) -> Result<(), Failure> {
    match topics {
        0..=10_000 => Ok(()),
        _ => Err(refuse(
            waymark_proto::failure::FailureCode::RequestTooLarge,
            "at most 10000 topics",
        )),
    }
}
