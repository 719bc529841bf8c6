//! Owns what callers and the driver share: topics and their queues, buffer memory, and the list of lanes with new work.
//! The hot path is here: look up the topic, choose a partition, append, and once per batch tell the driver.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::TrySendError;
use super::completion::{Callback, SendFuture};
use super::lane::Identity;
use super::queue::{Opening, Queue, Signal, Ticket, Unfinished};
use crate::client::Client;
use crate::config::ProducerConfig;
use crate::error::{Error, Result};
use crate::metadata::TopicView;
use crate::partitioner::Spread;
use crate::record::{BatchReceipt, ProducerRecord, TopicPartition};

/// A topic that records are sent to.
#[derive(Debug)]
pub(super) struct Topic {
    /// Stays when partitions are added.
    spread: Arc<Spread>,
    queues: Vec<Arc<Queue>>,
}

/// Lanes that the driver has to look at.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) new_queues: Vec<Arc<Queue>>,
    pub(super) opened: Vec<u32>,
    pub(super) full: Vec<u32>,
    pub(super) everything: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) config: ProducerConfig,
    /// What every lane starts with.
    pub(super) identity: Identity,
    pub(super) opening: Opening,
    /// Free bytes of `buffer.memory`; taken per record, given back per batch.
    pub(super) memory: Semaphore,
    /// Written when a topic is first sent to, read with every record.
    topics: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    /// Filled by senders once per batch, emptied by the driver; bounded by the number of batches, hence by memory.
    pending: Mutex<(Work, u32)>,
    /// Wakes the driver.
    pub(super) work: Arc<Notify>,
    pub(super) stop: CancellationToken,
    closed: AtomicBool,
    flushes: AtomicUsize,
}

