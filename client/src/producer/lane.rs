//! Owns one partition's batches that have a sequence: which are on the wire, which must be repeated, and when the
//! producer's epoch must rise. A pure state machine: the driver brings answers and time and carries out what it says.
//!
//! The rules (CONTRACT §5.2): a batch whose outcome is unknown is repeated under its own epoch and sequence with the same
//! bytes; only batches that are known not to be in the log are numbered anew, and then under a higher epoch. After a
//! refusal nothing new is sent until every batch on the wire has been answered; then all go again in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use waymark_proto::v1::FailureCode;

use super::queue::Ticket;
use crate::error::{Error, ErrorClass, Result};
use crate::record::BatchReceipt;
use crate::retry::{Repeat, Verdict, judge};

/// Who writes: under which id and epoch a partition's sequence counts. Each partition raises its epoch by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl Identity {
    /// Not idempotent.
    pub(crate) const NONE: Self = Self { id: -1, epoch: -1 };
}

/// A batch that has left the queue.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Counts a lane's batches; never used again.
    serial: u32,
    /// Its place among the lane's batches; the parts of a split batch share it.
    order: u64,
    first_sequence: i32,
    records: i32,
    bytes: Bytes,
    ticket: Ticket,
    /// Sent on the present stream and not answered.
    on_wire: bool,
    /// Some attempt may have been executed, and nothing since has said that it was not.
    unknown: bool,
}

/// A batch with its verdict.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) ticket: Ticket,
    pub(crate) verdict: Result<Arc<BatchReceipt>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    identity: Identity,
    next_sequence: i32,
    next_serial: u32,
    next_order: u64,
    /// In sequence order.
    inflight: VecDeque<Sent>,
    /// Everything in flight must go again, once nothing is on the wire.
    resend: bool,
    /// The batch of this order is known or feared to be missing from the log, so that what follows it is refused until
    /// the epoch rises. An acknowledgement of a later batch proves the fear wrong.
    hole: Option<u64>,
    /// Nothing is sent before.
    not_before: Option<Instant>,
    /// Why the last attempt must be repeated; nothing once one succeeded.
    refusal: Option<Error>,
    /// A newer producer has taken over; nothing is sent any more.
    fenced: Option<Error>,
}

