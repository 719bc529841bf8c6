//! Owns the translation of a proposal's outcome into messages and back, so that a caller one hop away gets the very same
//! answer as a local one. Never proposes.

use bytes::Bytes;
use waymark_proto::ids::{NodeId, PartitionId, ShardId, TopicId, TopicPartition};
use waymark_proto::peer;

use super::wire::{self, Malformed};
use crate::consensus::types::{from_raft_log_id, to_raft_log_id};
use crate::consensus::{Committed, ProposeError};
use crate::state::groups::Changed;
use crate::state::{Receipt, Refusal, Reply};

pub(super) fn propose_to(outcome: Result<Committed, ProposeError>) -> peer::ProposeResponse {
    use peer::propose_response::Kind;
    let kind = match outcome {
        Ok(committed) => Kind::Committed(peer::Committed {
            reply: Some(reply_to(committed.reply)),
            at: Some(wire::log_id_to(to_raft_log_id(committed.at))),
            durable_replicas: committed.durable_replicas,
            replicas: committed.replicas,
        }),
        Err(error) => Kind::Failure(peer::ProposeFailure { kind: Some(failure_to(error)) }),
    };
    peer::ProposeResponse { kind: Some(kind) }
}

pub(super) fn propose_from(
    response: peer::ProposeResponse,
) -> Result<Result<Committed, ProposeError>, Malformed> {
    use peer::propose_response::Kind;
    match response.kind.ok_or(Malformed("an empty outcome"))? {
        Kind::Committed(committed) => {
            let at = wire::log_id_from(committed.at.ok_or(Malformed("no position"))?)?;
            Ok(Ok(Committed {
                reply: reply_from(committed.reply.ok_or(Malformed("no reply"))?)?,
                at: from_raft_log_id(at),
                durable_replicas: committed.durable_replicas,
                replicas: committed.replicas,
            }))
        }
        Kind::Failure(failure) => {
            failure_from(failure.kind.ok_or(Malformed("an empty failure"))?).map(Err)
        }
    }
}

fn failure_to(error: ProposeError) -> peer::propose_failure::Kind {
    use peer::propose_failure::Kind;
    match error {
        ProposeError::NotLeader { shard, leader } => {
            Kind::NotLeader(peer::NotLeader { shard: shard.0, leader: leader.map(|node| node.0) })
        }
        ProposeError::NoQuorum(shard) => Kind::NoQuorum(shard.0),
        ProposeError::ExpiredUnsent => Kind::ExpiredUnsent(peer::End {}),
        ProposeError::OutcomeUnknown(why) => Kind::OutcomeUnknown(why),
        ProposeError::TooLarge { bytes, limit } => Kind::TooLarge(peer::TooLarge { bytes, limit }),
        ProposeError::NotHere(shard) => Kind::NotHere(shard.0),
    }
}

fn failure_from(kind: peer::propose_failure::Kind) -> Result<ProposeError, Malformed> {
    use peer::propose_failure::Kind;
    Ok(match kind {
        Kind::NotLeader(to) => {
            ProposeError::NotLeader { shard: ShardId(to.shard), leader: to.leader.map(NodeId) }
        }
        Kind::NoQuorum(shard) => ProposeError::NoQuorum(ShardId(shard)),
        Kind::ExpiredUnsent(_) => ProposeError::ExpiredUnsent,
        Kind::OutcomeUnknown(why) => ProposeError::OutcomeUnknown(why),
        Kind::TooLarge(peer::TooLarge { bytes, limit }) => ProposeError::TooLarge { bytes, limit },
        Kind::NotHere(shard) => ProposeError::NotHere(ShardId(shard)),
    })
}

