//! Owns what a group is told of the records that it has not read: how many there are, how old the first one is, and how
//! long retention leaves it. Asks the leaders of the partitions, all at once; one that is silent is left out.

use std::collections::BTreeMap;

use futures::future::join_all;
use tokio::time::Instant;
use waymark_proto::ids::{NodeId, ShardId, TopicId, TopicPartition};

use crate::broker::Core;
use crate::consensus::{MOST_POSITIONS, OffsetStand, Outlook};
use crate::state::PartitionSettings;

/// Where an offset stands in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct Position {
    /// The partition's leader epoch.
    pub(in crate::broker) leader_epoch: i32,
    /// Its first offset.
    pub(in crate::broker) log_start: i64,
    /// Its first offset that is not committed.
    pub(in crate::broker) high_watermark: i64,
    /// When the first record at the offset or after it was appended, Unix ms; `None`: there is none.
    pub(in crate::broker) append_time_ms: Option<i64>,
    /// Until retention removes that record, ms. `None`: it will not, or nobody can tell. 0: it has removed what stood at
    /// the offset.
    pub(in crate::broker) loss_in_ms: Option<i64>,
    /// A group's floor keeps retention from removing that record.
    pub(in crate::broker) held: bool,
}

impl Core {
    /// Where offsets stand. What no leader tells in time is not in the answer.
    pub(in crate::broker) async fn positions(
        &self,
        asked: &[(TopicPartition, i64)],
        deadline: Instant,
    ) -> BTreeMap<(TopicPartition, i64), Position> {
        let pages = self.by_leader(asked);
        let ask = |(node, items): (NodeId, Vec<(TopicPartition, i64)>)| async move {
            let answered = self.consensus.positions(node, &items, deadline).await;
            answered.unwrap_or_else(|error| {
                tracing::debug!(%node, error, "positions are not known");
                Vec::new()
            })
        };
        let stands = join_all(pages.into_iter().map(ask)).await;
        let clock = self.agreed_clock();
        let settings = self.settings_of(asked);
        let told = stands.into_iter().flatten().map(|stand| {
            let settings = settings.get(&stand.at.topic);
            ((stand.at, stand.offset), position(&stand, settings, clock))
        });
        told.collect()
    }

    /// What to ask each node, page by page.
    fn by_leader(
        &self,
        asked: &[(TopicPartition, i64)],
    ) -> Vec<(NodeId, Vec<(TopicPartition, i64)>)> {
        let places = self.shard_places();
        let leaders: Vec<Option<NodeId>> = self
            .catalog(|catalog| {
                let shard = |at: TopicPartition| catalog.topic(at.topic)?.shard_of(at.partition);
                let leader = |shard: ShardId| places.get(&shard)?.leader;
                asked.iter().map(|(at, _)| shard(*at).and_then(leader)).collect()
            })
            .unwrap_or_default();
        let mut by_leader: BTreeMap<NodeId, Vec<(TopicPartition, i64)>> = BTreeMap::new();
        for (leader, item) in leaders.into_iter().zip(asked) {
            if let Some(leader) = leader {
                by_leader.entry(leader).or_default().push(*item);
            }
        }
        let pages = by_leader.into_iter().flat_map(|(node, items)| {
            let pages: Vec<_> = items.chunks(MOST_POSITIONS).map(<[_]>::to_vec).collect();
            pages.into_iter().map(move |page| (node, page))
        });
        pages.collect()
    }

    fn settings_of(&self, asked: &[(TopicPartition, i64)]) -> BTreeMap<TopicId, PartitionSettings> {
        let settings = self.catalog(|catalog| {
            let mut found = BTreeMap::new();
            for (at, _) in asked {
                if !found.contains_key(&at.topic)
                    && let Some(topic) = catalog.topic(at.topic)
                {
                    found.insert(at.topic, topic.config.settings(topic.version));
                }
            }
            found
        });
        settings.unwrap_or_default()
    }
}

fn position(
    stand: &OffsetStand,
    settings: Option<&PartitionSettings>,
    clock: Option<i64>,
) -> Position {
    let until_loss = |outlook: Outlook| {
        let (settings, due) = (settings?, loss_in_ms(&outlook, settings?, clock)?);
        if stand.held { until_hold_ends(&outlook, settings, due) } else { Some(due) }
    };
    let loss_in_ms = match stand.outlook {
        _ if stand.offset < stand.log_start => Some(0),
        Some(outlook) => until_loss(outlook),
        None => None,
    };
    Position {
        leader_epoch: stand.leader_epoch,
        log_start: stand.log_start,
        high_watermark: stand.high_watermark,
        append_time_ms: stand.append_time_ms,
        loss_in_ms,
        held: stand.held,
    }
}

