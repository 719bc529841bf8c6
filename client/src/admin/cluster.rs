//! Owns the cluster as an administrator sees it: nodes, health, replicas compared, leaders moved.

use tonic::transport::Channel;
use waymark_proto::ids::ClusterId;
use waymark_proto::v1 as wire;
use wire::cluster_service_client::ClusterServiceClient;

use super::Admin;
use super::model::{
    ClusterDescription, Health, LeaderMove, NodeDescription, PartitionVerdict, ReplicaDigest,
    ServerInfo,
};
use crate::answers::{self, topic_ref};
use crate::connections::Link;
use crate::error::Result;
use crate::refusal::check;
use crate::retry::Repeat;

pub(super) fn service(link: &Link) -> ClusterServiceClient<Channel> {
    ClusterServiceClient::new(link.channel.clone())
        .max_decoding_message_size(waymark_proto::transport::MAX_MESSAGE)
}

impl Admin {
    /// What the node that answers says of itself.
    ///
    /// # Errors
    /// When no node answers in time.
    pub async fn server_info(&self) -> Result<ServerInfo> {
        self.client
            .call("asking a node", Repeat::Harmless, |link, timeout| async move {
                let call = link.call(wire::GetServerInfoRequest::default(), timeout);
                let answer = service(&link).get_server_info(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref())?;
                Ok(ServerInfo {
                    cluster_id: ClusterId::from_slice(&answer.cluster_id).ok(),
                    node_id: answer.node_id,
                    version: answer.version,
                })
            })
            .await
    }

    /// The cluster and its nodes.
    ///
    /// # Errors
    /// When no node answers in time.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        self.client
            .call("describing the cluster", Repeat::Harmless, |link, timeout| async move {
                let call = link.call(wire::DescribeClusterRequest::default(), timeout);
                let answer = service(&link).describe_cluster(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref())?;
                Ok(ClusterDescription {
                    cluster_id: ClusterId::from_slice(&answer.cluster_id).ok(),
                    nodes: answer.nodes.into_iter().map(node).collect(),
                })
            })
            .await
    }

    /// Whether every node answers and every partition has a leader and all its replicas.
    ///
    /// # Errors
    /// When no node answers in time.
    pub async fn health(&self) -> Result<Health> {
        self.client
            .call("asking for health", Repeat::Harmless, |link, timeout| async move {
                let call = link.call(wire::GetHealthRequest::default(), timeout);
                let answer = service(&link).get_health(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref())?;
                let problems =
                    answer.problems.into_iter().map(|p| (p.subject, p.message)).collect();
                Ok(Health { healthy: answer.healthy, problems })
            })
            .await
    }

    /// Compares the bytes of all replicas of topics' partitions; no topic named means all.
    ///
    /// # Errors
    /// When a partition cannot be compared or no node answers in time.
    pub async fn verify_replicas<S: AsRef<str>>(
        &self,
        topics: impl IntoIterator<Item = S>,
    ) -> Result<Vec<PartitionVerdict>> {
        let topics: Vec<_> = topics.into_iter().map(|name| topic_ref(name.as_ref())).collect();
        let request = &wire::VerifyReplicasRequest { topics, ..Default::default() };
        self.client
            .call("comparing replicas", Repeat::Harmless, |link, timeout| async move {
                let call = link.call(request.clone(), timeout);
                let answer = service(&link).verify_replicas(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref())?;
                answer.partitions.into_iter().map(verdict).collect()
            })
            .await
    }

    /// Moves the leadership of partitions.
    ///
    /// # Errors
    /// When no node answers in time; each partition has its own outcome.
    pub async fn transfer_leaders(
        &self,
        moves: impl IntoIterator<Item = LeaderMove>,
    ) -> Result<Vec<Result<()>>> {
        let moves: Vec<LeaderMove> = moves.into_iter().collect();
        self.each("moving leaders", moves, |link, timeout, moves| async move {
            let to_wire = |moved: LeaderMove| wire::LeaderMove {
                topic: Some(topic_ref(&moved.at.topic)),
                partition: Some(moved.at.partition),
                to_node: moved.to_node,
            };
            let moves = moves.into_iter().map(to_wire).collect();
            let call =
                link.call(wire::TransferLeadersRequest { moves, ..Default::default() }, timeout);
            let answer = service(&link).transfer_leaders(call).await;
            let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
            check(answer.failure.as_ref())?;
            Ok(answer.results.iter().map(|result| check(result.failure.as_ref())).collect())
        })
        .await
    }
}

fn node(status: wire::NodeStatus) -> NodeDescription {
    let node = status.node.unwrap_or_default();
    NodeDescription {
        node_id: node.node_id,
        address: answers::grpc_address(&node.endpoints).map(|address| address.to_string()),
        rack: node.rack,
        alive: status.alive,
        leaders: status.leaders,
        replicas: status.replicas,
        version: status.version,
    }
}

fn verdict(compared: wire::PartitionVerdict) -> Result<PartitionVerdict> {
    check(compared.failure.as_ref())?;
    let digest = |replica: wire::ReplicaDigest| ReplicaDigest {
        node_id: replica.node_id,
        digest: replica.digest,
    };
    Ok(PartitionVerdict {
        at: answers::at(compared.topic.as_ref(), compared.partition)?,
        identical: compared.identical,
        range: (compared.from_offset, compared.to_offset),
        replicas: compared.replicas.into_iter().map(digest).collect(),
    })
}
