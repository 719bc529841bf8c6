//! Owns the messages of an inspection: what a replica holds, asked by another node. Never looks itself.

use std::time::Duration;

use waymark_proto::ids::{PartitionId, ShardId, TopicId, TopicPartition};
use waymark_proto::peer;

use super::wire::{self, Malformed};

/// What is asked of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The shard.
    pub shard: ShardId,
    /// The partition.
    pub at: TopicPartition,
    /// Offsets of which a digest is wanted: from, to.
    pub digest_of: Option<(i64, i64)>,
}

/// What a replica holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The partition is here.
    pub here: bool,
    /// The partition's first offset.
    pub log_start: i64,
    /// Its high watermark.
    pub high_watermark: i64,
    /// The digest, or why there is none; `None`: the range is not here, or not yet.
    pub digest: Option<Result<[u8; 16], String>>,
}

pub(super) fn request(look: Look, left: Duration) -> peer::InspectRequest {
    peer::InspectRequest {
        shard: look.shard.0,
        at: Some(peer::TopicPartition {
            topic_id: look.at.topic.0.to_vec().into(),
            partition: look.at.partition.0,
        }),
        digest_of: look.digest_of.map(|(from, to)| peer::DigestRange { from, to }),
        timeout_ms: wire::millis(left),
    }
}

pub(super) fn look(request: &peer::InspectRequest) -> Result<Look, Malformed> {
    let at = request.at.as_ref().ok_or(Malformed("a partition"))?;
    let topic = TopicId::from_slice(&at.topic_id).map_err(|_| Malformed("a topic id"))?;
    Ok(Look {
        shard: ShardId(request.shard),
        at: TopicPartition { topic, partition: PartitionId(at.partition) },
        digest_of: request.digest_of.as_ref().map(|range| (range.from, range.to)),
    })
}

pub(super) fn response(seen: Inspection) -> peer::InspectResponse {
    let (digest, failed) = match seen.digest {
        Some(Ok(digest)) => (digest.to_vec(), String::new()),
        Some(Err(why)) => (Vec::new(), why),
        None => (Vec::new(), String::new()),
    };
    peer::InspectResponse {
        here: seen.here,
        log_start: seen.log_start,
        high_watermark: seen.high_watermark,
        digest: digest.into(),
        failed,
    }
}

pub(super) fn inspection(answer: peer::InspectResponse) -> Inspection {
    let digest = match <[u8; 16]>::try_from(&answer.digest[..]) {
        Ok(digest) => Some(Ok(digest)),
        Err(_) if answer.failed.is_empty() => None,
        Err(_) => Some(Err(answer.failed)),
    };
    Inspection {
        here: answer.here,
        log_start: answer.log_start,
        high_watermark: answer.high_watermark,
        digest,
    }
}
