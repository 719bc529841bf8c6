//! Owns a cluster of consensus nodes on loopback and temporary folders. A killed node loses every task at once, and keeps
//! what it wrote.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use waymark_node::consensus::{
    ApplyObserver, Committed, ConfiguredNode, Consensus, ConsensusOptions, Leadership, Parts,
    ProposeError, StartError,
};
use waymark_node::env::{Env, Random, SystemClock};
use waymark_node::state::command::{CommitOffsets, Committer, OffsetCommit};
use waymark_node::state::groups::Actor;
use waymark_node::state::{Command, Effect};
use waymark_node::storage::journal::{Journal, JournalOptions};
use waymark_node::storage::real_disk::RealDisk;
use waymark_node::storage::shard_store::{Store, StoreOptions};
use waymark_node::storage::tables::MemoryTables;
use waymark_proto::ids::{NodeId, PartitionId, ShardId, TopicId, TopicPartition};
use waymark_proto::transport::{Purpose, TcpDial, server};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const GROUP: &str = "readers";
/// Added to a node's number: where its disk is kept while it has another one.
const ASIDE: u32 = 100;

/// Writes down what it is told.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Highest applied index per shard.
    pub(crate) applied: Mutex<BTreeMap<ShardId, u64>>,
    /// Per shard: the first time that it was ready, and what had been applied by then.
    pub(crate) first_ready: Mutex<BTreeMap<ShardId, Option<u64>>>,
}

impl ApplyObserver for Notes {
    fn applied(&self, shard: ShardId, index: u64, _: &[Effect]) {
        self.applied.lock().unwrap().insert(shard, index);
    }
    fn leadership(&self, shard: ShardId, now: Leadership) {
        if now.ready {
            let applied = self.applied.lock().unwrap().get(&shard).copied();
            self.first_ready.lock().unwrap().entry(shard).or_insert(applied);
        }
    }
}

pub(crate) fn store_options() -> StoreOptions {
    StoreOptions {
        segment_write_bytes: 64 << 10,
        segment_write_after: Duration::from_millis(20),
        segment_sync_bytes: 256 << 10,
        pending_bytes: 16 << 20,
        open_files: 64,
        index_interval_bytes: 4096,
        scrub_bytes_per_second: 0,
        scrub_interval: Duration::from_secs(1),
    }
}

