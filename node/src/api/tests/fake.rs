//! Partitions and topics that a test writes: what is led here, how long an append takes, and what it answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use waymark_proto::failure::{Failure, FailureCode, LeaderHint};
use waymark_proto::ids::{NodeId, PartitionId, TopicId, TopicPartition};

use crate::api::admin::{
    Admin, Change, Committed, EpochEnd, Found, NamedTopic, NewConfigs, NewTopic, NodeState,
    NodeView, PartitionPlace, Problem, Spot, Stand, Topic, Verdict,
};
use crate::api::logs::{Append, Appended, Appending, Batches, Logs, Marks, ReadAt};
use crate::broker::groups::seam::Actor;
use crate::state::Receipt;
use crate::state::batch::BatchHeader;
use crate::state::command::CommitOffsets;

pub(super) const TOPIC: TopicId = TopicId([7; 16]);

pub(super) fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition: PartitionId(partition) }
}

#[derive(Debug, Default)]
struct Log {
    batches: Vec<(i64, Bytes)>,
    marks: Marks,
}

#[derive(Debug, Default)]
struct Contents {
    logs: BTreeMap<TopicPartition, Log>,
    /// Where everything else is led.
    elsewhere: Option<LeaderHint>,
    /// How long each coming append takes; none: no time.
    delays: VecDeque<Duration>,
    /// What each coming append answers instead of a receipt.
    refusals: VecDeque<Option<Failure>>,
    committed: Vec<Committed>,
    reads: usize,
}

#[derive(Debug)]
pub(super) struct Fake {
    contents: Mutex<Contents>,
    changes: watch::Sender<i64>,
    here: NodeView,
}

impl Fake {
    /// A node that leads these partitions.
    pub(super) fn leading(here: NodeView, partitions: &[i32]) -> Self {
        let logs = partitions.iter().map(|number| (at(*number), Log::default())).collect();
        let contents = Contents { logs, ..Contents::default() };
        Self { contents: Mutex::new(contents), changes: watch::Sender::new(1), here }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn led_elsewhere(&self, hint: LeaderHint) {
        self.contents().elsewhere = Some(hint);
    }

    pub(super) fn delay_appends(&self, delays: &[u64]) {
        self.contents().delays.extend(delays.iter().map(|ms| Duration::from_millis(*ms)));
    }

    pub(super) fn refuse_append(&self, refusals: Vec<Option<Failure>>) {
        self.contents().refusals.extend(refusals);
    }

    /// The leadership of a partition goes to the other node.
    pub(super) fn lose(&self, partition: i32) {
        self.contents().logs.remove(&at(partition));
        self.changes.send_modify(|change| *change += 1);
    }

    /// Appends from behind the API.
    pub(super) fn put(&self, partition: i32, batch: &Bytes) {
        self.write(at(partition), batch);
        self.changes.send_modify(|change| *change += 1);
    }

    pub(super) fn put_many(&self, partition: i32, count: usize, batch: &Bytes) {
        (0..count).for_each(|_| self.put(partition, batch));
    }

    pub(super) fn reads(&self) -> usize {
        self.contents().reads
    }

    pub(super) fn batches(&self, partition: i32) -> Vec<Bytes> {
        let contents = self.contents();
        let log = contents.logs.get(&at(partition));
        log.map(|log| log.batches.iter().map(|(_, batch)| batch.clone()).collect())
            .unwrap_or_default()
    }

    fn write(&self, at: TopicPartition, batch: &Bytes) -> i64 {
        let mut contents = self.contents();
        let log = contents.logs.entry(at).or_default();
        let base = log.marks.high_watermark;
        let count = BatchHeader::read(batch).map_or(1, |header| header.record_count);
        let mut stored = BytesMut::from(&batch[..]);
        if stored.len() > 8 {
            stored[..8].copy_from_slice(&base.to_be_bytes());
        }
        log.batches.push((base, stored.freeze()));
        log.marks.high_watermark += i64::from(count);
        base
    }

    fn misplaced(&self, code: FailureCode) -> Failure {
        let mut failure = Failure::new(code, "another node leads");
        failure.leader = self.contents().elsewhere.clone();
        failure
    }

    fn topic_entry() -> Topic {
        Topic {
            id: TOPIC,
            name: "orders".to_owned(),
            partitions: 3,
            replication: 3,
            version: 1,
            configs: BTreeMap::new(),
        }
    }
}

#[async_trait]
impl Logs for Fake {
    fn append(&self, append: Append) -> Result<Appending, Failure> {
        if !self.contents().logs.contains_key(&append.at) {
            return Err(self.misplaced(FailureCode::NotLeader));
        }
        let delay = self.contents().delays.pop_front().unwrap_or_default();
        let refusal = self.contents().refusals.pop_front().flatten();
        let outcome = match refusal {
            Some(failure) => Err(failure),
            None => Ok(self.write(append.at, &append.batch)),
        };
        self.changes.send_modify(|change| *change += 1);
        let outcome = async move {
            sleep(delay).await;
            outcome.map(|base_offset| Appended {
                receipt: Receipt {
                    base_offset,
                    record_count: 1,
                    append_time_ms: 1,
                    leader_epoch: 1,
                    log_start_offset: 0,
                    duplicate: false,
                },
                log_append_time: false,
                durable_replicas: 2,
                replicas: 3,
                read_token: Bytes::new(),
            })
        };
        Ok(outcome.boxed())
    }

