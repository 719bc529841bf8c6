//! The product's client as the workload uses it: values in, offsets out. Owns its connections and how long each call may
//! take; it never retries by itself.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use waymark_client::{
    Client, ClientConfig, ConfigChange, Consumer, ConsumerConfig, ConsumerRecord, Error,
    FailureCode, LeaderMove, NewTopic, OffsetReset, OffsetSpec, Producer, ProducerConfig,
    ProducerRecord, StartAt, TopicPartition,
};

use super::translation::{
    failed, number, outcome, padding, read_failed, record, unsigned, value_of,
};
use super::{CLIENT_PORT, PARTITIONS, TOPIC};
use crate::net::{SimClock, SimDial};
use crate::subject::{Appended, LogClient, Read, SEGMENT_BYTES, host};

/// Of this group's offsets no consumer begins.
const NO_GROUP: &str = "nobody";
/// What a record takes beside that: its value, a key, and the frame and head of a batch of its own.
const MOST_BESIDE: usize = 256;
/// One attempt of one call.
const ATTEMPT: Duration = Duration::from_secs(1);
/// One operation with its retries.
const OPERATION: Duration = Duration::from_secs(5);
/// Longer than any outage of a profile, so that records ride it out.
const DELIVERY: Duration = Duration::from_secs(15);
/// How long a follower waits for the next record.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// A client, connected when first used.
#[derive(Debug)]
pub(super) struct WaymarkClient {
    seed: u64,
    bootstrap: Vec<String>,
    /// Into the simulated world; `None`: the client's own, into the real one.
    dial: Option<SimDial>,
    client: Option<Client>,
    producer: Option<Producer>,
    follower: Option<Consumer>,
    /// By group: commits of one consumer keep their order.
    committers: BTreeMap<u32, Consumer>,
}

impl WaymarkClient {
    pub(super) fn new(nodes: RangeInclusive<u32>, seed: u64, dial: SimDial) -> Self {
        let bootstrap = nodes.map(|node| format!("{}:{CLIENT_PORT}", host(node)));
        Self::beginning_at(bootstrap.collect(), seed, Some(dial))
    }

    /// A client of a real cluster.
    pub(super) fn real(bootstrap: Vec<String>, seed: u64) -> Self {
        Self::beginning_at(bootstrap, seed, None)
    }

    fn beginning_at(bootstrap: Vec<String>, seed: u64, dial: Option<SimDial>) -> Self {
        Self {
            seed,
            bootstrap,
            dial,
            client: None,
            producer: None,
            follower: None,
            committers: BTreeMap::new(),
        }
    }

    pub(super) async fn client(&mut self) -> Result<Client, Error> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let mut config = ClientConfig::new(self.bootstrap.iter().cloned())
            .request_timeout(ATTEMPT)
            .retry_backoff(Duration::from_millis(20), Duration::from_millis(200))
            .seed(self.seed);
        if let Some(dial) = self.dial.clone() {
            config = config.dial(Arc::new(dial)).clock(Arc::new(SimClock::default()));
        }
        config.api_timeout = OPERATION;
        let client = Client::connect(config).await?;
        Ok(self.client.insert(client).clone())
    }

    async fn producer(&mut self) -> Result<Producer, Error> {
        if let Some(producer) = &self.producer {
            return Ok(producer.clone());
        }
        // Without lingering every record is a batch of its own, and several are on the way at once.
        let linger = Duration::from_millis(self.seed % 3);
        let config = ProducerConfig::default().linger(linger).delivery_timeout(DELIVERY);
        let config = config.max_block(OPERATION);
        let producer = self.client().await?.producer(config).await?;
        Ok(self.producer.insert(producer).clone())
    }

    async fn follower(&mut self) -> Result<&Consumer, Error> {
        if self.follower.is_none() {
            let consumer = consumer(&self.client().await?, NO_GROUP)?;
            let all = (0..PARTITIONS).map(|partition| (TOPIC, number(partition)));
            consumer.assign_from(all, StartAt::Beginning).await?;
            self.follower = Some(consumer);
        }
        Ok(self.follower.as_ref().expect("it was made just now"))
    }

    async fn committer(&mut self, group: u32) -> Result<&Consumer, Error> {
        if !self.committers.contains_key(&group) {
            let consumer = consumer(&self.client().await?, &format!("group-{group}"))?;
            self.committers.insert(group, consumer);
        }
        Ok(&self.committers[&group])
    }

    async fn append_all(&mut self, records: Vec<ProducerRecord>) -> Vec<Appended> {
        let Ok(producer) = self.producer().await else {
            return vec![Appended::Refused; records.len()];
        };
        let mut sent = Vec::new();
        for record in records {
            sent.push(producer.send(record).await);
        }
        let mut outcomes = Vec::new();
        for sent in sent {
            outcomes.push(match sent {
                Ok(acknowledged) => outcome(acknowledged.await),
                // It never had a place in the order.
                Err(_) => Appended::Refused,
            });
        }
        outcomes
    }

    async fn read_up_to_end(&mut self, partition: u32) -> Result<Vec<(u64, u64)>, Error> {
        let at = (TOPIC, number(partition));
        let client = self.client().await?;
        let admin = client.admin();
        let start = admin.list_offsets([at], OffsetSpec::Earliest).await?;
        let listed = admin.list_offsets([at], OffsetSpec::Latest).await?;
        let end = listed.first().and_then(|listed| listed.offset).unwrap_or(0);
        let consumer = consumer(&client, NO_GROUP)?;
        consumer.assign_from([at], StartAt::Beginning).await?;
        let mut records = Vec::new();
        while consumer.position(at)? < end {
            let read = consumer.poll(OPERATION).await?;
            if read.is_empty() {
                return Err(Error::Timeout {
                    what: "reading a partition",
                    after: OPERATION,
                    last: None,
                    ambiguous: false,
                });
            }
            records.extend(read.iter().map(|record| (unsigned(record.offset), value_of(record))));
        }
        if admin.list_offsets([at], OffsetSpec::Earliest).await? != start {
            // What retention takes away while it is read is no gap.
            let what = "reading a partition that is cut short meanwhile";
            return Err(Error::Timeout { what, after: OPERATION, last: None, ambiguous: false });
        }
        Ok(records)
    }
}

