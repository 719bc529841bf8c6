//! Consumer groups on three processes: members that come and go while records flow, a coordinator that dies, offsets that are
//! moved under running members and put back, and the commands by which an operator sees all of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use waymark_client::{
    Client, Consumer, ConsumerConfig, GroupEventKind, GroupReset, GroupState, NewTopic,
    OffsetReset, ProducerRecord, ResetTo, TopicPartition,
};

use crate::cluster::{Cluster, PATIENCE, TOPIC};
use crate::commands::said;
use crate::ledger::Ledger;

const GROUP: &str = "billing";
const POLL: Duration = Duration::from_millis(50);

/// What a group's members were handed, in the order in which it came: partition, offset, fencing epoch.
type Handed = Arc<Mutex<Vec<(i32, i64, i64)>>>;

struct Member {
    consumer: Arc<Consumer>,
    reading: JoinHandle<()>,
}

impl Member {
    async fn join(client: &Client, handed: &Handed) -> Self {
        let config = ConsumerConfig::default()
            .group_id(GROUP)
            .auto_offset_reset(OffsetReset::Earliest)
            .auto_commit_interval(Duration::from_millis(200));
        let consumer = Arc::new(client.consumer(config).unwrap());
        consumer.subscribe([TOPIC]).await.unwrap();
        let (reader, handed) = (Arc::clone(&consumer), Arc::clone(handed));
        let reading = tokio::spawn(async move {
            while let Ok(records) = reader.poll(POLL).await {
                let mut all = handed.lock().unwrap_or_else(PoisonError::into_inner);
                let told = records.iter();
                all.extend(told.map(|it| (it.partition, it.offset, it.fencing_epoch.unwrap())));
            }
        });
        Self { consumer, reading }
    }

    async fn leave(self) {
        self.consumer.close(PATIENCE).await.unwrap();
        self.reading.abort();
    }
}

fn count(handed: &Handed) -> usize {
    handed.lock().unwrap_or_else(PoisonError::into_inner).len()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        sleep(POLL).await;
    }
}

/// Every offset of every partition once.
fn each_once(handed: &Handed) -> BTreeMap<i32, i64> {
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, offset, _) in handed.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let next = ends.entry(*partition).or_default();
        assert_eq!(offset, next, "partition {partition}");
        *next += 1;
    }
    ends
}

