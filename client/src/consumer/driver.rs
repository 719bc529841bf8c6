//! Owns the consumer's fetching task: it keeps one cursor per wanted partition on the leader's stream, grants credit as the
//! application consumes, and moves cursors when leaders move. It compares what [`State`] wants with what the streams have,
//! so that assign, seek, pause and leader change are all the same step. Never hands out a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use waymark_proto::v1 as wire;
use wire::FailureCode;

use super::state::{Chunk, Run, SharedState, Wanted};
use super::stream::{FetchStream, Limits};
use crate::client::Client;
use crate::config::{ConsumerConfig, OffsetReset};
use crate::error::{Error, Refusal, Result};
use crate::refusal;
use crate::retry::{Backoff, LEADER_PAUSE, Repeat, Verdict, judge};

/// What comes back to the driver.
#[derive(Debug)]
pub(super) enum Event {
    Frame { stream: (i32, u64), frame: wire::FetchFrame },
    Broken { stream: (i32, u64), error: Error },
    Refreshed(Result<()>),
}

/// A cursor on a node's stream.
#[derive(Debug)]
struct Cursor {
    node: i32,
    id: i32,
    paused: bool,
}

/// A node's stream and what is on it.
#[derive(Debug)]
struct Node {
    stream: FetchStream,
    incarnation: u64,
    runs: BTreeMap<i32, Run>,
    heard: Instant,
}

#[derive(Debug)]
pub(super) struct Driver {
    pub(super) client: Client,
    pub(super) config: ConsumerConfig,
    pub(super) shared: Arc<SharedState>,
    pub(super) stop: CancellationToken,
    pub(super) events: mpsc::Sender<Event>,
    cursors: BTreeMap<Run, Cursor>,
    nodes: BTreeMap<i32, Node>,
    backoff: Backoff,
    /// No cursor is added before: after a failure.
    not_before: Instant,
    refreshing: bool,
    refresh_wanted: bool,
    next_incarnation: u64,
    next_cursor: i32,
}

/// Nodes send a frame at least every 5 s; two missed and a little more is silence.
const SILENCE: Duration = Duration::from_secs(12);
/// How often silence is looked for, and leaders that were not there are asked for.
const SWEEP: Duration = Duration::from_millis(500);
/// Frames taken in before cursors and credit are looked at again.
const EVENTS_AT_ONCE: usize = 32;

