//! Owns how far groups are behind: in records and in time, how fast they catch up, and how long retention leaves them. The
//! leaders of the partitions are asked; what is behind in time is the age of the oldest record that is not committed as
//! read, so an idle producer makes nobody late. Never guesses: what a leader does not tell is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use waymark_proto::failure::Failure;
use waymark_proto::ids::TopicPartition;

use super::Coordination;
use super::seam::{GroupLag, PartitionLag};
use crate::broker::Core;
use crate::broker::cluster::Position;
use crate::consensus::Shard;
use crate::state::groups::Group;

/// A rate is measured over at least this long.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Between two looks at all groups for the metrics …
const LOOK: Duration = Duration::from_secs(5);
/// … and so much longer for each group, so that very many cost no more than few.
const LOOK_PER_GROUP: Duration = Duration::from_millis(5);
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// A group is warned of when retention removes what it has not read within this time, ms, and again after it was safe for
/// twice as long. Long enough to act, short against most retentions.
const WARN_WITHIN_MS: i64 = 3_600_000;

/// Two measures of one partition's lag: the rate is what lies between.
#[derive(Debug, Clone, Copy)]
struct Samples {
    older: (Instant, i64),
    newer: (Instant, i64),
}

impl Samples {
    fn first(now: Instant, records: i64) -> Self {
        Self { older: (now, records), newer: (now, records) }
    }

    /// Records a second by which the lag shrank; `None`: not measured for long enough.
    fn note(&mut self, now: Instant, records: i64) -> Option<f64> {
        if now.saturating_duration_since(self.newer.0) >= RATE_OVER {
            self.older = std::mem::replace(&mut self.newer, (now, records));
        }
        let over = now.saturating_duration_since(self.older.0);
        (over >= RATE_OVER).then(|| {
            #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
            let shrunk = (self.older.1 - records) as f64;
            shrunk / over.as_secs_f64()
        })
    }
}

/// What was measured before, of groups that this node coordinates.
#[derive(Debug, Default)]
pub(super) struct Measured {
    samples: BTreeMap<String, BTreeMap<TopicPartition, Samples>>,
    /// The last look at each group, for the metrics.
    last: BTreeMap<String, GroupLag>,
    /// Partitions of groups whose records go soon: each was warned of once.
    warned: BTreeSet<(String, TopicPartition)>,
}

impl Measured {
    /// Partitions that have to be warned of now: their unread records go soon, and that is news.
    fn warn_of_news_in(&mut self, lag: &GroupLag) -> Vec<(TopicPartition, i64)> {
        let mut news = Vec::new();
        for it in &lag.partitions {
            let key = (lag.group.clone(), it.at);
            match it.loss_in_ms {
                Some(left) if left < WARN_WITHIN_MS => {
                    if self.warned.insert(key) {
                        news.push((it.at, left));
                    }
                }
                Some(left) if left < 2 * WARN_WITHIN_MS => {}
                _ => drop(self.warned.remove(&key)),
            }
        }
        news
    }
}

impl Coordination {
    /// The last look at every group that this node coordinates.
    pub(super) fn last_lags(&self) -> Vec<GroupLag> {
        self.measured().last.values().cloned().collect()
    }
}

