//! One node without listeners: what tests append to, read from and restart.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use waymark_proto::batch::{Compression, PlainRecord, ProducerStamp, encode};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{NodeId, PartitionId, ShardId, TopicId, TopicPartition};
use waymark_proto::transport::{Connecting, Dial};

use super::disk::MemoryDisk;
use crate::broker::admin::{Admin, Change, NewTopic};
use crate::broker::logs::{Append, Appended, Batches, Logs, ReadAt};
use crate::broker::{Broker, BrokerOptions, Wakes};
use crate::consensus::{ConfiguredNode, Consensus, ConsensusOptions, Parts, Shard};
use crate::env::{Clock, Env, Random};
use crate::storage::journal::{Journal, JournalOptions};
use crate::storage::shard_store::{Store, StoreOptions};
use crate::storage::tables::MemoryTables;

pub(in crate::broker) const TOPIC: TopicId = TopicId([7; 16]);
/// What the clock shows at the start.
pub(in crate::broker) const NOON: i64 = 43_200_000;
pub(in crate::broker) const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than anything takes that does not wait for a stalled disk, shorter than a leader bears one.
pub(in crate::broker) const MOMENT: Duration = Duration::from_millis(40);

/// A clock that stands still until it is set.
#[derive(Debug)]
pub(in crate::broker) struct Hands(AtomicI64);

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Hands {
    pub(in crate::broker) fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }
}

/// There is nobody else.
#[derive(Debug)]
struct Alone;

impl Dial for Alone {
    fn connect(&self, _: &str) -> Connecting {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

pub(in crate::broker) fn limits() -> BrokerOptions {
    BrokerOptions {
        pending_bytes: 1 << 20,
        entry_bytes: 64 << 10,
        entries_in_flight: 4,
        default_partitions: 4,
        default_replication: 1,
        shards_per_node: 1,
        retention_interval: Duration::from_secs(300),
        producer_idle: Duration::from_secs(24 * 3600),
        offset_retention: None,
    }
}

/// A running node.
#[derive(Debug)]
pub(in crate::broker) struct Bed {
    pub(in crate::broker) broker: Broker,
    pub(in crate::broker) disk: Arc<MemoryDisk>,
    pub(in crate::broker) clock: Arc<Hands>,
    pub(in crate::broker) consensus: Consensus,
    journal: Journal,
    store: Store,
    _upkeep: AbortOnDropHandle<()>,
}

pub(in crate::broker) fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition: PartitionId(partition) }
}

/// A batch of `records` records with one byte each.
pub(in crate::broker) fn batch(records: usize, producer: Option<ProducerStamp>) -> Bytes {
    sized(records, 1, producer)
}

pub(in crate::broker) fn sized(
    records: usize,
    bytes: usize,
    producer: Option<ProducerStamp>,
) -> Bytes {
    let record = PlainRecord {
        key: None,
        value: Some(Bytes::from(vec![b'v'; bytes])),
        headers: Vec::new(),
        timestamp_ms: NOON,
        offset: 0,
    };
    encode(&vec![record; records], Compression::None, producer).expect("a good batch")
}

pub(in crate::broker) fn to(partition: i32, batch: Bytes) -> Append {
    Append {
        at: at(partition),
        leader_epoch: None,
        expected_base_offset: None,
        deadline: Instant::now() + PATIENCE,
        batch,
    }
}

pub(in crate::broker) fn from(partition: i32, offset: i64) -> ReadAt {
    ReadAt {
        at: at(partition),
        offset,
        leader_epoch: None,
        last_fetched_epoch: None,
        max_bytes: 1 << 20,
    }
}

/// A node between two lives.
#[derive(Debug)]
pub(in crate::broker) struct Down(Arc<MemoryDisk>);

impl Down {
    /// The next life; it may not serve yet.
    pub(in crate::broker) async fn start(self) -> Bed {
        Bed::open(self.0, limits()).await
    }
}

impl Bed {
    /// A node that leads a topic of four partitions.
    pub(in crate::broker) async fn start() -> Self {
        Self::with(limits(), &[]).await
    }

