//! Groups on one coordinator, on its paused timer: who stays, who goes and why, what each cause leaves behind for those who
//! ask later, and that a new coordinator loses nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;

use super::bed::{Bed, NOON, PATIENCE, TOPIC, at, batch, limits, to};
use super::clean;
use crate::broker::BrokerOptions;
use crate::broker::admin::{Admin as _, Change, NamedTopic};
use crate::broker::groups::seam::{
    Actor, Assignor, ChangeKind, EventKind, ExpelCause, Groups as _, Limits, Move, Order,
    PastOffset, Subscription, Told, Update,
};
use crate::state::command::{CommitOffsets, Committer, OffsetCommit};

const GROUP: &str = "g";
const SESSION: Duration = Duration::from_secs(6);
const BEAT: Duration = Duration::from_secs(2);
/// Longer than the coordinator takes to look, and to propose.
const SOON: Duration = Duration::from_secs(1);

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

fn says(member: &str, epoch: Option<i32>) -> Update {
    Update {
        group: GROUP.to_owned(),
        member: member.to_owned(),
        member_epoch: epoch,
        subscription: Some(Subscription {
            names: ["orders".to_owned()].into(),
            pattern: String::new(),
        }),
        limits: Some(Limits { session_ms: 6_000, processing_ms: 20_000, drain_ms: 3_000 }),
        actor: Actor { member: member.to_owned(), ..Actor::default() },
        ..Update::default()
    }
}

fn held(told: &Told) -> BTreeMap<TopicPartition, i64> {
    told.assigned.iter().map(|it| (it.at, it.fencing_epoch)).collect()
}

async fn send(bed: &Bed, update: Update) -> Result<Told, Failure> {
    bed.broker.update(update, deadline()).await
}

async fn join(bed: &Bed, member: &str) -> Told {
    send(bed, says(member, None)).await.expect("joined")
}

/// Gives up all that was asked back, and says that it stopped at an offset.
async fn drain(bed: &Bed, member: &str, offset: i64) -> Told {
    let now = bed.broker.look(GROUP, member).await.expect("a member");
    let (kept, gone): (Vec<_>, Vec<_>) = now.assigned.iter().partition(|it| it.revoked.is_none());
    let update = Update {
        owned: Some(kept.iter().map(|it| (it.at, it.fencing_epoch)).collect()),
        final_offsets: gone.iter().map(|it| position(it.at, offset)).collect(),
        ..says(member, Some(now.generation))
    };
    send(bed, update).await.expect("heard")
}

fn position(at: TopicPartition, offset: i64) -> OffsetCommit {
    OffsetCommit {
        at,
        offset,
        leader_epoch: None,
        metadata: None,
        expected_offset: None,
        fencing_epoch: None,
    }
}

async fn commit(
    bed: &Bed,
    committer: Committer,
    items: Vec<OffsetCommit>,
) -> Result<Vec<Option<FailureCode>>, FailureCode> {
    let commit = CommitOffsets {
        group: GROUP.to_owned(),
        committer,
        items,
        all_or_nothing: false,
        commit_seq: 0,
        commit_time_ms: 0,
        cause: 1,
        note: String::new(),
        actor: Actor::default(),
    };
    let verdicts = bed.broker.commit_offsets(commit, deadline()).await;
    let code = |it: Result<(), Failure>| it.err().map(|failure| failure.code);
    verdicts.map(|all| all.into_iter().map(code).collect()).map_err(|failure| failure.code)
}

fn member(id: &str, epoch: i32) -> Committer {
    Committer::Member { id: id.to_owned(), epoch, instance: None }
}

fn order(note: &str) -> Order {
    let (kind, note) = (ChangeKind::Reset, note.to_owned());
    Order { kind, actor: Actor::default(), note, seen: None }
}

async fn kinds(bed: &Bed) -> Vec<EventKind> {
    let events = bed.broker.events(GROUP, 0, usize::MAX, deadline()).await.expect("a group");
    events.into_iter().map(|(_, event)| event.kind).collect()
}