/// Measures all groups again and again, for the metrics and for rates.
pub(in crate::broker) async fn measure(core: &Core) {
    loop {
        let led = core.consensus.shards().into_iter().filter(|it| it.leadership().ready);
        let names = |shard: Shard| {
            shard.read(|state| state.groups().map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
        };
        let names: Vec<String> = led.flat_map(names).collect();
        let deadline = Instant::now() + ANSWER_TIME;
        let lags = core.lags(&names, deadline).await;
        let last = names.iter().zip(lags).filter_map(|(name, lag)| Some((name.clone(), lag.ok()?)));
        let last: BTreeMap<String, GroupLag> = last.collect();
        {
            let mut measured = core.coordination.measured();
            measured.samples.retain(|name, _| last.contains_key(name));
            measured.warned.retain(|(name, _)| last.contains_key(name));
            for (group, lag) in &last {
                for (at, left_ms) in measured.warn_of_news_in(lag) {
                    let topic = core.topic_name(at.topic).unwrap_or_default();
                    let partition = at.partition.0;
                    tracing::warn!(
                        group,
                        topic,
                        partition,
                        left_ms,
                        "retention is about to remove records that the group has not read"
                    );
                }
            }
            measured.last = last;
        }
        let groups = u32::try_from(names.len()).unwrap_or(u32::MAX);
        sleep(LOOK + LOOK_PER_GROUP.saturating_mul(groups)).await;
    }
}

impl Core {
    /// As [`Core::lags`], with all that was committed before the call: one round for each shard.
    pub(super) async fn confirmed_lags(
        &self,
        names: &[String],
        deadline: Instant,
    ) -> Vec<Result<GroupLag, Failure>> {
        let led = names.iter().filter_map(|name| self.coordinating(name).ok());
        let shards: BTreeMap<_, Shard> = led.map(|shard| (shard.id(), shard)).collect();
        let rounds = shards.values().map(|shard| self.confirm_coordinator(shard, deadline));
        let failed = join_all(rounds).await.into_iter().find_map(Result::err);
        match failed {
            Some(failure) => names.iter().map(|_| Err(failure.clone())).collect(),
            None => self.lags(names, deadline).await,
        }
    }

    /// How far groups are behind, in the order asked.
    pub(super) async fn lags(
        &self,
        names: &[String],
        deadline: Instant,
    ) -> Vec<Result<GroupLag, Failure>> {
        let known: Vec<Result<GroupLag, Failure>> =
            names.iter().map(|name| self.unmeasured(name)).collect();
        let asked: Vec<(TopicPartition, i64)> = known
            .iter()
            .flatten()
            .flat_map(|lag| &lag.partitions)
            .map(|it| (it.at, it.committed.unwrap_or(0)))
            .collect();
        let positions = self.positions(&asked, deadline).await;
        let (now, now_ms) = (Instant::now(), self.env.clock.now_ms());
        let mut measured = self.coordination.measured();
        let fill = |lag: Result<GroupLag, Failure>| {
            let mut lag = lag?;
            lag.measured_ms = now_ms;
            for partition in &mut lag.partitions {
                let key = (partition.at, partition.committed.unwrap_or(0));
                let Some(position) = positions.get(&key) else { continue };
                fill(partition, position, now_ms);
                let samples = measured.samples.entry(lag.group.clone()).or_default();
                let records = partition.records.unwrap_or_default();
                let first = Samples::first(now, records);
                let sample = samples.entry(partition.at).or_insert(first);
                partition.catching_up = sample.note(now, records);
            }
            Ok(lag)
        };
        known.into_iter().map(fill).collect()
    }

    /// What the group's own state says: where it stands, and who owns what.
    fn unmeasured(&self, name: &str) -> Result<GroupLag, Failure> {
        let shard = self.coordinating(name)?;
        shard.read(|state| {
            let group = state.group(name).ok_or_else(super::describe::no_group)?;
            let mut places: BTreeMap<TopicPartition, Option<i64>> =
                state.group_offsets(name).map(|(at, it)| (at, Some(it.offset))).collect();
            for at in group.holdings.keys() {
                places.entry(*at).or_insert(None);
            }
            let each = places.into_iter().map(|(at, committed)| lag_of(group, at, committed));
            Ok(GroupLag {
                group: name.to_owned(),
                phase: super::describe::phase(group),
                members: group.members.len(),
                generation: group.generation,
                partitions: each.collect(),
                measured_ms: 0,
            })
        })
    }
}

fn lag_of(group: &Group, at: TopicPartition, committed: Option<i64>) -> PartitionLag {
    let owner = group.holdings.get(&at).map(|it| &it.owner);
    let client = owner.and_then(|id| group.members.get(id)).map(|it| it.actor.client_id.clone());
    let owner = owner.map(|id| id.to_string()).unwrap_or_default();
    PartitionLag { owner, client_id: client.unwrap_or_default(), ..nothing_known(at, committed) }
}

fn nothing_known(at: TopicPartition, committed: Option<i64>) -> PartitionLag {
    PartitionLag {
        at,
        committed,
        owner: String::new(),
        client_id: String::new(),
        log_start: 0,
        high_watermark: 0,
        records: None,
        behind_ms: None,
        catching_up: None,
        loss_in_ms: None,
        lost_records: 0,
        held: false,
    }
}

fn fill(lag: &mut PartitionLag, position: &Position, now_ms: i64) {
    lag.log_start = position.log_start;
    lag.high_watermark = position.high_watermark;
    lag.held = position.held;
    // Where nothing is committed nothing was missed: reading would begin in the log.
    let from = lag.committed.unwrap_or(position.log_start);
    let records = (position.high_watermark - from.max(position.log_start)).max(0);
    lag.records = Some(records);
    lag.lost_records = (position.log_start - from).max(0);
    lag.behind_ms = if records == 0 {
        Some(0)
    } else {
        position.append_time_ms.map(|appended| (now_ms - appended).max(0))
    };
    lag.loss_in_ms = position.loss_in_ms.filter(|_| records > 0 || lag.lost_records > 0);
    if lag.committed.is_none() && lag.loss_in_ms == Some(0) {
        lag.loss_in_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(committed: Option<i64>, position: Position) -> PartitionLag {
        let mut lag = nothing_known(TopicPartition::default(), committed);
        fill(&mut lag, &position, 10_000);
        lag
    }

    fn position(log_start: i64, high_watermark: i64, append_time_ms: Option<i64>) -> Position {
        Position {
            leader_epoch: 1,
            log_start,
            high_watermark,
            append_time_ms,
            loss_in_ms: Some(500),
            held: false,
        }
    }

    #[test]
    fn who_has_read_everything_is_not_behind_however_long_nobody_produces() {
        let lag = lag(Some(9), position(0, 9, None));
        assert_eq!((lag.records, lag.behind_ms, lag.loss_in_ms), (Some(0), Some(0), None));
    }

    #[test]
    fn time_behind_is_the_age_of_the_oldest_unread_record() {
        let lag = lag(Some(4), position(0, 9, Some(7_500)));
        assert_eq!((lag.records, lag.behind_ms, lag.loss_in_ms), (Some(5), Some(2_500), Some(500)));
    }

    #[test]
    fn what_retention_took_unread_is_lost_and_counted() {
        let gone = Position { loss_in_ms: Some(0), ..position(6, 9, Some(9_000)) };
        let lag = lag(Some(4), gone);
        assert_eq!((lag.records, lag.lost_records, lag.loss_in_ms), (Some(3), 2, Some(0)));
    }

    #[test]
    fn a_group_that_never_committed_has_the_whole_log_before_it_and_lost_nothing() {
        let lag = lag(None, Position { loss_in_ms: Some(0), ..position(6, 9, Some(9_000)) });
        assert_eq!((lag.records, lag.lost_records, lag.loss_in_ms), (Some(3), 0, None));
    }

    #[test]
    fn a_loss_is_warned_of_once_before_it_comes_and_again_after_it_was_averted() {
        let mut measured = Measured::default();
        let mut warns = |loss_in_ms| {
            let partition =
                PartitionLag { loss_in_ms, ..nothing_known(TopicPartition::default(), Some(0)) };
            let lag = GroupLag {
                group: "g".to_owned(),
                phase: super::super::seam::Phase::Empty,
                members: 0,
                generation: 0,
                partitions: vec![partition],
                measured_ms: 0,
            };
            !measured.warn_of_news_in(&lag).is_empty()
        };
        assert!(!warns(Some(WARN_WITHIN_MS + 1)));
        assert!(warns(Some(WARN_WITHIN_MS - 1)), "before anything is lost");
        assert!(!warns(Some(5)), "once");
        assert!(!warns(Some(WARN_WITHIN_MS + 5)));
        assert!(!warns(Some(WARN_WITHIN_MS - 5)), "it was not safe for long enough");
        assert!(!warns(None));
        assert!(warns(Some(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_told_once_it_was_measured_for_long_enough() {
        let began = Instant::now();
        let mut samples = Samples::first(began, 1_000);
        assert_eq!(samples.note(began + Duration::from_secs(1), 900), None);
        let rate = samples.note(began + Duration::from_secs(10), 500).unwrap();
        assert!((rate - 50.0).abs() < 0.01, "{rate}");
    }
}
