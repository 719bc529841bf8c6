//! Owns which records go by age and by size: the leader of a partition proposes a higher log start, at the end of a sealed
//! segment, and never touches a file itself. By age only when the clocks of a majority of nodes agree (S18): a node whose
//! clock is ahead must not delete what is not old. The newest segment always stays, and so does what a group holds that the
//! topic names (S20), up to a limit of bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_proto::ids::{NodeId, ShardId, TopicPartition};

use super::Core;
use crate::consensus::{Heard, Shard};
use crate::mutants;
use crate::reached::reached;
use crate::state::command::LogStartRise;
use crate::state::{Command, PartitionSettings, PartitionView};
use crate::storage::shard_store::SegmentInfo;

/// Forgetting idle producers a little late costs little; an entry of every idle shard each few minutes would not.
const PRODUCER_LOOKS_PER_IDLE_TIME: u32 = 24;
const PROPOSAL_TIME: Duration = Duration::from_secs(10);

/// Looks at the partitions that this node leads, for ever.
pub(super) async fn keep(core: &Arc<Core>) {
    let mut producers_seen: BTreeMap<ShardId, Instant> = BTreeMap::new();
    let mut warned: BTreeSet<TopicPartition> = BTreeSet::new();
    loop {
        sleep(core.options.retention_interval).await;
        let clock = core.agreed_clock();
        let shards = core.consensus.shards().into_iter();
        for shard in shards.filter(|shard| shard.leadership().ready) {
            retain(&shard, clock, &mut warned).await;
            if let Some(now_ms) = clock {
                let idle = core.options.producer_idle;
                forget_producers(&shard, (now_ms, idle), &mut producers_seen).await;
            }
        }
    }
}

impl Core {
    /// The time by which records are old, Unix ms (S18).
    pub(super) fn agreed_clock(&self) -> Option<i64> {
        let own_ms = self.env.clock.now_ms();
        agreed_clock(own_ms, &self.consensus.peers_heard(), self.nodes.len())
    }
}

async fn retain(shard: &Shard, clock: Option<i64>, warned: &mut BTreeSet<TopicPartition>) {
    let limited = |settings: &PartitionSettings| {
        settings.retention_bytes.is_some() || settings.retention_ms.is_some()
    };
    let partitions: Vec<(TopicPartition, Log, PartitionSettings)> = shard.read(|state| {
        let all = state.partitions().filter(|(_, it)| limited(it.settings));
        let log = |it: &PartitionView<'_>| Log { start: it.log_start, floor: it.hold_floor };
        all.map(|(at, it)| (at, log(&it), it.settings.clone())).collect()
    });
    let due = partitions.into_iter().filter_map(|(at, log, settings)| {
        let segments = shard.store().segments(at);
        let to = new_log_start(&segments, log, &settings, clock)?;
        if log.floor.is_some_and(|floor| to > floor) && warned.insert(at) {
            let limit = settings.hold_max_bytes;
            tracing::warn!(%at, limit, "more is held than the topic allows: unread records go");
        }
        // A reset may lower a floor before the proposal is applied, which then must not remove what the reset was promised.
        Some(LogStartRise { at, to, floor_seen: Some(log.floor.unwrap_or(i64::MAX)) })
    });
    let items: Vec<LogStartRise> = due.collect();
    if items.is_empty() {
        return;
    }
    let partitions = items.len();
    let deadline = Instant::now() + PROPOSAL_TIME;
    match shard.propose(Command::AdvanceLogStart { items }, deadline).await {
        Ok(_) => {
            reached!("log-trimmed");
            tracing::info!(shard = %shard.id(), partitions, "old segments given up");
        }
        Err(error) => tracing::debug!(shard = %shard.id(), %error, "old segments stay for now"),
    }
}