/// Heartbeats of members for a while, working on nothing.
async fn live(bed: &Bed, members: &[&str], time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        for id in members {
            let epoch = bed.broker.look(GROUP, id).await.map_or(0, |it| it.generation);
            let _ = send(bed, says(id, Some(epoch))).await;
        }
        sleep(BEAT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_moves_with_the_offset_at_which_its_owner_stopped() {
    let _clean = clean();
    let bed = Bed::start().await;
    let first = join(&bed, "a").await;
    assert_eq!(first.assigned.len(), 4);
    let second = join(&bed, "b").await;
    assert!(second.assigned.is_empty(), "nothing is free");
    let asked = bed.broker.look(GROUP, "a").await.expect("a member");
    assert_eq!(asked.assigned.iter().filter(|it| it.revoked.is_some()).count(), 2);
    let kept = drain(&bed, "a", 17).await;
    assert_eq!(kept.assigned.len(), 2);
    assert!(kept.final_offsets.iter().all(Result::is_ok));
    let got = bed.broker.look(GROUP, "b").await.expect("a member");
    assert!(got.assigned.iter().all(|it| it.committed == Some((17, None))));
    let before = held(&first);
    assert!(got.assigned.iter().all(|it| it.fencing_epoch > before[&it.at]));
    assert!(kept.assigned.iter().all(|it| it.fencing_epoch == before[&it.at]), "these go on");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_late_is_fenced_and_the_next_one_begins_at_the_last_commit() {
    let _clean = clean();
    let bed = Bed::start().await;
    let told = join(&bed, "a").await;
    let all = (0..4).map(|number| position(at(number), 5)).collect();
    commit(&bed, member("a", told.generation), all).await.expect("an owner commits");
    join(&bed, "b").await;
    live(&bed, &["a", "b"], Duration::from_secs(5)).await;
    let got = bed.broker.look(GROUP, "b").await.expect("a member");
    assert_eq!(got.assigned.len(), 2);
    let lost = got.assigned[0].at;
    assert_eq!(got.assigned[0].committed, Some((5, None)));
    let late = commit(&bed, member("a", told.generation), vec![position(lost, 9)]).await;
    assert_eq!(late, Ok(vec![Some(FailureCode::NotOwner)]));
    assert!(kinds(&bed).await.contains(&EventKind::DrainOverdue));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_a_member_does_not_commit_while_there_are_members() {
    let _clean = clean();
    let bed = Bed::start().await;
    let outside = || Committer::Outside { name: String::new(), in_line: false };
    assert_eq!(commit(&bed, outside(), vec![position(at(0), 1)]).await, Ok(vec![None]));
    join(&bed, "a").await;
    let refused = commit(&bed, outside(), vec![position(at(0), 2)]).await;
    assert_eq!(refused, Err(FailureCode::GroupNotEmpty));
    let stranger = commit(&bed, member("x", 1), vec![position(at(0), 2)]).await;
    assert_eq!(stranger, Err(FailureCode::UnknownMember));
}

#[tokio::test(start_paused = true)]
async fn a_new_coordinator_loses_no_member_and_starts_no_rebalance() {
    let _clean = clean();
    let bed = Bed::start().await;
    let told = join(&bed, "a").await;
    sleep(SESSION / 2).await;
    let bed = bed.restart().await;
    let now = bed.broker.look(GROUP, "a").await.expect("still a member");
    assert_eq!((now.generation, held(&now)), (told.generation, held(&told)));
    // Its time begins anew in full.
    sleep(SESSION - SOON).await;
    let heard = send(&bed, says("a", Some(told.generation))).await.expect("still a member");
    assert_eq!(held(&heard), held(&told));
    commit(&bed, member("a", told.generation), vec![position(at(0), 3)]).await.expect("its own");
    assert!(kinds(&bed).await.contains(&EventKind::CoordinatorChanged));
}

fn says_it_reads(name: &str, epoch: i32) -> Update {
    let subscription =
        Some(Subscription { names: [name.to_owned()].into(), pattern: String::new() });
    let limits = Some(Limits { session_ms: 60_000, processing_ms: 60_000, drain_ms: 60_000 });
    Update { subscription, limits, ..says("a", Some(epoch)) }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_unsubscribed_is_finished_by_its_last_reader() {
    let _clean = clean();
    let bed = Bed::start().await;
    let joined = join(&bed, "a").await;
    let told = send(&bed, says_it_reads("returns", joined.generation)).await.expect("heard");
    assert_eq!(held(&told), held(&joined));
    assert!(told.assigned.iter().all(|it| it.revoked.is_some()));
    // However often topics are looked at meanwhile.
    let named = NamedTopic { name: None, id: Some(TOPIC) };
    let change = Change { validate_only: false, deadline: deadline() };
    bed.broker.add_partitions(&named, 6, change).await.expect("grown");
    sleep(BEAT * 6).await;
    let told = bed.broker.look(GROUP, "a").await.expect("a member");
    assert_eq!(held(&told), held(&joined));
    assert!(told.assigned.iter().all(|it| it.topic == "orders"), "{told:?}");
    let stopped = (0..4).map(|number| position(at(number), 7)).collect();
    let given_up = Update {
        owned: Some(BTreeMap::new()),
        final_offsets: stopped,
        ..says_it_reads("returns", told.generation)
    };
    let told = send(&bed, given_up).await.expect("heard");
    assert!(told.assigned.is_empty() && told.final_offsets.iter().all(Result::is_ok), "{told:?}");
    let next = send(&bed, says("b", None)).await.expect("joined");
    let known = next.assigned.iter().filter(|it| it.at.partition.0 < 4);
    assert!(known.clone().all(|it| it.committed == Some((7, None))), "{next:?}");
    assert_eq!((known.count(), next.assigned.len()), (4, 6));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_leaves_nothing_to_finish() {
    let _clean = clean();
    let bed = Bed::start().await;
    let joined = join(&bed, "a").await;
    send(&bed, says_it_reads("returns", joined.generation)).await.expect("heard");
    let named = NamedTopic { name: None, id: Some(TOPIC) };
    let change = Change { validate_only: false, deadline: deadline() };
    bed.broker.delete_topic(&named, change).await.expect("deleted");
    sleep(SOON).await;
    assert!(bed.broker.look(GROUP, "a").await.expect("a member").assigned.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_repeated_changes_nothing() {
    let _clean = clean();
    let bed = Bed::start().await;
    let once = join(&bed, "a").await;
    let twice = join(&bed, "a").await;
    assert_eq!((once.generation, held(&once)), (twice.generation, held(&twice)));
}

#[tokio::test(start_paused = true)]
async fn new_partitions_and_topics_that_match_are_picked_up() {
    let _clean = clean();
    let bed = Bed::start().await;
    let pattern = Subscription { names: BTreeSet::new(), pattern: "ord.*".to_owned() };
    let update = Update { subscription: Some(pattern), ..says("a", None) };
    assert_eq!(send(&bed, update.clone()).await.expect("joined").assigned.len(), 4);
    let named = NamedTopic { name: None, id: Some(TOPIC) };
    let change = Change { validate_only: false, deadline: deadline() };
    bed.broker.add_partitions(&named, 6, change).await.expect("grown");
    sleep(SOON).await;
    assert_eq!(bed.broker.look(GROUP, "a").await.expect("a member").assigned.len(), 6);
    assert!(kinds(&bed).await.contains(&EventKind::Topics));
}

/// Twelve things that happen to groups, each with the event that names its cause.
#[tokio::test(start_paused = true)]
async fn each_of_twelve_causes_is_told_by_its_own_name() {
    let _clean = clean();
    let mut bed = Bed::start().await;
    let mut told = join(&bed, "a").await;
    // 1, 2: a member joins, and leaves.
    join(&bed, "b").await;
    send(&bed, Update { leave: Some(false), ..says("b", Some(0)) }).await.expect("left");
    // 3: it subscribes to something else, 4: and another way of sharing out is asked for.
    let both = ["orders".to_owned(), "returns".to_owned()].into();
    let other = Subscription { names: both, pattern: String::new() };
    let again = Update { subscription: Some(other), ..says("a", Some(told.generation)) };
    send(&bed, Update { assignor: Some(Assignor::Range), ..again.clone() }).await.expect("heard");
    // 5: silent although connected.
    join(&bed, "c").await;
    bed.broker.connected(GROUP, "c", true);
    live(&bed, &["a"], SESSION + SOON).await;
    bed.broker.connected(GROUP, "c", false);
    // 6: its connection broke, and it never came back.
    join(&bed, "d").await;
    bed.broker.connected(GROUP, "d", true);
    bed.broker.connected(GROUP, "d", false);
    live(&bed, &["a"], SESSION + SOON).await;
    // 7: alive, and at work on the same records for too long.
    join(&bed, "e").await;
    for _ in 0..12 {
        let epoch = bed.broker.look(GROUP, "e").await.map_or(0, |it| it.generation);
        let _ = send(&bed, Update { working_on: Some(1), ..says("e", Some(epoch)) }).await;
        live(&bed, &["a"], BEAT).await;
    }
    // 8: an operator threw it out.
    join(&bed, "f").await;
    let operator = (Actor::default(), "maintenance".to_owned());
    bed.broker.remove(GROUP, vec!["f".into()], operator, deadline()).await.expect("removed");
    // 9: it left to return, 10: came back as another process, then left again and did not.
    let seated = |id: &str, epoch| Update { instance: Some("s".to_owned()), ..says(id, epoch) };
    send(&bed, seated("g1", None)).await.expect("joined");
    send(&bed, Update { leave: Some(true), ..seated("g1", Some(0)) }).await.expect("away");
    send(&bed, seated("g2", None)).await.expect("returned");
    send(&bed, Update { leave: Some(true), ..seated("g2", Some(0)) }).await.expect("away");
    live(&bed, &["a"], SESSION + SOON).await;
    // 11: positions were moved.
    let moves = vec![Move { at: at(0), to: Some(0) }];
    bed.broker.reset(GROUP, moves, order("again"), deadline()).await.expect("moved");
    // 12: another coordinator.
    bed = bed.restart().await;
    told = bed.broker.look(GROUP, "a").await.expect("it never went away");
    send(&bed, Update { subscription: None, ..again }).await.expect("heard");
    commit(&bed, member("a", told.generation), vec![position(at(0), 1)]).await.expect("its own");

    let seen = kinds(&bed).await;
    for cause in [
        EventKind::Joined,
        EventKind::Left,
        EventKind::Subscribed,
        EventKind::AssignorChanged,
        EventKind::Expelled(ExpelCause::Heartbeat),
        EventKind::Expelled(ExpelCause::Crash),
        EventKind::Expelled(ExpelCause::Progress),
        EventKind::Expelled(ExpelCause::Operator),
        EventKind::Away,
        EventKind::Returned,
        EventKind::Expelled(ExpelCause::DidNotReturn),
        EventKind::Reset,
        EventKind::CoordinatorChanged,
    ] {
        let count = seen.iter().filter(|kind| **kind == cause).count();
        assert!(count >= 1, "{cause:?} is missing in {seen:?}");
    }
    let expelled = seen.iter().filter(|kind| matches!(kind, EventKind::Expelled(_))).count();
    assert_eq!(expelled, 5, "nobody else was thrown out: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_live_reset_restarts_all_members_and_fences_what_they_had_in_hand() {
    let _clean = clean();
    let bed = Bed::start().await;
    let told = join(&bed, "a").await;
    let all: Vec<OffsetCommit> = (0..4).map(|number| position(at(number), 40)).collect();
    commit(&bed, member("a", told.generation), all.clone()).await.expect("an owner commits");
    let moves = (0..4).map(|number| Move { at: at(number), to: Some(3) }).collect();
    bed.clock.set(NOON + 1_000);
    let moved = bed.broker.reset(GROUP, moves, order(""), deadline()).await;
    assert_eq!(moved.expect("moved").before, vec![Some(40); 4]);
    let late = commit(&bed, member("a", told.generation), all).await.expect("a verdict each");
    assert_eq!(late, vec![Some(FailureCode::NotOwner); 4]);
    let now = bed.broker.look(GROUP, "a").await.expect("a member");
    assert!(now.assigned.iter().all(|it| it.committed == Some((3, None))));
    let past = bed.broker.past(GROUP, NOON + 500, deadline()).await.expect("a ledger");
    assert!(past.iter().all(|(_, stood)| *stood == PastOffset::Exact(Some(40))), "{past:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_was_idle_for_thirty_days_resumes_where_it_was() {
    let _clean = clean();
    let bed = Bed::start().await;
    let told = join(&bed, "a").await;
    commit(&bed, member("a", told.generation), vec![position(at(0), 7)]).await.expect("its own");
    send(&bed, Update { leave: Some(false), ..says("a", Some(told.generation)) })
        .await
        .expect("left");
    bed.clock.set(NOON + 30 * 24 * 3_600_000);
    sleep(Duration::from_secs(30)).await;
    let back = join(&bed, "a2").await;
    assert_eq!(back.assigned[0].committed, Some((7, None)));
}

#[tokio::test(start_paused = true)]
async fn where_a_retention_is_set_an_expiry_is_announced_before_it_comes() {
    let _clean = clean();
    let day = Duration::from_secs(24 * 3600);
    let limits = BrokerOptions { offset_retention: Some(8 * day), ..limits() };
    let bed = Bed::with(limits, &[]).await;
    let outside = Committer::Outside { name: String::new(), in_line: false };
    commit(&bed, outside, vec![position(at(0), 7)]).await.expect("stored");
    let day_ms = 24 * 3_600_000;
    bed.clock.set(NOON + 6 * day_ms);
    sleep(Duration::from_secs(30)).await;
    assert!(!kinds(&bed).await.contains(&EventKind::ExpiryAnnounced));
    bed.clock.set(NOON + 7 * day_ms + 1);
    sleep(Duration::from_secs(30)).await;
    let described = bed.broker.describe(GROUP, deadline()).await.expect("a group");
    assert!(described.expires_ms.is_some_and(|at_ms| at_ms >= NOON + 8 * day_ms));
    assert!(!kinds(&bed).await.contains(&EventKind::Expired));
    bed.clock.set(NOON + 8 * day_ms + 2);
    sleep(Duration::from_secs(30)).await;
    assert!(kinds(&bed).await.contains(&EventKind::Expired));
    let stored = bed.broker.fetch_offsets(GROUP, None, deadline()).await.expect("a coordinator");
    assert!(stored.is_empty());
    // Its story can be read for as long again; then it goes too.
    bed.clock.set(NOON + 17 * day_ms);
    sleep(Duration::from_secs(30)).await;
    let gone = bed.broker.describe(GROUP, deadline()).await.expect_err("deleted");
    assert_eq!(gone.code, FailureCode::GroupNotFound);
}

#[tokio::test(start_paused = true)]
async fn lag_in_time_is_the_age_of_the_oldest_unread_record() {
    let _clean = clean();
    let bed = Bed::start().await;
    for minute in 0..3 {
        bed.clock.set(NOON + minute * 60_000);
        bed.append(to(0, batch(2, None))).await.expect("appended");
    }
    bed.clock.set(NOON + 200_000);
    let outside = || Committer::Outside { name: String::new(), in_line: false };
    commit(&bed, outside(), vec![position(at(0), 2), position(at(1), 0)]).await.expect("stored");
    let lag = || async {
        let names = [GROUP.to_owned()];
        let mut lags = bed.broker.lags(&names, deadline()).await;
        lags.remove(0).expect("a group").partitions
    };
    let told = lag().await;
    assert_eq!((told[0].records, told[0].behind_ms), (Some(4), Some(140_000)));
    assert_eq!((told[1].records, told[1].behind_ms), (Some(0), Some(0)), "an idle producer");
    commit(&bed, outside(), vec![position(at(0), 6)]).await.expect("stored");
    bed.clock.set(NOON + 900_000);
    assert_eq!(lag().await[0].behind_ms, Some(0), "whoever has read everything is not behind");
}