fn reply_to(reply: Reply) -> peer::Reply {
    use peer::reply::Kind;
    let kind = match reply {
        Reply::Done => Kind::Done(peer::End {}),
        Reply::Produced(verdicts) => Kind::Produced(peer::ProducedReply {
            verdicts: verdicts.into_iter().map(verdict_to).collect(),
        }),
        Reply::Committed(verdicts) => Kind::Committed(peer::CommittedReply {
            verdicts: verdicts.into_iter().map(commit_verdict_to).collect(),
        }),
        Reply::Group(changed) => Kind::Group(group_to(changed)),
        Reply::OffsetsDeleted(count) => Kind::OffsetsDeleted(count),
        Reply::LogStarts(starts) => Kind::LogStarts(peer::LogStartsReply {
            starts: starts.into_iter().map(log_start_to).collect(),
        }),
        Reply::Topic { topic, version } => {
            Kind::Topic(peer::TopicReply { topic_id: topic_to(topic), version })
        }
        Reply::Pool(shards) => Kind::Pool(peer::PoolReply {
            shards: shards.into_iter().map(|shard| shard.0).collect(),
        }),
        Reply::ProducerIds { first, count } => {
            Kind::ProducerIds(peer::ProducerIdsReply { first, count })
        }
        Reply::Incarnation(incarnation) => Kind::Incarnation(incarnation),
        Reply::Refused(refusal) => Kind::Refused(refusal_to(refusal)),
    };
    peer::Reply { kind: Some(kind) }
}

fn reply_from(reply: peer::Reply) -> Result<Reply, Malformed> {
    use peer::reply::Kind;
    Ok(match reply.kind.ok_or(Malformed("an empty reply"))? {
        Kind::Done(_) => Reply::Done,
        Kind::Produced(produced) => Reply::Produced(
            produced.verdicts.into_iter().map(verdict_from).collect::<Result<_, _>>()?,
        ),
        Kind::Committed(committed) => Reply::Committed(
            committed
                .verdicts
                .into_iter()
                .map(commit_verdict_from)
                .collect::<Result<_, Malformed>>()?,
        ),
        Kind::Group(group) => Reply::Group(group_from(group)?),
        Kind::OffsetsDeleted(count) => Reply::OffsetsDeleted(count),
        Kind::LogStarts(list) => {
            Reply::LogStarts(list.starts.into_iter().map(log_start_from).collect::<Result<_, _>>()?)
        }
        Kind::Topic(topic) => {
            Reply::Topic { topic: topic_from(&topic.topic_id)?, version: topic.version }
        }
        Kind::Pool(pool) => Reply::Pool(pool.shards.into_iter().map(ShardId).collect()),
        Kind::ProducerIds(ids) => Reply::ProducerIds { first: ids.first, count: ids.count },
        Kind::Incarnation(incarnation) => Reply::Incarnation(incarnation),
        Kind::Refused(refusal) => Reply::Refused(refusal_from(refusal)?),
    })
}

fn commit_verdict_to(verdict: Result<(), Refusal>) -> peer::CommitVerdict {
    peer::CommitVerdict { refused: verdict.err().map(refusal_to) }
}

fn commit_verdict_from(verdict: peer::CommitVerdict) -> Result<Result<(), Refusal>, Malformed> {
    Ok(verdict.refused.map(refusal_from).transpose()?.map_or(Ok(()), Err))
}

fn group_to(changed: Changed) -> peer::GroupReply {
    peer::GroupReply {
        generation: changed.generation,
        news: changed.news,
        offsets: changed.offsets.into_iter().map(commit_verdict_to).collect(),
        before: changed.before.into_iter().map(|offset| peer::OptionalOffset { offset }).collect(),
    }
}

fn group_from(reply: peer::GroupReply) -> Result<Changed, Malformed> {
    Ok(Changed {
        generation: reply.generation,
        news: reply.news,
        offsets: reply
            .offsets
            .into_iter()
            .map(commit_verdict_from)
            .collect::<Result<_, Malformed>>()?,
        before: reply.before.into_iter().map(|it| it.offset).collect(),
    })
}

