//! Owns one pipelined append stream: what openraft sees of a follower. A single state machine, polled by openraft alone,
//! so that dropping it stops the reading of the input at once: a task of its own might still take entries from the input
//! that the next stream believes to be its own.
//!
//! Its rules: answers in the order of the requests; it ends when the input has ended and nothing is owed (a heartbeat counts
//! only then, and without that an idle leader loses its lease); it fails as `Unreachable`, so that openraft backs off; and it
//! connects only once the input gave a request: openraft waits out its back-off inside the input, so that a stream which
//! fails before it reads is tried again at once, for ever, at the cost of a whole core.
//!
//! A request without entries tells the follower of a commit and nothing else. It is held for a moment: mostly the next
//! entries come meanwhile and tell the same, and openraft takes their answer for both, since an answer covers all requests
//! up to the entry that it names. The first request of a stream is never held: it may ask where the follower's log ends.
//! Nor is a commit of the catalog: every node acts on what it has applied of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::base::BoxStream;
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use openraft::{EmptyNode, EntryPayload};
use tokio::time::{Instant, sleep_until};
use waymark_proto::ids::ShardId;
use waymark_proto::peer::append_frame::Kind;
use waymark_proto::peer::{AppendFrame, End};

use super::NetworkOptions;
use super::acknowledged::Acknowledged;
use super::client::unreachable;
use super::link::Link;
use super::mux::{Mux, Owed, Registration};
use super::wire::{self, Route};
use crate::consensus::types::{C, Payload, RaftNode};
use crate::mutants;

/// What openraft is given for each request.
pub(super) type Item = Result<StreamAppendResult<C>, RPCError<C>>;

/// Bytes counted for an entry beside its payload.
const ENTRY_OVERHEAD: usize = 64;

struct AppendStream<S> {
    /// Gone once it ended.
    input: Option<S>,
    place: Registration,
    acknowledged: Arc<Acknowledged>,
    /// Not yet handed to the connection: the opening and one request, or one request and the end.
    pending: VecDeque<Kind>,
    /// A commit without entries, and when it goes if none come.
    held: Option<(AppendEntriesRequest<C>, Instant)>,
    /// Sizes of the requests that wait for an answer, in their order; at most the window.
    owed: VecDeque<usize>,
    /// When an answer came, or became owed.
    heard: Instant,
    options: NetworkOptions,
    done: bool,
}

/// Where a stream goes, and who hears its answers before openraft does.
type Way = (Route, Arc<Acknowledged>);

/// Runs an append stream over a connection.
pub(super) fn run<S>(
    link: Arc<Link>,
    setup: Duration,
    way: Way,
    input: S,
) -> BoxStream<'static, Item>
where
    S: Stream<Item = AppendEntriesRequest<C>> + Send + Unpin + 'static,
{
    let start = State::Waiting { link, setup, way, input };
    stream::unfold(start, |state| async move {
        let (item, next) = match state {
            State::Waiting { link, setup, way, mut input } => {
                let first = input.next().await?;
                match link.mux(setup).await {
                    Ok(mux) => {
                        let options = link.shared.options.clone();
                        let mut open = Box::new(AppendStream::open(&mux, way, input, options));
                        open.send(first);
                        (open.next().await?, State::Open(open))
                    }
                    Err(error) => (Err(unreachable(error)), State::Failed),
                }
            }
            State::Open(mut open) => (open.next().await?, State::Open(open)),
            State::Failed => return None,
        };
        Some((item, next))
    })
    .boxed()
}

enum State<S> {
    /// Nothing was asked yet, so nothing was connected.
    Waiting {
        link: Arc<Link>,
        setup: Duration,
        way: Way,
        input: S,
    },
    Open(Box<AppendStream<S>>),
    Failed,
}

/// What happened next on a stream.
enum Event {
    Answer(Option<Kind>),
    Request(Option<AppendEntriesRequest<C>>),
    Sent,
    /// What was held has waited long enough.
    Due,
    Silence,
}

