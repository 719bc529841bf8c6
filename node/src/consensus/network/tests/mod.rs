//! The peer network under test: real HTTP/2 over connections in memory, replicas and files that only pretend.

mod append;
mod heartbeat;
mod identity;
mod positions;
mod raft;
mod replica;
mod snapshot;
mod speed;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::AppendEntriesRequest;
use openraft::{EmptyNode, EntryPayload};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use waymark_proto::ids::{ClusterId, NodeId, ReplicaId, ShardId, TopicPartition};
use waymark_proto::transport::{BoxedIo, Connecting, Dial, Purpose, server};

use super::{
    HelloAnswer, Network, NetworkOptions, OffsetStand, PeerHost, PullHeld, ReplicaDoor,
    SegmentFiles, ShardNetwork, Vitals,
};
use crate::consensus::types::{C, Entry, LogId, Payload, RaftNode, Vote, to_raft_log_id};
use crate::consensus::{Committed, ConfiguredNode, ProposeError};
use crate::state::Reply;
use crate::storage::raft_record as record;
use replica::{FakeFiles, FakeReplica};

const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Keeps planted bugs out of a test that shares its process with tests that plant.
fn sound() -> impl Sized {
    crate::mutants::seclude()
}

fn address(node: u32) -> String {
    format!("node{node}:1")
}

fn replica(node: u32) -> ReplicaId {
    ReplicaId { node: NodeId(node), incarnation: 0 }
}

fn log_id(index: u64) -> LogId {
    to_raft_log_id(record::LogId { term: 1, leader: replica(1), index })
}

fn leader_vote(term: u64) -> Vote {
    let mut vote = Vote::new(term, RaftNode(replica(1)));
    vote.committed = true;
    vote
}

fn entry(index: u64, bytes: usize) -> Entry {
    let payload = EntryPayload::Normal(Payload(Bytes::from(vec![1; bytes])));
    Entry { log_id: log_id(index), payload }
}

/// The request that appends one entry.
fn append(index: u64, bytes: usize) -> AppendEntriesRequest<C> {
    AppendEntriesRequest {
        vote: leader_vote(1),
        prev_log_id: index.checked_sub(1).map(log_id),
        entries: vec![entry(index, bytes)],
        leader_commit: None,
    }
}

fn heartbeat(index: u64) -> AppendEntriesRequest<C> {
    AppendEntriesRequest {
        vote: leader_vote(1),
        prev_log_id: Some(log_id(index)),
        entries: vec![],
        leader_commit: None,
    }
}

fn option() -> RPCOption {
    RPCOption::new(Duration::from_millis(400))
}

/// All addresses, and the connections between them, which can be cut.
#[derive(Debug, Default)]
struct Wires {
    listeners: Mutex<BTreeMap<String, mpsc::Sender<BoxedIo>>>,
    live: Mutex<Vec<AbortOnDropHandle<()>>>,
    dialled: AtomicU64,
}

impl Wires {
    /// Breaks every connection; new ones can be made.
    fn cut(&self) {
        self.live.lock().unwrap().clear();
    }
}

#[derive(Debug, Clone)]
struct WireDial(Arc<Wires>);

impl Dial for WireDial {
    fn connect(&self, address: &str) -> Connecting {
        let (wires, address) = (Arc::clone(&self.0), address.to_owned());
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = wires.listeners.lock().unwrap().get(&address).cloned();
            let listener = listener.ok_or_else(refused)?;
            let (near, mut near_end) = tokio::io::duplex(1 << 20);
            let (far, mut far_end) = tokio::io::duplex(1 << 20);
            let copy = tokio::spawn(async move {
                let _broken = tokio::io::copy_bidirectional(&mut near_end, &mut far_end).await;
            });
            wires.live.lock().unwrap().push(AbortOnDropHandle::new(copy));
            wires.dialled.fetch_add(1, SeqCst);
            listener.send(BoxedIo::new(far, None)).await.map_err(|_| refused())?;
            Ok(BoxedIo::new(near, None))
        })
    }
}

/// What stands behind a node's peer service.
#[derive(Default)]
struct FakeHost {
    node: u32,
    cluster: Mutex<Option<ClusterId>>,
    replicas: Mutex<BTreeMap<u32, Arc<FakeReplica>>>,
    /// Real replicas; they come before the pretended ones.
    rafts: Mutex<BTreeMap<u32, Arc<dyn ReplicaDoor>>>,
    files: Mutex<Option<Arc<FakeFiles>>>,
    /// It takes no entries.
    full: AtomicBool,
    /// Its disk stands still.
    stalled: watch::Sender<bool>,
    /// Another one of its node came instead.
    replaced: Mutex<Option<ReplicaId>>,
    /// Followers that lost what they had acknowledged: up to where, and what they lack.
    reverted: Mutex<Vec<(u64, u64)>>,
    /// Pulls for which something is kept, beside this one reference; and by how much the log has grown since.
    kept: Arc<()>,
    grown: Arc<AtomicU64>,
    /// Calls that told vitals: one for each call with heartbeats, on both sides.
    heard: AtomicU64,
}

