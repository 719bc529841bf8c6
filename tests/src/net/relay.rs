//! Owns what goes wrong with single calls on connections that are well: lost on their way, their answer lost, late, sent
//! twice, or a stream cut off in its middle. A relay stands on the caller's host between the product's connection and the
//! network, speaks HTTP/2 both ways, and hands every call on. Never looks into a message, and keeps the pings of the
//! product's connections, so that a silent network is noticed as soon as without it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::DuplexStream;
use tokio::time::{Sleep, sleep};
use turmoil::net::TcpStream;
use waymark_proto::transport::{CONNECTION_WINDOW, MAX_FRAME, Purpose, STREAM_WINDOW};

/// What a lost call waits between two looks whether the trouble is over.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The longest that a call or a part of a stream is late, milliseconds.
const LATEST_MS: u64 = 1_500;
/// A part of a stream has this much less trouble than a call: there are many more of them.
const PARTS_PER_CALL: u8 = 4;
/// Of the troubles of a part of a stream, one in so many ends the stream.
const LATE_PER_CUT: u32 = 6;

/// Calls that Raft, or whoever sends them, may see twice: what they ask for is only looked at, or is harmless the second
/// time. Nothing below gRPC would repeat any other.
const REPEATABLE: [&str; 8] = [
    "Vote",
    "TransferLeader",
    "Heartbeats",
    "Hello",
    "ReadIndex",
    "Positions",
    "Survey",
    "Inspect",
];
const PEER_SERVICE: &str = "/waymark.peer.v1.Peer/";

/// What happened to calls, by name, as in a batch's table.
pub const TROUBLES: [&str; 5] =
    ["call-lost", "call-answer-lost", "call-late", "call-twice", "call-stream-cut"];

type Failed = Box<dyn Error + Send + Sync>;
type Content = UnsyncBoxBody<Bytes, Failed>;

/// What is to happen to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Lost,
    AnswerLost,
    Late(Duration),
    Twice(Duration),
}

/// What is to happen to a part of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hitch {
    Late(Duration),
    Cut,
}

#[derive(Debug)]
struct State {
    /// By host, of a hundred calls.
    chances: BTreeMap<String, u8>,
    random: SmallRng,
}

/// What goes wrong with the calls of a run. A clone is the same.
#[derive(Debug, Clone)]
pub(crate) struct CallFaults(Arc<Mutex<State>>);

impl CallFaults {
    pub(crate) fn new(seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed ^ 0x0ca1_1000);
        Self(Arc::new(Mutex::new(State { chances: BTreeMap::new(), random })))
    }

    /// With calls to and from a host, from now on.
    pub(crate) fn set(&self, host: &str, percent: u8) {
        self.lock().chances.insert(host.to_owned(), percent);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn chance(&self, (from, to): (&str, &str)) -> u8 {
        let of = |host: &str| self.chances.get(host).copied().unwrap_or(0);
        of(from).max(of(to))
    }

    fn later(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(1..=LATEST_MS))
    }

    fn of_call(&mut self, ends: (&str, &str), path: &str) -> Option<Trouble> {
        let chance = self.chance(ends);
        if chance == 0 || self.random.random_range(0..100) >= chance {
            return None;
        }
        let method = path.strip_prefix(PEER_SERVICE);
        let repeatable = method.is_some_and(|method| REPEATABLE.contains(&method));
        let late = self.later();
        Some(match self.random.random_range(0..4) {
            0 => Trouble::Lost,
            1 => Trouble::AnswerLost,
            2 if repeatable => Trouble::Twice(late),
            _ => Trouble::Late(late),
        })
    }

    fn of_part(&mut self, ends: (&str, &str)) -> Option<Hitch> {
        let chance = self.chance(ends) / PARTS_PER_CALL;
        if chance == 0 || self.random.random_range(0..100) >= chance {
            return None;
        }
        let cut = self.random.random_ratio(1, LATE_PER_CUT);
        Some(if cut { Hitch::Cut } else { Hitch::Late(self.later()) })
    }
}

/// A connection's relay.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    faults: CallFaults,
    from: Arc<str>,
    to: Arc<str>,
}

impl Relay {
    /// Between two hosts.
    pub(super) fn new(faults: CallFaults, from: &str, to: &str) -> Self {
        Self { faults, from: from.into(), to: to.into() }
    }