fn consumer(client: &Client, group: &str) -> Result<Consumer, Error> {
    let config = ConsumerConfig::default().auto_commit(false).group_id(group);
    client.consumer(config.auto_offset_reset(OffsetReset::Earliest))
}

fn side_topic(topic: u32) -> String {
    format!("side-{topic}")
}

#[async_trait]
impl LogClient for WaymarkClient {
    async fn prepare(&mut self) -> io::Result<()> {
        let admin = self.client().await.map_err(failed)?.admin();
        // The smallest segments that there are, so that a run of seconds rolls some.
        let topic = NewTopic::new(TOPIC).config("segment.bytes", SEGMENT_BYTES.to_string());
        let topic = topic.partitions(number(PARTITIONS));
        match admin.create_topic(topic).await {
            Ok(_) => {}
            Err(error) if error.is(FailureCode::TopicExists) => {}
            Err(error) => return Err(failed(error)),
        }
        let all = (0..PARTITIONS).map(|partition| (TOPIC, number(partition)));
        admin.list_offsets(all, OffsetSpec::Latest).await.map_err(failed)?;
        Ok(())
    }

    async fn append(&mut self, partition: u32, values: &[u64]) -> Vec<Appended> {
        let at = number(partition);
        self.append_all(values.iter().map(|value| record(*value).partition(at)).collect()).await
    }

    async fn append_keyed(&mut self, key: &[u8], values: &[u64]) -> Vec<Appended> {
        self.append_all(values.iter().map(|value| record(*value).key(key.to_vec())).collect()).await
    }

    async fn follow(&mut self) -> io::Result<Vec<Read>> {
        let follower = self.follower().await.map_err(failed)?;
        let records = follower.poll(POLL).await.map_err(read_failed)?;
        let read = |record: &ConsumerRecord| Read {
            partition: u32::try_from(record.partition).unwrap_or(u32::MAX),
            offset: unsigned(record.offset),
            value: value_of(record),
        };
        Ok(records.iter().map(read).collect())
    }

    async fn read_all(&mut self, partition: u32) -> io::Result<Vec<(u64, u64)>> {
        let until = Instant::now() + 2 * OPERATION;
        let read = timeout_at(until, self.read_up_to_end(partition)).await;
        read.map_err(failed)?.map_err(read_failed)
    }

    async fn log_start(&mut self, partition: u32) -> io::Result<u64> {
        let at = (TOPIC, number(partition));
        let admin = self.client().await.map_err(failed)?.admin();
        let listed = admin.list_offsets([at], OffsetSpec::Earliest).await.map_err(failed)?;
        Ok(unsigned(listed.first().and_then(|listed| listed.offset).unwrap_or(0)))
    }

    async fn read_gone(&mut self, partition: u32, offset: u64) -> io::Result<Vec<(u64, u64)>> {
        let at = (TOPIC, number(partition));
        let config = ConsumerConfig::default().auto_commit(false).group_id(NO_GROUP);
        let client = self.client().await.map_err(failed)?;
        let consumer = client.consumer(config.auto_offset_reset(OffsetReset::None));
        let consumer = consumer.map_err(failed)?;
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let read = async {
            consumer.assign_from([at], StartAt::Offset(offset)).await?;
            consumer.poll(OPERATION).await
        };
        match read.await {
            Ok(records) if records.is_empty() => Err(failed("neither a record nor a refusal")),
            Ok(records) => {
                Ok(records.iter().map(|it| (unsigned(it.offset), value_of(it))).collect())
            }
            Err(Error::NoOffset { .. }) => Ok(Vec::new()),
            Err(error) => Err(read_failed(error)),
        }
    }