#[async_trait]
impl PeerHost for FakeHost {
    fn raft(&self, shard: ShardId, to: ReplicaId) -> Option<Arc<dyn ReplicaDoor>> {
        if to != replica(self.node) {
            return None;
        }
        if let Some(real) = self.rafts.lock().unwrap().get(&shard.0) {
            return Some(Arc::clone(real));
        }
        let found = self.replicas.lock().unwrap().get(&shard.0).cloned()?;
        Some(found)
    }
    fn is_replaced(&self, _: ShardId, replica: ReplicaId) -> bool {
        *self.replaced.lock().unwrap() == Some(replica)
    }
    fn has_less(&self, _: ShardId, _: ReplicaId, indexes: (u64, u64)) {
        self.reverted.lock().unwrap().push(indexes);
    }
    fn store(&self, _: ShardId) -> Option<Arc<dyn SegmentFiles>> {
        let files = self.files.lock().unwrap().clone()?;
        Some(files)
    }
    fn hold_for_pull(&self, _: ShardId, _: u64) -> Option<PullHeld> {
        let (kept, grown) = (Box::new(Arc::clone(&self.kept)), Arc::clone(&self.grown));
        Some(PullHeld { kept, grown: Box::new(move || grown.load(SeqCst)) })
    }
    fn identity(&self, _: NodeId) -> HelloAnswer {
        let cluster = *self.cluster.lock().unwrap();
        let empty = cluster.is_none();
        HelloAnswer { node: NodeId(self.node), cluster, empty, callers_disk: 0 }
    }
    async fn accept_cluster(&self, cluster: ClusterId) -> Result<(), String> {
        let mut mine = self.cluster.lock().unwrap();
        match *mine {
            Some(other) if other != cluster => Err("member of another cluster".to_owned()),
            _ => {
                *mine = Some(cluster);
                Ok(())
            }
        }
    }
    async fn propose_local(
        &self,
        shard: ShardId,
        command: Bytes,
        _: Instant,
    ) -> Result<Committed, ProposeError> {
        if command.is_empty() {
            return Err(ProposeError::NotLeader { shard, leader: Some(NodeId(3)) });
        }
        let at = record::LogId { term: 1, leader: replica(self.node), index: 9 };
        let reply = Reply::OffsetsDeleted(command.len() as u64);
        Ok(Committed { reply, at, durable_replicas: 2, replicas: 3 })
    }
    async fn positions(&self, asked: Vec<(TopicPartition, i64)>, _: Instant) -> Vec<OffsetStand> {
        positions::all_at_epoch(self.node, &asked)
    }
    async fn on_disk(&self) -> Result<(), String> {
        let mut stalled = self.stalled.subscribe();
        stalled.wait_for(|stalled| !stalled).await.map(drop).map_err(|gone| gone.to_string())
    }
    fn refuses_entries(&self) -> Option<String> {
        self.full.load(SeqCst).then(|| "the disk is full".to_owned())
    }
    fn heard(&self, _: NodeId, _: Vitals) {
        self.heard.fetch_add(1, SeqCst);
    }
}

struct TestNode {
    network: Network,
    host: Arc<FakeHost>,
    server: Option<AbortOnDropHandle<()>>,
}

impl TestNode {
    /// The replica of a shard on this node, which is made when first asked for.
    fn replica(&self, shard: u32) -> Arc<FakeReplica> {
        Arc::clone(self.host.replicas.lock().unwrap().entry(shard).or_default())
    }
    /// The way from this node's replica of a shard to another node's.
    async fn towards(&self, node: u32, shard: u32, heartbeats: bool) -> ShardNetwork {
        let from = replica(self.host.node);
        let mut factory = self.network.factory(ShardId(shard), from);
        let to = RaftNode(replica(node));
        if heartbeats {
            factory.new_heartbeat_client(to, &EmptyNode {}).await
        } else {
            factory.new_client(to, &EmptyNode {}).await
        }
    }
}

/// Three nodes, all members of one cluster unless said otherwise.
struct Nodes {
    wires: Arc<Wires>,
    nodes: Vec<TestNode>,
}

impl Nodes {
    fn start(options: &NetworkOptions) -> Self {
        Self::of_clusters(options, [Some(CLUSTER); 3])
    }

    fn of_clusters(options: &NetworkOptions, clusters: [Option<ClusterId>; 3]) -> Self {
        let wires = Arc::new(Wires::default());
        let nodes = (1..=3)
            .zip(clusters)
            .map(|(node, cluster)| start_node(&wires, options, node, cluster))
            .collect();
        Self { wires, nodes }
    }

    fn node(&self, node: usize) -> &TestNode {
        &self.nodes[node - 1]
    }
}

fn configured() -> Vec<ConfiguredNode> {
    let node = |id: u32| ConfiguredNode {
        node: NodeId(id),
        rack: String::new(),
        client_address: String::new(),
        peer_address: address(id),
    };
    (1..=3).map(node).collect()
}

fn start_node(
    wires: &Arc<Wires>,
    options: &NetworkOptions,
    node: u32,
    cluster: Option<ClusterId>,
) -> TestNode {
    let dial = Arc::new(WireDial(Arc::clone(wires)));
    let network = Network::new(NodeId(node), configured(), dial, options.clone());
    let host = FakeHost { node, cluster: Mutex::new(cluster), ..FakeHost::default() };
    let host = Arc::new(host);
    let routes = network.routes(Arc::clone(&host) as Arc<dyn PeerHost>);
    let (listener, accepted) = mpsc::channel(16);
    wires.listeners.lock().unwrap().insert(address(node), listener);
    let incoming = tokio_stream::StreamExt::map(ReceiverStream::new(accepted), Ok::<_, io::Error>);
    let serving = server(Purpose::Peer).add_routes(routes).serve_with_incoming(incoming);
    let server = tokio::spawn(async move { serving.await.unwrap() });
    TestNode { network, host, server: Some(AbortOnDropHandle::new(server)) }
}
