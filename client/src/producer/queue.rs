//! Owns the records that wait to be sent: per partition one open batch, into whose encoded form records are appended at
//! once, and batches that are full. Senders append under the partition's lock; the driver takes batches out and encodes
//! them outside it. Never knows sequences or nodes.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::completion::{Callback, Completion, SendFuture};
use super::encode::OpenRecords;
use crate::error::{Error, Result};
use crate::record::{BatchReceipt, ProducerRecord, TopicPartition};

/// What a batch owes: answers to its records, bytes to the buffer, a deadline.
pub(crate) struct Ticket {
    completion: Arc<Completion>,
    callbacks: Vec<(u32, i64, Callback)>,
    /// Bytes of buffer memory to give back.
    pub(crate) reserved: usize,
    /// Shared by the parts of a batch that was split: flushed when the last of them is.
    pub(crate) serial: Arc<u64>,
    pub(crate) opened: Instant,
    pub(crate) expires: Instant,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, {} bytes)", self.serial, self.reserved)
    }
}

impl Ticket {
    /// One ticket for the first `records` of `all`, one for the rest.
    pub(crate) fn split(self, records: u32, all: u32) -> (Self, Self) {
        let (first, second) = self.completion.split(records);
        let share = self.reserved / all.max(1) as usize * records as usize;
        let (early, late): (Vec<_>, Vec<_>) =
            self.callbacks.into_iter().partition(|(index, ..)| *index < records);
        let late = late.into_iter().map(|(index, time, call)| (index - records, time, call));
        let part = |completion, callbacks, reserved| Self {
            completion,
            callbacks,
            reserved,
            serial: Arc::clone(&self.serial),
            opened: self.opened,
            expires: self.expires,
        };
        (part(first, early, share), part(second, late.collect(), self.reserved - share))
    }

    /// Tells every record. A callback that panics is the application's bug; it must not take the other records with it.
    pub(crate) fn settle(self, verdict: Result<Arc<BatchReceipt>>) {
        self.completion.settle(verdict);
        for (index, timestamp_ms, callback) in self.callbacks {
            let Some(receipt) = self.completion.receipt(index, timestamp_ms) else { continue };
            let call = std::panic::AssertUnwindSafe(|| callback(receipt));
            if std::panic::catch_unwind(call).is_err() {
                tracing::error!("a callback of send_with_callback panicked");
            }
        }
    }
}

/// A batch that is not numbered yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) records: OpenRecords,
    pub(crate) ticket: Ticket,
}

/// What an append means for the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Nothing new.
    None,
    /// A batch was opened: its linger time runs.
    Opened,
    /// A batch is full: it may go.
    Full,
}

#[derive(Debug, Default)]
struct Batches {
    open: Option<Waiting>,
    full: VecDeque<Waiting>,
    /// Bytes of the last batch: the next one will be about as large.
    usual: usize,
}

impl Batches {
    /// Nothing more is appended to the open batch.
    fn close(&mut self) -> Option<Waiting> {
        let closed = self.open.take()?;
        self.usual = closed.records.len();
        Some(closed)
    }
}

/// One partition's queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) at: TopicPartition,
    pub(crate) topic_id: [u8; 16],
    /// The driver's number for it.
    pub(crate) lane: u32,
    /// Senders append, the driver takes; never held across an await or while compressing.
    batches: Mutex<Batches>,
}

/// What every queue of a producer needs to open a batch.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) batch_bytes: usize,
    pub(crate) delivery_timeout: Duration,
    pub(crate) unfinished: Unfinished,
}

