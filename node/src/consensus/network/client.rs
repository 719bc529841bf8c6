//! Owns what openraft calls to reach one replica: appends, heartbeats, votes, transfers, snapshots. Every failure is
//! `Unreachable`, because openraft backs off for that alone, and an unreachable replica never grants a vote.

use std::fmt::{self, Debug, Display};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend};
use tokio::time::timeout;
use waymark_proto::ids::{ReplicaId, ShardId};
use waymark_proto::peer;
use waymark_proto::peer::install_progress::Kind;

use super::NetworkOptions;
use super::acknowledged::Acknowledged;
use super::door::{PullHeld, Snapshot};
use super::link::{Link, Links};
use super::stream as append_stream;
use super::wire::{self, Route};
use crate::consensus::membership::encode_stored_membership;
use crate::consensus::types::{C, Manifest, RaftNode, Vote};
use crate::mutants;

/// Bytes of a manifest in one message.
const MANIFEST_PART: usize = 256 << 10;

/// An error that makes openraft back off.
pub(super) fn unreachable(reason: impl Display) -> RPCError<C> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

/// Makes the clients of one replica.
#[derive(Clone)]
pub struct ShardNetworkFactory {
    links: Arc<Links>,
    shard: ShardId,
    from: ReplicaId,
}

impl Debug for ShardNetworkFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardNetworkFactory(replica {} of shard {})", self.from, self.shard)
    }
}

impl ShardNetworkFactory {
    pub(super) fn new(links: Arc<Links>, shard: ShardId, from: ReplicaId) -> Self {
        Self { links, shard, from }
    }

    fn client(&self, target: RaftNode, heartbeats: bool) -> ShardNetwork {
        let route = Route { shard: self.shard, from: self.from, to: target.0 };
        let acknowledged = Arc::new(Acknowledged::new(Arc::clone(&self.links), route));
        ShardNetwork { links: Arc::clone(&self.links), route, heartbeats, acknowledged }
    }
}

impl RaftNetworkFactory<C> for ShardNetworkFactory {
    type Network = ShardNetwork;

    async fn new_client(&mut self, target: RaftNode, _: &EmptyNode) -> ShardNetwork {
        self.client(target, false)
    }

    async fn new_heartbeat_client(&mut self, target: RaftNode, _: &EmptyNode) -> ShardNetwork {
        self.client(target, true)
    }
}

/// The way from one replica to another.
pub struct ShardNetwork {
    links: Arc<Links>,
    route: Route,
    /// Its appends carry no entries and are gathered with those of other shards.
    heartbeats: bool,
    /// What its streams of entries heard, one after the other, or its heartbeats.
    acknowledged: Arc<Acknowledged>,
}

impl Debug for ShardNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardNetwork({:?})", self.route)
    }
}

impl ShardNetwork {
    fn link(&self) -> Result<Arc<Link>, RPCError<C>> {
        self.links.get(self.route.to.node).map_err(unreachable)
    }

    async fn ask(
        &self,
        request: VoteRequest<C>,
        pre: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        let request = wire::vote_request_to(self.route, &request, pre);
        let answer = self
            .link()?
            .call(option.soft_ttl(), request, |mut client, request| async move {
                client.vote(request).await
            })
            .await;
        wire::vote_response_from(answer.map_err(unreachable)?).map_err(unreachable)
    }

