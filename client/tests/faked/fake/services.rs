//! The fake's unary services.

use tonic::{Request, Response, Status};
use waymark_proto::v1 as wire;
use wire::{FailureCode as Code, RetryClass as Class};

use super::{Fake, TOPIC, failure};

fn node() -> wire::Node {
    let endpoint =
        wire::Endpoint { host: "alive".to_owned(), port: 1, ..wire::Endpoint::default() };
    wire::Node { node_id: 1, endpoints: vec![endpoint], ..Default::default() }
}

#[tonic::async_trait]
impl wire::cluster_service_server::ClusterService for Fake {
    async fn get_server_info(
        &self,
        _: Request<wire::GetServerInfoRequest>,
    ) -> Result<Response<wire::GetServerInfoResponse>, Status> {
        Ok(Response::new(wire::GetServerInfoResponse::default()))
    }

    type WatchMetadataStream = tokio_stream::Empty<Result<wire::GetMetadataResponse, Status>>;

    async fn watch_metadata(
        &self,
        _: Request<wire::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        Err(Status::unimplemented("not in the box"))
    }

    async fn find_coordinators(
        &self,
        request: Request<wire::FindCoordinatorsRequest>,
    ) -> Result<Response<wire::FindCoordinatorsResponse>, Status> {
        self.lock().group.finds += 1;
        let coordinator = |key| wire::Coordinator { key, node: Some(node()), failure: None };
        let coordinators = request.into_inner().keys.into_iter().map(coordinator).collect();
        Ok(Response::new(wire::FindCoordinatorsResponse { coordinators, ..Default::default() }))
    }

    async fn describe_cluster(
        &self,
        _: Request<wire::DescribeClusterRequest>,
    ) -> Result<Response<wire::DescribeClusterResponse>, Status> {
        Err(Status::unimplemented("not in the box"))
    }

    async fn get_health(
        &self,
        _: Request<wire::GetHealthRequest>,
    ) -> Result<Response<wire::GetHealthResponse>, Status> {
        Err(Status::unimplemented("not in the box"))
    }

    async fn verify_replicas(
        &self,
        _: Request<wire::VerifyReplicasRequest>,
    ) -> Result<Response<wire::VerifyReplicasResponse>, Status> {
        Err(Status::unimplemented("not in the box"))
    }

    async fn transfer_leaders(
        &self,
        _: Request<wire::TransferLeadersRequest>,
    ) -> Result<Response<wire::TransferLeadersResponse>, Status> {
        Err(Status::unimplemented("not in the box"))
    }

    async fn get_metadata(
        &self,
        request: Request<wire::GetMetadataRequest>,
    ) -> Result<Response<wire::GetMetadataResponse>, Status> {
        let partitions = (0..self.lock().partitions).map(|partition| wire::PartitionMetadata {
            partition,
            leader: Some(1),
            leader_epoch: 1,
            ..Default::default()
        });
        let partitions: Vec<_> = partitions.collect();
        let (untold, topic_id) = {
            let mut inner = self.lock();
            let before = inner.untold;
            inner.untold = before.saturating_sub(1);
            (before > 0, inner.topic_id())
        };
        let topics = request.into_inner().topics.into_iter().map(|topic| {
            if untold {
                let failure = Some(failure(Code::NoLeader, Class::Reroute));
                wire::TopicMetadata { name: topic.name, failure, ..Default::default() }
            } else if topic.name == TOPIC {
                let topic_id = topic_id.to_vec().into();
                let name = topic.name;
                let partitions = partitions.clone();
                wire::TopicMetadata { name, topic_id, partitions, ..Default::default() }
            } else {
                let failure = Some(failure(Code::TopicNotFound, Class::Fix));
                wire::TopicMetadata { name: topic.name, failure, ..Default::default() }
            }
        });
        Ok(Response::new(wire::GetMetadataResponse {
            metadata_version: 1,
            nodes: vec![node()],
            topics: topics.collect(),
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl wire::offset_service_server::OffsetService for Fake {
    async fn list_offsets(
        &self,
        request: Request<wire::ListOffsetsRequest>,
    ) -> Result<Response<wire::ListOffsetsResponse>, Status> {
        let inner = self.lock();
        let answers = request.into_inner().queries.into_iter().map(|query| {
            let log = inner.logs.get(&query.partition.unwrap());
            let (start, end) = log.map_or((0, 0), |log| (log.log_start, log.next_offset));
            let offset = match query.spec() {
                wire::OffsetSpec::Earliest => Some(start),
                wire::OffsetSpec::Latest => Some(end),
                _ => None,
            };
            let (topic, partition) = (query.topic, query.partition);
            wire::OffsetAnswer { topic, partition, offset, ..Default::default() }
        });
        let answers = answers.collect();
        Ok(Response::new(wire::ListOffsetsResponse { answers, ..Default::default() }))
    }

    async fn epoch_end_offsets(
        &self,
        _: Request<wire::EpochEndOffsetsRequest>,
    ) -> Result<Response<wire::EpochEndOffsetsResponse>, Status> {
        Err(Status::unimplemented("not in the box"))
    }

    async fn delete_offsets(
        &self,
        _: Request<wire::DeleteOffsetsRequest>,
    ) -> Result<Response<wire::DeleteOffsetsResponse>, Status> {
        Err(Status::unimplemented("not in the box"))
    }

    async fn commit_offsets(
        &self,
        request: Request<wire::CommitOffsetsRequest>,
    ) -> Result<Response<wire::CommitOffsetsResponse>, Status> {
        let request = request.into_inner();
        while self.lock().commits_held {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let mut inner = self.lock();
        if let Some(failure) = inner.commit_faults.pop_front() {
            let failure = Some(failure);
            return Ok(Response::new(wire::CommitOffsetsResponse {
                failure,
                ..Default::default()
            }));
        }
        let results = inner.judge_commit(&request);
        if !results.is_empty() {
            return Ok(Response::new(wire::CommitOffsetsResponse {
                results,
                ..Default::default()
            }));
        }
        inner.commit_seqs.push(request.commit_seq);
        inner.commit_causes.push(request.cause());
        inner.committers.insert(request.member.unwrap_or_default().member_id);
        for commit in request.offsets {
            let key = (request.group_id.clone(), commit.partition.unwrap());
            inner.committed.insert(key, commit.offset.unwrap());
        }
        let throttle_ms = inner.throttle_ms;
        Ok(Response::new(wire::CommitOffsetsResponse { throttle_ms, ..Default::default() }))
    }

    async fn fetch_offsets(
        &self,
        request: Request<wire::FetchOffsetsRequest>,
    ) -> Result<Response<wire::FetchOffsetsResponse>, Status> {
        let request = request.into_inner();
        let inner = self.lock();
        let offsets = request.partitions.into_iter().map(|asked| {
            let key = (request.group_id.clone(), asked.partition.unwrap());
            wire::CommittedOffset {
                topic: asked.topic,
                partition: asked.partition,
                offset: inner.committed.get(&key).copied(),
                ..Default::default()
            }
        });
        let offsets = offsets.collect();
        Ok(Response::new(wire::FetchOffsetsResponse { offsets, ..Default::default() }))
    }
}
