//! One fetch stream: control messages change the cursors, cursors with a turn are read into frames, and cursors at their
//! high watermark wait to be woken. Owns the stream's one task. What may be read, and by whom, is decided in `cursors`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use waymark_proto::failure::Failure;
use waymark_proto::ids::TopicPartition;
use waymark_proto::v1;

use super::Api;
use super::convert::fetch::{
    Limits, MAX_CURSORS, control, data, failed, limit_too_small, marks, stream_limits,
};
use super::cursors::{Cursors, Turn};
use super::frame::{Fit, Frame};
use super::logs::{Marks, SharedLogs};
use super::notice::notice;
use super::status::{translated, whole_call};

/// A stream that has nothing to say says where its partitions stand.
const IDLE_FRAME: Duration = Duration::from_secs(5);
/// Cursors of one idle frame; the others follow in the next ones.
const IDLE_CURSORS: usize = 1_000;
/// Frames that wait for the transport: one on its way and one behind it keep a fast client busy.
const FRAMES_WAITING: usize = 2;
/// Turns of one frame, so that control messages are heard between many empty reads.
const TURNS: usize = 256;

type Frames = mpsc::Sender<Result<v1::FetchFrame, Status>>;
/// Resolves to the cursor to wake; aborted with its cursor.
type Waiting = FuturesUnordered<Abortable<BoxFuture<'static, i32>>>;

/// Serves a stream until the client ends it.
pub(super) fn open(
    api: &Api,
    controls: Streaming<v1::FetchControl>,
) -> ReceiverStream<Result<v1::FetchFrame, Status>> {
    let (out, frames) = mpsc::channel(FRAMES_WAITING);
    let (logs, draining) = (api.logs().clone(), api.draining());
    tokio::spawn(async move {
        // An error means that the client is gone, and with it everyone who could be told.
        let _ = serve(logs, controls, out, draining).await;
    });
    ReceiverStream::new(frames)
}

/// The client is gone, or was told why its stream ends.
struct Over;

async fn serve(
    logs: SharedLogs,
    mut controls: Streaming<v1::FetchControl>,
    out: Frames,
    draining: CancellationToken,
) -> Result<(), Over> {
    let Ok(Some(first)) = controls.message().await else { return Err(Over) };
    let limits = match stream_limits(&first) {
        Ok(limits) => limits,
        Err(failure) => return refuse(&out, &failure).await,
    };
    let mut session = Session::new(logs, limits, out);
    session.control(first).await?;
    let (mut open, mut told) = (true, false);
    loop {
        let idle_at = session.last_frame + IDLE_FRAME;
        let held_until = session.held_until();
        tokio::select! {
            biased;
            () = draining.cancelled(), if !told => {
                told = true;
                session.send(v1::FetchFrame { notice: Some(notice()), ..Default::default() }).await?;
            }
            next = controls.message(), if open => match next {
                Ok(Some(next)) => session.control(next).await?,
                Ok(None) => open = false,
                Err(status) => return broken(&session.out, &status).await,
            },
            Some(woken) = session.waiting.next(), if !session.waiting.is_empty() => {
                session.wake(woken.ok());
            }
            () = std::future::ready(()), if session.cursors.has_turn() => session.frame().await?,
            () = tokio::time::sleep_until(held_until), if session.held.is_some() => {
                session.release().await?;
            }
            () = tokio::time::sleep_until(idle_at) => session.idle_frame().await?,
            () = session.out.closed() => return Err(Over),
        }
        // Nobody can grant more.
        if !open && session.cursors.is_spent() {
            return Ok(());
        }
    }
}

async fn refuse(out: &Frames, failure: &Failure) -> Result<(), Over> {
    let _ = out.send(Err(whole_call(failure))).await;
    Err(Over)
}

/// Tells what was wrong with a message, if it was not the connection.
async fn broken(out: &Frames, status: &Status) -> Result<(), Over> {
    if let Some(status) = translated(status) {
        let _ = out.send(Err(status)).await;
    }
    Err(Over)
}

/// A frame that waits for more bytes.
struct Held {
    frame: Frame,
    until: Instant,
}

struct Session {
    logs: SharedLogs,
    limits: Limits,
    cursors: Cursors,
    /// One for each parked cursor; those of removed cursors are aborted.
    waiting: Waiting,
    /// Handles of `waiting`, by cursor.
    handles: BTreeMap<i32, AbortHandle>,
    /// What was read and is not yet as much as the client waits for. Its cursors have moved on: nothing may be told of
    /// them before it was sent.
    held: Option<Held>,
    out: Frames,
    last_frame: Instant,
    /// The last cursor that an idle frame told of.
    last_idle: i32,
}

impl Session {
    fn new(logs: SharedLogs, limits: Limits, out: Frames) -> Self {
        Self {
            logs,
            limits,
            cursors: Cursors::new(MAX_CURSORS),
            waiting: FuturesUnordered::new(),
            handles: BTreeMap::new(),
            held: None,
            out,
            last_frame: Instant::now(),
            last_idle: -1,
        }
    }