    async fn seek(&mut self, partition: u32, offset: u64) -> io::Result<()> {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let follower = self.follower().await.map_err(failed)?;
        follower.seek((TOPIC, number(partition)), offset).map_err(failed)
    }

    async fn end_offset(&mut self, partition: u32) -> io::Result<u64> {
        let admin = self.client().await.map_err(failed)?.admin();
        let at = (TOPIC, number(partition));
        let listed = admin.list_offsets([at], OffsetSpec::Latest).await.map_err(failed)?;
        let offset = listed.first().and_then(|listed| listed.offset);
        offset.map(unsigned).ok_or_else(|| failed("an end without an offset"))
    }

    async fn commit(&mut self, group: u32, partition: u32, offset: u64) -> bool {
        let Ok(committer) = self.committer(group).await else { return false };
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        committer.commit_offsets([((TOPIC, number(partition)), offset)]).await.is_ok()
    }

    async fn committed(&mut self, group: u32, partition: u32) -> io::Result<u64> {
        let at = (TOPIC, number(partition));
        let committer = self.committer(group).await.map_err(failed)?;
        let committed = committer.committed([at]).await.map_err(failed)?;
        Ok(committed.values().next().map_or(0, |position| unsigned(position.offset)))
    }

    async fn move_leader(&mut self, partition: u32, to: u32) -> io::Result<()> {
        let admin = self.client().await.map_err(failed)?.admin();
        let at = TopicPartition::new(TOPIC, number(partition));
        let moves = [LeaderMove { at, to_node: Some(number(to)) }];
        let moved = admin.transfer_leaders(moves).await.map_err(failed)?;
        moved.into_iter().collect::<Result<Vec<()>, Error>>().map(drop).map_err(failed)
    }

    async fn limit_logs(&mut self, bytes: Option<u32>) -> io::Result<()> {
        let admin = self.client().await.map_err(failed)?.admin();
        let key = "retention.bytes".to_owned();
        let change = match bytes {
            Some(bytes) => ConfigChange::Set(key, bytes.to_string()),
            None => ConfigChange::Delete(key),
        };
        admin.alter_configs(TOPIC, [change], None).await.map_err(failed)
    }

    async fn create_topic(&mut self, topic: u32, partitions: u32) -> io::Result<()> {
        let admin = self.client().await.map_err(failed)?.admin();
        let topic = NewTopic::new(side_topic(topic)).partitions(number(partitions));
        admin.create_topic(topic).await.map(drop).map_err(failed)
    }

    async fn grow_topic(&mut self, topic: u32, partitions: u32) -> io::Result<()> {
        let admin = self.client().await.map_err(failed)?.admin();
        admin.add_partitions(&side_topic(topic), number(partitions)).await.map_err(failed)
    }

    async fn write_to_topic(&mut self, topic: u32, partition: u32) -> io::Result<()> {
        let record = ProducerRecord::new(side_topic(topic)).partition(number(partition));
        let producer = self.producer().await.map_err(failed)?;
        let sent = producer.send(record.value(b"side".to_vec())).await.map_err(failed)?;
        sent.await.map(drop).map_err(failed)
    }

    async fn delete_topic(&mut self, topic: u32) -> io::Result<()> {
        let admin = self.client().await.map_err(failed)?.admin();
        let gone = admin.delete_topics([side_topic(topic)]).await.map_err(failed)?;
        gone.into_iter().collect::<Result<Vec<()>, Error>>().map(drop).map_err(failed)
    }

    async fn look_up_topic(&mut self, topic: u32) -> io::Result<Option<u32>> {
        let admin = self.client().await.map_err(failed)?.admin();
        let partitions = admin.count_partitions(&side_topic(topic)).await.map_err(failed)?;
        Ok(partitions.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
    }

    fn stored_at_most(&self, value: u64) -> u64 {
        (padding(value) + MOST_BESIDE) as u64
    }

    async fn digests(&mut self, partition: u32, end: u64) -> io::Result<Vec<(u32, String)>> {
        let admin = self.client().await.map_err(failed)?.admin();
        let verdicts = admin.verify_replicas([TOPIC]).await.map_err(failed)?;
        let verdict = verdicts.iter().find(|it| it.at.partition == number(partition));
        let verdict = verdict.ok_or_else(|| failed("the partition was not compared"))?;
        if verdict.range.1 != i64::try_from(end).unwrap_or(i64::MAX) {
            let range = verdict.range;
            let why = format!("a replica is behind, or a record came late: {range:?}, of {end}");
            return Err(failed(why));
        }
        let replicas = verdict.replicas.iter().map(|replica| {
            let node = u32::try_from(replica.node_id).unwrap_or(u32::MAX);
            (node, replica.digest.clone())
        });
        let replicas: Vec<(u32, String)> = replicas.collect();
        if replicas.iter().any(|(_, digest)| digest.is_empty()) {
            return Err(failed("a replica did not answer"));
        }
        Ok(replicas)
    }
}
