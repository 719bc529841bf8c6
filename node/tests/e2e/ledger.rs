//! Owns what was sent, what was acknowledged and where, and the judgement of what is read: everything acknowledged stands
//! at its offset, once, and in order per key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use waymark_client::{
    Client, Consumer, ConsumerConfig, ConsumerRecord, OffsetSpec, Producer, ProducerConfig,
    ProducerRecord, RecordReceipt, StartAt, TopicPartition,
};

use crate::cluster::{PATIENCE, TOPIC};

/// Keys, so that every partition has many and every key many records.
const KEYS: u32 = 97;
/// Bytes of a value.
const VALUE: usize = 100;

/// Acknowledged records: number to partition and offset.
type Receipts = Arc<Mutex<BTreeMap<u32, (i32, i64)>>>;

/// A producer's book.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    receipts: Receipts,
    failures: Arc<Mutex<Vec<String>>>,
    acknowledged: Arc<watch::Sender<u32>>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            receipts: Arc::default(),
            failures: Arc::default(),
            acknowledged: Arc::new(watch::channel(0).0),
        }
    }

    pub(crate) async fn producer(client: &Client) -> Producer {
        let config = ProducerConfig::default()
            .linger(Duration::from_millis(5))
            .delivery_timeout(Duration::from_secs(120));
        client.producer(config).await.unwrap()
    }

    /// Sends the numbers of the range and waits for all verdicts.
    pub(crate) async fn send(&self, producer: &Producer, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let book = self.clone();
            let verdict = move |verdict| book.enter(number, verdict);
            producer.send_with_callback(record(number), verdict).await.unwrap();
        }
        producer.flush().await.unwrap();
    }

    fn enter(&self, number: u32, verdict: waymark_client::Result<RecordReceipt>) {
        match verdict {
            Ok(receipt) => {
                let offset = receipt.offset.expect("no receipt of this test is that old");
                let mut receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
                receipts.insert(number, (receipt.at.partition, offset));
                self.acknowledged.send_modify(|count| *count += 1);
            }
            Err(error) => {
                self.failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(format!("{number}: {error}"));
            }
        }
    }

    /// Resolves once so many were acknowledged.
    pub(crate) async fn reaches(&self, count: u32) {
        let reached = self.acknowledged.subscribe();
        let waited = tokio::time::timeout(PATIENCE, async move {
            let mut reached = reached;
            reached.wait_for(|acknowledged| *acknowledged >= count).await.unwrap();
        });
        waited.await.unwrap_or_else(|_| panic!("{count} records were never acknowledged"));
    }

    /// Reads everything back and judges it; `sent` records must all have been acknowledged.
    pub(crate) async fn judge(&self, client: &Client, sent: u32) {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(failures.is_empty(), "{} failed, first {:?}", failures.len(), failures.first());
        let records = read_all(client).await;
        let receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(receipts.len(), usize::try_from(sent).unwrap(), "acknowledged");
        judge(&receipts, &records);
    }
}

fn record(number: u32) -> ProducerRecord {
    let value = format!("{number:0>width$}", width = VALUE);
    ProducerRecord::new(TOPIC).key(format!("key{}", number % KEYS)).value(value)
}

fn number(record: &ConsumerRecord) -> u32 {
    std::str::from_utf8(record.value.as_deref().unwrap()).unwrap().parse().unwrap()
}

fn judge(receipts: &BTreeMap<u32, (i32, i64)>, records: &[ConsumerRecord]) {
    let mut seen = BTreeMap::new();
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut last_of_key: BTreeMap<u32, u32> = BTreeMap::new();
    for record in records {
        let number = number(record);
        let expected = next.insert(record.partition, record.offset + 1).unwrap_or(0);
        assert_eq!(record.offset, expected, "a gap in partition {}", record.partition);
        let before = seen.insert(number, (record.partition, record.offset));
        assert!(before.is_none(), "record {number} stands at {before:?} and again at {record:?}");
        let last = last_of_key.insert(number % KEYS, number);
        assert!(last.is_none_or(|last| last < number), "{number} came after {last:?}");
    }
    let lost: BTreeSet<u32> = receipts
        .iter()
        .filter(|(number, at)| seen.get(number) != Some(at))
        .map(|(number, _)| *number)
        .collect();
    assert!(
        lost.is_empty(),
        "{} acknowledged records are lost, first {:?}",
        lost.len(),
        lost.first()
    );
}

/// All partitions from their beginning to their end, each in offset order.
pub(crate) async fn read_all(client: &Client) -> Vec<ConsumerRecord> {
    let partitions = client.admin().describe_topic(TOPIC).await.unwrap().partitions;
    let all: Vec<TopicPartition> =
        partitions.iter().map(|it| TopicPartition::new(TOPIC, it.partition)).collect();
    let ends = client.admin().list_offsets(all.iter().cloned(), OffsetSpec::Latest).await.unwrap();
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_from(all, StartAt::Beginning).await.unwrap();
    let mut records = Vec::new();
    let mut last = Instant::now();
    let unread = |consumer: &Consumer| {
        ends.iter().any(|end| consumer.position(end.at.clone()).unwrap() < end.offset.unwrap_or(0))
    };
    while unread(&consumer) {
        let polled = consumer.poll(Duration::from_millis(200)).await.unwrap();
        if !polled.is_empty() {
            last = Instant::now();
        }
        records.extend(polled);
        assert!(last.elapsed() < PATIENCE, "the consumer gets nothing although the log goes on");
    }
    records
}

#[test]
fn a_missing_a_repeated_and_a_misplaced_record_are_each_noticed() {
    let at = |number: u32, offset: i64| {
        let record = record(number);
        ConsumerRecord {
            topic: TOPIC.into(),
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some(format!("{number:0>VALUE$}").into()),
            headers: Vec::new(),
            leader_epoch: Some(i32::try_from(record.topic().len()).unwrap()),
            fencing_epoch: None,
        }
    };
    let receipts = BTreeMap::from([(0, (0, 0)), (KEYS, (0, 1))]);
    let verdict = |records: Vec<ConsumerRecord>| {
        let receipts = receipts.clone();
        std::panic::catch_unwind(move || judge(&receipts, &records)).is_ok()
    };
    assert!(verdict(vec![at(0, 0), at(KEYS, 1)]));
    assert!(!verdict(vec![at(0, 0)]), "one is missing");
    assert!(!verdict(vec![at(0, 0), at(KEYS, 1), at(KEYS, 2)]), "one stands twice");
    assert!(!verdict(vec![at(KEYS, 0), at(0, 1)]), "two changed places");
    assert!(!verdict(vec![at(0, 0), at(KEYS, 2)]), "an offset is missing");
}
