//! A node whose disk runs full: what it refuses, what goes on, and that all comes back with the room.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_proto::failure::{FailureCode, RetryClass};

use super::bed::{Bed, PATIENCE, TOPIC, at, batch, from, limits, sized, to};
use super::clean;
use crate::broker::BrokerOptions;
use crate::broker::admin::{Admin as _, Change, NamedTopic};
use crate::broker::logs::Logs as _;
use crate::state::command::{CommitOffsets, Committer, OffsetCommit};
use crate::state::groups::Actor;

/// The default marks.
const MARK: u64 = 1 << 30;
const LAST_MARK: u64 = 512 << 20;
/// Longer than until the next look at the disk.
const SOON: Duration = Duration::from_millis(1_500);

async fn with_free(bed: &Bed, bytes: u64) {
    bed.disk.set_free(bytes);
    sleep(SOON).await;
}

async fn code(bed: &Bed) -> Result<i64, FailureCode> {
    bed.base_of(to(0, batch(1, None))).await
}

/// Whether a node below its mark takes no records.
async fn refuses_records() -> bool {
    let bed = Bed::start().await;
    with_free(&bed, MARK - 1).await;
    code(&bed).await == Err(FailureCode::StorageFull)
}

#[tokio::test(start_paused = true)]
async fn a_full_node_takes_no_records() {
    let _clean = clean();
    assert!(refuses_records().await);
}

#[tokio::test(start_paused = true)]
async fn a_full_node_that_takes_records_is_caught() {
    let _planted = crate::mutants::plant("full-disk-accepted");
    assert!(!refuses_records().await);
}

#[tokio::test(start_paused = true)]
async fn the_refusal_names_node_folder_free_bytes_and_mark_and_may_be_repeated() {
    let _clean = clean();
    let bed = Bed::start().await;
    with_free(&bed, 300 << 20).await;
    let before = bed.shard().applied_index();
    let failure = bed.append(to(0, batch(1, None))).await.expect_err("no room");
    assert_eq!(failure.code.retry(), RetryClass::Retry);
    assert!(failure.retry_after_ms > 0);
    for named in ["node 1", "waymark-data", "300 MiB", "512 MiB (store.last_reserve_bytes)"] {
        assert!(failure.message.contains(named), "{failure}");
    }
    assert_eq!(bed.shard().applied_index(), before, "nothing was proposed");
}

#[tokio::test(start_paused = true)]
async fn room_comes_back_by_itself_with_some_to_spare() {
    let _clean = clean();
    let bed = Bed::start().await;
    assert_eq!(code(&bed).await, Ok(0));
    with_free(&bed, LAST_MARK - 1).await;
    assert_eq!(code(&bed).await, Err(FailureCode::StorageFull));
    with_free(&bed, MARK).await;
    assert_eq!(code(&bed).await, Err(FailureCode::StorageFull), "not at the mark itself");
    with_free(&bed, MARK + MARK / 16).await;
    assert_eq!(code(&bed).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn reads_commits_and_changes_of_topics_go_on_without_room_for_records() {
    let _clean = clean();
    let bed = Bed::start().await;
    assert_eq!(code(&bed).await, Ok(0));
    with_free(&bed, LAST_MARK).await;
    assert_eq!(bed.read(from(0, 0)).await.map(|it| it.next_offset), Ok(1));
    let item = OffsetCommit {
        at: at(0),
        offset: 1,
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
    let deadline = Instant::now() + PATIENCE;
    assert_eq!(bed.broker.commit_offsets(commit, deadline).await, Ok(vec![Ok(())]));
    let change = Change { validate_only: false, deadline };
    let topic = NamedTopic { name: None, id: Some(TOPIC) };
    let gone = bed.broker.delete_topic(&topic, change).await;
    assert!(gone.is_ok(), "what is to be deleted must not need room: {gone:?}");
}

#[tokio::test(start_paused = true)]
async fn retention_goes_on_without_room_for_records() {
    let _clean = clean();
    let limits = BrokerOptions { retention_interval: Duration::from_secs(60), ..limits() };
    let configs = [("retention.bytes", "0"), ("segment.bytes", "65536")];
    let bed = Bed::with(limits, &configs).await;
    for _ in 0..10 {
        bed.append(to(0, sized(1, 30_000, None))).await.expect("appended");
    }
    with_free(&bed, LAST_MARK).await;
    let start = || bed.broker.marks(at(0)).expect("led here").log_start;
    assert_eq!(start(), 0, "retention has not looked yet");
    sleep(Duration::from_secs(61)).await;
    assert_eq!(start(), 8, "all but the newest segment went");
    assert_eq!(code(&bed).await, Err(FailureCode::StorageFull));
}

#[tokio::test(start_paused = true)]
async fn the_full_node_is_a_problem_of_the_cluster() {
    let _clean = clean();
    let bed = Bed::start().await;
    with_free(&bed, 300 << 20).await;
    let problems = bed.broker.core.problems().expect("a catalog");
    let full = problems.iter().find(|it| it.subject == "node 1").expect("named");
    for named in ["300 MiB", "waymark-data", "512 MiB (store.last_reserve_bytes)"] {
        assert!(full.message.contains(named), "{}", full.message);
    }
    with_free(&bed, 2 * MARK).await;
    assert_eq!(bed.broker.core.problems().expect("a catalog"), vec![]);
}