async fn committed(client: &Client) -> BTreeMap<TopicPartition, i64> {
    let offsets = client.admin().list_group_offsets(GROUP).await.unwrap();
    offsets.into_iter().map(|it| (it.at, it.position.offset)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planned_changes_repeat_nothing_and_miss_nothing() {
    let cluster = Cluster::start("").await;
    let words = "bench rebalance --partitions 6 --rate 1000 --size 100 --changes 8 --pause 600ms --calm 2 --session 30s";
    let result: Value = serde_json::from_str(&said(&cluster, words, "")).unwrap();
    for promise in ["repeated", "missed", "two_owners"] {
        assert_eq!(result[promise], 0, "{result}");
    }
    assert!(result["read"].as_u64().is_some_and(|read| read > 3_000), "{result}");
}

/// Goes on handing out, and writes the offsets of one topic down.
async fn hand_out(consumer: &Consumer, topic: &str, offsets: &mut Vec<i64>) -> usize {
    let records = consumer.poll(POLL).await.unwrap();
    let those = records.iter().filter(|it| &*it.topic == topic).map(|it| it.offset);
    let before = offsets.len();
    offsets.extend(those);
    offsets.len() - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_unsubscribed_in_the_middle_of_work_is_finished_first() {
    const OTHER: &str = "returns";
    let (_cluster, client) = Cluster::start("").await.with_topic(2).await;
    let other = NewTopic::new(OTHER).partitions(1).replication_factor(3);
    client.admin().create_topic(other).await.unwrap();
    let producer = Ledger::producer(&client).await;
    for number in 0..1_000 {
        let record = ProducerRecord::new(OTHER).value(number.to_string());
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    let config = || {
        ConsumerConfig::default()
            .group_id(GROUP)
            .auto_offset_reset(OffsetReset::Earliest)
            .auto_commit_interval(Duration::from_millis(200))
            .max_poll_records(100)
    };
    let first = client.consumer(config()).unwrap();
    first.subscribe([TOPIC, OTHER]).await.unwrap();
    let mut read = Vec::new();
    until("some is in hand", async || hand_out(&first, OTHER, &mut read).await > 0).await;
    // In the middle of work, it wants no more of it; then another member does.
    first.subscribe([TOPIC]).await.unwrap();
    let is_known = async || {
        let events = client.admin().group_events(GROUP, None).await.unwrap();
        events.iter().any(|it| it.kind == GroupEventKind::SubscriptionChanged)
    };
    until("the coordinator has heard of it", is_known).await;
    let second = client.consumer(config()).unwrap();
    second.subscribe([OTHER]).await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..20 {
        assert_eq!(hand_out(&second, OTHER, &mut taken).await, 0, "the first one is at work on it");
    }
    assert_eq!(hand_out(&first, OTHER, &mut read).await, 0, "it wanted no more");
    let all_is_read = async || {
        hand_out(&second, OTHER, &mut taken).await;
        read.len() + taken.len() >= 1_000
    };
    until("the other one goes on", all_is_read).await;
    read.append(&mut taken);
    assert!(read.iter().copied().eq(0..1_000), "none is repeated, none is missed: {read:?}");
    for consumer in [first, second] {
        consumer.close(PATIENCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinators_death_throws_nobody_out_and_moves_nothing() {
    let (mut cluster, client) = Cluster::start("").await.with_topic(6).await;
    let (ledger, handed) = (Ledger::new(), Handed::default());
    let producer = Ledger::producer(&client).await;
    let members = [Member::join(&client, &handed).await, Member::join(&client, &handed).await];
    ledger.send(&producer, 0..3_000).await;
    until("the first records are read", async || count(&handed) >= 3_000).await;
    // One member may have read all of them before the other one was handed its half.
    let describe = async || client.admin().describe_group(GROUP).await.unwrap();
    let halved = async || {
        let seen = describe().await;
        seen.state == GroupState::Stable && seen.members.len() == 2
    };
    until("both have their halves", halved).await;
    let before = describe().await;
    let coordinator = u32::try_from(before.coordinator.unwrap()).unwrap();
    cluster.kill(coordinator);
    ledger.send(&producer, 3_000..6_000).await;
    until("the others are read", async || count(&handed) >= 6_000).await;
    cluster.boot(coordinator);
    cluster.ready().await;
    let after = describe().await;
    assert_eq!(after.generation, before.generation, "no rebalance");
    let ends = each_once(&handed);
    assert_eq!(ends.values().sum::<i64>(), 6_000);
    let events = client.admin().group_events(GROUP, None).await.unwrap();
    assert!(events.iter().all(|it| !matches!(it.kind, GroupEventKind::Expelled(_))), "{events:?}");
    for member in members {
        member.leave().await;
    }
    let stored = committed(&client).await;
    assert_eq!(stored.values().sum::<i64>(), 6_000, "{stored:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_running_members_go_on_where_a_reset_puts_them_and_an_undo_puts_it_back() {
    let (_cluster, client) = Cluster::start("").await.with_topic(6).await;
    let (ledger, handed) = (Ledger::new(), Handed::default());
    let producer = Ledger::producer(&client).await;
    ledger.send(&producer, 0..3_000).await;
    let mut members = Vec::new();
    for _ in 0..5 {
        members.push(Member::join(&client, &handed).await);
    }
    let everything = async || committed(&client).await.values().sum::<i64>() == 3_000;
    until("everything is read and committed", everything).await;
    let stood = committed(&client).await;
    let then = client.admin().group_offset_history(GROUP, &[], None).await;
    let then = then.unwrap().changes.iter().map(|it| it.time_ms).max().unwrap();
    sleep(Duration::from_millis(20)).await;
    let to_start = GroupReset::all(ResetTo::Earliest);
    let moved = client.admin().reset_group_offsets(GROUP, &to_start).await.unwrap();
    assert_eq!(moved.members, 5);
    until("everything is read again", async || count(&handed) >= 6_000).await;
    until("and committed", everything).await;
    assert_eq!(count(&handed), 6_000, "from the target on, each record once more");
    for member in members {
        member.leave().await;
    }
    // Somewhere else, and back to where all of it stood.
    client.admin().reset_group_offsets(GROUP, &to_start).await.unwrap();
    assert_eq!(committed(&client).await.values().sum::<i64>(), 0);
    let undone = client.admin().undo_group_offsets(GROUP, then, &[], (false, "")).await;
    assert!(undone.unwrap().moves.iter().all(|it| it.outcome.is_ok()));
    assert_eq!(committed(&client).await, stood);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_moves_explains_and_deletes_a_group() {
    let (cluster, client) = Cluster::start("").await.with_topic(3).await;
    let (ledger, handed) = (Ledger::new(), Handed::default());
    let producer = Ledger::producer(&client).await;
    ledger.send(&producer, 0..300).await;
    let member = Member::join(&client, &handed).await;
    until("all is read", async || count(&handed) >= 300).await;
    assert!(said(&cluster, "group list", "").contains(GROUP));
    assert!(said(&cluster, &format!("group describe {GROUP}"), "").contains(TOPIC));
    assert!(said(&cluster, &format!("group members {GROUP}"), "").contains("127.0.0.1"));
    let refused = crate::commands::waymark(&cluster, &format!("group delete {GROUP}"), "");
    assert!(!refused.status.success());
    member.leave().await;
    let lag = format!("group lag {GROUP} --output json");
    let lag = said(&cluster, &lag, "");
    assert!(lag.contains("\"lag\":0"), "{lag}");
    let dry = format!("group reset {GROUP} --to earliest --dry-run");
    assert!(said(&cluster, &dry, "").contains("300"), "records to replay");
    assert_eq!(committed(&client).await.values().sum::<i64>(), 300, "nothing was changed");
    said(&cluster, &format!("group reset {GROUP} --to earliest --note again"), "");
    assert_eq!(committed(&client).await.values().sum::<i64>(), 0);
    assert!(said(&cluster, &format!("group history {GROUP}"), "").contains("again"));
    let story = said(&cluster, &format!("group explain {GROUP}"), "");
    assert!(story.contains("joined") && story.contains("left"), "{story}");
    said(&cluster, &format!("group delete {GROUP}"), "");
    assert!(!said(&cluster, "group list", "").contains(GROUP));
}
