//! Owns the server side of the multiplexed append stream: hands each stream's requests to its replica and sends the answers
//! back in order. The reader of the connection never waits for a replica: a stream's requests fit into its queue, because
//! the client keeps to the window; one that does not is failed. Never looks into a request beyond decoding it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use openraft::raft::AppendEntriesRequest;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use waymark_proto::ids::NodeId;
use waymark_proto::peer;
use waymark_proto::peer::append_frame::Kind;
use waymark_proto::peer::{AppendFrame, End};

use super::door::ReplicaDoor;
use super::{NetworkOptions, PeerHost, wire};
use crate::consensus::types::C;
use crate::mutants;

/// A full node says so after this pause: its leaders ask again at once, each time with a request's worth of entries.
const FULL_PAUSE: Duration = Duration::from_millis(200);

type Answers = mpsc::Sender<Result<AppendFrame, Status>>;

/// One connection's open streams.
pub(super) struct AppendServer {
    pub(super) host: Arc<dyn PeerHost>,
    /// The node at the other end.
    pub(super) from: NodeId,
    pub(super) options: NetworkOptions,
    pub(super) answers: Answers,
}

struct Lane {
    /// Gone once the client ended the stream.
    requests: Option<mpsc::Sender<AppendEntriesRequest<C>>>,
    task: AbortHandle,
}

impl AppendServer {
    /// Serves until the connection ends.
    pub(super) async fn run(self, mut inbound: Streaming<AppendFrame>) {
        let mut lanes = BTreeMap::new();
        // Aborted, all of them, when this function returns.
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                frame = inbound.message() => match frame {
                    Ok(Some(frame)) => self.take(frame, &mut lanes, &mut tasks),
                    Ok(None) | Err(_) => return,
                },
                Some(finished) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Ok(stream) = finished {
                        lanes.remove(&stream);
                    }
                }
                () = self.answers.closed() => return,
            }
        }
    }

    fn take(&self, frame: AppendFrame, lanes: &mut BTreeMap<u64, Lane>, tasks: &mut JoinSet<u64>) {
        let stream = frame.stream;
        let mut pause = Duration::ZERO;
        let refused = match frame.kind {
            Some(Kind::Open(route)) => self.open(stream, route, lanes, tasks),
            Some(Kind::Request(request)) => match lanes.get(&stream) {
                Some(lane) => match no_room_for(self.host.as_ref(), request.entries.len()) {
                    Some(reason) => {
                        pause = FULL_PAUSE;
                        Err(reason)
                    }
                    None => lane.push(request),
                },
                // Crossed with the end of the stream.
                None => Ok(()),
            },
            Some(Kind::End(_)) => {
                if let Some(lane) = lanes.get_mut(&stream) {
                    lane.requests = None;
                }
                Ok(())
            }
            Some(Kind::Close(_)) => {
                if let Some(lane) = lanes.remove(&stream) {
                    lane.task.abort();
                }
                Ok(())
            }
            Some(Kind::Answer(_) | Kind::Failed(_)) | None => {
                Err("not a client's frame".to_owned())
            }
        };
        if let Err(reason) = refused {
            if let Some(lane) = lanes.remove(&stream) {
                lane.task.abort();
            }
            let answers = self.answers.clone();
            // In a task of its own, so that the reader does not wait for room among the answers.
            tasks.spawn(async move {
                sleep(pause).await;
                let _gone = answers.send(Ok(failed(stream, reason))).await;
                stream
            });
        }
    }

    fn open(
        &self,
        stream: u64,
        route: peer::Route,
        lanes: &mut BTreeMap<u64, Lane>,
        tasks: &mut JoinSet<u64>,
    ) -> Result<(), String> {
        let route = wire::route_from(Some(route)).map_err(|error| error.to_string())?;
        if route.from.node != self.from {
            return Err(format!("replica {} is not on node {}", route.from, self.from));
        }
        if self.host.is_replaced(route.shard, route.from) {
            return Err(route.replaced());
        }
        if tasks.len() >= self.options.append_streams {
            return Err("too many append streams".to_owned());
        }
        if lanes.contains_key(&stream) {
            return Err("opened twice".to_owned());
        }
        let Some(door) = self.host.raft(route.shard, route.to) else {
            return Err(format!("replica {} of shard {} is not here", route.to, route.shard));
        };
        let (requests, queue) = mpsc::channel(self.options.append_window);
        let task = tasks.spawn(serve_stream(stream, door, queue, self.answers.clone()));
        lanes.insert(stream, Lane { requests: Some(requests), task });
        Ok(())
    }
}

impl Lane {
    fn push(&self, request: peer::AppendRequest) -> Result<(), String> {
        let request = wire::append_from(request).map_err(|error| error.to_string())?;
        let Some(requests) = &self.requests else {
            return Err("a request after the end".to_owned());
        };
        match requests.try_send(request) {
            Err(mpsc::error::TrySendError::Full(_)) => Err("more requests than allowed".to_owned()),
            // Closed: the replica's own answer is on its way.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

async fn serve_stream(
    stream: u64,
    door: Arc<dyn ReplicaDoor>,
    requests: mpsc::Receiver<AppendEntriesRequest<C>>,
    answers: Answers,
) -> u64 {
    let mut results = door.stream_append(ReceiverStream::new(requests).boxed());
    while let Some(result) = results.next().await {
        let (frame, last) = match result {
            Ok(answer) => {
                let kind = Some(Kind::Answer(wire::answer_to(&answer)));
                (AppendFrame { stream, kind }, false)
            }
            Err(stopped) => (failed(stream, stopped.to_string()), true),
        };
        if answers.send(Ok(frame)).await.is_err() || last {
            return stream;
        }
    }
    let end = AppendFrame { stream, kind: Some(Kind::End(End {})) };
    let _gone = answers.send(Ok(end)).await;
    stream
}

/// Why a request with so many entries must not reach Raft (S19): an append that fails there ends the replica. One without
/// entries takes no room, and is how a leader keeps its followers.
pub(super) fn no_room_for(host: &dyn PeerHost, entries: usize) -> Option<String> {
    if entries == 0 || mutants::planted!("full-follower-appends") {
        return None;
    }
    host.refuses_entries()
}

fn failed(stream: u64, reason: String) -> AppendFrame {
    AppendFrame { stream, kind: Some(Kind::Failed(reason)) }
}
