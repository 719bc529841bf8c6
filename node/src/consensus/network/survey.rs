//! Owns the questions that nodes ask each other to answer clients: what a node is and leads, where partitions stand, and up
//! to where a read has to wait. Changes nothing anywhere.

use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::ids::{NodeId, PartitionId, ReplicaKey, ShardId, TopicId, TopicPartition};
use waymark_proto::peer;

use super::wire::{self, Malformed};
use super::{Network, PeerError, Vitals};
use crate::consensus::ProposeError;
use crate::consensus::types::{from_raft_log_id, to_raft_log_id};
use crate::storage::raft_record::LogId;

/// What is asked of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Topics whose partitions are wanted.
    pub topics: Vec<TopicId>,
    /// The answer waits until the node has applied this index of the catalog.
    pub catalog: Option<u64>,
    /// A replica there of which is asked whether it may run.
    pub replica: Option<ReplicaKey>,
}

/// What a node tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The version of its software.
    pub version: String,
    /// The shards that it leads and serves.
    pub led: Vec<LedShard>,
    /// The partitions asked for that it leads.
    pub stands: Vec<Stand>,
    /// What is wrong with replicas of it.
    pub troubles: Vec<Trouble>,
    /// Replicas that come instead of others, in the shards that it leads.
    pub catching: Vec<Catching>,
    /// Of the replica that was asked about, once the node knows.
    pub fate: Option<ReplicaFate>,
}

/// What is wrong with a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Of which shard.
    pub shard: ShardId,
    /// In words.
    pub what: String,
    /// It never runs again and has to be replaced.
    pub never_runs: bool,
}

/// Whether a replica may run on its node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicaFate {
    /// It was replaced, or was on a disk before this one.
    pub replaced: bool,
    /// Its last vote or the end of its log is in doubt.
    pub doubtful: bool,
    /// The last entry that its log has.
    pub last: Option<LogId>,
    /// Up to which index damage took the end of its log, where that is known.
    pub lost_to: Option<u64>,
}

/// How far a replica is that takes another one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Catching {
    /// Of which shard.
    pub shard: ShardId,
    /// On which node.
    pub node: NodeId,
    /// Entries that it has …
    pub matched: u64,
    /// … and that its leader has.
    pub last: u64,
}

/// A shard, as its leader's node tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedShard {
    /// Which.
    pub shard: ShardId,
    /// The leader's term.
    pub term: u64,
    /// Nodes whose replicas have what the leader has applied, or nearly; the leader's is one of them. Sorted.
    pub in_sync: Vec<NodeId>,
}

/// Where a partition stands at its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// Which.
    pub at: TopicPartition,
    /// Its leader epoch.
    pub leader_epoch: i32,
    /// Its first offset.
    pub log_start: i64,
    /// Its first offset that is not committed.
    pub high_watermark: i64,
    /// Bytes of its segments.
    pub bytes: u64,
}

impl Network {
    /// Asks a node what it is, leads and holds. Its vitals are heard on the way.
    ///
    /// # Errors
    /// When it does not answer in time, or belongs to another cluster.
    pub async fn survey(
        &self,
        node: NodeId,
        question: &Question,
        deadline: Instant,
    ) -> Result<Survey, PeerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let link = self.links.get(node)?;
        let mut answer = link
            .call(left, request(question, left), |mut client, request| async move {
                client.survey(request).await
            })
            .await?;
        if let (Some(vitals), Some(host)) = (answer.vitals.take(), self.links.shared.host()) {
            host.heard(node, wire::vitals_from(vitals));
        }
        survey(answer).map_err(|error| PeerError::Unanswered { node, reason: error.to_string() })
    }

    /// Asks a node, which is believed to lead the shard, for the index that a read must have applied.
    ///
    /// # Errors
    /// When it does not answer in time. The inner error: it does not lead, or has no quorum.
    pub async fn read_index(
        &self,
        node: NodeId,
        shard: ShardId,
        deadline: Instant,
    ) -> Result<Result<u64, ProposeError>, PeerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let link = self.links.get(node)?;
        let request = peer::ReadIndexRequest { shard: shard.0, timeout_ms: wire::millis(left) };
        let answer =
            link.call(left, request, |mut client, request| async move {
                client.read_index(request).await
            })
            .await?;
        let leader = answer.leader.map(NodeId);
        Ok(answer.index.ok_or(ProposeError::NotLeader { shard, leader }))
    }
}

fn request(question: &Question, left: Duration) -> peer::SurveyRequest {
    peer::SurveyRequest {
        topic_ids: question.topics.iter().map(|id| id.0.to_vec().into()).collect(),
        catalog_index: question.catalog,
        timeout_ms: wire::millis(left),
        replica: question
            .replica
            .map(|it| peer::ReplicaKey { shard: it.shard.0, incarnation: it.incarnation }),
    }
}

pub(super) fn question(request: &peer::SurveyRequest) -> Result<Question, Malformed> {
    let topic = |id: &bytes::Bytes| TopicId::from_slice(id).map_err(|_| Malformed("a topic id"));
    let topics = request.topic_ids.iter().map(topic).collect::<Result<_, _>>()?;
    let replica = request
        .replica
        .map(|it| ReplicaKey { shard: ShardId(it.shard), incarnation: it.incarnation });
    Ok(Question { topics, catalog: request.catalog_index, replica })
}

