//! Owns one peer's connections: bulk and control, the multiplexed append stream on the first and the gathered heartbeats
//! on the second, and the headers that every call carries (S12). Never interprets a message.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Request, Response, Status};
use waymark_proto::ids::{ClusterId, NodeId, ShardId};
use waymark_proto::peer;
use waymark_proto::peer::peer_client::PeerClient;
use waymark_proto::transport::{Dial, MAX_MESSAGE, Purpose, channel};

use super::heartbeat::{self, Beat};
use super::mux::{self, Mux};
use super::{NetworkOptions, PeerError, PeerHost, PullNumbers, Vitals};
use crate::consensus::ConfiguredNode;

/// Calls with more bytes than this go over the bulk connection: heartbeats must not queue behind them.
pub(super) const CONTROL_MESSAGE: usize = 64 << 10;

const FROM: &str = "waymark-from";
const TO: &str = "waymark-to";
const CLUSTER: &str = "waymark-cluster";

pub(super) type Client = PeerClient<Channel>;

/// What all links of a node share.
pub(super) struct Shared {
    pub(super) node: NodeId,
    pub(super) options: NetworkOptions,
    /// Counted by whoever pulls or gives.
    pub(super) pulls: PullNumbers,
    /// Bytes that each replica which pulls still lacks.
    lacking: Mutex<BTreeMap<ShardId, u64>>,
    /// Set once, when the node's cluster is known.
    cluster: OnceLock<ClusterId>,
    /// Set by `routes`; weak, because the host owns the network.
    host: Mutex<Option<Weak<dyn PeerHost>>>,
}

impl Shared {
    pub(super) fn new(node: NodeId, options: NetworkOptions) -> Self {
        let (pulls, lacking, cluster, host) = Default::default();
        Self { node, options, pulls, lacking, cluster, host }
    }

    pub(super) fn set_cluster(&self, cluster: ClusterId) {
        if self.cluster.set(cluster).is_err() && self.cluster.get() != Some(&cluster) {
            tracing::error!(node = %self.node, %cluster, "a second cluster id is ignored");
        }
    }

    pub(super) fn set_host(&self, host: &Arc<dyn PeerHost>) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(host));
    }

    pub(super) fn lacking(&self) -> MutexGuard<'_, BTreeMap<ShardId, u64>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn host(&self) -> Option<Arc<dyn PeerHost>> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }

    pub(super) fn vitals(&self) -> Option<Vitals> {
        self.host().map(|host| host.vitals())
    }

    fn write_headers(&self, to: NodeId, headers: &mut MetadataMap) {
        headers.insert(FROM, MetadataValue::from(self.node.0));
        headers.insert(TO, MetadataValue::from(to.0));
        if let Some(cluster) = self.cluster.get() {
            write_cluster(*cluster, headers);
        }
    }

    /// Who calls. Refuses a caller of another cluster, and one that meant another node (S12).
    pub(super) fn admit(&self, headers: &MetadataMap) -> Result<NodeId, Status> {
        let (from, to) = (node_header(headers, FROM)?, node_header(headers, TO)?);
        if to != self.node {
            return Err(refusal(format!("this is node {}, not node {to}", self.node)));
        }
        let theirs = headers.get(CLUSTER).map(|value| {
            let text = value.to_str().unwrap_or_default();
            text.parse::<ClusterId>().map_err(|error| Status::invalid_argument(error.to_string()))
        });
        match (self.cluster.get(), theirs.transpose()?) {
            (Some(ours), Some(theirs)) if *ours != theirs => {
                let mut refused = refusal(format!(
                    "this node belongs to cluster {ours}, the caller to cluster {theirs}"
                ));
                write_cluster(*ours, refused.metadata_mut());
                Err(refused)
            }
            _ => Ok(from),
        }
    }

    /// [`Self::admit`] for calls that only members of one cluster make.
    pub(super) fn admit_member(&self, headers: &MetadataMap) -> Result<NodeId, Status> {
        let from = self.admit(headers)?;
        if self.cluster.get().is_none() {
            return Err(Status::unavailable("this node does not belong to a cluster yet"));
        }
        if headers.get(CLUSTER).is_none() {
            return Err(refusal("the caller names no cluster".to_owned()));
        }
        Ok(from)
    }
}

fn write_cluster(cluster: ClusterId, headers: &mut MetadataMap) {
    if let Ok(text) = cluster.to_string().parse() {
        headers.insert(CLUSTER, text);
    }
}

fn refusal(reason: String) -> Status {
    Status::failed_precondition(reason)
}

fn node_header(headers: &MetadataMap, name: &'static str) -> Result<NodeId, Status> {
    let node = headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).map(NodeId);
    node.ok_or_else(|| Status::invalid_argument(format!("the header {name} must be a node id")))
}

/// The links of a node to all configured peers.
pub(super) struct Links {
    pub(super) shared: Arc<Shared>,
    links: BTreeMap<NodeId, Arc<Link>>,
}

impl Links {
    pub(super) fn new(shared: Shared, peers: Vec<ConfiguredNode>, dial: Arc<dyn Dial>) -> Self {
        let shared = Arc::new(shared);
        let of_all = Arc::clone(&shared);
        let link = move |peer: ConfiguredNode| {
            let link = Link {
                node: peer.node,
                address: peer.peer_address,
                dial: Arc::clone(&dial),
                shared: Arc::clone(&of_all),
                bulk: OnceLock::new(),
                control: OnceLock::new(),
                mux: tokio::sync::Mutex::new(MuxSlot::default()),
                beats: OnceLock::new(),
            };
            (peer.node, Arc::new(link))
        };
        let links = peers.into_iter().map(link).collect();
        Self { shared, links }
    }

