//! Owns the calls that producer, consumer and metadata need, from generated messages to our own terms and back. Each makes
//! one attempt; retries are the caller's. Never keeps anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waymark_proto::v1 as wire;
use wire::cluster_service_client::ClusterServiceClient;
use wire::offset_service_client::OffsetServiceClient;
use wire::produce_service_client::ProduceServiceClient;

use crate::client::Limits;
use crate::connections::Link;
use crate::error::{Error, Result};
use crate::metadata::{Leadership, Snapshot, TopicView};
use crate::record::{BatchReceipt, OffsetAndMetadata, TopicPartition};
use crate::refusal::{check, from_failure};
use crate::retry::throttle;

/// Where in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    Earliest,
    Latest,
    AtTime(i64),
}

/// An offset that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: TopicPartition,
    /// `None`: no record is as young.
    pub(crate) offset: Option<i64>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) leader_epoch: Option<i32>,
}

/// An offset that a group has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) at: TopicPartition,
    pub(crate) position: OffsetAndMetadata,
    pub(crate) commit_time_ms: i64,
}

/// The address at which a node speaks this protocol.
pub(crate) fn grpc_address(endpoints: &[wire::Endpoint]) -> Option<Arc<str>> {
    let grpc =
        endpoints.iter().find(|e| e.protocol.is_empty() || e.protocol.eq_ignore_ascii_case("grpc"));
    grpc.map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port).into())
}

pub(crate) fn topic_ref(name: &str) -> wire::TopicRef {
    wire::TopicRef { name: name.to_owned(), topic_id: Bytes::new() }
}

pub(crate) async fn limits(link: &Link, timeout: Duration) -> Result<Limits> {
    let mut client = ClusterServiceClient::new(link.channel.clone());
    let call = link.call(wire::GetServerInfoRequest::default(), timeout);
    let info = client.get_server_info(call).await.map_err(|s| link.failure(&s))?.into_inner();
    check(info.failure.as_ref())?;
    let told = info.limits.unwrap_or_default();
    let otherwise = Limits::default();
    let or = |told: i64, otherwise: usize| match usize::try_from(told) {
        Ok(told) if told > 0 => told,
        _ => otherwise,
    };
    Ok(Limits {
        window: or(i64::from(told.producer_window_batches), otherwise.window),
        request_bytes: or(told.max_request_bytes, otherwise.request_bytes),
        request_batches: or(i64::from(told.max_request_batches), otherwise.request_batches),
    })
}

pub(crate) async fn metadata(
    link: &Link,
    topics: Vec<Arc<str>>,
    timeout: Duration,
) -> Result<Snapshot> {
    let mut client = ClusterServiceClient::new(link.channel.clone())
        .max_decoding_message_size(waymark_proto::transport::MAX_MESSAGE);
    let topics = topics.iter().map(|name| topic_ref(name)).collect();
    // For finding leaders what a node knows is enough: a wrong one says so.
    let any = wire::ConsistencyLevel::Any.into();
    let consistency = Some(wire::Consistency { level: any, ..Default::default() });
    let asked = wire::GetMetadataRequest { topics, consistency, ..Default::default() };
    let call = link.call(asked, timeout);
    let answer = client.get_metadata(call).await.map_err(|s| link.failure(&s))?.into_inner();
    check(answer.failure.as_ref())?;
    let mut snapshot = Snapshot {
        version: answer.metadata_version,
        nodes: answer
            .nodes
            .iter()
            .filter_map(|node| Some((node.node_id, grpc_address(&node.endpoints)?)))
            .collect(),
        ..Snapshot::default()
    };
    for topic in answer.topics {
        match &topic.failure {
            Some(failure) => {
                // Whatever else is wrong is wrong with the node, and says nothing of the topic.
                let is_gone = failure.retry() == wire::RetryClass::Fix;
                let list = if is_gone { &mut snapshot.missing } else { &mut snapshot.untold };
                list.push((topic.name.as_str().into(), failure.clone()));
            }
            None => snapshot.topics.push(topic_view(topic)?),
        }
    }
    Ok(snapshot)
}

fn topic_view(topic: wire::TopicMetadata) -> Result<TopicView> {
    let id = <[u8; 16]>::try_from(&topic.topic_id[..])
        .map_err(|_| Error::protocol("a topic id that is not 16 bytes"))?;
    let by_number: BTreeMap<i32, Leadership> = topic
        .partitions
        .iter()
        .map(|p| (p.partition, Leadership { node: p.leader, epoch: p.leader_epoch }))
        .collect();
    let count = by_number.last_key_value().map_or(0, |(last, _)| last + 1);
    let partitions =
        (0..count).map(|number| by_number.get(&number).copied().unwrap_or_default()).collect();
    Ok(TopicView { name: topic.name.into(), id, partitions })
}