    async fn read(&self, read: ReadAt) -> Result<Batches, Failure> {
        self.contents().reads += 1;
        let contents = self.contents();
        let Some(log) = contents.logs.get(&read.at) else {
            drop(contents);
            return Err(self.misplaced(FailureCode::NotLeader));
        };
        let end = log.marks.high_watermark;
        let next_of = |index: usize| log.batches.get(index + 1).map_or(end, |(base, _)| *base);
        let (mut bytes, mut next_offset) = (BytesMut::new(), read.offset);
        for (index, (_, batch)) in log.batches.iter().enumerate() {
            if next_of(index) <= read.offset {
                continue;
            }
            if !bytes.is_empty() && bytes.len() + batch.len() > read.max_bytes {
                break;
            }
            bytes.extend_from_slice(batch);
            next_offset = next_of(index);
        }
        Ok(Batches { bytes: bytes.freeze(), next_offset, marks: log.marks })
    }

    fn changed(&self, at: TopicPartition, seen: Marks) -> BoxFuture<'static, ()> {
        let mut changes = self.changes.subscribe();
        let now = self.marks(at);
        async move {
            if now == Some(seen) {
                // The sender lives as long as the test.
                let _ = changes.changed().await;
            }
        }
        .boxed()
    }

    async fn new_producer_id(&self, _: Instant) -> Result<i64, Failure> {
        Ok(77)
    }

    fn marks(&self, at: TopicPartition) -> Option<Marks> {
        self.contents().logs.get(&at).map(|log| log.marks)
    }
}

fn not_here<T>() -> Result<T, Failure> {
    Err(Failure::new(FailureCode::Unsupported, "not in this test"))
}

#[async_trait]
impl Admin for Fake {
    async fn topic(&self, named: &NamedTopic) -> Result<Topic, Failure> {
        let topic = Self::topic_entry();
        let same_name = named.name.as_ref().is_none_or(|name| *name == topic.name);
        if same_name && named.id.is_none_or(|id| id == topic.id) {
            Ok(topic)
        } else {
            Err(Failure::new(FailureCode::TopicNotFound, "no such topic"))
        }
    }

    async fn newest_catalog(&self, _: Instant) -> Result<(), Failure> {
        not_here()
    }

    fn topic_name(&self, topic: TopicId) -> Option<String> {
        (topic == TOPIC).then(|| "orders".to_owned())
    }

    async fn topics(&self, after: &str, _: usize) -> Result<Vec<Topic>, Failure> {
        Ok(if after < "orders" { vec![Self::topic_entry()] } else { Vec::new() })
    }