    pub(super) fn get(&self, node: NodeId) -> Result<Arc<Link>, PeerError> {
        let unknown = || unreachable(node, "not a configured node");
        self.links.get(&node).cloned().ok_or_else(unknown)
    }

    /// All configured nodes but this one.
    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.links.keys().copied().filter(|node| *node != self.shared.node)
    }
}

fn unreachable(node: NodeId, reason: impl Display) -> PeerError {
    PeerError::Unreachable { node, reason: reason.to_string() }
}

/// One peer.
pub(super) struct Link {
    node: NodeId,
    address: String,
    dial: Arc<dyn Dial>,
    pub(super) shared: Arc<Shared>,
    bulk: OnceLock<Result<Channel, String>>,
    control: OnceLock<Result<Channel, String>>,
    mux: tokio::sync::Mutex<MuxSlot>,
    beats: OnceLock<mpsc::Sender<Beat>>,
}

/// The append stream's connection, or when it may be tried again.
#[derive(Default)]
struct MuxSlot {
    mux: Option<Mux>,
    /// Failed attempts in a row.
    failures: u32,
    not_before: Option<Instant>,
}

impl Link {
    pub(super) fn client(&self, bulk: bool) -> Result<Client, PeerError> {
        let slot = if bulk { &self.bulk } else { &self.control };
        let open = || {
            channel(Arc::clone(&self.dial), &self.address, Purpose::Peer)
                .map_err(|error| error.to_string())
        };
        let channel = slot.get_or_init(open).clone();
        let channel = channel.map_err(|reason| unreachable(self.node, reason))?;
        Ok(Client::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE))
    }

    pub(super) fn request<M>(&self, message: M, within: Duration) -> Request<M> {
        let mut request = Request::new(message);
        self.shared.write_headers(self.node, request.metadata_mut());
        request.set_timeout(within);
        request
    }

    /// A request without a total deadline: a stream that lives as long as it makes progress.
    pub(super) fn streaming<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        self.shared.write_headers(self.node, request.metadata_mut());
        request
    }

    /// A call over the control connection.
    pub(super) async fn call<M, T, F, A>(
        &self,
        within: Duration,
        message: M,
        send: F,
    ) -> Result<T, PeerError>
    where
        F: FnOnce(Client, Request<M>) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_on(false, within, message, send).await
    }

    pub(super) async fn call_on<M, T, F, A>(
        &self,
        bulk: bool,
        within: Duration,
        message: M,
        send: F,
    ) -> Result<T, PeerError>
    where
        F: FnOnce(Client, Request<M>) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let (client, request) = (self.client(bulk)?, self.request(message, within));
        match timeout(within, send(client, request)).await {
            Ok(answer) => answer.map(Response::into_inner).map_err(|status| self.error(&status)),
            Err(_) => {
                let reason = format!("no answer within {within:?}");
                Err(PeerError::Unanswered { node: self.node, reason })
            }
        }
    }

    pub(super) fn error(&self, status: &Status) -> PeerError {
        let (node, reason) = (self.node, status.message().to_owned());
        match status.code() {
            Code::FailedPrecondition => {
                let told = status.metadata().get(CLUSTER).and_then(|text| text.to_str().ok());
                let cluster = told.and_then(|text| text.parse().ok());
                PeerError::Refused { node, reason, cluster }
            }
            _ if never_connected(status) => PeerError::Unreachable { node, reason },
            _ => PeerError::Unanswered { node, reason },
        }
    }

    /// The living append connection, or a new one. After a failure, attempts pause ever longer: meanwhile this fails at once.
    pub(super) async fn mux(&self, within: Duration) -> Result<Mux, PeerError> {
        let connected = timeout(within, self.connected()).await;
        connected.unwrap_or_else(|_| Err(unreachable(self.node, "no connection in time")))
    }

    async fn connected(&self) -> Result<Mux, PeerError> {
        let mut slot = self.mux.lock().await;
        if let Some(mux) = slot.mux.as_ref().filter(|mux| mux.is_alive()) {
            return Ok(mux.clone());
        }
        if slot.mux.take().is_some() {
            self.pause(&mut slot);
        }
        if slot.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(unreachable(self.node, "the connection broke a moment ago"));
        }
        // A caller that gives up while connecting has failed as well.
        self.pause(&mut slot);
        let mux = mux::connect(self).await?;
        *slot = MuxSlot { mux: Some(mux.clone()), failures: 0, not_before: None };
        Ok(mux)
    }

    fn pause(&self, slot: &mut MuxSlot) {
        let (shortest, longest) = self.shared.options.reconnect;
        let pause = shortest.saturating_mul(1 << slot.failures.min(10)).min(longest);
        slot.failures = slot.failures.saturating_add(1);
        slot.not_before = Some(Instant::now() + pause);
    }

    /// A heartbeat of one shard, gathered with those of others.
    pub(super) async fn beat(
        self: &Arc<Self>,
        heartbeat: peer::Heartbeat,
        within: Duration,
    ) -> Result<peer::AppendAnswer, PeerError> {
        let beats = self.beats.get_or_init(|| heartbeat::gather(Arc::downgrade(self)));
        let lost = |reason| PeerError::Unanswered { node: self.node, reason };
        let (beat, answer) = Beat::new(heartbeat, within);
        beats.send(beat).await.map_err(|_| lost("stopped".to_owned()))?;
        match timeout(within, answer).await {
            Ok(Ok(answer)) => answer.map_err(lost),
            Ok(Err(_)) => Err(lost("the call failed".to_owned())),
            Err(_) => Err(lost(format!("no answer within {within:?}"))),
        }
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }
}

/// The connection was never made, so nothing was sent.
fn never_connected(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