async fn forget_producers(
    shard: &Shard,
    (now_ms, idle): (i64, Duration),
    seen: &mut BTreeMap<ShardId, Instant>,
) {
    let last = *seen.entry(shard.id()).or_insert_with(Instant::now);
    let empty = shard.read(|state| state.partitions().next().is_none());
    if empty || last.elapsed() < idle / PRODUCER_LOOKS_PER_IDLE_TIME {
        return;
    }
    let idle_ms = i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
    let last_append_before_ms = now_ms.saturating_sub(idle_ms);
    let deadline = Instant::now() + PROPOSAL_TIME;
    match shard.propose(Command::ExpireProducers { last_append_before_ms }, deadline).await {
        Ok(_) => drop(seen.insert(shard.id(), Instant::now())),
        Err(error) => tracing::debug!(shard = %shard.id(), %error, "idle producers stay"),
    }
}

/// The latest time that a majority of all nodes has reached, by their own clocks; `None` while fewer are known.
fn agreed_clock(own_ms: i64, peers: &[(NodeId, Heard)], nodes: usize) -> Option<i64> {
    if mutants::planted!("retention-by-own-clock") {
        return Some(own_ms);
    }
    let mut clocks: Vec<i64> = peers.iter().map(|(_, heard)| heard.vitals.clock_ms).collect();
    clocks.push(own_ms);
    clocks.sort_unstable_by(|a, b| b.cmp(a));
    // With the clocks from the latest down, the one at place m − 1 has m − 1 others at or beyond it.
    clocks.get(nodes / 2).copied()
}

/// Where a partition begins, and where what groups hold begins.
#[derive(Debug, Clone, Copy)]
struct Log {
    start: i64,
    floor: Option<i64>,
}

/// The first offset that stays, if that is beyond the log start: what is due goes, but for what is held.
fn new_log_start(
    segments: &[SegmentInfo],
    log: Log,
    settings: &PartitionSettings,
    clock: Option<i64>,
) -> Option<i64> {
    let present: Vec<&SegmentInfo> =
        segments.iter().filter(|it| it.next_offset > log.start).collect();
    let due = due(&present, settings, clock);
    let going = match log.floor.filter(|_| !mutants::planted!("hold-ignored")) {
        Some(floor) => &due[..unheld(due, floor, settings.hold_max_bytes)],
        None => due,
    };
    going.last().map(|segment| segment.next_offset)
}

/// How many of the oldest segments that are due go although groups hold all from the floor on: those below it, and more
/// while what is due and held exceeds the limit.
fn unheld(due: &[&SegmentInfo], floor: i64, limit: Option<i64>) -> usize {
    let limit = limit.and_then(|limit| u64::try_from(limit).ok());
    let mut bytes: u64 = due.iter().map(|segment| segment.bytes).sum();
    let goes = due.iter().take_while(|segment| {
        let too_much = limit.is_some_and(|limit| bytes > limit);
        bytes = bytes.saturating_sub(segment.bytes);
        segment.next_offset <= floor || too_much
    });
    goes.count()
}

