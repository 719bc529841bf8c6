//! Owns the peer service: checks who calls (S12), turns messages into requests, hands them to the replica, and turns the
//! answers back. Never answers on a replica's behalf: one that is not here is "unavailable".

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use openraft::alias::SnapshotMetaOf;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waymark_proto::ids::{ClusterId, NodeId, ShardId};
use waymark_proto::peer;
use waymark_proto::peer::install_progress::Kind;
use waymark_proto::peer::peer_server::Peer;

use super::append::AppendServer;
use super::door::{ReplicaDoor, Snapshot};
use super::link::{Links, Shared};
use super::pull::{Job, Progress, Pulls};
use super::throttle::Throttle;
use super::wire::{self, Malformed, Route};
use super::{PeerHost, entries, heartbeat, inspect, outcome, positions, source, survey};
use crate::consensus::ProposeError;
use crate::consensus::membership::decode_stored_membership;
use crate::consensus::types::C;

/// Answers that wait for the connection, of all append streams of a peer. They are small.
const QUEUED_ANSWERS: usize = 256;
/// How often a pull tells of its progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(250);

/// The part of a caller's time that an answer of many items has for its way.
const WAY_BACK: u32 = 4;

/// The service.
pub(super) struct PeerService {
    shared: Arc<Shared>,
    host: Arc<dyn PeerHost>,
    pulls: Arc<Pulls>,
    throttle: Arc<Throttle>,
}

impl PeerService {
    pub(super) fn new(links: Arc<Links>, host: Arc<dyn PeerHost>) -> Self {
        let shared = Arc::clone(&links.shared);
        let throttle = Arc::new(Throttle::new(shared.options.pull_rate));
        Self { shared, pulls: Arc::new(Pulls::new(links, Arc::clone(&host))), host, throttle }
    }

    fn door(&self, route: Route, from: NodeId) -> Result<Arc<dyn ReplicaDoor>, Status> {
        if route.from.node != from {
            let reason = format!("replica {} is not on node {from}", route.from);
            return Err(Status::invalid_argument(reason));
        }
        if self.host.is_replaced(route.shard, route.from) {
            return Err(Status::unavailable(route.replaced()));
        }
        self.host.raft(route.shard, route.to).ok_or_else(|| {
            Status::unavailable(format!(
                "replica {} of shard {} is not here",
                route.to, route.shard
            ))
        })
    }

    /// Reads a whole manifest; its parts must keep coming.
    async fn read_manifest(&self, mut parts: Streaming<peer::ManifestPart>) -> Result<Job, Status> {
        let first = self.next_part(&mut parts).await?.ok_or_else(|| malformed(NO_HEAD))?;
        let head = first.head.ok_or_else(|| malformed(NO_HEAD))?;
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        if length > self.shared.options.manifest_bytes {
            return Err(Status::resource_exhausted("the manifest is too large"));
        }
        let mut manifest = BytesMut::from(first.data.as_ref());
        while manifest.len() < length {
            let part = self.next_part(&mut parts).await?;
            manifest.extend_from_slice(&part.ok_or_else(|| malformed(BAD_LENGTH))?.data);
        }
        if manifest.len() != length {
            return Err(malformed(BAD_LENGTH));
        }
        job(&head, manifest.freeze())
    }

    async fn next_part(
        &self,
        parts: &mut Streaming<peer::ManifestPart>,
    ) -> Result<Option<peer::ManifestPart>, Status> {
        let next = timeout(self.shared.options.pull_stall, parts.message()).await;
        next.map_err(|_| Status::deadline_exceeded("the manifest stopped coming"))?
    }
}

const NO_HEAD: Malformed = Malformed("a manifest without a head");
const BAD_LENGTH: Malformed = Malformed("a manifest of another length than told");

fn malformed(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::error::Error) -> Status {
    Status::unavailable(error.to_string())
}

pub(super) fn job(head: &peer::ManifestHead, manifest: Bytes) -> Result<Job, Status> {
    let membership = decode_stored_membership(&head.membership)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let last_log_id = head.last.map(wire::log_id_from).transpose().map_err(malformed)?;
    let meta = SnapshotMetaOf::<C> { last_log_id, last_membership: membership };
    Ok(Job {
        route: wire::route_from(head.route).map_err(malformed)?,
        vote: wire::vote_from(head.vote).map_err(malformed)?,
        snapshot: Snapshot { meta, snapshot: manifest },
    })
}