fn verdict_to(verdict: Result<Receipt, Refusal>) -> peer::Verdict {
    use peer::verdict::Kind;
    let kind = match verdict {
        Ok(receipt) => Kind::Receipt(peer::Receipt {
            base_offset: receipt.base_offset,
            record_count: receipt.record_count,
            append_time_ms: receipt.append_time_ms,
            leader_epoch: receipt.leader_epoch,
            log_start_offset: receipt.log_start_offset,
            duplicate: receipt.duplicate,
        }),
        Err(refusal) => Kind::Refused(refusal_to(refusal)),
    };
    peer::Verdict { kind: Some(kind) }
}

fn verdict_from(verdict: peer::Verdict) -> Result<Result<Receipt, Refusal>, Malformed> {
    use peer::verdict::Kind;
    match verdict.kind.ok_or(Malformed("an empty verdict"))? {
        Kind::Receipt(receipt) => Ok(Ok(Receipt {
            base_offset: receipt.base_offset,
            record_count: receipt.record_count,
            append_time_ms: receipt.append_time_ms,
            leader_epoch: receipt.leader_epoch,
            log_start_offset: receipt.log_start_offset,
            duplicate: receipt.duplicate,
        })),
        Kind::Refused(refusal) => refusal_from(refusal).map(Err),
    }
}

fn log_start_to(start: Result<i64, Refusal>) -> peer::LogStart {
    use peer::log_start::Kind;
    let kind = match start {
        Ok(offset) => Kind::Offset(offset),
        Err(refusal) => Kind::Refused(refusal_to(refusal)),
    };
    peer::LogStart { kind: Some(kind) }
}

fn log_start_from(start: peer::LogStart) -> Result<Result<i64, Refusal>, Malformed> {
    use peer::log_start::Kind;
    match start.kind.ok_or(Malformed("an empty log start"))? {
        Kind::Offset(offset) => Ok(Ok(offset)),
        Kind::Refused(refusal) => refusal_from(refusal).map(Err),
    }
}

fn refusal_to(refusal: Refusal) -> peer::Refusal {
    use peer::refusal::Kind;
    let none = peer::End {};
    let kind = match refusal {
        Refusal::NoPartition(at) => Kind::NoPartition(peer::TopicPartition {
            topic_id: topic_to(at.topic),
            partition: at.partition.0,
        }),
        Refusal::NoTopic(topic) => Kind::NoTopic(topic_to(topic)),
        Refusal::TopicExists(name) => Kind::TopicExists(name),
        Refusal::VersionMismatch { actual } => Kind::VersionMismatch(actual),
        Refusal::NoPool(factor) => Kind::NoPool(factor),
        Refusal::Invalid(why) => Kind::Invalid(why),
        Refusal::ConditionFailed { actual } => {
            Kind::ConditionFailed(peer::OptionalOffset { offset: actual })
        }
        Refusal::OutOfOrderSequence { expected } => Kind::OutOfOrderSequence(expected),
        Refusal::DuplicateSequence => Kind::DuplicateSequence(none),
        Refusal::ProducerFenced => Kind::ProducerFenced(none),
        Refusal::UnknownProducer => Kind::UnknownProducer(none),
        Refusal::BatchTooLarge { limit } => Kind::BatchTooLarge(limit),
        Refusal::BadBatch => Kind::BadBatch(none),
        Refusal::Superseded => Kind::Superseded(none),
        Refusal::SequenceBehind { actual } => Kind::SequenceBehind(actual),
        Refusal::Fenced { actual } => Kind::Fenced(actual),
        Refusal::NotAttempted => Kind::NotAttempted(none),
        Refusal::NoGroup => Kind::NoGroup(none),
        Refusal::MovedSince { generation } => Kind::MovedSince(generation),
        Refusal::GroupNotEmpty => Kind::GroupNotEmpty(none),
        Refusal::GroupFull { limit } => Kind::GroupFull(limit as u64),
        Refusal::UnknownMember => Kind::UnknownMember(none),
        Refusal::NotOwner(at) => Kind::NotOwner(peer::TopicPartition {
            topic_id: topic_to(at.topic),
            partition: at.partition.0,
        }),
        Refusal::InstanceInUse(instance) => Kind::InstanceInUse(instance),
        Refusal::InstanceFenced => Kind::InstanceFenced(none),
        Refusal::TopicInUse => Kind::TopicInUse(none),
        Refusal::NoMajorityWithout => Kind::NoMajorityWithout(none),
        Refusal::OffsetOutOfRange { log_start, next_offset } => {
            Kind::OffsetOutOfRange(peer::OffsetRange { log_start, next_offset })
        }
        Refusal::Misplaced(why) => Kind::Misplaced(why.to_owned()),
    };
    peer::Refusal { kind: Some(kind) }
}