/// The topic that records were meant for is no more.
pub(crate) fn lost_topic(name: &Arc<str>) -> Error {
    let mut failure = wire::Failure::default();
    failure.set_code(wire::FailureCode::TopicNotFound);
    failure.set_retry(wire::RetryClass::Fix);
    "deleted since the producer looked it up".clone_into(&mut failure.message);
    name.as_ref().clone_into(&mut failure.subject);
    from_failure(&failure).about_topic(name)
}

/// No node knows the topic as recent as what this client has seen already.
pub(crate) fn stale_metadata(name: &str) -> Error {
    let mut failure = wire::Failure::default();
    failure.set_code(wire::FailureCode::ReplicaBehind);
    failure.set_retry(wire::RetryClass::Reroute);
    "the node's metadata is older than what is known".clone_into(&mut failure.message);
    name.clone_into(&mut failure.subject);
    from_failure(&failure)
}

pub(crate) async fn init_producer(link: &Link, timeout: Duration) -> Result<(i64, i16)> {
    let mut client = ProduceServiceClient::new(link.channel.clone());
    let call = link.call(wire::InitProducerRequest::default(), timeout);
    let given = client.init_producer(call).await.map_err(|s| link.failure(&s))?.into_inner();
    check(given.failure.as_ref())?;
    let (Some(id), Some(epoch)) = (given.producer_id, given.producer_epoch) else {
        return Err(Error::protocol("no producer id in the answer"));
    };
    let epoch =
        i16::try_from(epoch).map_err(|_| Error::protocol("a producer epoch beyond 32767"))?;
    Ok((id, epoch))
}

/// One batch's verdict. Done without a receipt: appended earlier, offset forgotten.
pub(crate) fn receipt(receipt: &wire::BatchReceipt) -> Result<BatchReceipt> {
    check(receipt.failure.as_ref())?;
    Ok(BatchReceipt {
        base_offset: receipt.base_offset,
        append_time_ms: receipt.append_time_ms,
        log_append_time: receipt.timestamp_type() == wire::TimestampType::LogAppendTime,
        leader_epoch: receipt.leader_epoch,
        achieved: durability_name(receipt.achieved()),
        durable_replicas: receipt.durable_replicas,
        replicas: receipt.replicas,
        duplicate: receipt.duplicate || receipt.failure.is_some(),
    })
}

fn durability_name(achieved: wire::Durability) -> &'static str {
    let name = achieved.as_str_name();
    name.strip_prefix("DURABILITY_").unwrap_or(name)
}

pub(crate) async fn list_offsets(
    link: &Link,
    (partitions, spot): (&[TopicPartition], Spot),
    timeout: Duration,
) -> Result<Vec<Found>> {
    let spec = match spot {
        Spot::Earliest => wire::OffsetSpec::Earliest,
        Spot::Latest => wire::OffsetSpec::Latest,
        Spot::AtTime(_) => wire::OffsetSpec::AtTime,
    };
    let time_ms = if let Spot::AtTime(time) = spot { Some(time) } else { None };
    let query = |at: &TopicPartition| wire::OffsetQuery {
        topic: Some(topic_ref(&at.topic)),
        partition: Some(at.partition),
        spec: spec.into(),
        time_ms,
        ..Default::default()
    };
    let queries = partitions.iter().map(query).collect();
    let call = link.call(wire::ListOffsetsRequest { queries }, timeout);
    let mut client = OffsetServiceClient::new(link.channel.clone());
    let answer = client.list_offsets(call).await.map_err(|s| link.failure(&s))?.into_inner();
    check(answer.failure.as_ref())?;
    let found = answer.answers.into_iter().map(|answer| {
        check(answer.failure.as_ref())?;
        Ok(Found {
            at: at(answer.topic.as_ref(), answer.partition)?,
            offset: answer.offset,
            timestamp_ms: answer.timestamp_ms,
            leader_epoch: answer.leader_epoch,
        })
    });
    found.collect()
}

