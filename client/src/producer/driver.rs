//! Owns the producer's one task: it gathers batches that are due, sends them to their leaders, takes in answers, and finds
//! new leaders. All sequencing is in [`Lane`], all waiting records in [`Queue`]; this file moves batches between them and
//! the streams. Never touches a record and never waits for the network: whatever takes time comes back as an event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use waymark_proto::v1 as wire;

use super::Shared;
use super::lane::{Identity, Lane, Settled};
use super::node::Node;
use super::queue::{Queue, Ticket, too_late};
use crate::answers;
use crate::error::{Error, Result};
use crate::record::BatchReceipt;
use crate::retry::{Backoff, LEADER_PAUSE};

/// What comes back to the driver.
#[derive(Debug)]
pub(crate) enum Event {
    /// Receipts.
    Answer { stream: (i32, u64), answer: wire::ProduceResponse },
    /// A stream has ended; what it carried is unknown.
    Broken { stream: (i32, u64), error: Error },
    /// Metadata was read, or could not be.
    Refreshed(Result<()>),
    /// A new producer id for a lane whose epoch cannot rise.
    Renewed { lane: u32, identity: Result<Identity> },
}

/// One partition in the driver.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) queue: Arc<Queue>,
    pub(super) lane: Lane,
    /// Waits in a node's line, or for a leader; never in two places.
    pub(super) queued: bool,
    /// The node whose stream carries what is on the wire.
    pub(super) carried_by: Option<i32>,
    renewing: bool,
}

/// The task's state; nobody else sees it.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    /// By lane number.
    pub(super) partitions: Vec<Partition>,
    pub(super) nodes: BTreeMap<i32, Node>,
    /// Lanes without a known leader.
    pub(super) leaderless: BTreeSet<u32>,
    /// When lanes want to be looked at again: linger and back-off.
    timers: BTreeSet<(Instant, u32)>,
    pub(super) next_sweep: Instant,
    pub(super) refresh: Refresh,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) backoff: Backoff,
    pub(super) next_incarnation: u64,
}

/// Whether metadata is being read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    Idle,
    Due(Instant),
    Running,
}