/// Tells of a pull's progress while there is some, then of its outcome.
async fn tell(
    mut progress: watch::Receiver<Progress>,
    answers: mpsc::Sender<Result<peer::InstallProgress, Status>>,
) {
    loop {
        let now = progress.borrow_and_update().clone();
        let (kind, last) = match now {
            Progress::Pulling(bytes) => (Kind::Pulled(bytes), false),
            Progress::Done(Ok(vote)) => (Kind::Vote(wire::vote_to(vote)), true),
            Progress::Done(Err(reason)) => (Kind::Failed(reason), true),
        };
        let sent = answers.send(Ok(peer::InstallProgress { kind: Some(kind) })).await;
        if last || sent.is_err() {
            return;
        }
        let changed = tokio::select! {
            changed = progress.changed() => changed,
            () = answers.closed() => return,
        };
        if changed.is_err() {
            return;
        }
        // The outcome must not wait for the pause.
        let done = progress.wait_for(|now| matches!(now, Progress::Done(_)));
        tokio::select! {
            _ = done => {}
            () = sleep(PROGRESS_PAUSE) => {}
        }
    }
}

#[async_trait::async_trait]
impl Peer for PeerService {
    type AppendStream = BoxStream<'static, Result<peer::AppendFrame, Status>>;
    type HeartbeatsStream = BoxStream<'static, Result<peer::HeartbeatsResponse, Status>>;
    type InstallManifestStream = BoxStream<'static, Result<peer::InstallProgress, Status>>;
    type PullStream = BoxStream<'static, Result<peer::PullChunk, Status>>;
    type NewestManifestStream = BoxStream<'static, Result<peer::ManifestPart, Status>>;

    async fn hello(
        &self,
        request: Request<peer::HelloRequest>,
    ) -> Result<Response<peer::HelloResponse>, Status> {
        let from = self.shared.admit(request.metadata())?;
        Ok(Response::new(wire::hello_to(self.host.identity(from))))
    }

    async fn accept_cluster(
        &self,
        request: Request<peer::AcceptClusterRequest>,
    ) -> Result<Response<peer::AcceptClusterResponse>, Status> {
        self.shared.admit(request.metadata())?;
        let cluster = ClusterId::from_slice(&request.into_inner().cluster_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let refused = self.host.accept_cluster(cluster).await.err();
        if refused.is_none() {
            self.shared.set_cluster(cluster);
        }
        Ok(Response::new(peer::AcceptClusterResponse { refused }))
    }

    async fn append(
        &self,
        request: Request<Streaming<peer::AppendFrame>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let from = self.shared.admit_member(request.metadata())?;
        let (answers, queue) = mpsc::channel(QUEUED_ANSWERS);
        let server = AppendServer {
            host: Arc::clone(&self.host),
            from,
            options: self.shared.options.clone(),
            answers,
        };
        tokio::spawn(server.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(queue).boxed()))
    }

    async fn heartbeats(
        &self,
        request: Request<peer::HeartbeatsRequest>,
    ) -> Result<Response<Self::HeartbeatsStream>, Status> {
        let from = self.shared.admit_member(request.metadata())?;
        Ok(Response::new(heartbeat::serve(&self.host, from, request.into_inner())))
    }

