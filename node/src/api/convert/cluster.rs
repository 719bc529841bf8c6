//! Nodes, metadata and limits, to the wire.

use bytes::Bytes;
use waymark_proto::failure::{Failure, endpoint};
use waymark_proto::ids::{ClusterId, NodeId};
use waymark_proto::v1;

use crate::api::admin::{NodeState, NodeView, PartitionPlace, Topic, Verdict};
use crate::api::convert::topics::{id_bytes, partition_metadata, topic_ref};
use crate::api::convert::{fetch, fields, offsets, produce};
use crate::api::features;
use crate::state::PRODUCER_WINDOW;

/// A node's number.
pub(in crate::api) fn node_number(node: NodeId) -> i32 {
    i32::try_from(node.0).unwrap_or(i32::MAX)
}

/// The cluster's id, empty before it is founded.
pub(in crate::api) fn cluster_bytes(cluster: Option<ClusterId>) -> Bytes {
    cluster.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.0))
}

/// A node.
pub(in crate::api) fn node(view: NodeView) -> v1::Node {
    v1::Node {
        node_id: node_number(view.node),
        rack: view.rack,
        endpoints: vec![endpoint(&view.address)],
    }
}

/// How a node is.
pub(in crate::api) fn node_status(state: NodeState) -> v1::NodeStatus {
    v1::NodeStatus {
        node: Some(node(state.view)),
        alive: state.alive,
        leaders: state.leaders,
        replicas: state.replicas,
        version: state.version,
    }
}

/// A topic and where its partitions live.
pub(in crate::api) fn topic_metadata(
    topic: &Topic,
    places: Vec<PartitionPlace>,
) -> v1::TopicMetadata {
    v1::TopicMetadata {
        name: topic.name.clone(),
        topic_id: id_bytes(topic.id),
        partitions: places.into_iter().map(partition_metadata).collect(),
        internal: false,
        failure: None,
    }
}

/// A topic that has no metadata, named as its caller named it.
pub(in crate::api) fn no_metadata(given: v1::TopicRef, failure: Failure) -> v1::TopicMetadata {
    v1::TopicMetadata {
        name: given.name,
        topic_id: given.topic_id,
        failure: Some(failure.into()),
        ..v1::TopicMetadata::default()
    }
}

/// What the replicas of a partition hold.
pub(in crate::api) fn verdict(topic: &Topic, verdict: Verdict) -> v1::PartitionVerdict {
    let mut digests = verdict.replicas.iter().map(|(_, digest)| digest.as_ref().ok());
    let first = digests.next().flatten();
    let identical = first.is_some() && digests.all(|digest| digest == first);
    let replica = |(node, digest): (NodeId, Result<String, Failure>)| {
        let node_id = node_number(node);
        match digest {
            Ok(digest) => v1::ReplicaDigest { node_id, digest, failure: None },
            Err(failure) => {
                v1::ReplicaDigest { node_id, failure: Some(failure.into()), ..Default::default() }
            }
        }
    };
    v1::PartitionVerdict {
        topic: Some(topic_ref(topic)),
        partition: Some(verdict.at.partition.0),
        identical,
        replicas: verdict.replicas.into_iter().map(replica).collect(),
        from_offset: verdict.range.0,
        to_offset: verdict.range.1,
        failure: None,
    }
}

/// This node's limits.
pub(in crate::api) fn limits() -> v1::Limits {
    let int = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let long = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    v1::Limits {
        producer_window_batches: int(PRODUCER_WINDOW),
        max_request_bytes: long(produce::MAX_REQUEST_BYTES),
        max_request_batches: int(produce::MAX_BATCHES),
        produce_stream_bytes: long(crate::api::produce_stream::WINDOW_BYTES),
        max_cursors: int(fetch::MAX_CURSORS),
        max_fetch_wait_ms: int(usize::try_from(fetch::MAX_WAIT.as_millis()).unwrap_or(usize::MAX)),
        max_commit_partitions: int(offsets::MAX_PARTITIONS),
        max_metadata_chars: int(offsets::MAX_METADATA),
        max_id_bytes: int(fields::MAX_ID),
        max_batch_bytes: 16 << 20,
        max_page_size: 10_000,
        max_produce_timeout_ms: int(
            usize::try_from(produce::MAX_TIMEOUT.as_millis()).unwrap_or(usize::MAX)
        ),
    }
}

/// What this node can do.
pub(in crate::api) fn features() -> Vec<v1::Feature> {
    let active = |name: &str| v1::Feature { name: name.to_owned(), supported: true, active: true };
    features::ACTIVE.iter().copied().map(active).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use waymark_proto::failure::FailureCode;
    use waymark_proto::ids::{PartitionId, TopicId, TopicPartition};

    use super::*;

    fn judged(digests: &[Option<&str>]) -> bool {
        let id = TopicId([7; 16]);
        let topic = Topic {
            id,
            name: "orders".to_owned(),
            partitions: 1,
            replication: 3,
            version: 1,
            configs: BTreeMap::new(),
        };
        let replicas = (1..).zip(digests).map(|(node, digest)| {
            let none = || Failure::new(FailureCode::NoLeader, "no answer");
            (NodeId(node), digest.map(str::to_owned).ok_or_else(none))
        });
        let at = TopicPartition { topic: id, partition: PartitionId(0) };
        verdict(&topic, Verdict { at, range: (0, 5), replicas: replicas.collect() }).identical
    }

    #[test]
    fn replicas_are_identical_only_if_every_one_answered_the_same() {
        assert!(judged(&[Some("a"), Some("a"), Some("a")]));
        assert!(!judged(&[Some("a"), Some("b"), Some("a")]));
        assert!(!judged(&[Some("a"), None, Some("a")]));
        assert!(!judged(&[None, None]));
        assert!(!judged(&[]));
    }
}
