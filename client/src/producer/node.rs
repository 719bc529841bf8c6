//! Owns sending: one node's line of partitions, and how their batches are put together into requests. A request carries
//! many partitions; a partition's batches go in order. Never decides what is repeated: that is [`super::lane`].

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::{Duration, Instant};
use waymark_proto::v1 as wire;

use super::driver::{Driver, Partition, tag};
use super::queue::too_late;
use super::stream::ProduceStream;
use crate::config::Acks;
use crate::error::Error;
use crate::retry::throttle;

/// One leader, as the producer sees it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) stream: Option<ProduceStream>,
    /// Tells this stream from earlier ones to the same node.
    pub(super) incarnation: u64,
    /// Lanes that have something to send, in turn.
    pub(super) line: VecDeque<u32>,
    /// When it last answered, or began to owe an answer.
    pub(super) heard: Instant,
    /// It asked to be sent nothing before.
    pub(super) quiet_until: Instant,
    /// It is about to stop: its partitions' new leaders are looked for.
    pub(super) draining: bool,
}

impl Default for Node {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            stream: None,
            incarnation: 0,
            line: VecDeque::new(),
            heard: now,
            quiet_until: now,
            draining: false,
        }
    }
}

/// A leader that answers nothing for so long may be cut off.
const SILENCE: Duration = Duration::from_secs(2);
/// Bytes at which a request is closed: large enough to carry many batches, small enough to be on its way soon.
const REQUEST_BYTES: usize = 1 << 20;
/// Batches that a request has room for from the start, at most.
const FIRST_ROOM: usize = 64;

impl Node {
    /// What an answer says of the node itself.
    pub(super) fn told(&mut self, answer: &wire::ProduceResponse, now: Instant) {
        self.heard = now;
        self.quiet_until = self.quiet_until.max(now + throttle(answer.throttle_ms));
        let notice = answer.notice.as_ref().map(wire::Notice::kind);
        self.draining |= notice == Some(wire::NoticeKind::Draining);
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.is_silent_for(SILENCE, now)
    }

    fn is_silent_for(&self, time: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= time
    }
}

impl Driver {
    /// Sends everything that may go, as far as the transport takes it.
    pub(super) fn pump(&mut self, now: Instant) {
        let nodes: Vec<i32> = self.nodes.keys().copied().collect();
        for node in nodes {
            while self.send_one(node, now) {}
        }
    }

    /// Sends one request to a node; `false` when there is nothing to send or no room.
    fn send_one(&mut self, node: i32, now: Instant) -> bool {
        let Some(mut known) = self.nodes.remove(&node) else { return false };
        let mut sent = false;
        if known.quiet_until > now {
            self.next_sweep = self.next_sweep.min(known.quiet_until);
            self.nodes.insert(node, known);
            return false;
        }
        if known.is_silent(now) && !self.waits_for(node) {
            known.heard = now;
        }
        if !known.line.is_empty() && self.opened(node, &mut known) {
            // Taken out of the map, so that the permit does not borrow the driver.
            if let Some(permit) = known.stream.as_ref().and_then(ProduceStream::reserve) {
                let request = self.request(node, &mut known.line, now);
                sent = !request.batches.is_empty();
                if sent {
                    permit.send(request);
                }
            }
        }
        self.nodes.insert(node, known);
        sent
    }

    /// Gives up connections on which batches had no answer for `request.timeout.ms`, and sends them again on new ones: one side
    /// may have forgotten the connection without the other knowing.
    pub(super) fn leave_silent_nodes(&mut self, now: Instant) {
        // What was sent last may have been so shortly before the silence counted.
        let longest = self.shared.client.config().request_timeout + SILENCE;
        let silent = self.nodes.iter().filter(|(node, known)| {
            known.stream.is_some() && known.is_silent_for(longest, now) && self.waits_for(**node)
        });
        let silent: Vec<(i32, u64)> =
            silent.map(|(node, known)| (*node, known.incarnation)).collect();
        for (node, incarnation) in silent {
            self.shared.client.abandon_bulk(node);
            let error = Error::protocol("no answer within request.timeout.ms");
            self.broken((node, incarnation), &error);
        }
    }

    fn waits_for(&self, node: i32) -> bool {
        self.partitions.iter().any(|p| p.carried_by == Some(node) && p.lane.on_wire() > 0)
    }

    /// Whether there is a stream to the node, opened if need be.
    fn opened(&mut self, node: i32, known: &mut Node) -> bool {
        if known.stream.is_some() {
            return true;
        }
        let Some(Ok(link)) = self.shared.client.bulk(node) else {
            // No address, or one that cannot be dialled: ask again who leads.
            self.shared.client.metadata().suspect(node);
            for lane in std::mem::take(&mut known.line) {
                self.partitions[lane as usize].queued = false;
                self.enqueue(lane);
            }
            return false;
        };
        known.incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        (known.heard, known.draining) = (Instant::now(), false);
        let stream = (node, known.incarnation);
        let room = Arc::clone(&self.shared.work);
        known.stream = Some(ProduceStream::open(link, stream, self.events.clone(), room));
        true
    }

