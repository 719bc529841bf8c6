//! A subscribed consumer against a fake coordinator: joining, hand-off, fencing, loss, reset, leaving. Time is paused where a
//! test waits for timeouts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use waymark_client::{
    AutoCommit, CommitAfter, Consumer, ConsumerConfig, ConsumerRecord, Error, FailureCode,
    OffsetReset, OwnedPartition, ProducerConfig, ProducerRecord, RebalanceContext,
    RebalanceListener, Subscription, async_trait,
};
use waymark_proto::v1::{CommitCause, RetryClass};

use crate::fake::groups::GROUP;
use crate::fake::{Fake, TOPIC, failure};

const SOON: Duration = Duration::from_secs(10);
const BRIEF: Duration = Duration::from_millis(50);

/// Each partition gets `records` records.
async fn filled(partitions: i32, records: i32) -> Fake {
    let fake = Fake::start(partitions);
    more(&fake, partitions, records).await;
    fake
}

async fn more(fake: &Fake, partitions: i32, records: i32) {
    let config = ProducerConfig::default().linger(Duration::ZERO);
    let producer = fake.client().await.producer(config).await.unwrap();
    for i in 0..records * partitions {
        let record = ProducerRecord::new(TOPIC).partition(i % partitions).value(format!("v{i}"));
        drop(producer.send(record).await.unwrap());
    }
    producer.close(SOON).await.unwrap();
}

fn config() -> ConsumerConfig {
    ConsumerConfig::default()
        .group_id(GROUP)
        .auto_offset_reset(OffsetReset::Earliest)
        .auto_commit_interval(Duration::from_secs(3600))
        .session_timeout(Duration::from_secs(6))
}

async fn consumer(fake: &Fake, seed: u64, config: ConsumerConfig) -> Consumer {
    let client = waymark_client::Client::connect(fake.config().seed(seed)).await.unwrap();
    client.consumer(config).unwrap()
}

async fn subscribed(fake: &Fake, seed: u64, config: ConsumerConfig) -> Consumer {
    let consumer = consumer(fake, seed, config).await;
    consumer.subscribe([TOPIC]).await.unwrap();
    consumer
}

async fn next(consumer: &Consumer) -> ConsumerRecord {
    tokio::time::timeout(SOON, consumer.recv()).await.expect("a record comes").unwrap()
}

async fn places(consumer: &Consumer, count: usize) -> Vec<(i32, i64)> {
    let mut all = Vec::new();
    while all.len() < count {
        let record = next(consumer).await;
        all.push((record.partition, record.offset));
    }
    all
}

/// Comes back for more: what was received is finished.
async fn nothing(consumer: &Consumer) {
    assert_eq!(consumer.poll(BRIEF).await.unwrap(), []);
}

async fn settled(fake: &Fake, partitions: usize) {
    fake.until(|inner| {
        let owners = &inner.group.owners;
        owners.len() == partitions && owners.values().all(|owner| !owner.revoking)
    })
    .await;
}

fn id(consumer: &Consumer) -> String {
    consumer.group_metadata().unwrap().member_id.to_string()
}

fn committed(fake: &Fake, partition: i32) -> Option<i64> {
    fake.lock().committed.get(&(GROUP.to_owned(), partition)).copied()
}

/// Writes down what it is told; `holds` stops a call until it is let go.
#[derive(Debug, Default)]
struct Diary {
    lines: Mutex<Vec<String>>,
    hold_revoked: Option<Arc<tokio::sync::Semaphore>>,
    commit_revoked: bool,
    seek_to: Option<i64>,
}

impl Diary {
    fn write(&self, what: &str, partitions: &[OwnedPartition]) {
        for owned in partitions {
            self.lines.lock().unwrap().push(format!("{what} {}", owned.at.partition));
        }
    }

