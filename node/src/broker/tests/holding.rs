//! What groups have not read stays, though age and size say that it goes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_proto::ids::TopicPartition;

use super::bed::{Bed, PATIENCE, TOPIC, at, limits, sized, to};
use super::clean;
use crate::broker::BrokerOptions;
use crate::broker::admin::Admin as _;
use crate::broker::logs::Logs as _;
use crate::state::command::{CommitOffsets, Committer, OffsetCommit};
use crate::state::groups::Actor;

/// Longer than a commit takes to raise a floor and retention to look.
const SOON: Duration = Duration::from_secs(3);

/// Ten records, two in each segment, of a topic that keeps none unless told otherwise; the group "g" holds all partitions.
async fn full(configs: &[(&str, &str)]) -> Bed {
    let limits = BrokerOptions { retention_interval: Duration::from_millis(200), ..limits() };
    let usual =
        [("retention.bytes", "0"), ("segment.bytes", "65536"), ("retention.hold.groups", "g")];
    let mut all = BTreeMap::from(usual);
    all.extend(configs.iter().copied());
    let bed = Bed::with(limits, &Vec::from_iter(all)).await;
    for _ in 0..10 {
        bed.append(to(0, sized(1, 30_000, None))).await.expect("appended");
    }
    sleep(SOON).await;
    bed
}

async fn commit(bed: &Bed, offset: i64) {
    let item = OffsetCommit {
        at: at(0),
        offset,
        leader_epoch: None,
        metadata: None,
        expected_offset: None,
        fencing_epoch: None,
    };
    let commit = CommitOffsets {
        group: "g".to_owned(),
        committer: Committer::Outside { name: String::new(), in_line: false },
        cause: 0,
        note: String::new(),
        actor: Actor::default(),
        items: vec![item],
        all_or_nothing: false,
        commit_seq: 0,
        commit_time_ms: 0,
    };
    let done = bed.broker.commit_offsets(commit, Instant::now() + PATIENCE).await;
    assert_eq!(done.expect("a coordinator"), [Ok(())]);
    sleep(SOON).await;
}

fn log_start(bed: &Bed) -> i64 {
    bed.broker.marks(at(0)).expect("led here").log_start
}

fn floor(bed: &Bed, at: TopicPartition) -> Option<i64> {
    bed.shard().read(|state| state.partition(at).expect("open").hold_floor)
}

async fn is_held(bed: &Bed, offset: i64) -> bool {
    let told = bed.broker.core.positions(&[(at(0), offset)], Instant::now() + PATIENCE).await;
    told.get(&(at(0), offset)).expect("led here").held
}

/// Whether retention leaves alone what the group has not committed, and takes what it has.
async fn retention_waits_for_commits() -> bool {
    let bed = full(&[]).await;
    let untouched = log_start(&bed) == 0;
    commit(&bed, 5).await;
    untouched && log_start(&bed) == 4
}

#[tokio::test(start_paused = true)]
async fn records_go_once_the_group_has_committed_them() {
    let _clean = clean();
    assert!(retention_waits_for_commits().await);
}

#[tokio::test(start_paused = true)]
async fn a_planted_hold_that_is_ignored_loses_unread_records() {
    let _planted = crate::mutants::plant("hold-ignored");
    assert!(!retention_waits_for_commits().await);
}

#[tokio::test(start_paused = true)]
async fn a_position_says_whether_it_is_held() {
    let _clean = clean();
    let bed = full(&[]).await;
    assert!(is_held(&bed, 0).await);
    commit(&bed, 5).await;
    assert!(is_held(&bed, 5).await);
    assert!(!is_held(&bed, 4).await, "the group has read it");
    let broker = &bed.broker.core;
    assert!(broker.holds_retention("g", TOPIC) && !broker.holds_retention("h", TOPIC));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_held_than_the_topic_allows() {
    let _clean = clean();
    let bed = full(&[("retention.hold.max.bytes", "100000")]).await;
    assert_eq!(log_start(&bed), 6, "one segment of 60,000 bytes is held, beside the newest one");
}

#[tokio::test(start_paused = true)]
async fn a_reset_lowers_the_floor_before_it_commits() {
    let _clean = clean();
    let bed = full(&[("retention.bytes", "-1")]).await;
    commit(&bed, 7).await;
    assert_eq!((floor(&bed, at(0)), floor(&bed, at(1))), (Some(7), Some(0)));
    let deadline = Instant::now() + PATIENCE;
    let starts = bed.broker.core.lower_holds("g", &[(at(0), 3), (at(1), 0)], deadline).await;
    assert_eq!(starts.into_iter().collect::<Vec<_>>(), [(at(0), 0), (at(1), 0)]);
    sleep(SOON).await;
    assert_eq!(floor(&bed, at(0)), Some(3), "the commit of before does not raise it again");
    commit(&bed, 3).await;
    assert_eq!(floor(&bed, at(0)), Some(3));
    let others = bed.broker.core.lower_holds("h", &[(at(0), 1)], deadline).await;
    assert_eq!(others.get(&at(0)), Some(&0), "a group that holds nothing learns the log start too");
    assert_eq!(floor(&bed, at(0)), Some(3));
}

#[tokio::test(start_paused = true)]
async fn floors_follow_commits_through_a_restart_and_back_when_they_are_deleted() {
    let _clean = clean();
    let bed = full(&[("retention.bytes", "-1")]).await;
    commit(&bed, 7).await;
    let bed = bed.restart().await;
    assert_eq!(floor(&bed, at(0)), Some(7));
    let deleted =
        bed.broker.delete_offsets("g", None, Actor::default(), Instant::now() + PATIENCE).await;
    assert_eq!(deleted, Ok(()));
    sleep(SOON).await;
    assert_eq!(floor(&bed, at(0)), Some(0), "a group without a commit has read nothing");
}