/// While it lives, batches do not linger.
pub(super) struct Flush<'a>(&'a Shared);

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        self.0.flushes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn new(client: Client, config: ProducerConfig, identity: Identity) -> Self {
        let opening = Opening {
            batch_bytes: config.batch_bytes,
            delivery_timeout: config.delivery_timeout,
            unfinished: Unfinished::default(),
        };
        let memory = Semaphore::new(config.buffer_bytes.min(Semaphore::MAX_PERMITS));
        Self {
            client,
            config,
            identity,
            opening,
            memory,
            topics: RwLock::default(),
            pending: Mutex::default(),
            work: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
            closed: AtomicBool::new(false),
            flushes: AtomicUsize::new(0),
        }
    }

    pub(super) fn check(&self, record: &ProducerRecord) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) || self.stop.is_cancelled() {
            return Err(Error::Closed("the producer"));
        }
        let (bytes, limit) = (record.cost(), self.config.max_record_bytes);
        if bytes > limit {
            return Err(Error::RecordTooLarge { bytes, limit, key: "max.request.size" });
        }
        Ok(())
    }

    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) async fn look_up(&self, name: &Arc<str>) -> Result<Arc<Topic>> {
        let view = self.client.topic(name, self.config.max_block).await?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return Ok(Arc::clone(topic));
        }
        let topic = Arc::new(self.topic_of(&view, (Arc::new(Spread::new()), Vec::new())));
        topics.insert(Arc::clone(name), Arc::clone(&topic));
        Ok(topic)
    }

    /// Partitions that were added since a topic was looked up take records from now on. A topic that is gone, and one that
    /// has become another one under its name, is looked up anew by the next record.
    pub(super) fn follow_topics(&self) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        // In the order of names: lanes are numbered here.
        let mut names: Vec<Arc<str>> = topics.keys().cloned().collect();
        names.sort();
        for name in names {
            let Some(old) = topics.get(&name) else { continue };
            let is_same = |view: &TopicView| {
                old.queues.first().is_some_and(|queue| queue.topic_id == view.id)
            };
            let Some(view) = self.client.metadata().topic(&name).filter(is_same) else {
                topics.remove(&name);
                continue;
            };
            if view.partitions.len() > old.queues.len() {
                let grown = self.topic_of(&view, (Arc::clone(&old.spread), old.queues.clone()));
                topics.insert(name, Arc::new(grown));
            }
        }
    }

    /// A topic as metadata shows it, with queues for the partitions that have none yet.
    fn topic_of(
        &self,
        view: &TopicView,
        (spread, mut queues): (Arc<Spread>, Vec<Arc<Queue>>),
    ) -> Topic {
        let mut pending = self.pending();
        for partition in (0i32..).take(view.partitions.len()).skip(queues.len()) {
            let at = TopicPartition { topic: Arc::clone(&view.name), partition };
            let queue = Arc::new(Queue::new(at, view.id, pending.1));
            pending.1 += 1;
            pending.0.new_queues.push(Arc::clone(&queue));
            queues.push(queue);
        }
        Topic { spread, queues }
    }

    fn pending(&self) -> MutexGuard<'_, (Work, u32)> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_work(&self) -> Work {
        std::mem::take(&mut self.pending().0)
    }

    pub(super) fn try_reserve(&self, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Given back by the driver, when the record's batch has its verdict.
        self.memory.try_acquire_many(bytes).map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    pub(super) async fn reserve(&self, bytes: usize) -> Result<()> {
        let longest = self.config.max_block;
        let permits = self.memory.acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX));
        let closed = || Error::Closed("the producer");
        tokio::select! {
            permits = tokio::time::timeout(longest, permits) => match permits {
                Ok(permits) => {
                    permits.map_err(|_| closed())?.forget();
                    Ok(())
                }
                Err(_) => Err(Error::Timeout {
                    what: "waiting for buffer memory",
                    after: longest,
                    last: Some(Box::new(Error::BufferFull)),
                    ambiguous: false,
                }),
            },
            () = self.stop.cancelled() => Err(closed()),
        }
    }

    /// Appends a record for which `cost` bytes are reserved.
    pub(super) fn append(
        &self,
        topic: &Topic,
        record: ProducerRecord,
        cost: usize,
        callback: Option<Callback>,
    ) -> Result<SendFuture, Box<TrySendError>> {
        let partitions = i32::try_from(topic.queues.len()).unwrap_or(i32::MAX);
        let random = &self.client.config().random;
        let ignore_keys = self.config.ignore_keys;
        let chosen = topic.spread.choose(
            &self.config.partitioner,
            &record,
            ignore_keys,
            (partitions, random),
        );
        let Some(queue) = usize::try_from(chosen).ok().and_then(|chosen| topic.queues.get(chosen))
        else {
            self.memory.add_permits(cost);
            let at = TopicPartition { topic: Arc::clone(&record.topic), partition: chosen };
            let error = Error::UnknownPartition { at, partitions };
            return Err(Box::new(TrySendError { record, error }));
        };
        let timestamp = record.timestamp_ms.unwrap_or_else(|| self.client.config().clock.now_ms());
        let (future, signal) = queue.append(&record, timestamp, (cost, callback), &self.opening);
        match signal {
            Signal::None => {}
            Signal::Opened => self.tell(|work| work.opened.push(queue.lane)),
            Signal::Full => self.tell(|work| work.full.push(queue.lane)),
        }
        if signal != Signal::None && self.stop.is_cancelled() {
            self.settle_after_stop(queue);
        }
        Ok(future)
    }

    /// The driver empties every queue when it stops; whoever opens a batch after that settles it.
    fn settle_after_stop(&self, queue: &Queue) {
        while let Some(waiting) = queue.take(|_| true) {
            self.finish(waiting.ticket, Err(Error::Closed("the producer")));
        }
    }

    /// Tells a batch's records their verdict and gives back what it held.
    pub(super) fn finish(&self, ticket: Ticket, verdict: Result<Arc<BatchReceipt>>) {
        let (reserved, serial) = (ticket.reserved, Arc::clone(&ticket.serial));
        ticket.settle(verdict);
        self.memory.add_permits(reserved);
        if let Some(serial) = Arc::into_inner(serial) {
            self.opening.unfinished.finish(serial);
        }
    }

    fn tell(&self, change: impl FnOnce(&mut Work)) {
        change(&mut self.pending().0);
        self.work.notify_one();
    }

    /// Batches of one partition that may be on the way at once.
    pub(super) fn window(&self) -> usize {
        if self.config.idempotence {
            self.config.max_in_flight.min(self.client.limits().window).max(1)
        } else {
            1
        }
    }

    pub(super) fn leader_epoch(&self, at: &TopicPartition) -> i32 {
        let leader = self.client.metadata().leader(&at.topic, at.partition);
        leader.map_or(0, |leader| leader.epoch)
    }

    /// A batch of this partition goes: records without a key may stick to another one now.
    pub(super) fn used_up(&self, at: &TopicPartition) {
        if let Some(topic) = self.topic(&at.topic) {
            let partitions = i32::try_from(topic.queues.len()).unwrap_or(i32::MAX);
            topic.spread.used_up(at.partition, partitions, &self.client.config().random);
        }
    }

    pub(super) fn begin_flush(&self) -> Flush<'_> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.tell(|work| work.everything = true);
        Flush(self)
    }

    pub(super) fn flushing(&self) -> bool {
        self.flushes.load(Ordering::Relaxed) > 0
    }

    pub(super) fn refuse_more(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}