pub(crate) fn at(topic: Option<&wire::TopicRef>, partition: Option<i32>) -> Result<TopicPartition> {
    let (Some(topic), Some(partition)) = (topic, partition) else {
        return Err(Error::protocol("an item that names no partition"));
    };
    Ok(TopicPartition::new(topic.name.as_str(), partition))
}

pub(crate) fn offset_commit(
    (at, position): (&TopicPartition, &OffsetAndMetadata),
) -> wire::OffsetCommit {
    wire::OffsetCommit {
        topic: Some(topic_ref(&at.topic)),
        partition: Some(at.partition),
        offset: Some(position.offset),
        leader_epoch: position.leader_epoch,
        metadata: position.metadata.clone(),
        fencing_epoch: position.fencing_epoch,
        ..Default::default()
    }
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The sequence that a commit in line has to be above; nothing is committed.
    pub(crate) behind: Option<i64>,
    /// Places in the request of partitions that are no longer the member's; where there are any, nothing is committed.
    pub(crate) disowned: Vec<usize>,
    /// For so long the cluster wants no other one.
    pub(crate) throttle: Duration,
}

/// Commits; the first item that failed for a reason of its own stands for all.
pub(crate) async fn commit(
    link: &Link,
    request: wire::CommitOffsetsRequest,
    timeout: Duration,
) -> Result<Taken> {
    let answer = commit_once(link, request, timeout).await?;
    let is_disowned = |result: &wire::OffsetResult| {
        result.failure.as_ref().is_some_and(|f| f.code() == wire::FailureCode::NotOwner)
    };
    let places = answer.results.iter().enumerate().filter(|(_, result)| is_disowned(result));
    let disowned: Vec<usize> = places.map(|(place, _)| place).collect();
    let failures = answer.results.iter().filter_map(|result| result.failure.as_ref());
    let late = failures.filter(|failure| failure.code() == wire::FailureCode::CommitSeqBehind);
    let behind = late.filter_map(|failure| failure.actual).max();
    if disowned.is_empty() && behind.is_none() {
        verdict_of_all(&answer)?;
    }
    Ok(Taken { behind, disowned, throttle: throttle(answer.throttle_ms) })
}

async fn commit_once(
    link: &Link,
    request: wire::CommitOffsetsRequest,
    timeout: Duration,
) -> Result<wire::CommitOffsetsResponse> {
    let mut client = OffsetServiceClient::new(link.channel.clone());
    let call = link.call(request, timeout);
    let answer = client.commit_offsets(call).await.map_err(|s| link.failure(&s))?.into_inner();
    check(answer.failure.as_ref())?;
    Ok(answer)
}

fn verdict_of_all(answer: &wire::CommitOffsetsResponse) -> Result<()> {
    let failures = || answer.results.iter().filter_map(|result| result.failure.as_ref());
    // What was superseded or not attempted must not hide the item that failed by itself.
    let real = |failure: &&wire::Failure| {
        failure.code() != wire::FailureCode::NotAttempted
            && failure.retry() != wire::RetryClass::Done
    };
    let not_done = |failure: &&wire::Failure| failure.retry() != wire::RetryClass::Done;
    let cause = failures().find(real).or_else(|| failures().find(not_done));
    check(cause.or_else(|| failures().next()))
}

/// What a group has committed: of these partitions, or of all if none is named.
pub(crate) async fn committed(
    link: &Link,
    (group, partitions): (&str, &[TopicPartition]),
    timeout: Duration,
) -> Result<Vec<Committed>> {
    let partitions = partitions.iter().map(|at| wire::PartitionRef {
        topic: Some(topic_ref(&at.topic)),
        partition: Some(at.partition),
    });
    let request = wire::FetchOffsetsRequest {
        group_id: group.to_owned(),
        partitions: partitions.collect(),
        ..Default::default()
    };
    let mut client = OffsetServiceClient::new(link.channel.clone());
    let call = link.call(request, timeout);
    let answer = client.fetch_offsets(call).await.map_err(|s| link.failure(&s))?.into_inner();
    check(answer.failure.as_ref())?;
    let mut all = Vec::new();
    for item in answer.offsets {
        check(item.failure.as_ref())?;
        let Some(offset) = item.offset else { continue };
        all.push(Committed {
            at: at(item.topic.as_ref(), item.partition)?,
            position: OffsetAndMetadata {
                offset,
                leader_epoch: item.leader_epoch,
                metadata: item.metadata,
                fencing_epoch: item.fencing_epoch,
            },
            commit_time_ms: item.commit_time_ms,
        });
    }
    Ok(all)
}