    async fn vote(
        &self,
        request: Request<peer::VoteRequest>,
    ) -> Result<Response<peer::VoteResponse>, Status> {
        let from = self.shared.admit_member(request.metadata())?;
        let request = request.into_inner();
        let (route, pre) = (wire::route_from(request.route).map_err(malformed)?, request.pre_vote);
        let door = self.door(route, from)?;
        let request = wire::vote_request_from(request).map_err(malformed)?;
        let answer = door.vote(request, pre).await.map_err(stopped)?;
        Ok(Response::new(wire::vote_response_to(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferLeaderRequest>,
    ) -> Result<Response<peer::TransferLeaderResponse>, Status> {
        let from = self.shared.admit_member(request.metadata())?;
        let request = request.into_inner();
        let door = self.door(wire::route_from(request.route).map_err(malformed)?, from)?;
        let request = wire::transfer_from(request).map_err(malformed)?;
        let answer = door.transfer_leader(request).await.map_err(stopped)?;
        Ok(Response::new(wire::transfer_response_to(&answer)))
    }

    async fn install_manifest(
        &self,
        request: Request<Streaming<peer::ManifestPart>>,
    ) -> Result<Response<Self::InstallManifestStream>, Status> {
        let from = self.shared.admit_member(request.metadata())?;
        let job = self.read_manifest(request.into_inner()).await?;
        self.door(job.route, from)?;
        let (answers, queue) = mpsc::channel(1);
        tokio::spawn(tell(self.pulls.join(job), answers));
        Ok(Response::new(ReceiverStream::new(queue).boxed()))
    }

    async fn pull(
        &self,
        request: Request<peer::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        self.shared.admit_member(request.metadata())?;
        let request = request.into_inner();
        let files = self.host.store(ShardId(request.shard));
        let files = files.ok_or_else(|| Status::not_found("the shard is not here"))?;
        let ranges = source::ranges(&request)?;
        let (chunks, queue) = mpsc::channel(source::PULL_AHEAD);
        let pace = (Arc::clone(&self.throttle), Arc::clone(&self.shared));
        tokio::spawn(source::send(files, ranges, pace, chunks));
        Ok(Response::new(ReceiverStream::new(queue).boxed()))
    }

    async fn newest_manifest(
        &self,
        request: Request<peer::NewestManifestRequest>,
    ) -> Result<Response<Self::NewestManifestStream>, Status> {
        self.shared.admit_member(request.metadata())?;
        let files = self.host.store(ShardId(request.into_inner().shard));
        let manifest = files.and_then(|files| files.newest());
        let manifest = manifest.ok_or_else(|| Status::not_found("there is no checkpoint here"))?;
        Ok(Response::new(stream::iter(source::parts(manifest)).map(Ok).boxed()))
    }

    async fn propose(
        &self,
        request: Request<peer::ProposeRequest>,
    ) -> Result<Response<peer::ProposeResponse>, Status> {
        self.shared.admit_member(request.metadata())?;
        let request = request.into_inner();
        let deadline = Instant::now() + Duration::from_millis(u64::from(request.timeout_ms));
        let shard = ShardId(request.shard);
        let done = self.host.propose_local(shard, request.command, deadline).await;
        Ok(Response::new(outcome::propose_to(done)))
    }

    async fn inspect(
        &self,
        request: Request<peer::InspectRequest>,
    ) -> Result<Response<peer::InspectResponse>, Status> {
        self.shared.admit_member(request.metadata())?;
        let request = request.into_inner();
        let look = inspect::look(&request).map_err(malformed)?;
        let patience = Duration::from_millis(u64::from(request.timeout_ms));
        let seen = timeout(patience, self.host.inspect(look)).await;
        let seen = seen.map_err(|_| Status::deadline_exceeded("the inspection took too long"))?;
        Ok(Response::new(inspect::response(seen)))
    }

    async fn survey(
        &self,
        request: Request<peer::SurveyRequest>,
    ) -> Result<Response<peer::SurveyResponse>, Status> {
        self.shared.admit_member(request.metadata())?;
        let request = request.into_inner();
        let question = survey::question(&request).map_err(malformed)?;
        let told = self.host.survey(question, after(request.timeout_ms)).await;
        Ok(Response::new(survey::response(told, self.host.vitals())))
    }

    async fn read_index(
        &self,
        request: Request<peer::ReadIndexRequest>,
    ) -> Result<Response<peer::ReadIndexResponse>, Status> {
        self.shared.admit_member(request.metadata())?;
        let request = request.into_inner();
        let asked = self.host.read_index(ShardId(request.shard), after(request.timeout_ms)).await;
        let leader = match &asked {
            Err(ProposeError::NotLeader { leader, .. }) => leader.map(|node| node.0),
            _ => None,
        };
        Ok(Response::new(peer::ReadIndexResponse { index: asked.ok(), leader }))
    }

    async fn positions(
        &self,
        request: Request<peer::PositionsRequest>,
    ) -> Result<Response<peer::PositionsResponse>, Status> {
        self.shared.admit_member(request.metadata())?;
        let request = request.into_inner();
        let asked = positions::asked(&request).map_err(malformed)?;
        // What is known by then is still worth its way back.
        let deadline = after(request.timeout_ms - request.timeout_ms / WAY_BACK);
        let stands = self.host.positions(asked, deadline).await;
        Ok(Response::new(positions::response(stands)))
    }

    async fn entries(
        &self,
        request: Request<peer::EntriesRequest>,
    ) -> Result<Response<peer::EntriesResponse>, Status> {
        self.shared.admit_member(request.metadata())?;
        let wanted = entries::wanted(request.into_inner()).map_err(malformed)?;
        Ok(Response::new(entries::response(self.host.entries(wanted).await)))
    }
}

fn after(timeout_ms: u32) -> Instant {
    Instant::now() + Duration::from_millis(u64::from(timeout_ms))
}