    fn read(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

#[async_trait]
impl RebalanceListener for Diary {
    async fn assigned(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        // Long enough that a record handed out too soon would be seen.
        tokio::time::sleep(Duration::from_millis(5)).await;
        if let Some(offset) = self.seek_to {
            partitions.iter().for_each(|owned| context.seek(owned.at.clone(), offset).unwrap());
        }
        self.write("assigned", partitions);
    }

    async fn revoked(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        if let Some(hold) = &self.hold_revoked {
            hold.acquire().await.unwrap().forget();
        }
        if self.commit_revoked {
            context.commit_sync().await.unwrap();
        }
        self.write("revoked", partitions);
    }

    async fn lost(&self, _: &RebalanceContext, partitions: &[OwnedPartition]) {
        self.write("lost", partitions);
    }
}

#[tokio::test]
async fn a_member_reads_what_the_group_assigns_under_its_fencing_epoch() {
    let fake = filled(2, 20).await;
    let consumer = subscribed(&fake, 1, config()).await;
    assert_eq!(places(&consumer, 40).await.len(), 40);
    assert_eq!(consumer.assignment().len(), 2);
    let metadata = consumer.group_metadata().unwrap();
    let inner = fake.lock();
    assert_eq!(metadata.generation, Some(inner.group.generation));
    assert_eq!(inner.group.member_ids(), [metadata.member_id.to_string()]);
    assert_eq!(metadata.member_id.len(), 36, "a UUID");
    assert_eq!(consumer.subscription().unwrap().names(), [TOPIC]);
    let owned = inner.group.heard.last().unwrap();
    assert!(owned.owned.as_ref().is_some_and(|owned| owned.partitions.len() <= 2));
}

#[tokio::test]
async fn every_record_carries_the_fencing_epoch_and_manual_assignment_has_none() {
    let fake = filled(1, 3).await;
    let member = subscribed(&fake, 1, config()).await;
    let epoch = next(&member).await.fencing_epoch;
    assert_eq!(epoch, Some(fake.lock().group.owners[&0].fencing_epoch));
    let reader = consumer(&fake, 2, config()).await;
    reader.assign([(TOPIC, 0)]).await.unwrap();
    assert_eq!(next(&reader).await.fencing_epoch, None);
}

#[tokio::test]
async fn a_revoke_waits_for_what_is_in_hand_and_the_next_owner_starts_exactly_there() {
    let fake = filled(2, 100).await;
    let first = subscribed(&fake, 1, config()).await;
    let mut read = Vec::new();
    loop {
        read.push(places(&first, 1).await[0]);
        if read.len() > 10 && read.last().unwrap().0 == 1 {
            break;
        }
    }
    let second = subscribed(&fake, 2, config()).await;
    fake.until(|inner| inner.group.owners.get(&1).is_some_and(|owner| owner.revoking)).await;
    assert!(second.poll(BRIEF * 4).await.unwrap().is_empty(), "the record is still in hand");
    // The first comes back for more, and gets of the other partition at most.
    let after = first.poll(BRIEF).await.unwrap();
    assert!(after.iter().all(|record| record.partition == 0));
    settled(&fake, 2).await;
    let place = 1 + read.iter().filter(|(p, _)| *p == 1).map(|(_, offset)| *offset).max().unwrap();
    assert_eq!(places(&second, 1).await, [(1, place)]);
    assert_eq!(fake.lock().group.finals, [(1, place)]);
    tokio::join!(read_to_the_end(&first), read_to_the_end(&second));
    let positions = [first.position((TOPIC, 0)).unwrap(), second.position((TOPIC, 1)).unwrap()];
    assert_eq!(positions, [100, 100]);
}

async fn read_to_the_end(consumer: &Consumer) {
    while !consumer.poll(BRIEF * 4).await.unwrap().is_empty() {}
}

#[tokio::test]
async fn partitions_that_stay_go_on_while_another_one_is_drained() {
    let fake = filled(2, 500).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let diary = Arc::new(Diary { hold_revoked: Some(Arc::clone(&gate)), ..Diary::default() });
    let first = consumer(&fake, 1, config()).await;
    first.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    places(&first, 10).await;
    let member = id(&first);
    let second = subscribed(&fake, 2, config()).await;
    fake.until(|inner| inner.group.owners.get(&1).is_some_and(|owner| owner.revoking)).await;
    next(&first).await;
    // The listener is busy with the revoke; all the while the other partition flows, on the same cursor.
    let cursors = |inner: &crate::fake::Inner| {
        let removed: usize = inner.controls.iter().map(|control| control.remove.len()).sum();
        let added: usize = inner.controls.iter().map(|control| control.add.len()).sum();
        (added, removed)
    };
    let before = cursors(&fake.lock()).0;
    for (partition, _) in places(&first, 300).await {
        assert_eq!(partition, 0);
    }
    assert_eq!(cursors(&fake.lock()).0, before, "its cursor was never opened again");
    assert_eq!(fake.lock().group.owned_by(&member), [0, 1]);
    gate.add_permits(1);
    settled(&fake, 2).await;
    assert_eq!(next(&second).await.partition, 1);
    assert_eq!(diary.read(), ["assigned 0", "assigned 1", "revoked 1"]);
}

#[tokio::test]
async fn without_automatic_commits_the_next_owner_starts_at_what_revoked_has_committed() {
    let fake = filled(2, 50).await;
    let diary = Arc::new(Diary { commit_revoked: true, ..Diary::default() });
    let first = consumer(&fake, 1, config().auto_commit(false)).await;
    first.subscribe_with(Subscription::topics([TOPIC]), diary).await.unwrap();
    let read = places(&first, 70).await;
    let place =
        i64::try_from(read.iter().filter(|(partition, _)| *partition == 1).count()).unwrap();
    let second = subscribed(&fake, 2, config()).await;
    fake.until(|inner| inner.group.owners.get(&1).is_some_and(|owner| owner.revoking)).await;
    nothing(&first).await;
    settled(&fake, 2).await;
    assert!(fake.lock().group.finals.is_empty());
    assert_eq!(committed(&fake, 1), Some(place));
    assert_eq!(fake.lock().commit_causes, [CommitCause::Revoke]);
    assert_eq!(places(&second, 1).await, [(1, place)]);
}

#[tokio::test(start_paused = true)]
async fn commits_leave_the_time_between_them_that_is_asked_for_and_a_hand_over_does_not_wait() {
    let fake = filled(2, 50).await;
    fake.lock().throttle_ms = 5_000;
    let asked = Duration::from_secs(5);
    let diary = Arc::new(Diary { commit_revoked: true, ..Diary::default() });
    let first = consumer(&fake, 1, config().auto_commit(false)).await;
    first.subscribe_with(Subscription::topics([TOPIC]), diary).await.unwrap();
    places(&first, 70).await;
    first.commit_sync().await.unwrap();
    let start = tokio::time::Instant::now();
    first.commit_sync().await.unwrap();
    assert!(start.elapsed() >= asked, "{:?}", start.elapsed());
    let start = tokio::time::Instant::now();
    let _second = subscribed(&fake, 2, config()).await;
    fake.until(|inner| inner.group.owners.get(&1).is_some_and(|owner| owner.revoking)).await;
    nothing(&first).await;
    settled(&fake, 2).await;
    assert!(start.elapsed() < asked, "{:?}", start.elapsed());
    assert_eq!(fake.lock().commit_causes.last(), Some(&CommitCause::Revoke));
}

#[tokio::test(start_paused = true)]
async fn a_drain_past_its_deadline_is_a_loss() {
    let fake = filled(2, 50).await;
    let diary = Arc::new(Diary::default());
    let timeout = Duration::from_secs(2);
    let first = consumer(&fake, 1, config().drain_timeout(timeout)).await;
    first.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    while next(&first).await.partition != 1 {}
    let _second = subscribed(&fake, 2, config()).await;
    fake.until(|inner| inner.group.owners.get(&1).is_some_and(|owner| owner.revoking)).await;
    tokio::time::sleep(timeout + BRIEF).await;
    settled(&fake, 2).await;
    assert_eq!(diary.read(), ["assigned 0", "assigned 1", "lost 1"]);
    assert!(fake.lock().group.finals.is_empty());
    assert_eq!(first.assignment(), [(TOPIC, 0).into()]);
}

#[tokio::test(start_paused = true)]
async fn after_a_session_timeout_of_silence_everything_is_lost_and_joined_anew() {
    let fake = filled(1, 50).await;
    let diary = Arc::new(Diary::default());
    let consumer = consumer(&fake, 1, config()).await;
    consumer.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    places(&consumer, 5).await;
    let member = id(&consumer);
    fake.lock().group.silent = true;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(next(&consumer).await.offset, 5, "within the session timeout it goes on");
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert_eq!(diary.read(), ["assigned 0", "lost 0"]);
    assert_eq!(consumer.assignment(), []);
    assert_eq!(consumer.poll(BRIEF).await.unwrap(), [], "nothing is handed out any more");
    assert!(consumer.group_metadata().unwrap().generation.is_none());
    let refused = consumer.commit_offsets([((TOPIC, 0), 6)]).await.unwrap_err();
    assert!(matches!(refused, Error::NotAssigned(_)), "{refused}");
    fake.lock().group.silent = false;
    fake.expel(&member);
    assert_eq!(next(&consumer).await.offset, 0, "nothing had been committed");
    assert_ne!(id(&consumer), member);
    assert_eq!(diary.read(), ["assigned 0", "lost 0", "assigned 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_only_talks_has_not_heard_the_member() {
    let fake = filled(1, 50).await;
    let diary = Arc::new(Diary::default());
    let consumer = consumer(&fake, 1, config()).await;
    consumer.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    places(&consumer, 5).await;
    let member = id(&consumer);
    fake.lock().group.deaf = true;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fake.remind(&member);
    }
    assert_eq!(diary.read(), ["assigned 0"], "within the session timeout it goes on");
    for _ in 0..16 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fake.remind(&member);
    }
    assert_eq!(diary.read(), ["assigned 0", "lost 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_member_joins_again_when_the_application_comes_for_more() {
    let fake = filled(1, 50).await;
    let consumer = subscribed(&fake, 1, config()).await;
    places(&consumer, 5).await;
    let member = id(&consumer);
    fake.expel(&member);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((fake.lock().group.joins(), consumer.assignment().len()), (1, 0));
    assert_eq!(next(&consumer).await.offset, 0);
    assert_eq!(fake.lock().group.joins(), 2);
    assert_ne!(id(&consumer), member);
}

#[tokio::test]
async fn a_live_reset_moves_the_position_and_nothing_of_before_comes_after() {
    let fake = filled(2, 200).await;
    let diary = Arc::new(Diary::default());
    let consumer = consumer(&fake, 1, config()).await;
    consumer.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    while next(&consumer).await.partition != 0 {}
    let old = next(&consumer).await;
    assert_eq!(old.partition, 0);
    let other = consumer.position((TOPIC, 1)).unwrap();
    fake.reset(0, 150);
    let epoch = fake.lock().group.owners[&0].fencing_epoch;
    fake.until(|_| diary.read().len() == 3).await;
    assert_eq!(diary.read()[2], "assigned 0");
    let mut sought = None;
    for _ in 0..200 {
        let record = next(&consumer).await;
        if record.partition == 0 && record.fencing_epoch == Some(epoch) {
            sought = Some(record.offset);
            break;
        }
        assert_eq!(record.partition, 1, "nothing of the old ownership comes any more");
    }
    assert_eq!(sought, Some(150));
    assert!(consumer.position((TOPIC, 1)).unwrap() >= other, "the other partition was not touched");
    assert_eq!(fake.lock().group.joins(), 1);
}

#[tokio::test]
async fn a_late_commit_of_before_a_reset_does_not_undo_it_and_is_no_error() {
    let fake = filled(1, 100).await;
    let diary = Arc::new(Diary::default());
    let consumer = consumer(&fake, 1, config().auto_commit(false)).await;
    consumer.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    let old = next(&consumer).await;
    fake.reset(0, 70);
    fake.until(|_| diary.read().len() == 2).await;
    let at = old.topic_partition();
    // The record's own position, and a bare offset while that record is in hand: both are of before.
    consumer.commit_offsets([(at.clone(), old.next_position())]).await.unwrap();
    consumer.commit_offsets([(at, old.offset + 1)]).await.unwrap();
    assert_eq!(committed(&fake, 0), Some(70));
    assert_eq!(next(&consumer).await.offset, 70);
    consumer.commit_sync().await.unwrap();
    assert_eq!(committed(&fake, 0), Some(71));
}

#[tokio::test]
async fn a_refused_commit_loses_that_partition_only_and_commits_the_others() {
    let fake = filled(2, 100).await;
    let diary = Arc::new(Diary::default());
    let consumer = consumer(&fake, 1, config().auto_commit(false)).await;
    consumer.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    places(&consumer, 150).await;
    // The coordinator has given it to somebody else, and the member has not heard of it yet.
    fake.lock().group.owners.get_mut(&1).unwrap().fencing_epoch += 1;
    let lost = consumer.commit_sync().await.unwrap_err();
    assert!(matches!(&lost, Error::PartitionLost { at } if at.partition == 1), "{lost}");
    assert!(committed(&fake, 0).is_some(), "the other one is committed");
    fake.until(|_| diary.read().contains(&"lost 1".to_owned())).await;
    assert!(!diary.read().contains(&"lost 0".to_owned()));
}

#[tokio::test]
async fn a_commit_of_an_older_generation_is_repeated_under_the_new_one() {
    let fake = filled(1, 10).await;
    let consumer = subscribed(&fake, 1, config().auto_commit(false)).await;
    next(&consumer).await;
    fake.lock().commit_faults.push_back(failure(FailureCode::MemberEpochStale, RetryClass::Retry));
    consumer.commit_sync().await.unwrap();
    assert_eq!(committed(&fake, 0), Some(1));
}

#[tokio::test]
async fn what_the_coordinator_takes_away_is_lost_without_being_revoked() {
    let fake = filled(2, 50).await;
    let diary = Arc::new(Diary::default());
    let consumer = consumer(&fake, 1, config()).await;
    consumer.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    places(&consumer, 5).await;
    fake.take_away(1);
    fake.until(|_| diary.read().contains(&"lost 1".to_owned())).await;
    assert_eq!(consumer.assignment(), [(TOPIC, 0).into()]);
    assert!(!diary.read().iter().any(|line| line.starts_with("revoked")));
}

#[tokio::test]
async fn closing_hands_everything_over_and_leaves_for_good() {
    let fake = filled(2, 50).await;
    let diary = Arc::new(Diary::default());
    let first = consumer(&fake, 1, config()).await;
    first.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    let read = places(&first, 30).await;
    first.close(SOON).await.unwrap();
    assert!(fake.lock().group.members.is_empty());
    assert_eq!(diary.read(), ["assigned 0", "assigned 1", "revoked 0", "revoked 1"]);
    assert!(matches!(first.recv().await.unwrap_err(), Error::Closed(_)));
    let second = subscribed(&fake, 2, config()).await;
    let mut all = read;
    all.extend(places(&second, 70).await);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100, "none is repeated, none is missing");
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_outlast_its_deadline() {
    let fake = filled(1, 5).await;
    let consumer = subscribed(&fake, 1, config()).await;
    next(&consumer).await;
    fake.lock().group.silent = true;
    fake.lock().commits_held = true;
    let start = tokio::time::Instant::now();
    let error = consumer.close(Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { ambiguous: true, .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_consumer_is_no_leave() {
    let fake = filled(1, 5).await;
    let consumer = subscribed(&fake, 1, config()).await;
    next(&consumer).await;
    drop(consumer);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let inner = fake.lock();
    assert_eq!(inner.group.members.len(), 1);
    assert!(inner.group.heard.iter().all(|message| message.leave == 0));
}

#[tokio::test]
async fn a_static_member_comes_back_to_its_seat_and_goes_on_where_it_was() {
    let fake = filled(2, 50).await;
    let config = || config().instance_id("seat-1");
    let first = subscribed(&fake, 1, config()).await;
    let read = places(&first, 30).await;
    let generation = fake.lock().group.generation;
    first.close(SOON).await.unwrap();
    assert_eq!(fake.lock().group.generation, generation, "its seat is kept");
    assert_eq!(fake.lock().commit_causes, [CommitCause::Revoke], "and its places are committed");
    let second = subscribed(&fake, 2, config()).await;
    let mut all = read;
    all.extend(places(&second, 70).await);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100);
    assert_eq!(fake.lock().group.generation, generation, "nobody was rebalanced");
}

#[tokio::test]
async fn an_instance_in_use_is_waited_for_and_a_fenced_one_stops_for_good() {
    let fake = filled(1, 50).await;
    let config = || config().instance_id("seat-1");
    let first = subscribed(&fake, 1, config()).await;
    places(&first, 1).await;
    let second = subscribed(&fake, 2, config()).await;
    assert!(second.poll(BRIEF).await.unwrap().is_empty());
    {
        // At once: what the first one hears next is that its seat was taken.
        let mut inner = fake.lock();
        inner.group.fenced.insert(id(&first), FailureCode::InstanceFenced);
        inner.group.members[0].1.away = true;
    }
    assert_eq!(next(&second).await.partition, 0);
    for _ in 0..2 {
        let error = loop {
            if let Err(error) = tokio::time::timeout(SOON, first.recv()).await.unwrap() {
                break error;
            }
        };
        assert!(matches!(error, Error::InstanceFenced { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_broken_session_is_opened_again_without_joining_anew() {
    let fake = filled(1, 20).await;
    let diary = Arc::new(Diary::default());
    let consumer = consumer(&fake, 1, config()).await;
    consumer.subscribe_with(Subscription::topics([TOPIC]), Arc::clone(&diary)).await.unwrap();
    places(&consumer, 5).await;
    let (member, heard) = (id(&consumer), fake.lock().group.heard.len());
    for _ in 0..3 {
        fake.break_sessions();
        let heard = fake.lock().group.heard.len();
        fake.until(|inner| inner.group.heard.len() > heard).await;
    }
    assert_eq!(places(&consumer, 15).await.last(), Some(&(0, 19)));
    let inner = fake.lock();
    assert!(inner.group.heard[heard..].iter().all(|message| message.member_epoch.is_some()));
    assert_eq!((inner.group.joins(), inner.group.member_ids()), (1, vec![member]));
    assert_eq!(diary.read(), ["assigned 0"]);
}

#[tokio::test]
async fn another_coordinator_is_followed_and_one_that_loads_is_waited_for() {
    let fake = filled(1, 20).await;
    let mut elsewhere = failure(FailureCode::NotCoordinator, RetryClass::Reroute);
    let mut hint = waymark_proto::v1::LeaderHint { node_id: 2, ..Default::default() };
    hint.endpoints.push(waymark_proto::v1::Endpoint {
        host: "alive-too".to_owned(),
        port: 1,
        ..Default::default()
    });
    elsewhere.leader = Some(hint);
    let loading = failure(FailureCode::CoordinatorLoading, RetryClass::Retry);
    fake.lock().group.faults.extend([loading, elsewhere]);
    let consumer = subscribed(&fake, 1, config()).await;
    assert_eq!(next(&consumer).await.offset, 0);
    let inner = fake.lock();
    assert_eq!((inner.group.finds, inner.group.joins()), (1, 1), "the hint was enough");
}

#[tokio::test]
async fn a_coordinator_without_a_quorum_is_looked_for_elsewhere() {
    let fake = filled(1, 20).await;
    let consumer = subscribed(&fake, 1, config()).await;
    places(&consumer, 5).await;
    let (member, finds) = (id(&consumer), fake.lock().group.finds);
    fake.lock().group.faults.push_back(failure(FailureCode::NoQuorum, RetryClass::Retry));
    fake.until(|inner| inner.group.finds > finds).await;
    assert_eq!(places(&consumer, 15).await.last(), Some(&(0, 19)));
    assert_eq!(fake.lock().group.member_ids(), [member], "it is the same member");
}

#[tokio::test]
async fn what_the_coordinator_will_never_take_ends_the_membership_in_words() {
    let fake = filled(1, 5).await;
    fake.lock().group.faults.push_back(failure(FailureCode::InvalidPattern, RetryClass::Fix));
    let consumer = consumer(&fake, 1, config()).await;
    consumer.subscribe_pattern("((").await.unwrap();
    for _ in 0..2 {
        let error = tokio::time::timeout(SOON, consumer.recv()).await.unwrap().unwrap_err();
        assert!(error.is(FailureCode::InvalidPattern), "{error}");
    }
    consumer.subscribe_pattern("t.*").await.unwrap();
    assert_eq!(next(&consumer).await.offset, 0, "subscribing again begins anew");
}

#[tokio::test]
async fn the_listener_may_seek_before_any_record_comes() {
    let fake = filled(1, 50).await;
    let diary = Arc::new(Diary { seek_to: Some(33), ..Diary::default() });
    let consumer = consumer(&fake, 1, config()).await;
    consumer.subscribe_with(Subscription::topics([TOPIC]), diary).await.unwrap();
    assert_eq!(next(&consumer).await.offset, 33);
}

#[tokio::test]
async fn without_a_place_to_start_a_partition_says_so_and_the_others_go_on() {
    let fake = filled(2, 20).await;
    fake.lock().committed.insert((GROUP.to_owned(), 0), 5);
    let config = config().auto_offset_reset(OffsetReset::None).auto_commit(AutoCommit::Interval);
    let consumer = subscribed(&fake, 1, config).await;
    let (mut failed, mut read) = (0, 0);
    while read < 15 || failed == 0 {
        match tokio::time::timeout(SOON, consumer.recv()).await.unwrap() {
            Ok(record) => {
                assert_eq!(record.partition, 0);
                read += 1;
            }
            Err(Error::NoOffset { at, .. }) => {
                assert_eq!(at.partition, 1);
                failed += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    nothing(&consumer).await;
    consumer.unsubscribe().await.unwrap();
    assert_eq!(committed(&fake, 0), Some(20));
    assert_eq!(committed(&fake, 1), None, "nothing was made up for it");
    consumer.subscribe([TOPIC]).await.unwrap();
    fake.until(|_| consumer.assignment().len() == 2).await;
    consumer.seek((TOPIC, 1), 18).unwrap();
    assert_eq!(places(&consumer, 1).await, [(1, 18)], "a seek takes back the error of before");
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_apart_from_the_heartbeat() {
    let fake = filled(1, 5).await;
    let consumer = Arc::new(subscribed(&fake, 1, config()).await);
    let last = |fake: &Fake| fake.lock().group.heard.last().unwrap().working_on;
    let beats = Duration::from_secs(2);
    next(&consumer).await;
    tokio::time::sleep(beats).await;
    let first = last(&fake);
    assert!(first.is_some(), "at work");
    tokio::time::sleep(beats).await;
    assert_eq!(last(&fake), first, "on the same");
    next(&consumer).await;
    tokio::time::sleep(beats).await;
    let second = last(&fake);
    assert!(second.is_some() && second != first, "on something else");
    for _ in 0..3 {
        next(&consumer).await;
    }
    let waiting = Arc::clone(&consumer);
    let waiting = tokio::spawn(async move { waiting.recv().await });
    tokio::time::sleep(beats).await;
    assert_eq!(last(&fake), None, "it waits");
    waiting.abort();
    let _ = waiting.await;
    tokio::time::sleep(beats).await;
    assert!(last(&fake).is_some(), "a cancelled wait is no wait");
}

#[tokio::test]
async fn commits_after_each_follow_the_application() {
    let fake = filled(1, 10).await;
    let config = config().auto_commit(AutoCommit::After(CommitAfter::Each));
    let consumer = subscribed(&fake, 1, config).await;
    for offset in 0..5 {
        assert_eq!(next(&consumer).await.offset, offset);
        if offset > 0 {
            fake.until(|inner| inner.committed.get(&(GROUP.to_owned(), 0)) == Some(&offset)).await;
        }
    }
    assert_eq!(committed(&fake, 0), Some(4), "the fifth may still be in the works");
}

#[tokio::test]
async fn commits_after_every_n_wait_for_n() {
    let fake = filled(1, 20).await;
    let config = config().auto_commit(AutoCommit::After(CommitAfter::EveryN(7)));
    let consumer = subscribed(&fake, 1, config).await;
    places(&consumer, 7).await;
    tokio::time::sleep(BRIEF).await;
    assert_eq!(committed(&fake, 0), None);
    next(&consumer).await;
    fake.until(|inner| inner.committed.get(&(GROUP.to_owned(), 0)) == Some(&7)).await;
}

#[tokio::test]
async fn commits_after_a_batch_wait_for_its_end() {
    let fake = Fake::start(1);
    let linger = ProducerConfig::default().linger(Duration::from_millis(50));
    let producer = fake.client().await.producer(linger).await.unwrap();
    for i in 0..10 {
        drop(producer.send(ProducerRecord::new(TOPIC).partition(0).value(format!("{i}"))).await);
    }
    producer.close(SOON).await.unwrap();
    assert_eq!(fake.lock().logs[&0].batches.len(), 1, "one batch");
    let config = config().auto_commit(AutoCommit::After(CommitAfter::Batch));
    let consumer = subscribed(&fake, 1, config).await;
    places(&consumer, 10).await;
    tokio::time::sleep(BRIEF).await;
    assert_eq!(committed(&fake, 0), None);
    nothing(&consumer).await;
    fake.until(|inner| inner.committed.get(&(GROUP.to_owned(), 0)) == Some(&10)).await;
}

#[tokio::test]
async fn subscribing_and_assigning_exclude_each_other_in_words() {
    let fake = filled(1, 5).await;
    let consumer = consumer(&fake, 1, config()).await;
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    let error = consumer.subscribe([TOPIC]).await.unwrap_err();
    assert!(matches!(error, Error::SubscriptionConflict(_)), "{error}");
    consumer.assign::<(&str, i32)>([]).await.unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    next(&consumer).await;
    let error = consumer.assign([(TOPIC, 0)]).await.unwrap_err();
    assert!(matches!(error, Error::SubscriptionConflict(_)), "{error}");
    consumer.unsubscribe().await.unwrap();
    assert_eq!((consumer.subscription(), consumer.assignment()), (None, vec![]));
    assert!(fake.lock().group.members.is_empty(), "it has left");
    assert_eq!(committed(&fake, 0), Some(1));
    consumer.assign([(TOPIC, 0)]).await.unwrap();
    assert_eq!(next(&consumer).await.offset, 1);
}

#[tokio::test]
async fn a_subscription_needs_a_group_and_something_to_read() {
    let fake = filled(1, 1).await;
    let nobody = consumer(&fake, 1, ConsumerConfig::default()).await;
    assert!(matches!(nobody.subscribe([TOPIC]).await.unwrap_err(), Error::NoGroup));
    let member = consumer(&fake, 1, config()).await;
    let nothing = member.subscribe(Vec::<String>::new()).await.unwrap_err();
    assert!(matches!(nothing, Error::EmptySubscription), "{nothing}");
}

#[tokio::test]
async fn ends_and_times_need_no_assignment() {
    let fake = filled(2, 20).await;
    let consumer = consumer(&fake, 1, config()).await;
    let both = [(TOPIC, 0), (TOPIC, 1)];
    let ends = consumer.end_offsets(both).await.unwrap();
    assert_eq!(ends.into_values().collect::<Vec<_>>(), [20, 20]);
    let beginnings = consumer.beginning_offsets(both).await.unwrap();
    assert_eq!(beginnings.into_values().collect::<Vec<_>>(), [0, 0]);
    let times = consumer.offsets_for_times([((TOPIC, 0), i64::MAX)]).await.unwrap();
    assert_eq!(times.into_values().collect::<Vec<_>>(), [None]);
}

#[tokio::test]
async fn members_that_come_and_go_repeat_nothing_and_miss_nothing() {
    let fake = filled(4, 300).await;
    let mut all = Vec::new();
    let first = subscribed(&fake, 1, config()).await;
    for round in 2..8 {
        let guest = subscribed(&fake, round, config()).await;
        for _ in 0..40 {
            for consumer in [&first, &guest] {
                for record in consumer.poll(Duration::from_millis(1)).await.unwrap().iter() {
                    all.push((record.partition, record.offset));
                }
            }
            if all.len() > usize::try_from(round).unwrap() * 140 {
                break;
            }
        }
        guest.close(SOON).await.unwrap();
    }
    while all.len() < 1200 {
        let polled = first.poll(Duration::from_secs(2)).await.unwrap();
        assert!(!polled.is_empty(), "{} of 1200 have come", all.len());
        all.extend(polled.iter().map(|record| (record.partition, record.offset)));
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!((count, all.len()), (1200, 1200));
    assert!(!fake.lock().group.finals.is_empty(), "partitions did move");
}