/// How long a record that is still there stays, at least 1 ms: by age or by size, whichever comes first.
fn loss_in_ms(outlook: &Outlook, settings: &PartitionSettings, clock: Option<i64>) -> Option<i64> {
    let by_age =
        settings.retention_ms.zip(clock).and_then(|(keep, now)| until_too_old(outlook, keep, now));
    let by_size = settings
        .retention_bytes
        .and_then(|limit| until_too_large(outlook, limit, settings.segment_bytes));
    [by_age, by_size].into_iter().flatten().min()
}

/// The newest segment stays, however old, until another one follows it: none does while nothing is appended.
fn until_too_old(outlook: &Outlook, keep: i64, now: i64) -> Option<i64> {
    let left = outlook.newest_ms.saturating_add(keep).saturating_sub(now).saturating_add(1);
    let stays = outlook.newest_segment && outlook.growth.unwrap_or(0) == 0;
    match left {
        1.. => Some(left),
        _ if stays => None,
        _ => Some(1),
    }
}

/// A segment goes once it and what follows it are more than the limit, and something does follow it.
fn until_too_large(outlook: &Outlook, limit: i64, segment_bytes: i64) -> Option<i64> {
    let unsigned = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let beyond = unsigned(limit).saturating_add(1).saturating_sub(outlook.bytes_from);
    let full = match outlook.newest_segment {
        true => unsigned(segment_bytes).saturating_sub(outlook.segment_bytes).max(1),
        false => 0,
    };
    until_grown(beyond.max(full), outlook.growth)
}

/// How long a record stays that is held and would go by age or size when it is due: until what is held beyond what
/// retention keeps exceeds its limit. What retention keeps is the limit of bytes, or what comes in the time that it keeps.
fn until_hold_ends(outlook: &Outlook, settings: &PartitionSettings, due: i64) -> Option<i64> {
    let unsigned = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let most = unsigned(settings.hold_max_bytes?);
    let in_time = |keep: i64| {
        let bytes = u128::from(outlook.growth.unwrap_or(0)) * u128::from(unsigned(keep)) / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    };
    let kept = [settings.retention_bytes.map(unsigned), settings.retention_ms.map(in_time)];
    let kept = kept.into_iter().flatten().min().unwrap_or(0);
    let room = most.saturating_add(kept).saturating_add(1).saturating_sub(outlook.bytes_from);
    until_grown(room, outlook.growth).map(|it| it.max(due))
}