    async fn send_manifest(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<C>, RPCError<C>> {
        let link = self.link()?;
        let held = self.hold(&snapshot);
        let NetworkOptions { pull_stall: stall, pull_kept_bytes, .. } = link.shared.options;
        let mut client = link.client(true).map_err(unreachable)?;
        let parts = stream::iter(manifest_parts(self.route, vote, snapshot));
        let opening = timeout(stall, client.install_manifest(link.streaming(parts))).await;
        let opened = opening.map_err(|_| unreachable("the manifest was not taken in time"))?;
        let mut progress = opened.map_err(|status| unreachable(status.message()))?.into_inner();
        loop {
            let message = timeout(stall, progress.message()).await;
            let message = message.map_err(|_| unreachable("the follower's pull is stuck"))?;
            let message = message.map_err(|status| unreachable(status.message()))?;
            match message.and_then(|message| message.kind) {
                Some(Kind::Pulled(bytes)) => {
                    tracing::debug!(shard = %self.route.shard, bytes, "a follower pulls");
                    if held.as_ref().is_some_and(|held| (held.grown)() > pull_kept_bytes) {
                        let why = "the log has grown by more than is kept for a pull";
                        return Err(unreachable(why));
                    }
                }
                Some(Kind::Vote(vote)) => {
                    let vote = wire::vote_from(Some(vote)).map_err(unreachable)?;
                    return Ok(SnapshotResponse::new(vote));
                }
                Some(Kind::Failed(reason)) => return Err(unreachable(reason)),
                None => return Err(unreachable("the follower gave no outcome")),
            }
        }
    }

    /// The files that the manifest names must live while the follower pulls (S7), and so must the entries that follow it.
    fn hold(&self, snapshot: &Snapshot) -> Option<PullHeld> {
        let end = snapshot.meta.last_log_id?.index;
        self.links.shared.host()?.hold_for_pull(self.route.shard, end)
    }
}

fn manifest_parts(route: Route, vote: Vote, snapshot: Snapshot) -> Vec<peer::ManifestPart> {
    let mut manifest: Bytes = snapshot.snapshot;
    let head = peer::ManifestHead {
        route: Some(wire::route_to(route)),
        vote: Some(wire::vote_to(vote)),
        last: snapshot.meta.last_log_id.map(wire::log_id_to),
        membership: encode_stored_membership(&snapshot.meta.last_membership),
        length: manifest.len() as u64,
    };
    let mut parts = vec![peer::ManifestPart { head: Some(head), data: Bytes::new() }];
    while !manifest.is_empty() {
        let data = manifest.split_to(manifest.len().min(MANIFEST_PART));
        parts.push(peer::ManifestPart { head: None, data });
    }
    parts
}

impl RaftNetworkV2<C> for ShardNetwork {
    type SnapshotData = Manifest;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        if !request.entries.is_empty() {
            let one = stream::iter([request]);
            let mut answers = self.stream_append(one, option).await?;
            let answer = answers.next().await;
            return answer.unwrap_or_else(|| Err(unreachable("no answer"))).map(Into::into);
        }
        let heartbeat = peer::Heartbeat {
            route: Some(wire::route_to(self.route)),
            request: Some(wire::append_to(request)),
        };
        let answer = self.link()?.beat(heartbeat, option.soft_ttl()).await.map_err(unreachable)?;
        let answer = wire::answer_from(answer).map_err(unreachable)?;
        self.acknowledged.take_beat(&answer);
        Ok(answer.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<C>, RPCError<C>>>, RPCError<C>>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeats {
            if mutants::planted!("heartbeat-stream-never-ends") {
                return Box::pin(async move {
                    let answers = stream_append_sequential(self, input, option).await?;
                    Ok(answers.chain(stream::pending()).boxed())
                });
            }
            return stream_append_sequential(self, input, option);
        }
        let (way, setup) = ((self.route, Arc::clone(&self.acknowledged)), option.soft_ttl());
        Box::pin(async move { Ok(append_stream::run(self.link()?, setup, way, input)) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        self.ask(request, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        self.ask(request, true, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = self.send_manifest(vote, snapshot) => answer.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RPCError<C>> {
        let request = wire::transfer_to(self.route, &request);
        let answer = self
            .link()?
            .call(option.soft_ttl(), request, |mut client, request| async move {
                client.transfer_leader(request).await
            })
            .await;
        wire::transfer_response_from(answer.map_err(unreachable)?).map_err(unreachable)
    }
}
