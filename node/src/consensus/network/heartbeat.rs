//! Owns the gathering of heartbeats: those of all shards towards one node within a few milliseconds become one call, whose
//! answers come back one by one, so that a slow shard delays no other. Here they are only gathered and, on the serving
//! side, handed to each shard's replica: never answered on its behalf (S13).

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, FuturesUnordered};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tonic::Status;
use waymark_proto::ids::NodeId;
use waymark_proto::peer;
use waymark_proto::peer::heartbeat_answer::Kind;

use super::append::no_room_for;
use super::link::Link;
use super::{PeerHost, wire};
use crate::mutants;

/// Most heartbeats in one call; more start another.
const MOST_ITEMS: usize = 1024;

type Answer = Result<peer::AppendAnswer, String>;

/// A heartbeat that waits for its answer.
pub(super) struct Beat {
    heartbeat: peer::Heartbeat,
    deadline: Instant,
    answer: oneshot::Sender<Answer>,
}

impl Beat {
    pub(super) fn new(
        heartbeat: peer::Heartbeat,
        within: Duration,
    ) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        (Self { heartbeat, deadline: Instant::now() + within, answer }, receiver)
    }
}

/// Starts the gathering towards one peer; it ends with the link.
pub(super) fn gather(link: Weak<Link>) -> mpsc::Sender<Beat> {
    let (sender, mut beats) = mpsc::channel::<Beat>(MOST_ITEMS);
    tokio::spawn(async move {
        // Bounded by the shards: each has one heartbeat in flight to a follower.
        let mut calls = JoinSet::new();
        while let Some(first) = beats.recv().await {
            let Some(link) = link.upgrade() else { return };
            sleep(link.shared.options.heartbeat_gather).await;
            let mut batch = vec![first];
            while batch.len() < MOST_ITEMS
                && let Ok(beat) = beats.try_recv()
            {
                batch.push(beat);
            }
            while calls.try_join_next().is_some() {}
            calls.spawn(send(link, batch));
        }
    });
    sender
}

async fn send(link: Arc<Link>, batch: Vec<Beat>) {
    let deadline = batch.iter().map(|beat| beat.deadline).max().unwrap_or_else(Instant::now);
    let (items, mut waiting): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|beat| (beat.heartbeat, Some(beat.answer))).unzip();
    let within = deadline.saturating_duration_since(Instant::now());
    let request = peer::HeartbeatsRequest {
        items,
        deadline_ms: wire::millis(within),
        vitals: link.shared.vitals().map(wire::vitals_to),
    };
    let exchange = async {
        let mut client = link.client(false).map_err(|error| error.to_string())?;
        let answers = client.heartbeats(link.request(request, within)).await;
        let mut answers = answers.map_err(|status| status.to_string())?.into_inner();
        while let Some(part) = answers.message().await.map_err(|status| status.to_string())? {
            if let (Some(vitals), Some(host)) = (part.vitals, link.shared.host()) {
                host.heard(link.node(), wire::vitals_from(vitals));
            }
            for answer in part.answers {
                deliver(answer, &mut waiting);
            }
        }
        Ok::<_, String>(())
    };
    let reason = match timeout_at(deadline, exchange).await {
        Ok(Ok(())) => "the peer did not answer in time".to_owned(),
        Ok(Err(reason)) => reason,
        Err(_) => "no answer in time".to_owned(),
    };
    for waiting in waiting.into_iter().flatten() {
        // Its caller may have given up.
        let _gone = waiting.send(Err(reason.clone()));
    }
}

fn deliver(answer: peer::HeartbeatAnswer, waiting: &mut [Option<oneshot::Sender<Answer>>]) {
    let place = usize::try_from(answer.item).ok().and_then(|item| waiting.get_mut(item));
    let Some(waiting) = place.and_then(Option::take) else { return };
    let _gone = waiting.send(match answer.kind {
        Some(Kind::Answer(answer)) => Ok(answer),
        Some(Kind::Failed(reason)) => Err(reason),
        None => Err("an empty answer".to_owned()),
    });
}

/// Hands every heartbeat to its replica, all at once; answers as they come, until the deadline.
pub(super) fn serve(
    host: &Arc<dyn PeerHost>,
    from: NodeId,
    request: peer::HeartbeatsRequest,
) -> BoxStream<'static, Result<peer::HeartbeatsResponse, Status>> {
    let within = Duration::from_millis(u64::from(request.deadline_ms));
    let deadline = Instant::now() + within;
    if let Some(vitals) = request.vitals {
        host.heard(from, wire::vitals_from(vitals));
    }
    let vitals = wire::vitals_to(host.vitals());
    let answers: FuturesUnordered<_> = (0..)
        .zip(request.items)
        .map(|(item, heartbeat)| {
            let host = Arc::clone(host);
            async move {
                let kind = match answer(host.as_ref(), from, heartbeat).await {
                    Ok(answer) => Kind::Answer(answer),
                    Err(reason) => Kind::Failed(reason),
                };
                peer::HeartbeatAnswer { item, kind: Some(kind) }
            }
        })
        .collect();
    answers
        .ready_chunks(MOST_ITEMS)
        .take_until(sleep_until(deadline))
        .map(move |answers| Ok(peer::HeartbeatsResponse { answers, vitals: Some(vitals.clone()) }))
        .boxed()
}

async fn answer(host: &dyn PeerHost, from: NodeId, heartbeat: peer::Heartbeat) -> Answer {
    let route = wire::route_from(heartbeat.route).map_err(|error| error.to_string())?;
    let request = heartbeat.request.ok_or("a heartbeat without a request")?;
    let request = wire::append_from(request).map_err(|error| error.to_string())?;
    if route.from.node != from {
        return Err(format!("replica {} is not on node {from}", route.from));
    }
    if host.is_replaced(route.shard, route.from) {
        return Err(route.replaced());
    }
    if let Some(reason) = no_room_for(host, request.entries.len()) {
        return Err(reason);
    }
    let (previous, last) = (request.prev_log_id, request.entries.last().map(|entry| entry.log_id));
    let last = last.or(previous);
    if mutants::planted!("answer-heartbeats-at-the-door") {
        return Ok(wire::answer_to(&Ok(last)));
    }
    let Some(door) = host.raft(route.shard, route.to) else {
        return Err(format!("replica {} of shard {} is not here", route.to, route.shard));
    };
    let response = door.append_entries(request).await.map_err(|error| error.to_string())?;
    if response.is_conflict() && previous.is_none() {
        return Err("a conflict at the empty log".to_owned());
    }
    Ok(wire::answer_to(&response.into_stream_result(previous, last)))
}