    pub(in crate::broker) async fn with(limits: BrokerOptions, configs: &[(&str, &str)]) -> Self {
        let bed = Self::open(Arc::new(MemoryDisk::new()), limits).await;
        let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let topic = NewTopic {
            name: "orders".to_owned(),
            id: Some(TOPIC),
            partitions: Some(4),
            replication: Some(1),
            configs: configs.collect(),
        };
        let made = async {
            loop {
                let change = Change { validate_only: false, deadline: Instant::now() + PATIENCE };
                match bed.broker.create_topic(topic.clone(), change).await {
                    Ok(_) => return,
                    Err(_) => sleep(MOMENT).await,
                }
            }
        };
        timeout(PATIENCE, made).await.expect("a topic");
        bed.ready().await;
        bed
    }

    async fn open(disk: Arc<MemoryDisk>, limits: BrokerOptions) -> Self {
        let clock = Arc::new(Hands(AtomicI64::new(NOON)));
        let env = Env {
            clock: Arc::clone(&clock) as _,
            random: Arc::new(Random::seeded(1)),
            disk: Arc::clone(&disk) as _,
            tables: Arc::new(MemoryTables::default()),
            dial: Arc::new(Alone),
        };
        let options = JournalOptions { file_bytes: 1 << 20, ..JournalOptions::default() };
        let journal = Journal::open(Arc::clone(&env.disk), options).await.expect("a journal");
        let options = StoreOptions {
            segment_write_bytes: 64 << 10,
            segment_write_after: Duration::from_millis(200),
            segment_sync_bytes: 1 << 20,
            pending_bytes: 4 << 20,
            open_files: 16,
            index_interval_bytes: 4096,
            scrub_bytes_per_second: 0,
            scrub_interval: Duration::from_secs(1),
        };
        let tables = Arc::clone(&env.tables);
        let store = Store::open(Arc::clone(&env.disk), tables, options).await.expect("a store");
        let wakes = Arc::new(Wakes::default());
        let parts = Parts {
            env: env.clone(),
            journal: journal.clone(),
            store: store.clone(),
            observer: Arc::clone(&wakes) as _,
        };
        let node = NodeId(1);
        let nodes = vec![ConfiguredNode {
            node,
            rack: String::new(),
            client_address: "n1:1".to_owned(),
            peer_address: "n1:2".to_owned(),
        }];
        let options = ConsensusOptions {
            shards_per_node: 1,
            default_replication: 1,
            ..ConsensusOptions::default()
        };
        let consensus = Consensus::start(node, nodes.clone(), options, parts).await;
        let consensus = consensus.expect("a node");
        let broker = Broker::new(node, nodes, (consensus.clone(), env), wakes, limits);
        let running = broker.clone();
        let upkeep = AbortOnDropHandle::new(tokio::spawn(async move { running.run().await }));
        Self { broker, disk, clock, consensus, journal, store, _upkeep: upkeep }
    }

    /// The same disk under a new life, and so under a new leadership.
    pub(in crate::broker) async fn restart(self) -> Self {
        let bed = self.stop().await.start().await;
        bed.ready().await;
        bed
    }

    /// Its life ends in order.
    pub(in crate::broker) async fn stop(self) -> Down {
        let Self { broker, disk, clock: _, consensus, journal, store, _upkeep } = self;
        drop((broker, _upkeep));
        consensus.shutdown().await;
        store.shutdown().await;
        journal.shutdown().await;
        drop((consensus, journal, store));
        Down(disk)
    }

    async fn ready(&self) {
        let led = async {
            while self.broker.marks(at(0)).is_none() {
                sleep(MOMENT).await;
            }
        };
        timeout(PATIENCE, led).await.expect("a leader");
    }

    /// The shard that the partitions live in.
    pub(in crate::broker) fn shard(&self) -> Shard {
        let shards = self.consensus.shards();
        shards.into_iter().find(|it| it.id() != ShardId::CATALOG).expect("a shard for topics")
    }

    pub(in crate::broker) async fn append(&self, append: Append) -> Result<Appended, Failure> {
        self.broker.append(append)?.await
    }

    pub(in crate::broker) async fn base_of(&self, append: Append) -> Result<i64, FailureCode> {
        let outcome = self.append(append).await;
        outcome.map(|it| it.receipt.base_offset).map_err(|failure| failure.code)
    }

    pub(in crate::broker) async fn read(&self, read: ReadAt) -> Result<Batches, Failure> {
        self.broker.read(read).await
    }
}