fn refusal_from(refusal: peer::Refusal) -> Result<Refusal, Malformed> {
    use peer::refusal::Kind;
    Ok(match refusal.kind.ok_or(Malformed("an empty refusal"))? {
        Kind::NoPartition(at) => Refusal::NoPartition(TopicPartition {
            topic: topic_from(&at.topic_id)?,
            partition: PartitionId(at.partition),
        }),
        Kind::NoTopic(topic) => Refusal::NoTopic(topic_from(&topic)?),
        Kind::TopicExists(name) => Refusal::TopicExists(name),
        Kind::VersionMismatch(actual) => Refusal::VersionMismatch { actual },
        Kind::NoPool(factor) => Refusal::NoPool(factor),
        Kind::Invalid(why) => Refusal::Invalid(why),
        Kind::ConditionFailed(at) => Refusal::ConditionFailed { actual: at.offset },
        Kind::OffsetOutOfRange(range) => {
            Refusal::OffsetOutOfRange { log_start: range.log_start, next_offset: range.next_offset }
        }
        Kind::OutOfOrderSequence(expected) => Refusal::OutOfOrderSequence { expected },
        Kind::DuplicateSequence(_) => Refusal::DuplicateSequence,
        Kind::ProducerFenced(_) => Refusal::ProducerFenced,
        Kind::UnknownProducer(_) => Refusal::UnknownProducer,
        Kind::BatchTooLarge(limit) => Refusal::BatchTooLarge { limit },
        Kind::BadBatch(_) => Refusal::BadBatch,
        Kind::Superseded(_) => Refusal::Superseded,
        Kind::SequenceBehind(actual) => Refusal::SequenceBehind { actual },
        Kind::Fenced(actual) => Refusal::Fenced { actual },
        Kind::NotAttempted(_) => Refusal::NotAttempted,
        Kind::NoGroup(_) => Refusal::NoGroup,
        Kind::MovedSince(generation) => Refusal::MovedSince { generation },
        Kind::GroupNotEmpty(_) => Refusal::GroupNotEmpty,
        Kind::GroupFull(limit) => {
            Refusal::GroupFull { limit: usize::try_from(limit).unwrap_or(usize::MAX) }
        }
        Kind::UnknownMember(_) => Refusal::UnknownMember,
        Kind::NotOwner(at) => Refusal::NotOwner(TopicPartition {
            topic: topic_from(&at.topic_id)?,
            partition: PartitionId(at.partition),
        }),
        Kind::InstanceInUse(instance) => Refusal::InstanceInUse(instance),
        Kind::InstanceFenced(_) => Refusal::InstanceFenced,
        Kind::TopicInUse(_) => Refusal::TopicInUse,
        Kind::NoMajorityWithout(_) => Refusal::NoMajorityWithout,
        // The text is for people; the state's own is static, one that came over the wire is not.
        Kind::Misplaced(_) => Refusal::Misplaced("refused by the shard's leader"),
    })
}

fn topic_to(topic: TopicId) -> Bytes {
    Bytes::copy_from_slice(&topic.0)
}

fn topic_from(bytes: &[u8]) -> Result<TopicId, Malformed> {
    TopicId::from_slice(bytes).map_err(|_| Malformed("a bad topic id"))
}
