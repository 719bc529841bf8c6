//! Owns the client side of the multiplexed append stream: one connection to a peer that carries the streams of all shards.
//!
//! The reader of the connection never waits: each stream's answers fit into its queue, because no more requests than that
//! are ever unanswered. The writer closes a stream that was given up before it sends anything else, and drops the frames
//! that such a stream had queued. When the connection breaks, every stream on it ends. Never touches a request's content.
//!
//! What all streams together owe is counted (`Owed`): a node whose disk stands still must not be filled by its many leaders.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, stream};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use waymark_proto::peer::append_frame::Kind;
use waymark_proto::peer::{AppendFrame, End};

use super::PeerError;
use super::link::Link;

/// Frames of all streams that wait for the connection. Few, because each may be a mebibyte; HTTP/2's windows hold the rest.
const QUEUED_FRAMES: usize = 8;

/// A connection. A clone is the same; it ends when the last clone and the last stream are gone.
#[derive(Clone)]
pub(super) struct Mux {
    frames: mpsc::Sender<AppendFrame>,
    table: Arc<Table>,
    _reader: Arc<AbortOnDropHandle<()>>,
}

/// Bytes of requests, of all streams of a connection, that wait for an answer.
#[derive(Default)]
pub(super) struct Owed {
    bytes: AtomicUsize,
    /// Tells the streams that wait for room.
    less: Notify,
}

impl Owed {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.less.notify_waiters();
    }

    /// Returns once less than this is owed.
    pub(super) async fn below(&self, most: usize) {
        loop {
            let less = self.less.notified();
            if self.bytes.load(Ordering::Relaxed) < most {
                return;
            }
            less.await;
        }
    }
}

/// What the streams, the writer and the reader share.
struct Table {
    state: Mutex<TableState>,
    owed: Arc<Owed>,
    /// Wakes the writer when a stream was given up.
    closed: Notify,
}

#[derive(Default)]
struct TableState {
    broken: bool,
    last_id: u64,
    /// Where each open stream's answers go. Entries leave when the stream is dropped or the connection breaks.
    streams: BTreeMap<u64, mpsc::Sender<Kind>>,
    /// Streams given up, not yet told to the peer. Bounded by the streams opened.
    closing: Vec<u64>,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, TableState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, frame: AppendFrame) {
        let mut state = self.lock();
        let Some(answers) = state.streams.get(&frame.stream) else { return };
        let Some(kind) = frame.kind else { return };
        if answers.try_send(kind).is_err() {
            // More answers than requests: without its sender the stream ends as if the connection had broken.
            state.streams.remove(&frame.stream);
            tracing::warn!(stream = frame.stream, "a peer sent more answers than it owed");
        }
    }

    fn break_all(&self) {
        let mut state = self.lock();
        state.broken = true;
        state.streams.clear();
        state.closing.clear();
    }
}

/// Opens the connection of a link.
pub(super) async fn connect(link: &Link) -> Result<Mux, PeerError> {
    let mut client = link.client(true)?;
    let (frames, queue) = mpsc::channel(QUEUED_FRAMES);
    let table =
        Arc::new(Table { state: Mutex::default(), owed: Arc::default(), closed: Notify::new() });
    let outgoing = outgoing(queue, Arc::clone(&table));
    let answers = client.append(link.streaming(outgoing)).await;
    let inbound = answers.map_err(|status| link.error(&status))?.into_inner();
    let reader = AbortOnDropHandle::new(tokio::spawn(read(inbound, Arc::clone(&table))));
    tracing::debug!(node = %link.node(), "append connection opened");
    Ok(Mux { frames, table, _reader: Arc::new(reader) })
}

fn outgoing(
    queue: mpsc::Receiver<AppendFrame>,
    table: Arc<Table>,
) -> impl Stream<Item = AppendFrame> + Send + 'static {
    stream::unfold((queue, table), |(mut queue, table)| async move {
        loop {
            let closing = table.lock().closing.pop();
            if let Some(stream) = closing {
                let frame = AppendFrame { stream, kind: Some(Kind::Close(End {})) };
                return Some((frame, (queue, table)));
            }
            tokio::select! {
                biased;
                () = table.closed.notified() => {}
                frame = queue.recv() => {
                    let frame = frame?;
                    // A stream that was given up has been closed already: its frames would open it again.
                    if table.lock().streams.contains_key(&frame.stream) {
                        return Some((frame, (queue, table)));
                    }
                }
            }
        }
    })
}

async fn read(mut inbound: Streaming<AppendFrame>, table: Arc<Table>) {
    loop {
        match inbound.message().await {
            Ok(Some(frame)) => table.deliver(frame),
            Ok(None) => break,
            Err(status) => {
                tracing::debug!(reason = status.message(), "append connection broke");
                break;
            }
        }
    }
    table.break_all();
}

impl Mux {
    pub(super) fn is_alive(&self) -> bool {
        !self.table.lock().broken && !self.frames.is_closed()
    }

    /// A new stream whose owner never lets more than `window` requests wait for an answer.
    pub(super) fn register(&self, window: usize) -> Registration {
        // Beside the answers there may be an end and a failure.
        let (sender, answers) = mpsc::channel(window + 2);
        let mut state = self.table.lock();
        state.last_id += 1;
        let id = state.last_id;
        if !state.broken {
            state.streams.insert(id, sender);
        }
        drop(state);
        let owed = Arc::clone(&self.table.owed);
        Registration { id, frames: self.frames.clone(), answers, owed, owes: 0, mux: self.clone() }
    }
}

/// A stream's place on a connection; dropping it gives the stream up.
pub(super) struct Registration {
    pub(super) id: u64,
    /// Towards the peer.
    pub(super) frames: mpsc::Sender<AppendFrame>,
    /// From the peer; `None` when the connection broke.
    pub(super) answers: mpsc::Receiver<Kind>,
    /// Of all streams of the connection.
    pub(super) owed: Arc<Owed>,
    /// This stream's part of it.
    owes: usize,
    mux: Mux,
}

impl Registration {
    /// A request of this size waits for its answer from now on.
    pub(super) fn owe(&mut self, bytes: usize) {
        self.owes += bytes;
        self.owed.add(bytes);
    }

    /// … and has it.
    pub(super) fn settle(&mut self, bytes: usize) {
        self.owes -= bytes;
        self.owed.sub(bytes);
    }

    pub(super) fn owes(&self) -> usize {
        self.owes
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.owed.sub(self.owes);
        let mut state = self.mux.table.lock();
        if state.streams.remove(&self.id).is_some() {
            state.closing.push(self.id);
            self.mux.table.closed.notify_one();
        }
    }
}
