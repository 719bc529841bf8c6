//! Owns where offsets stand in the partitions that this node leads and serves. Reads of segments wait for the disk, a few
//! at a time; what the deadline leaves out is left out. Never tells of a partition that it does not lead.

use std::sync::PoisonError;

use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};
use waymark_proto::ids::{NodeId, ShardId, TopicPartition};

use super::Consensus;
use super::member::Member;
use super::network::{OffsetStand, Outlook};
use super::shard::Shard;
use crate::storage::shard_store::SegmentInfo;

/// Partitions looked at at a time: more would only queue at the disk.
const AT_ONCE: usize = 16;

impl Consensus {
    /// Asks a node, this one or another, where offsets stand in partitions that it leads; another one about at most
    /// [`super::MOST_POSITIONS`]. What it does not lead or cannot look up in time is not in the answer.
    ///
    /// # Errors
    /// When the node does not answer in time; the text says why.
    pub async fn positions(
        &self,
        node: NodeId,
        asked: &[(TopicPartition, i64)],
        deadline: Instant,
    ) -> Result<Vec<OffsetStand>, String> {
        if node == self.member.node {
            return Ok(answer(&self.member, asked, deadline).await);
        }
        let answered = self.member.network.positions(node, asked, deadline).await;
        answered.map_err(|error| error.to_string())
    }
}

/// Answers a peer, or this node itself.
pub(super) async fn answer(
    member: &Member,
    asked: &[(TopicPartition, i64)],
    deadline: Instant,
) -> Vec<OffsetStand> {
    let growths = || member.growths.lock().unwrap_or_else(PoisonError::into_inner);
    growths().forget(Instant::now());
    let each = hosts(member, asked).into_iter().filter(|(shard, ..)| shard.leadership().ready);
    let looks = each.map(|(shard, at, offset)| async move {
        let segments = shard.store().segments(at);
        let growth = growths().look(at, &segments, Instant::now());
        look(&shard, (at, offset), &segments, growth).await
    });
    let looks = stream::iter(looks).buffer_unordered(AT_ONCE);
    looks.take_until(sleep_until(deadline)).filter_map(futures::future::ready).collect().await
}

/// The replicas here of the partitions asked about.
fn hosts(member: &Member, asked: &[(TopicPartition, i64)]) -> Vec<(Shard, TopicPartition, i64)> {
    let Some(shard0) = member.shard(ShardId::CATALOG) else { return Vec::new() };
    let shards: Vec<Option<ShardId>> = shard0.read(|state| {
        let hosting = |at: TopicPartition| state.catalog()?.topic(at.topic)?.shard_of(at.partition);
        asked.iter().map(|(at, _)| hosting(*at)).collect()
    });
    let host = |(shard, (at, offset)): (Option<ShardId>, &(TopicPartition, i64))| {
        Some((member.shard(shard?)?, *at, *offset))
    };
    shards.into_iter().zip(asked).filter_map(host).collect()
}

async fn look(
    shard: &Shard,
    (at, offset): (TopicPartition, i64),
    segments: &[SegmentInfo],
    growth: Option<u64>,
) -> Option<OffsetStand> {
    let stand = shard.read(|state| {
        let view = state.partition(at)?;
        Some(OffsetStand {
            at,
            offset,
            leader_epoch: view.leader_epoch,
            log_start: view.log_start,
            high_watermark: view.next_offset,
            append_time_ms: None,
            outlook: None,
            held: view.hold_floor.is_some_and(|floor| floor <= offset.max(view.log_start)),
        })
    })?;
    if offset >= stand.high_watermark {
        return Some(stand);
    }
    let first = offset.max(stand.log_start);
    match shard.store().append_time(at, first).await {
        Ok(append_time_ms) => {
            // What lies below the log start waits for its removal, and decides nothing.
            let below = segments.partition_point(|it| it.next_offset <= stand.log_start);
            let outlook = outlook(&segments[below..], first, growth);
            Some(OffsetStand { append_time_ms, outlook, ..stand })
        }
        Err(error) => {
            tracing::debug!(shard = %shard.id(), %at, offset, %error, "no append time");
            None
        }
    }
}

/// What decides when the record at an offset is removed.
fn outlook(segments: &[SegmentInfo], offset: i64, growth: Option<u64>) -> Option<Outlook> {
    let before = segments.partition_point(|it| it.next_offset <= offset);
    let (held, after) = segments.split_at(segments.len().min(before + 1));
    let own = held.get(before)?;
    // Segments go oldest first: none goes by age before all that are older may.
    let newest_ms = held.iter().map(|it| it.max_timestamp).max()?;
    let bytes_after: u64 = after.iter().map(|it| it.bytes).sum();
    Some(Outlook {
        newest_ms,
        newest_segment: after.is_empty(),
        segment_bytes: own.bytes,
        bytes_from: own.bytes + bytes_after,
        growth,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<SegmentInfo> {
        let segment = |base_offset, bytes, max_timestamp| SegmentInfo {
            base_offset,
            next_offset: base_offset + 10,
            bytes,
            max_timestamp,
            sealed: base_offset < 20,
        };
        vec![segment(0, 100, 7), segment(10, 30, 5), segment(20, 4, 6)]
    }

    fn told(offset: i64) -> Option<(i64, bool, u64, u64)> {
        let outlook = outlook(&segments(), offset, None)?;
        let Outlook { newest_ms, newest_segment, segment_bytes, bytes_from, growth: _ } = outlook;
        Some((newest_ms, newest_segment, segment_bytes, bytes_from))
    }

    #[test]
    fn a_record_goes_with_its_segment_and_after_all_older_ones() {
        assert_eq!(told(0), Some((7, false, 100, 134)));
        assert_eq!(told(9), Some((7, false, 100, 134)));
        assert_eq!(told(10), Some((7, false, 30, 34)), "an older segment is newer by its records");
        assert_eq!(told(29), Some((7, true, 4, 4)));
        assert_eq!(told(30), None);
    }
}