impl Driver {
    pub(super) fn new(
        client: Client,
        config: ConsumerConfig,
        shared: Arc<SharedState>,
        (stop, events): (CancellationToken, mpsc::Sender<Event>),
    ) -> Self {
        let backoff = Backoff::new(client.config());
        Self {
            client,
            config,
            shared,
            stop,
            events,
            cursors: BTreeMap::new(),
            nodes: BTreeMap::new(),
            backoff,
            not_before: Instant::now(),
            refreshing: false,
            refresh_wanted: false,
            next_incarnation: 0,
            next_cursor: 0,
        }
    }

    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        let mut sweep = Instant::now() + SWEEP;
        loop {
            let waiting = self.not_before.max(Instant::now());
            let wake = if waiting > Instant::now() { waiting.min(sweep) } else { sweep };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.recv() => {
                    let mut event = event;
                    for _ in 0..EVENTS_AT_ONCE {
                        let Some(next) = event.take() else { break };
                        self.handle(next);
                        event = events.try_recv().ok();
                    }
                    if let Some(last) = event {
                        self.handle(last);
                    }
                }
                () = shared.changed.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            let now = Instant::now();
            if now >= sweep {
                sweep = now + SWEEP;
                self.drop_silent(now);
            }
            self.reconcile(now);
            self.grant();
            self.start_refresh();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Frame { stream, frame } => self.frame(stream, frame),
            Event::Broken { stream, error } => self.broken(stream, &error),
            Event::Refreshed(outcome) => {
                self.refreshing = false;
                if let Err(error) = outcome {
                    tracing::warn!(%error, "metadata could not be read");
                }
            }
        }
    }

    fn frame(&mut self, stream: (i32, u64), frame: wire::FetchFrame) {
        let Some(node) = self.nodes.get_mut(&stream.0).filter(|n| n.incarnation == stream.1) else {
            return;
        };
        node.heard = Instant::now();
        self.backoff.reset();
        let notice = frame.notice.as_ref().map(wire::Notice::kind);
        self.refresh_wanted |= notice == Some(wire::NoticeKind::Draining);
        let mut any = false;
        for data in frame.data {
            let run =
                self.nodes.get(&stream.0).and_then(|node| node.runs.get(&data.cursor).copied());
            let Some(run) = run else {
                // A cursor that was removed: a seek or a new assignment has overtaken this frame.
                self.shared.lock().give_back(stream, data.batches.len());
                continue;
            };
            any = true;
            match &data.failure {
                Some(failure) => self.cursor_failed(run, refusal::refusal(failure)),
                None => self.data(run, stream, data),
            }
        }
        if any {
            self.shared.data.notify_one();
        }
    }

    fn data(&self, run: Run, stream: (i32, u64), data: wire::CursorData) {
        let mut state = self.shared.lock();
        let next_offset = match (data.next_offset, state.run(run)) {
            (Some(next), _) => next,
            (None, Some(slot)) => slot.fetch_from,
            (None, None) => 0,
        };
        let credit = data.batches.len();
        let chunk = Chunk { batches: data.batches, next_offset, stream, credit };
        state.fetched(run, chunk, data.high_watermark);
    }

    /// The cursor is gone; whether the partition is read on is decided by the failure's class.
    fn cursor_failed(&mut self, run: Run, refusal: Refusal) {
        self.forget(run);
        let Some((at, topic_id)) = self.shared.lock().run(run).map(|s| (s.at.clone(), s.topic_id))
        else {
            return;
        };
        tracing::debug!(topic = %at.topic, partition = at.partition, code = ?refusal.code, "cursor ended");
        if refusal.code == FailureCode::OffsetOutOfRange {
            return self.out_of_range(run, &refusal);
        }
        if let Some(hint) = &refusal.leader {
            self.client.metadata().hint(&topic_id, at.partition, hint);
        }
        let error = Error::Refused(Arc::new(refusal));
        match judge(&error, Repeat::Harmless) {
            Verdict::Again { pause, elsewhere } => {
                let elsewhere = elsewhere || error.is(FailureCode::NoLeader);
                let own = self.backoff.pause(&self.client.config().random);
                let pause = pause.max(if elsewhere { own.min(LEADER_PAUSE) } else { own });
                self.not_before = Instant::now() + pause;
                self.refresh_wanted |= elsewhere;
            }
            Verdict::Done | Verdict::GiveUp => {
                self.shared.lock().failed(run, error.about_topic(&at.topic));
            }
        }
    }

    fn out_of_range(&mut self, run: Run, refusal: &Refusal) {
        let mut state = self.shared.lock();
        let Some(at) = state.run(run).map(|slot| slot.at.clone()) else { return };
        let target = match self.config.auto_offset_reset {
            OffsetReset::Earliest => refusal.log_start_offset,
            OffsetReset::Latest => refusal.high_watermark,
            OffsetReset::None => None,
        };
        match target {
            Some(offset) => {
                tracing::warn!(topic = %at.topic, partition = at.partition, offset, "offset out of range, reset");
                // The slot was found just above, under the same lock.
                let _ = state.seek(&at, offset);
            }
            None => {
                let reason = refusal.message.as_str().into();
                state.failed(run, Error::NoOffset { at, reason });
            }
        }
    }

    fn forget(&mut self, run: Run) {
        if let Some(cursor) = self.cursors.remove(&run)
            && let Some(node) = self.nodes.get_mut(&cursor.node)
        {
            node.runs.remove(&cursor.id);
        }
    }

    fn broken(&mut self, (number, incarnation): (i32, u64), error: &Error) {
        if self.nodes.get(&number).is_none_or(|node| node.incarnation != incarnation) {
            return;
        }
        tracing::warn!(node = number, %error, "fetch stream broke");
        if let Some(node) = self.nodes.remove(&number) {
            self.cursors.retain(|run, _| !node.runs.values().any(|gone| gone == run));
        }
        self.shared.lock().forget_stream((number, incarnation));
        self.client.metadata().suspect(number);
        let pause = self.backoff.pause(&self.client.config().random);
        self.not_before = Instant::now() + pause.min(LEADER_PAUSE);
        self.refresh_wanted = true;
    }

    fn drop_silent(&mut self, now: Instant) {
        let silent = self.nodes.iter().filter(|(_, node)| {
            !node.runs.is_empty() && now.saturating_duration_since(node.heard) >= SILENCE
        });
        let silent: Vec<_> = silent.map(|(number, node)| (*number, node.incarnation)).collect();
        for stream in silent {
            self.broken(stream, &Error::protocol("silent for too long"));
        }
        self.refresh_wanted |= self.client.metadata_aged();
    }

    /// Makes the streams' cursors what the state wants.
    fn reconcile(&mut self, now: Instant) {
        let wanted = self.shared.lock().wanted();
        let mut controls: BTreeMap<i32, wire::FetchControl> = BTreeMap::new();
        let runs: BTreeSet<Run> = wanted.iter().map(|want| want.run).collect();
        let unwanted: Vec<Run> =
            self.cursors.keys().filter(|run| !runs.contains(run)).copied().collect();
        for run in unwanted {
            if let Some(cursor) = self.cursors.get(&run) {
                controls.entry(cursor.node).or_default().remove.push(cursor.id);
            }
            self.forget(run);
        }
        for want in wanted {
            self.reconcile_one(&want, now, &mut controls);
        }
        for (number, control) in controls {
            if let Some(node) = self.nodes.get(&number) {
                node.stream.control(control);
            }
        }
    }

    fn reconcile_one(
        &mut self,
        want: &Wanted,
        now: Instant,
        controls: &mut BTreeMap<i32, wire::FetchControl>,
    ) {
        if let Some(cursor) = self.cursors.get_mut(&want.run) {
            if cursor.paused != want.paused {
                cursor.paused = want.paused;
                let control = controls.entry(cursor.node).or_default();
                let change = if want.paused { &mut control.pause } else { &mut control.resume };
                change.push(cursor.id);
            }
            return;
        }
        if want.paused || now < self.not_before {
            return;
        }
        let leader = self.client.metadata().leader(&want.at.topic, want.at.partition);
        let node = leader.and_then(|leader| leader.node).filter(|node| self.opened(*node));
        let (Some(node), Some(leader)) = (node, leader) else {
            // A node that was behind may have said that there is no such topic: it is asked for again.
            self.client.metadata().want(&want.at.topic);
            self.refresh_wanted = true;
            let pause = self.backoff.pause(&self.client.config().random);
            self.not_before = now + pause.min(LEADER_PAUSE);
            return;
        };
        self.next_cursor += 1;
        let id = self.next_cursor;
        let position = wire::FetchPosition {
            topic_id: bytes::Bytes::copy_from_slice(&want.topic_id),
            partition: Some(want.at.partition),
            offset: Some(want.offset),
            leader_epoch: Some(leader.epoch),
            last_fetched_epoch: want.epoch,
            max_bytes: i32::try_from(self.config.partition_fetch_bytes).unwrap_or(i32::MAX),
        };
        controls.entry(node).or_default().add.push(wire::CursorAdd {
            cursor: id,
            position: Some(position),
            fencing_epoch: None,
            ..wire::CursorAdd::default()
        });
        if let Some(known) = self.nodes.get_mut(&node) {
            known.runs.insert(id, want.run);
            self.cursors.insert(want.run, Cursor { node, id, paused: false });
        }
    }

    /// Whether there is a stream to the node, opened if need be.
    fn opened(&mut self, number: i32) -> bool {
        if self.nodes.contains_key(&number) {
            return true;
        }
        let Some(Ok(link)) = self.client.bulk(number) else { return false };
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        let limits = Limits::new(&self.config, self.client.config(), self.window());
        let stream = FetchStream::open(link, (number, incarnation), limits, self.events.clone());
        let node = Node { stream, incarnation, runs: BTreeMap::new(), heard: Instant::now() };
        self.nodes.insert(number, node);
        true
    }

    /// Each leader may send its share of `fetch.max.bytes` ahead.
    fn window(&self) -> i64 {
        let leaders = self.client.metadata().addresses().len().max(1);
        i64::try_from(self.config.fetch_bytes / leaders).unwrap_or(i64::MAX).max(1 << 16)
    }

    /// Returns credit in lumps, so that a control message is worth its bytes.
    fn grant(&self) {
        let least = self.window() / 4;
        for (number, node) in &self.nodes {
            let bytes = self.shared.lock().take_returned((*number, node.incarnation), least);
            if bytes > 0 {
                node.stream.control(wire::FetchControl {
                    credit_bytes: bytes,
                    ..wire::FetchControl::default()
                });
            }
        }
    }

    fn start_refresh(&mut self) {
        if !self.refresh_wanted || self.refreshing {
            return;
        }
        (self.refresh_wanted, self.refreshing) = (false, true);
        let (client, events) = (self.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = client.refresh().await;
            let _ = events.send(Event::Refreshed(outcome)).await;
        });
    }
}