    /// Hands calls on until one of the two connections ends.
    pub(super) async fn run(self, near: DuplexStream, far: TcpStream, purpose: Purpose) {
        let far = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(purpose.ping_every())
            .keep_alive_timeout(purpose.ping_timeout())
            .keep_alive_while_idle(true)
            .handshake::<_, Content>(TokioIo::new(far))
            .await;
        let Ok((sender, far)) = far else { return };
        let serve = service_fn(move |request| self.clone().hand_on(request, sender.clone()));
        let near = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(near), serve);
        // Whichever ends takes the other with it: the product must see what it would see without a relay.
        let ended: Result<(), hyper::Error> = tokio::select! {
            ended = near => ended,
            ended = far => ended,
        };
        tracing::debug!(?ended, "a relay's connection ended");
    }

    async fn hand_on(
        self,
        request: Request<Incoming>,
        far: SendRequest<Content>,
    ) -> Result<Response<Content>, Failed> {
        let trouble = self.faults.lock().of_call(self.ends(), request.uri().path());
        match trouble {
            None => self.ask(request, far).await,
            Some(Trouble::Late(by)) => {
                met("call-late");
                sleep(by).await;
                self.ask(request, far).await
            }
            Some(Trouble::Lost) => {
                met("call-lost");
                Err(self.silence().await)
            }
            Some(Trouble::AnswerLost) => {
                met("call-answer-lost");
                let asked = async {
                    // Whatever comes of it: nobody hears.
                    if let Ok(answer) = self.ask(request, far).await {
                        drop(answer.into_body().collect().await);
                    }
                    std::future::pending().await
                };
                tokio::select! {
                    failed = self.silence() => Err(failed),
                    never = asked => never,
                }
            }
            Some(Trouble::Twice(again)) => {
                met("call-twice");
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let whole = || Full::new(body.clone()).map_err(|never| match never {});
                let copy = || Request::from_parts(head.clone(), whole().boxed_unsync());
                let (second, mut later) = (copy(), far.clone());
                tokio::spawn(async move {
                    sleep(again).await;
                    if let Ok(answer) = later.send_request(second).await {
                        drop(answer.into_body().collect().await);
                    }
                });
                let mut far = far;
                Ok(far.send_request(copy()).await?.map(|body| self.troubled(body)))
            }
        }
    }

    fn ends(&self) -> (&str, &str) {
        (&self.from, &self.to)
    }

    async fn ask(
        &self,
        request: Request<Incoming>,
        mut far: SendRequest<Content>,
    ) -> Result<Response<Content>, Failed> {
        far.ready().await?;
        let answer = far.send_request(request.map(|body| self.troubled(body))).await?;
        Ok(answer.map(|body| self.troubled(body)))
    }

    /// Nothing is heard until the trouble is over; then the call fails.
    async fn silence(&self) -> Failed {
        while self.faults.lock().chance(self.ends()) > 0 {
            sleep(LOOK_AGAIN).await;
        }
        "the call was lost".into()
    }

    fn troubled(&self, content: Incoming) -> Content {
        Troubled { content, relay: self.clone(), late: None }.boxed_unsync()
    }
}

fn met(trouble: &'static str) {
    // Counted as what nodes reach is.
    tracing::trace!(target: "reached", state = trouble);
}

/// One direction of a call, part by part.
struct Troubled {
    content: Incoming,
    relay: Relay,
    /// A part that is late, and until when.
    late: Option<(Pin<Box<Sleep>>, Frame<Bytes>)>,
}

impl fmt::Debug for Troubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Troubled({:?})", self.relay.ends())
    }
}

impl Body for Troubled {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        if self.late.is_none() {
            let part = match ready!(Pin::new(&mut self.content).poll_frame(cx)) {
                Some(Ok(part)) => part,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            };
            let hitch = self.relay.faults.lock().of_part(self.relay.ends());
            match hitch.filter(|_| part.is_data()) {
                None => return Poll::Ready(Some(Ok(part))),
                Some(Hitch::Cut) => {
                    met("call-stream-cut");
                    return Poll::Ready(Some(Err("the stream was cut off".into())));
                }
                Some(Hitch::Late(by)) => self.late = Some((Box::pin(sleep(by)), part)),
            }
        }
        if let Some((until, _)) = &mut self.late {
            ready!(until.as_mut().poll(cx));
        }
        Poll::Ready(self.late.take().map(|(_, part)| Ok(part)))
    }

    fn is_end_stream(&self) -> bool {
        self.late.is_none() && self.content.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_trouble_only_where_and_while_they_should() {
        let faults = CallFaults::new(1);
        faults.set("node-2", 100);
        let call =
            |ends, method: &str| faults.lock().of_call(ends, &format!("{PEER_SERVICE}{method}"));
        assert_eq!(call(("node-1", "node-3"), "Vote"), None);
        let troubles: Vec<_> = (0..64).map(|_| call(("node-1", "node-2"), "Vote")).collect();
        assert!(troubles.iter().all(Option::is_some));
        assert!(troubles.iter().any(|it| matches!(it, Some(Trouble::Twice(_)))));
        let twice = |_| matches!(call(("node-2", "node-1"), "Propose"), Some(Trouble::Twice(_)));
        assert!(!(0..64).any(twice), "a proposal would be made twice");
        faults.set("node-2", 0);
        assert_eq!(call(("node-1", "node-2"), "Vote"), None);
    }
}