impl<S> AppendStream<S>
where
    S: Stream<Item = AppendEntriesRequest<C>> + Send + Unpin + 'static,
{
    fn open(mux: &Mux, (route, acknowledged): Way, input: S, mut options: NetworkOptions) -> Self {
        if route.shard == ShardId::CATALOG {
            options.commit_gather = Duration::ZERO;
        }
        Self {
            input: Some(input),
            place: mux.register(options.append_window),
            acknowledged,
            pending: VecDeque::from([Kind::Open(wire::route_to(route))]),
            held: None,
            owed: VecDeque::new(),
            heard: Instant::now(),
            options,
            done: false,
        }
    }

    async fn next(&mut self) -> Option<Item> {
        while !self.done {
            if self.input.is_none() && self.owed.is_empty() {
                if mutants::planted!("append-stream-never-ends") {
                    std::future::pending::<()>().await;
                }
                return None;
            }
            let item = match self.event().await {
                Event::Answer(kind) => Some(self.answered(kind)),
                Event::Request(request) => {
                    self.accept(request);
                    None
                }
                Event::Due => {
                    self.send_held();
                    None
                }
                Event::Sent => None,
                Event::Silence => {
                    Some(Err(unreachable(format!("no answer for {:?}", self.options.append_idle))))
                }
            };
            if let Some(item) = item {
                // Every failure ends the stream: a conflict and a higher vote as well.
                self.done = !matches!(item, Ok(Ok(_)));
                return Some(item);
            }
        }
        None
    }

    async fn event(&mut self) -> Event {
        let credit = self.owed.len() < self.options.append_window
            && self.place.owes() < self.options.append_window_bytes;
        // One request of each stream always fits: without it a shard would stand still for what others owe.
        let of_all = if self.owed.is_empty() { usize::MAX } else { self.options.node_window_bytes };
        let owed = Arc::clone(&self.place.owed);
        let (waits_to_send, waits) =
            (!self.pending.is_empty(), !self.pending.is_empty() || !self.owed.is_empty());
        let held_until = self.held.as_ref().map(|(_, until)| *until);
        let (place, input, pending) = (&mut self.place, &mut self.input, &mut self.pending);
        tokio::select! {
            biased;
            answer = place.answers.recv() => Event::Answer(answer),
            permit = place.frames.reserve(), if waits_to_send => match permit {
                Ok(permit) => {
                    permit.send(AppendFrame { stream: place.id, kind: pending.pop_front() });
                    Event::Sent
                }
                Err(_) => Event::Answer(None),
            },
            request = next_below(&owed, of_all, input), if !waits_to_send && credit => Event::Request(request),
            () = due(held_until), if !waits_to_send && credit => Event::Due,
            () = sleep_until(self.heard + self.options.append_idle), if waits => Event::Silence,
        }
    }

    fn accept(&mut self, request: Option<AppendEntriesRequest<C>>) {
        match request {
            None => {
                self.send_held();
                self.input = None;
                self.pending.push_back(Kind::End(End {}));
            }
            Some(request)
                if request.entries.is_empty() && !self.options.commit_gather.is_zero() =>
            {
                // What follows without entries says more of the same, and does not begin the wait anew.
                let since = self.held.take().map(|(_, until)| until);
                let until = since.unwrap_or_else(|| Instant::now() + self.options.commit_gather);
                self.held = Some((request, until));
            }
            Some(request) => {
                self.held = None;
                self.send(request);
            }
        }
    }

    fn send_held(&mut self) {
        if let Some((request, _)) = self.held.take() {
            self.send(request);
        }
    }

    fn send(&mut self, request: AppendEntriesRequest<C>) {
        if self.owed.is_empty() {
            self.heard = Instant::now();
        }
        let bytes = size_of_request(&request);
        self.owed.push_back(bytes);
        self.place.owe(bytes);
        self.pending.push_back(Kind::Request(wire::append_to(request)));
    }

    fn answered(&mut self, kind: Option<Kind>) -> Item {
        self.heard = Instant::now();
        match kind {
            Some(Kind::Answer(answer)) => {
                let Some(bytes) = self.owed.pop_front() else {
                    return Err(unreachable("an answer to no request"));
                };
                self.place.settle(bytes);
                let answer = wire::answer_from(answer).map_err(unreachable)?;
                self.acknowledged.take(&answer);
                Ok(answer)
            }
            Some(Kind::Failed(reason)) => Err(unreachable(reason)),
            Some(Kind::End(_)) => Err(unreachable("the peer ended the stream")),
            Some(_) => Err(unreachable("not a server's frame")),
            None => Err(unreachable("the connection broke")),
        }
    }
}

async fn due(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The next of the input, which is not looked at before less than `most` is owed.
async fn next_below<S, T>(owed: &Owed, most: usize, input: &mut Option<S>) -> Option<T>
where
    S: Stream<Item = T> + Unpin,
{
    if !mutants::planted!("node-window-ignored") {
        owed.below(most).await;
    }
    match input {
        Some(input) => input.next().await,
        None => std::future::pending().await,
    }
}

fn size_of_request(request: &AppendEntriesRequest<C>) -> usize {
    let size = |payload: &EntryPayload<Payload, RaftNode, EmptyNode>| match payload {
        EntryPayload::Normal(payload) => payload.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    request.entries.iter().map(|entry| size(&entry.payload) + ENTRY_OVERHEAD).sum::<usize>()
        + ENTRY_OVERHEAD
}
