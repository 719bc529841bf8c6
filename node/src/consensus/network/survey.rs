//! Owns the questions that nodes ask each other to answer clients: what a node is and leads, where partitions stand, and up
//! to where a read has to wait. Changes nothing anywhere.

use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::ids::{NodeId, PartitionId, ShardId, TopicId, TopicPartition};
use waymark_proto::peer;

use super::wire::{self, Malformed};
use super::{Network, PeerError, Vitals};
use crate::consensus::ProposeError;

/// What is asked of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Topics whose partitions are wanted.
    pub topics: Vec<TopicId>,
    /// The answer waits until the node has applied this index of the catalog.
    pub catalog: Option<u64>,
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
    /// What is wrong with replicas of it that do not run, by shard.
    pub troubles: Vec<(ShardId, String)>,
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
        let answer = link
            .call(left, request(question, left), |mut client, request| async move {
                client.survey(request).await
            })
            .await?;
        if let (Some(vitals), Some(host)) = (answer.vitals, self.links.shared.host()) {
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
    }
}

pub(super) fn question(request: &peer::SurveyRequest) -> Result<Question, Malformed> {
    let topic = |id: &bytes::Bytes| TopicId::from_slice(id).map_err(|_| Malformed("a topic id"));
    let topics = request.topic_ids.iter().map(topic).collect::<Result<_, _>>()?;
    Ok(Question { topics, catalog: request.catalog_index })
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
    let trouble = |(shard, what): (ShardId, String)| peer::Trouble { shard: shard.0, what };
    peer::SurveyResponse {
        version: survey.version,
        led: survey.led.into_iter().map(led).collect(),
        stands: survey.stands.into_iter().map(stand).collect(),
        vitals: Some(wire::vitals_to(vitals)),
        troubles: survey.troubles.into_iter().map(trouble).collect(),
    }
}

fn survey(answer: peer::SurveyResponse) -> Result<Survey, Malformed> {
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
    let troubles = answer.troubles.into_iter().map(|it| (ShardId(it.shard), it.what));
    Ok(Survey {
        version: answer.version,
        led: answer.led.into_iter().map(led).collect(),
        stands: answer.stands.into_iter().map(stand).collect::<Result<_, _>>()?,
        troubles: troubles.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId([3; 16]);

    #[test]
    fn a_question_reads_back_as_it_was_asked() {
        for asked in [
            Question::default(),
            Question { topics: vec![TOPIC], catalog: None },
            Question { topics: Vec::new(), catalog: Some(0) },
        ] {
            assert_eq!(question(&request(&asked, Duration::from_secs(1))), Ok(asked));
        }
    }

    #[test]
    fn a_survey_reads_back_as_it_was_told() {
        let at = TopicPartition { topic: TOPIC, partition: PartitionId(7) };
        let stand = Stand { at, leader_epoch: 2, log_start: 5, high_watermark: 9, bytes: 100 };
        let led = LedShard { shard: ShardId(4), term: 6, in_sync: vec![NodeId(1), NodeId(3)] };
        let troubles = vec![(ShardId(9), "it does not run".to_owned())];
        let version = "1.2.3".to_owned();
        let told = Survey { version, led: vec![led], stands: vec![stand], troubles };
        let vitals = Vitals { clock_ms: 1, has_room: true };
        assert_eq!(survey(response(told.clone(), vitals)), Ok(told));
    }

    #[test]
    fn a_topic_id_of_another_length_is_none() {
        let mut asked = request(&Question::default(), Duration::ZERO);
        asked.topic_ids.push(bytes::Bytes::from_static(b"short"));
        assert!(question(&asked).is_err());
    }
}