pub(crate) fn options() -> ConsensusOptions {
    ConsensusOptions {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(600),
        balance_interval: Duration::from_secs(1),
        shards_per_node: 1,
        ..ConsensusOptions::default()
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) consensus: Consensus,
    pub(crate) notes: Arc<Notes>,
    pub(crate) journal: Journal,
    runtime: Option<Runtime>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// Nodes, running or not.
pub(crate) struct Cluster {
    root: tempfile::TempDir,
    pub(crate) nodes: BTreeMap<u32, Node>,
    pub(crate) configured: Vec<ConfiguredNode>,
    pub(crate) options: ConsensusOptions,
    pub(crate) journal: JournalOptions,
    driver: Runtime,
}

impl Cluster {
    /// Configured and not started.
    pub(crate) fn of(count: u32, options: ConsensusOptions) -> Self {
        let held: Vec<std::net::TcpListener> =
            (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let configured = held.iter().zip(1..).map(|(socket, node)| ConfiguredNode {
            node: NodeId(node),
            rack: String::new(),
            client_address: "127.0.0.1:1".to_owned(),
            peer_address: socket.local_addr().unwrap().to_string(),
        });
        Self {
            root: tempfile::tempdir().unwrap(),
            nodes: BTreeMap::new(),
            configured: configured.collect(),
            options,
            journal: JournalOptions {
                file_bytes: 4 << 20,
                cache_bytes: 4 << 20,
                ..JournalOptions::default()
            },
            driver: Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// Started and born.
    pub(crate) fn running(count: u32, options: ConsensusOptions) -> Self {
        let mut cluster = Self::of(count, options);
        for node in 1..=count {
            cluster.start(node).unwrap();
        }
        cluster.wait_until_born();
        cluster
    }

    pub(crate) fn folder(&self, node: u32) -> PathBuf {
        self.root.path().join(format!("node{node}"))
    }

    pub(crate) fn start(&mut self, node: u32) -> Result<(), StartError> {
        self.start_as(node, node)
    }

    /// Starts a node on the disk of another one.
    pub(crate) fn start_as(&mut self, node: u32, disk_of: u32) -> Result<(), StartError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let notes = Arc::new(Notes::default());
        let folder = self.folder(disk_of);
        let address = &self.configured[node as usize - 1].peer_address;
        let address: SocketAddr = address.parse().unwrap();
        let (nodes, options) = (self.configured.clone(), self.options.clone());
        let (observer, mut journal) = (Arc::clone(&notes), self.journal.clone());
        let random = Arc::new(Random::from_os());
        journal.new_journal_id = random.next_u64();
        let started = runtime.block_on(async move {
            let disk = Arc::new(RealDisk::open(folder).unwrap());
            let journal = Journal::open(disk.clone(), journal).await.unwrap();
            let tables = Arc::new(MemoryTables::default());
            let store = Store::open(disk.clone(), tables.clone(), store_options()).await.unwrap();
            let env =
                Env { clock: Arc::new(SystemClock), random, disk, tables, dial: Arc::new(TcpDial) };
            let parts = Parts { env, journal: journal.clone(), store, observer };
            let consensus = Consensus::start(NodeId(node), nodes, options, parts).await?;
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let routes = server(Purpose::Peer).add_routes(consensus.peer_routes());
            tokio::spawn(routes.serve_with_incoming(incoming));
            Ok((consensus, journal))
        });
        match started {
            Ok((consensus, journal)) => {
                let runtime = Some(runtime);
                self.nodes.insert(node, Node { consensus, notes, journal, runtime });
                Ok(())
            }
            Err(error) => {
                runtime.shutdown_timeout(Duration::from_secs(5));
                Err(error)
            }
        }
    }

    /// Ends all tasks of a node without a word to anyone.
    pub(crate) fn kill(&mut self, node: u32) {
        self.nodes.remove(&node);
    }

    pub(crate) fn stop(&mut self, node: u32) {
        if let Some(node) = self.nodes.remove(&node) {
            node.runtime.as_ref().unwrap().block_on(node.consensus.shutdown());
        }
    }

    /// Its disk is gone, and may be put back.
    pub(crate) fn put_aside(&self, node: u32) {
        std::fs::rename(self.folder(node), self.folder(node + ASIDE)).unwrap();
    }

    pub(crate) fn put_back(&self, node: u32) {
        self.wipe(node);
        std::fs::rename(self.folder(node + ASIDE), self.folder(node)).unwrap();
    }

    pub(crate) fn wipe(&self, node: u32) {
        std::fs::remove_dir_all(self.folder(node)).unwrap();
    }

    /// Blocks until something holds; panics with `what` when it never does.
    #[allow(clippy::disallowed_methods, reason = "the nodes run on real threads and real time")]
    pub(crate) fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < end, "never: {what}\n{}", self.describe());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (id, node) in &self.nodes {
            for shard in node.consensus.shards() {
                let (lead, applied) = (shard.leadership(), shard.applied_index());
                text += &format!("node {id} shard {} {lead:?} applied {applied:?}\n", shard.id());
            }
        }
        text
    }

    pub(crate) fn wait_until_born(&self) {
        let shards = self.configured.len() * self.options.shards_per_node as usize;
        self.wait("all shards are born", |cluster| {
            cluster.nodes.values().all(|node| {
                let Some(shard0) = node.consensus.shard(ShardId::CATALOG) else { return false };
                shard0.read(|state| {
                    let catalog = state.catalog().unwrap();
                    catalog.shards().count() == shards && catalog.shards().all(|shard| shard.born)
                })
            })
        });
    }

    /// The node that is the ready leader.
    pub(crate) fn leader(&self, shard: ShardId) -> Option<u32> {
        let leads =
            |node: &Node| node.consensus.shard(shard).is_some_and(|shard| shard.leadership().ready);
        self.nodes.iter().find(|(_, node)| leads(node)).map(|(id, _)| *id)
    }

    /// Commits an offset of partition `key`, through any node that runs. Where a leader is lost in the middle, again: the same
    /// offset twice is one.
    pub(crate) fn commit(
        &self,
        shard: ShardId,
        key: i32,
        offset: i64,
    ) -> Result<Committed, ProposeError> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            match self.commit_within(shard, key, offset, left) {
                Err(ProposeError::OutcomeUnknown(_)) if tokio::time::Instant::now() < end => {}
                done => return done,
            }
        }
    }

    pub(crate) fn commit_within(
        &self,
        shard: ShardId,
        key: i32,
        offset: i64,
        time: Duration,
    ) -> Result<Committed, ProposeError> {
        let node = self.nodes.values().next().unwrap();
        let _in = self.driver.enter();
        let deadline = tokio::time::Instant::now() + time;
        self.driver.block_on(node.consensus.propose_anywhere(
            shard,
            offset_commit(key, offset),
            deadline,
        ))
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.driver.block_on(future)
    }

    pub(crate) fn committed(&self, node: u32, shard: ShardId, key: i32) -> Option<i64> {
        let shard = self.nodes.get(&node)?.consensus.shard(shard)?;
        shard.read(|state| state.committed(GROUP, partition(key)).map(|it| it.offset))
    }
}

pub(crate) fn partition(key: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([5; 16]), partition: PartitionId(key) }
}

pub(crate) fn offset_commit(key: i32, offset: i64) -> Command {
    let item = OffsetCommit {
        at: partition(key),
        offset,
        leader_epoch: None,
        metadata: Some("x".repeat(1000)),
        expected_offset: None,
        fencing_epoch: None,
    };
    Command::CommitOffsets(CommitOffsets {
        group: GROUP.to_owned(),
        committer: Committer::Outside { name: String::new(), in_line: false },
        cause: 0,
        note: String::new(),
        actor: Actor::default(),
        items: vec![item],
        all_or_nothing: false,
        commit_seq: 0,
        commit_time_ms: 1,
    })
}