impl Lane {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            next_sequence: 0,
            next_serial: 0,
            next_order: 0,
            inflight: VecDeque::new(),
            resend: false,
            hole: None,
            not_before: None,
            refusal: None,
            fenced: None,
        }
    }

    pub(crate) fn fenced(&self) -> Option<&Error> {
        self.fenced.as_ref()
    }

    /// Why the last attempt was refused, if it was.
    pub(crate) fn refusal(&self) -> Option<&Error> {
        self.refusal.as_ref()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.inflight.is_empty()
    }

    pub(crate) fn on_wire(&self) -> usize {
        self.inflight.iter().filter(|sent| sent.on_wire).count()
    }

    /// When a lane that must repeat may do so.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Whether a new batch may be sent.
    pub(crate) fn has_room(&self, window: usize, now: Instant) -> bool {
        !self.resend && self.inflight.len() < window && self.not_before.is_none_or(|at| at <= now)
    }

    /// Whether the epoch must rise before the next batch, and may.
    fn must_raise(&self) -> bool {
        self.hole.is_some()
            && self.identity.id >= 0
            && !self.inflight.iter().any(|sent| sent.unknown)
    }

    /// Whether only a new producer id helps: the epoch cannot rise further.
    pub(crate) fn needs_new_id(&self) -> bool {
        self.must_raise() && self.identity.epoch == i16::MAX && self.on_wire() == 0
    }

    /// Takes a new id; the sequence starts again when the hole is closed by it.
    pub(crate) fn renew(&mut self, identity: Identity) {
        self.identity = Identity { epoch: identity.epoch.saturating_sub(1), ..identity };
    }

    /// Gives the next batch its identity and sequence. Call only with [`Self::has_room`].
    pub(crate) fn number(&mut self, records: i32) -> (Identity, i32) {
        if self.must_raise() && self.inflight.is_empty() {
            self.raise();
        }
        let first = self.next_sequence;
        if self.identity.id >= 0 {
            self.next_sequence = following(first, records);
        }
        (self.identity, if self.identity.id >= 0 { first } else { -1 })
    }

    /// Takes back a number that was not used.
    pub(crate) fn unnumber(&mut self, first_sequence: i32) {
        self.next_sequence = first_sequence.max(0);
    }

    /// Takes in a numbered batch as sent; returns its serial.
    pub(crate) fn sent(
        &mut self,
        (first_sequence, records): (i32, i32),
        bytes: Bytes,
        ticket: Ticket,
    ) -> u32 {
        let (serial, order) = (self.new_serial(), self.next_order);
        self.next_order += 1;
        let (on_wire, unknown) = (true, false);
        let sent = Sent { serial, order, first_sequence, records, bytes, ticket, on_wire, unknown };
        self.inflight.push_back(sent);
        serial
    }

    fn new_serial(&mut self) -> u32 {
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        serial
    }

    /// What must go again, in order and at most `window` at once, if the time has come; it counts as sent from now on.
    pub(crate) fn repeat(&mut self, window: usize, now: Instant) -> Vec<(u32, Bytes)> {
        let waits = self.not_before.is_some_and(|at| at > now);
        if !self.resend || waits || self.on_wire() > 0 || self.needs_new_id() {
            return Vec::new();
        }
        if self.must_raise() {
            self.raise();
        }
        // Splitting may have made more batches than the window holds: the rest goes when these are answered.
        (self.resend, self.not_before) = (self.inflight.len() > window, None);
        let again = self.inflight.iter_mut().take(window).map(|sent| {
            sent.on_wire = true;
            (sent.serial, sent.bytes.clone())
        });
        again.collect()
    }

    fn raise(&mut self) {
        self.identity.epoch = self.identity.epoch.saturating_add(1);
        (self.hole, self.next_sequence) = (None, 0);
        for sent in &mut self.inflight {
            sent.first_sequence = self.next_sequence;
            sent.bytes = super::encode::renumbered(&sent.bytes, self.identity, self.next_sequence);
            self.next_sequence = following(self.next_sequence, sent.records);
        }
        let (producer, epoch) = (self.identity.id, self.identity.epoch);
        tracing::info!(producer, epoch, batches = self.inflight.len(), "producer epoch raised");
    }

    /// The answer to a batch on the wire.
    pub(crate) fn answered(
        &mut self,
        serial: u32,
        answer: Result<BatchReceipt>,
        (now, pause): (Instant, Duration),
    ) -> Vec<Settled> {
        let Some(at) = self.inflight.iter().position(|sent| sent.serial == serial) else {
            return Vec::new();
        };
        self.inflight[at].on_wire = false;
        match answer {
            Ok(receipt) => self.acknowledged(at, receipt),
            Err(error) => self.refused(at, error, (now, pause)),
        }
    }

    fn acknowledged(&mut self, at: usize, receipt: BatchReceipt) -> Vec<Settled> {
        let Some(sent) = self.inflight.remove(at) else { return Vec::new() };
        self.refusal = None;
        if self.hole.is_some_and(|hole| hole < sent.order) {
            self.hole = None;
        }
        if self.inflight.is_empty() {
            self.resend = false;
        }
        vec![Settled { ticket: sent.ticket, verdict: Ok(Arc::new(receipt)) }]
    }

    fn refused(
        &mut self,
        at: usize,
        error: Error,
        (now, pause): (Instant, Duration),
    ) -> Vec<Settled> {
        let code = match &error {
            Error::Refused(refusal) => Some(refusal.code),
            _ => None,
        };
        match code {
            Some(FailureCode::OutOfOrderSequence) => self.out_of_order(at, error),
            Some(FailureCode::UnknownProducer) => {
                let sent = &mut self.inflight[at];
                sent.unknown = false;
                self.hole = Some(sent.order);
                self.resend = true;
                Vec::new()
            }
            Some(FailureCode::BatchTooLarge) => self.too_large(at, error),
            Some(FailureCode::ProducerFenced) => self.fence(&error),
            _ => match judge(&error, Repeat::Harmless) {
                Verdict::Again { pause: asked, .. } => {
                    self.inflight[at].unknown |= error.class() == ErrorClass::Ambiguous;
                    self.resend = true;
                    self.not_before = Some(now + asked.max(pause));
                    self.refusal = Some(error);
                    Vec::new()
                }
                Verdict::Done => self.acknowledged(at, BatchReceipt::default()),
                Verdict::GiveUp => self.dropped(at, error),
            },
        }
    }

    /// The node misses what came before. Held by us: it goes again. Given up by us: the epoch rises. Neither: the log has
    /// lost acknowledged records, which is reported with this batch.
    fn out_of_order(&mut self, at: usize, error: Error) -> Vec<Settled> {
        let expected = error.refusal().and_then(|refusal| refusal.expected);
        let held =
            self.inflight.iter().any(|sent| Some(i64::from(sent.first_sequence)) == expected);
        self.inflight[at].unknown = false;
        self.resend = true;
        if held || self.hole.is_some() {
            return Vec::new();
        }
        tracing::error!(%error, "acknowledged records are missing from the log");
        self.dropped(at, error)
    }

    /// The same records go again as two batches, under the same sequences, if it is certain that they are not in the log.
    fn too_large(&mut self, at: usize, error: Error) -> Vec<Settled> {
        let sent = &self.inflight[at];
        if sent.unknown || sent.records < 2 {
            return self.dropped(at, error);
        }
        let parts = super::encode::halves(&sent.bytes, self.identity, sent.first_sequence);
        let (Ok(parts), Some(whole)) = (parts, self.inflight.remove(at)) else {
            return self.dropped(at, error);
        };
        let (early, all) = (parts[0].2.unsigned_abs(), whole.records.unsigned_abs());
        let tickets: [Ticket; 2] = whole.ticket.split(early, all).into();
        for (nth, ((bytes, first_sequence, records), ticket)) in
            parts.into_iter().zip(tickets).enumerate()
        {
            let (serial, order) = (self.new_serial(), whole.order);
            let (on_wire, unknown) = (false, false);
            let part =
                Sent { serial, order, first_sequence, records, bytes, ticket, on_wire, unknown };
            self.inflight.insert(at + nth, part);
        }
        self.resend = true;
        Vec::new()
    }

    fn dropped(&mut self, at: usize, error: Error) -> Vec<Settled> {
        let Some(sent) = self.inflight.remove(at) else { return Vec::new() };
        if self.identity.id >= 0 {
            self.hole = Some(self.hole.map_or(sent.order, |hole| hole.max(sent.order)));
        }
        self.resend |= self.inflight.iter().any(|sent| !sent.on_wire);
        // A refusal speaks of its own attempt alone.
        let error = match error.class() {
            ErrorClass::Ambiguous => error,
            _ if sent.unknown => Error::RefusedAfterUnknown(Box::new(error)),
            _ => error,
        };
        vec![Settled { ticket: sent.ticket, verdict: Err(error) }]
    }

    fn fence(&mut self, error: &Error) -> Vec<Settled> {
        self.fenced = Some(error.clone());
        self.give_up(error)
    }

    /// Fails everything.
    pub(crate) fn give_up(&mut self, error: &Error) -> Vec<Settled> {
        let all = std::mem::take(&mut self.inflight);
        all.into_iter()
            .map(|sent| Settled { ticket: sent.ticket, verdict: Err(error.clone()) })
            .collect()
    }

    /// Fails everything that nobody will take any more; what may have been taken is told so.
    pub(crate) fn lose(&mut self, error: &Error) -> Vec<Settled> {
        let all = std::mem::take(&mut self.inflight);
        let lost = all.into_iter().map(|sent| {
            let maybe = sent.unknown || sent.on_wire;
            let unknown = || Error::RefusedAfterUnknown(Box::new(error.clone()));
            let error = if maybe { unknown() } else { error.clone() };
            Settled { ticket: sent.ticket, verdict: Err(error) }
        });
        lost.collect()
    }

    /// The stream broke: what was on the wire is unknown and goes again.
    pub(crate) fn broken(&mut self, not_before: Instant) {
        for sent in self.inflight.iter_mut().filter(|sent| sent.on_wire) {
            (sent.on_wire, sent.unknown) = (false, true);
            self.resend = true;
            self.not_before = Some(not_before);
        }
    }

    /// Batches whose delivery time is over, with `verdict(whether it may have been executed)`.
    pub(crate) fn expire(&mut self, now: Instant, verdict: impl Fn(bool) -> Error) -> Vec<Settled> {
        let mut settled = Vec::new();
        while self.inflight.front().is_some_and(|sent| sent.ticket.expires <= now) {
            let maybe = self.inflight[0].unknown || self.inflight[0].on_wire;
            settled.extend(self.dropped(0, verdict(maybe)));
        }
        settled
    }
}

/// Sequences wrap from 2³¹ − 1 to 0.
pub(crate) fn following(first: i32, records: i32) -> i32 {
    first.wrapping_add(records) & i32::MAX
}

#[cfg(test)]
#[path = "tests/lane.rs"]
mod tests;
