//! Owns the messages that ask a leader's node where offsets stand in its partitions. Never looks itself.

use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::ids::{NodeId, PartitionId, TopicId, TopicPartition};
use waymark_proto::peer;

use super::wire::{self, Malformed};
use super::{Network, PeerError};

/// Most offsets of one question.
pub const MOST_POSITIONS: usize = 10_000;
/// Questions about more offsets than this go over the bulk connection, as do their answers: heartbeats must not queue
/// behind them.
const CONTROL_POSITIONS: usize = 512;

/// Where an offset stands, as the leader of its partition tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetStand {
    /// The partition.
    pub at: TopicPartition,
    /// The offset asked about.
    pub offset: i64,
    /// The partition's leader epoch.
    pub leader_epoch: i32,
    /// Its first offset.
    pub log_start: i64,
    /// Its first offset that is not committed.
    pub high_watermark: i64,
    /// When the first record at the offset or after it was appended, Unix ms; `None`: there is none.
    pub append_time_ms: Option<i64>,
    /// What decides when that record is removed; `None`: there is none.
    pub outlook: Option<Outlook>,
    /// A group's floor keeps retention from removing that record.
    pub held: bool,
}

/// What decides when retention removes a record: facts of the leader, which the topic's settings and the clock complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// The largest timestamp of its segment and of those before it, Unix ms.
    pub newest_ms: i64,
    /// No segment follows its own: it stays until one does.
    pub newest_segment: bool,
    /// Bytes of its segment.
    pub segment_bytes: u64,
    /// Bytes of its segment and of those after it.
    pub bytes_from: u64,
    /// Bytes a second that the partition has grown by lately; `None`: not known yet.
    pub growth: Option<u64>,
}

impl Network {
    /// Asks a node where offsets stand, at most [`MOST_POSITIONS`]. What it does not lead is not in the answer.
    ///
    /// # Errors
    /// When it does not answer in time, or belongs to another cluster.
    pub async fn positions(
        &self,
        node: NodeId,
        asked: &[(TopicPartition, i64)],
        deadline: Instant,
    ) -> Result<Vec<OffsetStand>, PeerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let bulk = asked.len() > CONTROL_POSITIONS;
        let request = request(asked, left);
        let link = self.links.get(node)?;
        let answer = link
            .call_on(bulk, left, request, |mut client, request| async move {
                client.positions(request).await
            })
            .await?;
        stands(answer).map_err(|error| PeerError::Unanswered { node, reason: error.to_string() })
    }
}

fn place(at: TopicPartition) -> peer::TopicPartition {
    peer::TopicPartition { topic_id: at.topic.0.to_vec().into(), partition: at.partition.0 }
}

fn place_of(at: Option<&peer::TopicPartition>) -> Result<TopicPartition, Malformed> {
    let at = at.ok_or(Malformed("a partition"))?;
    let topic = TopicId::from_slice(&at.topic_id).map_err(|_| Malformed("a topic id"))?;
    Ok(TopicPartition { topic, partition: PartitionId(at.partition) })
}

fn request(asked: &[(TopicPartition, i64)], left: Duration) -> peer::PositionsRequest {
    let item = |(at, offset): &(TopicPartition, i64)| peer::AskedPosition {
        at: Some(place(*at)),
        offset: *offset,
    };
    peer::PositionsRequest {
        items: asked.iter().map(item).collect(),
        timeout_ms: wire::millis(left),
    }
}

pub(super) fn asked(
    request: &peer::PositionsRequest,
) -> Result<Vec<(TopicPartition, i64)>, Malformed> {
    if request.items.len() > MOST_POSITIONS {
        return Err(Malformed("a question about at most 10,000 offsets"));
    }
    let items = request.items.iter();
    items.map(|item| Ok((place_of(item.at.as_ref())?, item.offset))).collect()
}

pub(super) fn response(stands: Vec<OffsetStand>) -> peer::PositionsResponse {
    let outlook = |it: Outlook| peer::RecordOutlook {
        newest_ms: it.newest_ms,
        newest_segment: it.newest_segment,
        segment_bytes: it.segment_bytes,
        bytes_from: it.bytes_from,
        growth: it.growth,
    };
    let item = |it: OffsetStand| peer::PositionStand {
        at: Some(place(it.at)),
        offset: it.offset,
        leader_epoch: it.leader_epoch,
        log_start: it.log_start,
        high_watermark: it.high_watermark,
        append_time_ms: it.append_time_ms,
        outlook: it.outlook.map(outlook),
        held: it.held,
    };
    peer::PositionsResponse { items: stands.into_iter().map(item).collect() }
}

pub(super) fn stands(answer: peer::PositionsResponse) -> Result<Vec<OffsetStand>, Malformed> {
    let outlook = |it: peer::RecordOutlook| Outlook {
        newest_ms: it.newest_ms,
        newest_segment: it.newest_segment,
        segment_bytes: it.segment_bytes,
        bytes_from: it.bytes_from,
        growth: it.growth,
    };
    let item = |it: peer::PositionStand| {
        Ok(OffsetStand {
            at: place_of(it.at.as_ref())?,
            offset: it.offset,
            leader_epoch: it.leader_epoch,
            log_start: it.log_start,
            high_watermark: it.high_watermark,
            append_time_ms: it.append_time_ms,
            outlook: it.outlook.map(outlook),
            held: it.held,
        })
    };
    answer.items.into_iter().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: TopicPartition =
        TopicPartition { topic: TopicId([3; 16]), partition: PartitionId(7) };

    #[test]
    fn a_question_about_offsets_reads_back_as_it_was_asked() {
        let question = vec![(AT, 0), (AT, i64::MAX), (AT, -1)];
        assert_eq!(asked(&request(&question, Duration::from_secs(1))), Ok(question));
    }

    #[test]
    fn where_offsets_stand_reads_back_as_it_was_told() {
        let outlook = Outlook {
            newest_ms: -5,
            newest_segment: true,
            segment_bytes: 10,
            bytes_from: 90,
            growth: Some(0),
        };
        let unread = OffsetStand {
            at: AT,
            offset: 8,
            leader_epoch: 2,
            log_start: 5,
            high_watermark: 9,
            append_time_ms: Some(0),
            outlook: Some(outlook),
            held: true,
        };
        let growing = Outlook { newest_segment: false, growth: None, ..outlook };
        let known = OffsetStand { outlook: Some(growing), held: false, ..unread };
        let read = OffsetStand { offset: 9, append_time_ms: None, outlook: None, ..known };
        let told = vec![unread, known, read];
        assert_eq!(stands(response(told.clone())), Ok(told));
    }

    #[test]
    fn too_many_offsets_and_partitions_that_are_none_are_refused() {
        let most = vec![(AT, 1); MOST_POSITIONS];
        assert!(asked(&request(&most, Duration::ZERO)).is_ok());
        let more = vec![(AT, 1); MOST_POSITIONS + 1];
        assert!(asked(&request(&more, Duration::ZERO)).is_err());
        let nowhere = peer::AskedPosition { at: None, offset: 1 };
        let request = peer::PositionsRequest { items: vec![nowhere], timeout_ms: 1 };
        assert!(asked(&request).is_err());
    }
}