/// What age and size say must go. Only a run of sealed segments from the oldest on goes: while all are too large, and while
/// each is too old.
fn due<'a, 'b>(
    held: &'b [&'a SegmentInfo],
    settings: &PartitionSettings,
    clock: Option<i64>,
) -> &'b [&'a SegmentInfo] {
    let mut bytes: u64 = held.iter().map(|segment| segment.bytes).sum();
    let limit = settings.retention_bytes.and_then(|limit| u64::try_from(limit).ok());
    let horizon = settings.retention_ms.zip(clock).map(|(keep, now)| now.saturating_sub(keep));
    let newest = held.last().map(|segment| segment.base_offset);
    let goes = held.iter().take_while(|segment| {
        let open = !segment.sealed || Some(segment.base_offset) == newest;
        if open && !mutants::planted!("retention-keeps-nothing") {
            return false;
        }
        let too_large = limit.is_some_and(|limit| bytes > limit);
        let too_old = horizon.is_some_and(|horizon| segment.max_timestamp < horizon);
        bytes = bytes.saturating_sub(segment.bytes);
        too_large || too_old
    });
    &held[..goes.count()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Vitals;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Keeps bugs planted by other tests out.
    struct Alone {
        _turn: std::sync::RwLockReadGuard<'static, ()>,
    }

    fn alone() -> Alone {
        Alone { _turn: mutants::seclude() }
    }

    fn told(clocks: &[i64]) -> Vec<(NodeId, Heard)> {
        let heard = |clock_ms: &i64| {
            let vitals = Vitals { clock_ms: *clock_ms, disk: None };
            Heard { vitals, at: Instant::now() }
        };
        (2..).map(NodeId).zip(clocks.iter().map(heard)).collect()
    }

    fn settings(bytes: Option<i64>, ms: Option<i64>) -> PartitionSettings {
        PartitionSettings {
            segment_bytes: 1_000,
            segment_ms: 1_000,
            retention_bytes: bytes,
            retention_ms: ms,
            max_message_bytes: 100,
            log_append_time: false,
            hold_groups: vec!["g".to_owned()],
            hold_max_bytes: None,
            version: 1,
        }
    }

    fn unheld_from(start: i64) -> Log {
        Log { start, floor: None }
    }

    /// Segments of ten offsets each, of these sizes and times; the last one is open.
    fn segments(parts: &[(u64, i64)]) -> Vec<SegmentInfo> {
        let segment = |(place, (bytes, max_timestamp)): (usize, &(u64, i64))| {
            let base_offset = i64::try_from(place).unwrap() * 10;
            let sealed = place + 1 < parts.len();
            let (bytes, max_timestamp) = (*bytes, *max_timestamp);
            SegmentInfo { base_offset, next_offset: base_offset + 10, bytes, max_timestamp, sealed }
        };
        parts.iter().enumerate().map(segment).collect()
    }

    /// One clock is far ahead: on its own it would delete everything.
    fn a_clock_ahead_deletes_nothing_that_is_not_old() -> bool {
        let now = agreed_clock(9_000_000, &told(&[1_000, 1_010]), 3);
        let parts = segments(&[(10, 900), (10, 950), (10, 1_000)]);
        new_log_start(&parts, unheld_from(0), &settings(None, Some(500)), now).is_none()
    }

    fn the_newest_segment_stays_however_old_and_large() -> bool {
        let parts = segments(&[(10, 1), (10, 2)]);
        let kept =
            new_log_start(&parts, unheld_from(0), &settings(Some(0), Some(1)), Some(1_000_000));
        kept == Some(10)
    }

    /// All but the newest segment is too old, and a group has read up to 15.
    fn what_a_group_has_not_read_stays() -> bool {
        let parts = segments(&[(10, 1), (10, 2), (10, 3), (10, 4)]);
        let log = Log { start: 0, floor: Some(15) };
        new_log_start(&parts, log, &settings(Some(0), Some(1)), Some(1_000)) == Some(10)
    }

    #[test]
    fn a_majority_of_clocks_decides_what_is_old() {
        let _alone = alone();
        assert!(a_clock_ahead_deletes_nothing_that_is_not_old());
        assert_eq!(agreed_clock(5, &told(&[9, 1]), 3), Some(5));
        assert_eq!(agreed_clock(5, &told(&[]), 1), Some(5));
        assert_eq!(agreed_clock(5, &told(&[7]), 3), Some(5), "two of three have reached 5");
        assert_eq!(agreed_clock(5, &told(&[]), 3), None, "one of three decides nothing");
    }

    #[test]
    fn the_newest_segment_always_stays() {
        let _alone = alone();
        assert!(the_newest_segment_stays_however_old_and_large());
    }

    #[test]
    fn a_planted_own_clock_is_caught() {
        let _bug = mutants::plant("retention-by-own-clock");
        assert!(!a_clock_ahead_deletes_nothing_that_is_not_old());
    }

    #[test]
    fn what_is_held_stays_however_old_and_large() {
        let _alone = alone();
        assert!(what_a_group_has_not_read_stays());
    }

    #[test]
    fn a_planted_hold_that_is_ignored_is_caught() {
        let _bug = mutants::plant("hold-ignored");
        assert!(!what_a_group_has_not_read_stays());
    }

    #[test]
    fn beyond_its_limit_what_is_held_goes_oldest_first() {
        let _alone = alone();
        let parts = segments(&[(100, 1), (100, 2), (100, 3), (100, 1_000)]);
        let start = |floor, limit| {
            let settings =
                PartitionSettings { hold_max_bytes: Some(limit), ..settings(None, Some(500)) };
            let log = Log { start: 0, floor: Some(floor) };
            new_log_start(&parts, log, &settings, Some(1_000))
        };
        assert_eq!(start(0, 300), None, "three segments are due, and 300 bytes may be held");
        assert_eq!(start(0, 299), Some(10));
        assert_eq!(start(0, 200), Some(10));
        assert_eq!(start(0, 0), Some(30));
        assert_eq!(start(10, 200), Some(10), "what was read counts no more");
        assert_eq!(start(10, 199), Some(20));
        assert_eq!(start(40, 0), Some(30), "all was read, and the newest segment stays");
    }

    #[test]
    fn a_planted_loss_of_the_newest_segment_is_caught() {
        let _bug = mutants::plant("retention-keeps-nothing");
        assert!(!the_newest_segment_stays_however_old_and_large());
    }

    #[test]
    fn oldest_segments_go_while_the_partition_holds_more() {
        let _alone = alone();
        let parts = segments(&[(100, 0), (100, 0), (100, 0), (5, 0)]);
        let start =
            |limit| new_log_start(&parts, unheld_from(0), &settings(Some(limit), None), None);
        assert_eq!(start(305), None);
        assert_eq!(start(304), Some(10));
        assert_eq!(start(205), Some(10));
        assert_eq!(start(0), Some(30));
    }

    #[test]
    fn a_segment_that_is_not_old_keeps_older_ones_behind_it_only() {
        let _alone = alone();
        let parts = segments(&[(1, 10), (1, 90), (1, 20), (1, 100)]);
        let start = new_log_start(&parts, unheld_from(0), &settings(None, Some(50)), Some(100));
        assert_eq!(start, Some(10), "a run from the oldest on, without gaps");
    }

    #[test]
    fn without_an_agreed_clock_nothing_is_old() {
        let _alone = alone();
        let parts = segments(&[(1, 10), (1, 90)]);
        assert_eq!(new_log_start(&parts, unheld_from(0), &settings(None, Some(0)), None), None);
    }

    #[test]
    fn what_lies_below_the_log_start_counts_no_more() {
        let _alone = alone();
        let parts = segments(&[(100, 0), (100, 0), (5, 0)]);
        assert_eq!(new_log_start(&parts, unheld_from(10), &settings(Some(105), None), None), None);
    }

    proptest! {
        #[test]
        fn only_whole_sealed_segments_go_and_no_more_than_needed(
            parts in vec((1..1_000_u64, 0..1_000_i64), 0..12),
            from in 0..60_i64,
            bytes in proptest::option::of(0..5_000_i64),
            ms in proptest::option::of(0..1_000_i64),
            clock in proptest::option::of(0..2_000_i64),
            floor in proptest::option::of(0..120_i64),
        ) {
            let _alone = alone();
            let all = segments(&parts);
            let settings = settings(bytes, ms);
            let log = Log { start: from, floor };
            let Some(start) = new_log_start(&all, log, &settings, clock) else { return Ok(()) };
            prop_assert!(start > from, "a log start only rises");
            let last = all.iter().find(|segment| segment.next_offset == start).unwrap();
            prop_assert!(last.sealed);
            prop_assert!(floor.is_none_or(|floor| start <= floor), "without a limit all is held");
            prop_assert!(all.last().unwrap().base_offset >= start);
            // The last one to go had a reason of its own.
            let held = all.iter().filter(|it| it.base_offset >= last.base_offset);
            let too_large = bytes.is_some_and(|limit| {
                held.map(|it| it.bytes).sum::<u64>() > u64::try_from(limit).unwrap()
            });
            let too_old = ms.zip(clock).is_some_and(|(keep, now)| last.max_timestamp < now - keep);
            prop_assert!(too_large || too_old);
        }
    }
}