    /// Applies a control message. One that moves cursors is confirmed at once, even if there is nothing to send.
    async fn control(&mut self, given: v1::FetchControl) -> Result<(), Over> {
        let given = match control(given) {
            Ok(given) => given,
            Err(failure) => return refuse(&self.out, &failure).await,
        };
        let moves = !(given.remove.is_empty() && given.add.is_empty());
        if moves || !given.pause.is_empty() {
            self.release().await?;
        }
        for cursor in given.remove.iter().chain(given.add.iter().map(|(cursor, _)| cursor)) {
            self.stop_waiting(*cursor);
        }
        let refused = self.cursors.apply(given);
        if !refused.is_empty() || (moves && !self.cursors.has_turn()) {
            let data = refused.into_iter().map(|(cursor, failure)| failed(cursor, failure));
            let data = data.collect();
            self.send(v1::FetchFrame { data, ..Default::default() }).await?;
        }
        Ok(())
    }

    fn wake(&mut self, cursor: Option<i32>) {
        let Some(cursor) = cursor else { return };
        self.handles.remove(&cursor);
        self.cursors.wake(cursor);
    }

    /// Reads cursors in turn until the frame is full, the credit is used up or everyone has caught up.
    async fn frame(&mut self) -> Result<(), Over> {
        let (mut frame, until) = match self.held.take() {
            Some(held) => (held.frame, held.until),
            None => (self.empty_frame(), Instant::now() + self.limits.max_wait),
        };
        let mut full = false;
        for _ in 0..TURNS {
            let Some(room) = frame.room() else { break };
            let Some(turn) = self.cursors.take() else { break };
            let budget = turn.budget.min(room);
            match self.logs.read(turn.position.read(budget)).await {
                Ok(read) => match frame.fits(read.bytes.len()) {
                    Fit::Yes => self.served(&mut frame, &turn, read),
                    Fit::Later => {
                        self.cursors.put_back(turn.cursor);
                        full = true;
                        break;
                    }
                    Fit::Never(needed) => self.end(&mut frame, &turn, limit_too_small(needed)),
                },
                Err(failure) => self.end(&mut frame, &turn, failure),
            }
        }
        if frame.data.is_empty() {
            return Ok(());
        }
        let enough = full || frame.room().is_none() || self.is_enough(&frame);
        if !enough && Instant::now() < until {
            self.held = Some(Held { frame, until });
            return Ok(());
        }
        self.send(v1::FetchFrame { data: frame.data, ..Default::default() }).await
    }

    /// Whether the client wants to hear this now. News without bytes, a failure and the last of the credit never wait.
    fn is_enough(&self, frame: &Frame) -> bool {
        frame.bytes == 0
            || frame.bytes >= self.limits.min_bytes
            || self.cursors.is_spent()
            || frame.data.iter().any(|data| data.failure.is_some())
    }

    fn empty_frame(&self) -> Frame {
        Frame::new(self.limits.max_bytes, self.limits.max_message_bytes)
    }

    fn held_until(&self) -> Instant {
        self.held.as_ref().map_or(self.last_frame, |held| held.until)
    }

    /// Sends what is held.
    async fn release(&mut self) -> Result<(), Over> {
        let Some(held) = self.held.take() else { return Ok(()) };
        self.send(v1::FetchFrame { data: held.frame.data, ..Default::default() }).await
    }

    fn served(&mut self, frame: &mut Frame, turn: &Turn, read: super::logs::Batches) {
        let (bytes, seen) = (read.bytes.len(), read.marks);
        let caught_up = read.next_offset >= seen.high_watermark;
        let moved = read.next_offset != turn.position.offset || bytes > 0 || !turn.told;
        if !self.cursors.served(turn.cursor, bytes, read.next_offset, caught_up) {
            return;
        }
        if caught_up {
            self.wait(turn.cursor, turn.position.at, seen);
        }
        // A cursor that was woken for nothing says so in an idle frame only.
        if moved {
            frame.push(data(turn.cursor, read));
        }
    }

    fn end(&mut self, frame: &mut Frame, turn: &Turn, failure: Failure) {
        if self.cursors.end(turn.cursor) {
            frame.push(failed(turn.cursor, failure));
        }
    }

    /// Wakes the cursor once its partition changes.
    fn wait(&mut self, cursor: i32, at: TopicPartition, seen: Marks) {
        let changed = self.logs.changed(at, seen);
        let woken: BoxFuture<'static, i32> = Box::pin(async move {
            changed.await;
            cursor
        });
        let (handle, registration) = AbortHandle::new_pair();
        self.handles.insert(cursor, handle);
        self.waiting.push(Abortable::new(woken, registration));
    }

    fn stop_waiting(&mut self, cursor: i32) {
        if let Some(handle) = self.handles.remove(&cursor) {
            handle.abort();
        }
    }

    async fn idle_frame(&mut self) -> Result<(), Over> {
        if self.held.is_some() {
            return self.release().await;
        }
        let parked = self.cursors.parked_after(self.last_idle).take(IDLE_CURSORS);
        let mut frame = self.empty_frame();
        let mut last = self.last_idle;
        for (cursor, position) in parked {
            if !frame.has_entry_room() {
                break;
            }
            last = cursor;
            let Some(now) = self.logs.marks(position.at) else { continue };
            let caught_up = position.offset >= now.high_watermark;
            let next_offset = Some(position.offset);
            frame.push(v1::CursorData { next_offset, caught_up, ..marks(cursor, now) });
        }
        self.last_idle = last;
        self.send(v1::FetchFrame { data: frame.data, ..Default::default() }).await
    }

    async fn send(&mut self, mut frame: v1::FetchFrame) -> Result<(), Over> {
        frame.applied_control_seq = self.cursors.applied();
        self.last_frame = Instant::now();
        self.out.send(Ok(frame)).await.map_err(|_| Over)
    }
}