    fn request(
        &mut self,
        node: i32,
        line: &mut VecDeque<u32>,
        now: Instant,
    ) -> wire::ProduceRequest {
        let limits = self.shared.client.limits();
        let longest = REQUEST_BYTES.min(limits.request_bytes);
        let mut batches = Vec::with_capacity(line.len().min(FIRST_ROOM));
        let mut bytes = 0;
        while bytes < longest && batches.len() < limits.request_batches {
            let Some(lane) = line.pop_front() else { break };
            self.partitions[lane as usize].queued = false;
            let before = batches.len();
            let more = self.gather(lane, node, now, &mut batches);
            bytes += batches[before..].iter().map(|batch| batch.batch.len()).sum::<usize>();
            if more {
                self.partitions[lane as usize].queued = true;
                line.push_back(lane);
            }
        }
        let timeout = self.shared.client.config().request_timeout.as_millis();
        wire::ProduceRequest {
            batches,
            durability: durability(self.shared.config.acks).into(),
            timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
        }
    }

    /// Adds what a lane may send: repetitions first, else one new batch. `true`: it has more.
    fn gather(
        &mut self,
        lane: u32,
        node: i32,
        now: Instant,
        batches: &mut Vec<wire::ProduceBatch>,
    ) -> bool {
        let partition = &mut self.partitions[lane as usize];
        if partition.lane.on_wire() > 0 && partition.carried_by != Some(node) {
            return false;
        }
        let leader = {
            let at = &partition.queue.at;
            self.shared.client.metadata().leader(&at.topic, at.partition).unwrap_or_default()
        };
        if partition.lane.on_wire() == 0 && leader.node.is_some_and(|leader| leader != node) {
            // The leader moved while the lane stood in this node's line.
            self.enqueue(lane);
            return false;
        }
        if leader.node.is_some_and(|leader| leader != node) {
            // What is on the wire is answered by the old leader; what is new waits for that and goes to the new one.
            return false;
        }
        let epoch = leader.epoch;
        let again = partition.lane.repeat(self.shared.window(), now);
        if !again.is_empty() {
            partition.carried_by = Some(node);
            let repeated = again
                .into_iter()
                .map(|(serial, bytes)| to_wire(partition, (lane, serial), epoch, bytes));
            batches.extend(repeated);
            return true;
        }
        self.gather_new(lane, node, now, batches)
    }

    fn gather_new(
        &mut self,
        lane: u32,
        node: i32,
        now: Instant,
        batches: &mut Vec<wire::ProduceBatch>,
    ) -> bool {
        let shared = Arc::clone(&self.shared);
        let partition = &mut self.partitions[lane as usize];
        if let Some(error) = partition.lane.fenced().cloned() {
            if let Some(waiting) = partition.queue.take(|_| true) {
                self.finish(waiting.ticket, Err(error));
                return true;
            }
            return false;
        }
        if !partition.lane.has_room(shared.window(), now) || partition.lane.needs_new_id() {
            return false;
        }
        let due = |opened: Instant| shared.flushing() || now >= opened + shared.config.linger;
        let Some(waiting) = partition.queue.take(due) else {
            if let Some(opened) = partition.queue.open_since() {
                self.look_again(opened + shared.config.linger, lane);
            }
            return false;
        };
        if waiting.ticket.expires <= now {
            let late = too_late(shared.config.delivery_timeout, false, partition.lane.refusal());
            self.finish(waiting.ticket, Err(late));
            return true;
        }
        shared.used_up(&partition.queue.at);
        let records = waiting.records.count();
        let (identity, first) = partition.lane.number(records);
        let bytes = match waiting.records.finish(shared.config.compression, identity, first) {
            Ok(bytes) => bytes,
            Err(message) => {
                partition.lane.unnumber(first);
                self.finish(waiting.ticket, Err(Error::protocol(message)));
                return true;
            }
        };
        let serial = partition.lane.sent((first, records), bytes.clone(), waiting.ticket);
        partition.carried_by = Some(node);
        let epoch = shared.leader_epoch(&partition.queue.at);
        batches.push(to_wire(partition, (lane, serial), epoch, bytes));
        true
    }
}

fn to_wire(
    partition: &Partition,
    (lane, serial): (u32, u32),
    leader_epoch: i32,
    batch: bytes::Bytes,
) -> wire::ProduceBatch {
    wire::ProduceBatch {
        tag: tag(lane, serial),
        topic_id: bytes::Bytes::copy_from_slice(&partition.queue.topic_id),
        partition: Some(partition.queue.at.partition),
        leader_epoch: Some(leader_epoch),
        expected_base_offset: None,
        batch,
    }
}

fn durability(acks: Acks) -> wire::Durability {
    match acks {
        Acks::All => wire::Durability::Unspecified,
        Acks::Leader => wire::Durability::Leader,
        Acks::QuorumMemory => wire::Durability::QuorumMemory,
        Acks::QuorumFsync => wire::Durability::QuorumFsync,
    }
}