/// How long a partition takes to grow by so many bytes; `None`: it does not, or nobody knows.
fn until_grown(bytes: u64, growth: Option<u64>) -> Option<i64> {
    if bytes == 0 {
        return Some(1);
    }
    let rate = growth.filter(|rate| *rate > 0)?;
    let millis = u128::from(bytes) * 1000 / u128::from(rate);
    Some(i64::try_from(millis).unwrap_or(i64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::topic_config::TopicConfig;
    use proptest::prelude::*;
    use waymark_proto::ids::PartitionId;

    const AT: TopicPartition =
        TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(0) };

    fn settings(bytes: Option<i64>, ms: Option<i64>) -> PartitionSettings {
        let retention =
            TopicConfig { retention_bytes: bytes, retention_ms: ms, ..TopicConfig::default() };
        TopicConfig { segment_bytes: 1_000, ..retention }.settings(1)
    }

    /// A full segment, with one more behind it.
    fn sealed(newest_ms: i64, growth: Option<u64>) -> Outlook {
        let (segment_bytes, bytes_from) = (1_000, 1_500);
        Outlook { newest_ms, newest_segment: false, segment_bytes, bytes_from, growth }
    }

    /// The segment that grows.
    fn newest(newest_ms: i64, growth: Option<u64>) -> Outlook {
        let (segment_bytes, bytes_from) = (400, 400);
        Outlook { newest_ms, newest_segment: true, segment_bytes, bytes_from, growth }
    }

    #[test]
    fn a_record_is_lost_when_the_newest_of_its_segment_is_too_old() {
        let by_age = settings(None, Some(500));
        assert_eq!(loss_in_ms(&sealed(1_000, None), &by_age, Some(1_200)), Some(301));
        assert_eq!(loss_in_ms(&sealed(1_000, None), &by_age, Some(1_500)), Some(1));
        assert_eq!(loss_in_ms(&sealed(1_000, None), &by_age, Some(9_000)), Some(1), "due");
        assert_eq!(loss_in_ms(&sealed(1_000, None), &by_age, None), None, "no clock is agreed on");
        assert_eq!(loss_in_ms(&sealed(1_000, None), &settings(None, None), Some(9_000)), None);
    }

    #[test]
    fn the_newest_segment_is_lost_by_age_only_if_another_one_will_follow() {
        let by_age = settings(None, Some(500));
        assert_eq!(loss_in_ms(&newest(1_000, None), &by_age, Some(1_200)), Some(301));
        assert_eq!(loss_in_ms(&newest(1_000, Some(5)), &by_age, Some(9_000)), Some(1));
        assert_eq!(loss_in_ms(&newest(1_000, Some(0)), &by_age, Some(9_000)), None);
        assert_eq!(loss_in_ms(&newest(1_000, None), &by_age, Some(9_000)), None);
    }

    #[test]
    fn a_record_is_lost_when_the_partition_has_grown_beyond_its_limit() {
        let by_size = |limit| settings(Some(limit), None);
        assert_eq!(loss_in_ms(&sealed(0, Some(100)), &by_size(2_499), None), Some(10_000));
        assert_eq!(loss_in_ms(&sealed(0, Some(0)), &by_size(2_499), None), None, "it rests");
        assert_eq!(loss_in_ms(&sealed(0, None), &by_size(2_499), None), None, "not known yet");
        assert_eq!(loss_in_ms(&sealed(0, Some(0)), &by_size(1_499), None), Some(1), "due");
        // 600 bytes fill the segment that grows, whatever the limit.
        assert_eq!(loss_in_ms(&newest(0, Some(100)), &by_size(0), None), Some(6_000));
        assert_eq!(loss_in_ms(&newest(0, Some(100)), &by_size(1_399), None), Some(10_000));
    }

    #[test]
    fn of_age_and_size_the_first_one_counts() {
        let both = settings(Some(2_499), Some(500));
        assert_eq!(loss_in_ms(&sealed(1_000, Some(100)), &both, Some(1_200)), Some(301));
        assert_eq!(loss_in_ms(&sealed(1_000, Some(9_000)), &both, Some(1_200)), Some(111));
    }

    #[test]
    fn what_is_gone_is_lost_already_and_what_is_not_there_cannot_be() {
        let stand = |offset, outlook| OffsetStand {
            at: AT,
            offset,
            leader_epoch: 0,
            log_start: 5,
            high_watermark: 9,
            append_time_ms: None,
            outlook,
            held: false,
        };
        let settings = settings(None, Some(500));
        let loss = |stand| position(&stand, Some(&settings), Some(1_200)).loss_in_ms;
        assert_eq!(loss(stand(4, Some(sealed(1_000, None)))), Some(0));
        assert_eq!(loss(stand(4, None)), Some(0), "all was removed");
        assert_eq!(loss(stand(5, Some(sealed(1_000, None)))), Some(301));
        assert_eq!(loss(stand(9, None)), None);
    }

    #[test]
    fn a_record_that_is_held_stays_until_too_much_is() {
        let stand = |growth| OffsetStand {
            at: AT,
            offset: 5,
            leader_epoch: 0,
            log_start: 5,
            high_watermark: 9,
            append_time_ms: Some(1),
            outlook: Some(sealed(1_000, growth)),
            held: true,
        };
        let loss = |growth, hold_max_bytes, keep| {
            let settings = PartitionSettings { hold_max_bytes, ..settings(keep, Some(500)) };
            position(&stand(growth), Some(&settings), Some(1_600)).loss_in_ms
        };
        // It is due. 1,500 bytes from it on are there, of which retention alone keeps 50: those of the last 500 ms.
        assert_eq!(loss(Some(100), Some(2_449), None), Some(10_000));
        assert_eq!(loss(Some(100), Some(2_449), Some(25)), Some(9_750), "or fewer by size");
        assert_eq!(loss(Some(100), Some(1_000), None), Some(1), "more is held than may be");
        assert_eq!(loss(Some(0), Some(2_449), None), None, "nothing comes");
        assert_eq!(loss(None, Some(2_449), None), None, "not known yet");
        assert_eq!(loss(Some(100), None, None), None, "without a limit it stays");
    }

    proptest! {
        #[test]
        fn a_record_that_is_there_is_never_told_as_lost(
            (newest_ms, newest_segment) in (any::<i64>(), any::<bool>()),
            (segment_bytes, after) in (0..u64::MAX / 2, 0..u64::MAX / 2),
            growth in proptest::option::of(any::<u64>()),
            bytes in proptest::option::of(0..i64::MAX),
            ms in proptest::option::of(0..i64::MAX),
            clock in proptest::option::of(any::<i64>()),
        ) {
            let bytes_from = segment_bytes + after;
            let outlook = Outlook { newest_ms, newest_segment, segment_bytes, bytes_from, growth };
            let loss = loss_in_ms(&outlook, &settings(bytes, ms), clock);
            prop_assert!(loss.is_none_or(|it| it > 0));
            prop_assert!(loss.is_none() || bytes.is_some() || ms.is_some());
        }
    }
}