pub(super) fn response(survey: Survey, vitals: Vitals) -> peer::SurveyResponse {
    let led = |led: LedShard| peer::LedShard {
        shard: led.shard.0,
        term: led.term,
        in_sync: led.in_sync.into_iter().map(|node| node.0).collect(),
    };
    let stand = |stand: Stand| peer::PartitionStand {
        at: Some(peer::TopicPartition {
            topic_id: stand.at.topic.0.to_vec().into(),
            partition: stand.at.partition.0,
        }),
        leader_epoch: stand.leader_epoch,
        log_start: stand.log_start,
        high_watermark: stand.high_watermark,
        bytes: stand.bytes,
    };
    peer::SurveyResponse {
        version: survey.version,
        led: survey.led.into_iter().map(led).collect(),
        stands: survey.stands.into_iter().map(stand).collect(),
        vitals: Some(wire::vitals_to(vitals)),
        troubles: survey.troubles.into_iter().map(trouble_to).collect(),
        catching: survey.catching.into_iter().map(catching_to).collect(),
        fate: survey.fate.map(fate_to),
    }
}

fn trouble_to(it: Trouble) -> peer::Trouble {
    let Trouble { shard, what, never_runs } = it;
    peer::Trouble { shard: shard.0, what, never_runs }
}

fn trouble_from(it: peer::Trouble) -> Trouble {
    let peer::Trouble { shard, what, never_runs } = it;
    Trouble { shard: ShardId(shard), what, never_runs }
}

fn fate_to(it: ReplicaFate) -> peer::ReplicaFate {
    let ReplicaFate { replaced, doubtful, last, lost_to } = it;
    let last = last.map(|id| wire::log_id_to(to_raft_log_id(id)));
    peer::ReplicaFate { replaced, doubtful, last, lost_to }
}

fn fate_from(it: peer::ReplicaFate) -> Result<ReplicaFate, Malformed> {
    let peer::ReplicaFate { replaced, doubtful, last, lost_to } = it;
    let last = last.map(wire::log_id_from).transpose()?;
    Ok(ReplicaFate { replaced, doubtful, last: last.map(from_raft_log_id), lost_to })
}

fn catching_to(it: Catching) -> peer::Catching {
    let Catching { shard, node, matched, last } = it;
    peer::Catching { shard: shard.0, node: node.0, matched, last }
}

fn catching_from(it: peer::Catching) -> Catching {
    let peer::Catching { shard, node, matched, last } = it;
    Catching { shard: ShardId(shard), node: NodeId(node), matched, last }
}

pub(super) fn survey(answer: peer::SurveyResponse) -> Result<Survey, Malformed> {
    let led = |led: peer::LedShard| LedShard {
        shard: ShardId(led.shard),
        term: led.term,
        in_sync: led.in_sync.into_iter().map(NodeId).collect(),
    };
    let stand = |stand: peer::PartitionStand| {
        let at = stand.at.ok_or(Malformed("a partition"))?;
        let topic = TopicId::from_slice(&at.topic_id).map_err(|_| Malformed("a topic id"))?;
        Ok(Stand {
            at: TopicPartition { topic, partition: PartitionId(at.partition) },
            leader_epoch: stand.leader_epoch,
            log_start: stand.log_start,
            high_watermark: stand.high_watermark,
            bytes: stand.bytes,
        })
    };
    Ok(Survey {
        version: answer.version,
        led: answer.led.into_iter().map(led).collect(),
        stands: answer.stands.into_iter().map(stand).collect::<Result<_, _>>()?,
        troubles: answer.troubles.into_iter().map(trouble_from).collect(),
        catching: answer.catching.into_iter().map(catching_from).collect(),
        fate: answer.fate.map(fate_from).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use waymark_proto::ids::ReplicaId;

    use super::*;

    const TOPIC: TopicId = TopicId([3; 16]);

    #[test]
    fn a_question_reads_back_as_it_was_asked() {
        for asked in [
            Question::default(),
            Question { topics: vec![TOPIC], ..Question::default() },
            Question { catalog: Some(0), ..Question::default() },
            Question {
                replica: Some(ReplicaKey { shard: ShardId(0), incarnation: 2 }),
                ..Question::default()
            },
        ] {
            assert_eq!(question(&request(&asked, Duration::from_secs(1))), Ok(asked));
        }
    }

    #[test]
    fn a_survey_reads_back_as_it_was_told() {
        let at = TopicPartition { topic: TOPIC, partition: PartitionId(7) };
        let stand = Stand { at, leader_epoch: 2, log_start: 5, high_watermark: 9, bytes: 100 };
        let led = LedShard { shard: ShardId(4), term: 6, in_sync: vec![NodeId(1), NodeId(3)] };
        let catching = Catching { shard: ShardId(4), node: NodeId(2), matched: 5, last: 8 };
        let what = "it does not run".to_owned();
        let troubles = vec![Trouble { shard: ShardId(9), what, never_runs: true }];
        let leader = ReplicaId { node: NodeId(3), incarnation: 1 };
        let last = Some(LogId { term: 5, leader, index: 8 });
        let told = Survey {
            version: "1.2.3".to_owned(),
            led: vec![led],
            stands: vec![stand],
            catching: vec![catching],
            troubles,
            fate: Some(ReplicaFate { replaced: false, doubtful: true, last, lost_to: Some(9) }),
        };
        let vitals = Vitals { clock_ms: 1, disk: None };
        assert_eq!(survey(response(told.clone(), vitals)), Ok(told));
    }

    #[test]
    fn a_topic_id_of_another_length_is_none() {
        let mut asked = request(&Question::default(), Duration::ZERO);
        asked.topic_ids.push(bytes::Bytes::from_static(b"short"));
        assert!(question(&asked).is_err());
    }
}