impl Queue {
    pub(crate) fn new(at: TopicPartition, topic_id: [u8; 16], lane: u32) -> Self {
        Self { at, topic_id, lane, batches: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record for which `reserved` bytes of buffer memory are held.
    pub(crate) fn append(
        &self,
        record: &ProducerRecord,
        timestamp_ms: i64,
        (reserved, callback): (usize, Option<Callback>),
        opening: &Opening,
    ) -> (SendFuture, Signal) {
        let mut batches = self.lock();
        let mut signal = Signal::None;
        let fits = batches
            .open
            .as_ref()
            .is_some_and(|open| open.records.len() + reserved <= opening.batch_bytes);
        if !fits {
            if let Some(full) = batches.close() {
                batches.full.push_back(full);
            }
            signal = Signal::Opened;
        }
        let usual = batches.usual;
        let open = batches.open.get_or_insert_with(|| self.opened(opening, usual));
        let index = open.records.append(record, timestamp_ms);
        open.ticket.reserved += reserved;
        if let Some(callback) = callback {
            open.ticket.callbacks.push((index, timestamp_ms, callback));
        }
        let future = SendFuture::new(Arc::clone(&open.ticket.completion), index, timestamp_ms);
        if open.records.len() >= opening.batch_bytes
            && let Some(full) = batches.close()
        {
            batches.full.push_back(full);
        }
        if !batches.full.is_empty() && signal == Signal::Opened || batches.open.is_none() {
            signal = Signal::Full;
        }
        (future, signal)
    }

    fn opened(&self, opening: &Opening, usual: usize) -> Waiting {
        let opened = Instant::now();
        let ticket = Ticket {
            completion: Completion::new(self.at.clone()),
            callbacks: Vec::new(),
            reserved: 0,
            serial: Arc::new(opening.unfinished.begin()),
            opened,
            expires: opened + opening.delivery_timeout,
        };
        Waiting { records: OpenRecords::with_capacity(usual.min(opening.batch_bytes)), ticket }
    }

    /// The next batch that may go: a full one, or the open one if `due(when it was opened)`.
    pub(crate) fn take(&self, due: impl Fn(Instant) -> bool) -> Option<Waiting> {
        let mut batches = self.lock();
        if let Some(full) = batches.full.pop_front() {
            return Some(full);
        }
        let due = batches.open.as_ref().is_some_and(|open| due(open.ticket.opened));
        if due { batches.close() } else { None }
    }

    /// When the open batch was opened.
    pub(crate) fn open_since(&self) -> Option<Instant> {
        self.lock().open.as_ref().map(|open| open.ticket.opened)
    }

    pub(crate) fn is_empty(&self) -> bool {
        let batches = self.lock();
        batches.open.is_none() && batches.full.is_empty()
    }

    /// Takes out what has waited longer than it may.
    pub(crate) fn expired(&self, now: Instant) -> Vec<Ticket> {
        let mut batches = self.lock();
        let mut expired = Vec::new();
        while batches.full.front().is_some_and(|batch| batch.ticket.expires <= now) {
            expired.extend(batches.full.pop_front().map(|batch| batch.ticket));
        }
        if batches.open.as_ref().is_some_and(|open| open.ticket.expires <= now) {
            expired.extend(batches.open.take().map(|batch| batch.ticket));
        }
        expired
    }
}

/// The batches that have no verdict yet, for `flush`.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    next: AtomicU64,
    /// Touched once when a batch opens and once when it is settled.
    serials: Mutex<BTreeSet<u64>>,
    changed: Notify,
}

impl Unfinished {
    fn serials(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.serials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> u64 {
        let mut serials = self.serials();
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        serials.insert(serial);
        serial
    }

    pub(crate) fn finish(&self, serial: u64) {
        self.serials().remove(&serial);
        self.changed.notify_waiters();
    }

    pub(crate) fn count(&self) -> usize {
        self.serials().len()
    }

    /// Waits until every batch opened before this call has its verdict.
    pub(crate) async fn flushed(&self) {
        let end = self.next.load(Ordering::Relaxed);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.serials().first().is_none_or(|oldest| *oldest >= end) {
                return;
            }
            changed.await;
        }
    }
}

/// The error of records that waited longer than `delivery.timeout.ms`, with why the last attempt was refused.
pub(crate) fn too_late(after: Duration, maybe_done: bool, last: Option<&Error>) -> Error {
    let last = last.cloned().map(Box::new);
    Error::Timeout { what: "delivering a record", after, last, ambiguous: maybe_done }
}