    async fn create_topic(&self, topic: NewTopic, _: Change) -> Result<Topic, Failure> {
        Ok(Topic { name: topic.name, ..Self::topic_entry() })
    }

    async fn delete_topic(&self, topic: &NamedTopic, _: Change) -> Result<Topic, Failure> {
        self.topic(topic).await
    }

    async fn add_partitions(&self, _: &NamedTopic, _: i32, _: Change) -> Result<Topic, Failure> {
        not_here()
    }

    async fn alter_configs(&self, _: NewConfigs, _: Change) -> Result<Topic, Failure> {
        not_here()
    }

    fn places(&self, _: TopicId) -> Vec<PartitionPlace> {
        let here = self.here.node;
        let led = |partition| self.contents().logs.contains_key(&at(partition)).then_some(here);
        (0..3)
            .map(|partition| PartitionPlace {
                partition: PartitionId(partition),
                leader: led(partition),
                ..PartitionPlace::default()
            })
            .collect()
    }

    async fn stands(&self, _: &[TopicId], _: Instant) -> BTreeMap<TopicPartition, Stand> {
        BTreeMap::new()
    }

    async fn delete_records(
        &self,
        _: TopicPartition,
        _: Option<i64>,
        _: Instant,
    ) -> Result<i64, Failure> {
        not_here()
    }

    async fn find_offset(
        &self,
        at: TopicPartition,
        _: Spot,
        _: Option<i32>,
    ) -> Result<Found, Failure> {
        match self.marks(at) {
            Some(marks) => Ok(Found { offset: Some(marks.high_watermark), ..Found::default() }),
            None => Err(self.misplaced(FailureCode::NotLeader)),
        }
    }

    async fn epoch_end(
        &self,
        _: TopicPartition,
        _: i32,
        _: Option<i32>,
    ) -> Result<Option<EpochEnd>, Failure> {
        not_here()
    }

    async fn commit_offsets(
        &self,
        commit: CommitOffsets,
        _: Instant,
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        if self.contents().elsewhere.is_some() {
            return Err(self.misplaced(FailureCode::NotCoordinator));
        }
        let outcomes = commit.items.iter().map(|_| Ok(())).collect();
        let stored = commit.items.into_iter().map(|item| Committed {
            at: item.at,
            offset: item.offset,
            leader_epoch: item.leader_epoch,
            metadata: item.metadata,
            commit_time_ms: 1,
            fencing_epoch: None,
        });
        self.contents().committed.extend(stored);
        Ok(outcomes)
    }

    async fn fetch_offsets(
        &self,
        _: &str,
        asked: Option<&[TopicPartition]>,
        _: Instant,
    ) -> Result<Vec<Committed>, Failure> {
        let all = self.contents().committed.clone().into_iter();
        Ok(all.filter(|stored| asked.is_none_or(|asked| asked.contains(&stored.at))).collect())
    }

    async fn delete_offsets(
        &self,
        _: &str,
        _: Option<Vec<TopicPartition>>,
        _: Actor,
        _: Instant,
    ) -> Result<(), Failure> {
        self.contents().committed.clear();
        Ok(())
    }

    fn metadata_version(&self) -> watch::Receiver<i64> {
        self.changes.subscribe()
    }

    fn nodes(&self) -> Vec<NodeView> {
        vec![self.here.clone()]
    }

    async fn node_states(&self) -> Result<Vec<NodeState>, Failure> {
        Ok(Vec::new())
    }

    async fn coordinator(&self, _: &str) -> Result<NodeView, Failure> {
        Ok(self.here.clone())
    }

    async fn problems(&self) -> Result<Vec<Problem>, Failure> {
        Ok(Vec::new())
    }

    async fn verify(&self, _: &Topic, _: Instant) -> Result<Vec<Verdict>, Failure> {
        not_here()
    }

    async fn transfer_leader(
        &self,
        _: TopicPartition,
        _: NodeId,
        _: Instant,
    ) -> Result<(), Failure> {
        not_here()
    }
}