/// How often everything is looked at for deadlines: coarse, because no deadline is shorter than a second in practice.
const SWEEP: Duration = Duration::from_millis(250);
/// Answers taken in before batches are sent again: bounds how long sending waits behind receiving.
const EVENTS_AT_ONCE: usize = 64;

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, events: mpsc::Sender<Event>) -> Self {
        let backoff = Backoff::new(shared.client.config());
        Self {
            shared,
            partitions: Vec::new(),
            nodes: BTreeMap::new(),
            leaderless: BTreeSet::new(),
            timers: BTreeSet::new(),
            next_sweep: Instant::now() + SWEEP,
            refresh: Refresh::Idle,
            events,
            backoff,
            next_incarnation: 0,
        }
    }

    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let shared = Arc::clone(&self.shared);
        loop {
            let wake =
                self.timers.first().map_or(self.next_sweep, |(at, _)| (*at).min(self.next_sweep));
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => break,
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
                () = shared.work.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            self.turn(Instant::now());
        }
        self.give_up();
    }

    /// One round: new work, timers, deadlines, then everything that can be sent.
    fn turn(&mut self, now: Instant) {
        self.take_work(now);
        while let Some((at, lane)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, lane));
            self.enqueue(lane);
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.sweep(now);
        }
        self.start_refresh(now);
        self.pump(now);
    }

    fn take_work(&mut self, now: Instant) {
        let work = self.shared.take_work();
        for queue in work.new_queues {
            let lane = Lane::new(self.shared.identity);
            self.partitions.push(Partition {
                queue,
                lane,
                queued: false,
                carried_by: None,
                renewing: false,
            });
        }
        for lane in work.full {
            self.enqueue(lane);
        }
        let linger = self.shared.config.linger;
        for lane in work.opened {
            if linger.is_zero() || self.shared.flushing() {
                self.enqueue(lane);
            } else {
                self.timers.insert((now + linger, lane));
            }
        }
        if work.everything {
            (0..self.partitions.len() as u64).for_each(|lane| self.enqueue(lane_number(lane)));
        }
    }

    /// Puts a lane where it will be served: its leader's line, or among those that need one.
    pub(super) fn enqueue(&mut self, number: u32) {
        let Some(partition) = self.partitions.get_mut(number as usize) else { return };
        if partition.queued || (partition.lane.is_idle() && partition.queue.is_empty()) {
            return;
        }
        let at = &partition.queue.at;
        let leader = self.shared.client.metadata().leader(&at.topic, at.partition);
        let node = match partition.carried_by.filter(|_| partition.lane.on_wire() > 0) {
            Some(busy) => Some(busy),
            None => leader.and_then(|leader| leader.node),
        };
        partition.queued = true;
        match node {
            Some(node) => self.nodes.entry(node).or_default().line.push_back(number),
            None => {
                self.leaderless.insert(number);
                self.want_refresh(Instant::now());
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Answer { stream, answer } => self.answered(stream, answer),
            Event::Broken { stream, error } => self.broken(stream, &error),
            Event::Refreshed(outcome) => self.refreshed(outcome),
            Event::Renewed { lane, identity } => {
                let Some(partition) = self.partitions.get_mut(lane as usize) else { return };
                partition.renewing = false;
                match identity {
                    Ok(identity) => partition.lane.renew(identity),
                    Err(error) => tracing::warn!(%error, "no new producer id yet"),
                }
                self.enqueue(lane);
            }
        }
    }

    fn answered(&mut self, (node, incarnation): (i32, u64), answer: wire::ProduceResponse) {
        let now = Instant::now();
        match self.nodes.get_mut(&node).filter(|known| known.incarnation == incarnation) {
            Some(known) => known.told(&answer, now),
            // A stream that was given up: what it carried is being repeated elsewhere under the same sequence.
            None => return,
        }
        let mut without_quorum = false;
        for receipt in answer.receipts {
            let (lane, serial) = untag(receipt.tag);
            let Some(partition) = self.partitions.get_mut(lane as usize) else { continue };
            let verdict = answers::receipt(&receipt);
            let moved = moves_leader(&verdict);
            without_quorum |= verdict.as_ref().is_err_and(|it| it.is(wire::FailureCode::NoQuorum));
            let pause = match &verdict {
                Ok(_) => Duration::ZERO,
                Err(_) => self.backoff.pause(&self.shared.client.config().random),
            };
            let pause = if moved { pause.min(LEADER_PAUSE) } else { pause };
            if let Err(error) = &verdict {
                let at = &partition.queue.at;
                tracing::debug!(topic = %at.topic, partition = at.partition, %error, "batch refused");
            } else {
                self.backoff.reset();
            }
            if let Some(Some(hint)) =
                verdict.as_ref().err().and_then(Error::refusal).map(|r| &r.leader)
            {
                let metadata = self.shared.client.metadata();
                metadata.hint(&partition.queue.topic_id, partition.queue.at.partition, hint);
            }
            let settled = partition.lane.answered(serial, verdict, (now, pause));
            let wakes = partition.lane.not_before();
            self.settle(settled);
            match wakes {
                Some(at) => drop(self.timers.insert((at, lane))),
                None => self.enqueue(lane),
            }
            if moved {
                self.want_refresh(now);
            }
        }
        if without_quorum {
            // A leader that is cut off from the others takes itself for one as long as that lasts: they know the next one.
            self.shared.client.ask_another();
            self.want_refresh_soon(now);
        }
    }

    /// Every lane with batches on this stream repeats them, after a pause and wherever the leader is then.
    pub(super) fn broken(&mut self, (node, incarnation): (i32, u64), error: &Error) {
        let Some(known) = self.nodes.get_mut(&node).filter(|n| n.incarnation == incarnation) else {
            return;
        };
        tracing::warn!(node, %error, "produce stream broke");
        known.stream = None;
        let line = std::mem::take(&mut known.line);
        self.shared.client.metadata().suspect(node);
        let now = Instant::now();
        let pause = self.backoff.pause(&self.shared.client.config().random);
        let retry_at = now + pause.min(LEADER_PAUSE);
        let mut again: BTreeSet<u32> = line.into_iter().collect();
        for (number, partition) in self.partitions.iter_mut().enumerate() {
            if again.contains(&lane_number(number as u64)) {
                partition.queued = false;
            }
            if partition.carried_by == Some(node) && partition.lane.on_wire() > 0 {
                partition.lane.broken(retry_at);
                again.insert(lane_number(number as u64));
            }
        }
        self.timers.extend(again.into_iter().map(|lane| (retry_at, lane)));
        self.want_refresh(now);
    }

    fn sweep(&mut self, now: Instant) {
        let after = self.shared.config.delivery_timeout;
        for number in 0..self.partitions.len() {
            let partition = &mut self.partitions[number];
            let last = partition.lane.refusal().cloned();
            let settled = partition.lane.expire(now, |maybe| too_late(after, maybe, last.as_ref()));
            let unsent = partition.queue.expired(now);
            let renew = partition.lane.needs_new_id() && !partition.renewing;
            partition.renewing |= renew;
            let lane = lane_number(number as u64);
            self.settle(settled);
            for ticket in unsent {
                self.finish(ticket, Err(too_late(after, false, last.as_ref())));
            }
            if renew {
                self.renew(lane);
            }
            self.enqueue(lane);
        }
        self.leave_silent_nodes(now);
        let draining = self.nodes.values().any(|node| node.stream.is_some() && node.draining);
        let silent = self.nodes.values().any(|node| node.stream.is_some() && node.is_silent(now));
        let waiting = self.partitions.iter().any(|partition| partition.lane.on_wire() > 0);
        if draining || (silent && waiting) || self.shared.client.metadata_aged() {
            self.want_refresh(now);
        }
    }

    fn renew(&self, lane: u32) {
        let (client, events) = (self.shared.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let identity = super::new_identity(&client, client.config().api_timeout).await;
            let _ = events.send(Event::Renewed { lane, identity }).await;
        });
    }

    pub(super) fn look_again(&mut self, at: Instant, lane: u32) {
        self.timers.insert((at, lane));
    }

    pub(super) fn settle(&self, settled: Vec<Settled>) {
        for Settled { ticket, verdict } in settled {
            self.finish(ticket, verdict);
        }
    }

    pub(super) fn finish(&self, ticket: Ticket, verdict: Result<Arc<BatchReceipt>>) {
        self.shared.finish(ticket, verdict);
    }

    /// The producer is closed or dropped: whatever is left gets its verdict now.
    fn give_up(mut self) {
        self.take_work(Instant::now());
        let error = Error::Closed("the producer");
        for number in 0..self.partitions.len() {
            let settled = self.partitions[number].lane.give_up(&error);
            self.settle(settled);
            self.fail_unsent(number, &error);
        }
    }

    pub(super) fn fail_unsent(&self, number: usize, error: &Error) {
        while let Some(waiting) = self.partitions[number].queue.take(|_| true) {
            self.finish(waiting.ticket, Err(error.clone()));
        }
    }
}

/// Lanes are numbered by `u32`; more partitions than that cannot be in memory.
pub(super) fn lane_number(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A tag names the lane and the batch's serial within it.
pub(super) fn tag(lane: u32, serial: u32) -> i64 {
    (i64::from(lane & 0x7fff_ffff) << 32) | i64::from(serial)
}

fn untag(tag: i64) -> (u32, u32) {
    let lane = u32::try_from((tag >> 32) & 0x7fff_ffff).unwrap_or(u32::MAX);
    (lane, u32::try_from(tag & 0xffff_ffff).unwrap_or(u32::MAX))
}

fn moves_leader(verdict: &Result<BatchReceipt>) -> bool {
    let refusal = verdict.as_ref().err().and_then(Error::refusal);
    refusal.is_some_and(|refusal| {
        refusal.retry == wire::RetryClass::Reroute || refusal.code == wire::FailureCode::NoLeader
    })
}
