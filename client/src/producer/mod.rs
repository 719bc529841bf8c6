//! Owns sending: [`Producer`] puts records into per-partition batches in the caller's task; one task of its own sends them.
//!
//! - `queue` holds batches that gather records, `encode` their bytes.
//! - `lane` is one partition's sequence: what must be repeated and when the epoch rises.
//! - `driver` and `node` move batches from queues to streams, `leaders` finds where to; `stream` is one stream to one leader.
//! - `completion` is the way back to each record's future.

mod completion;
mod driver;
mod encode;
mod lane;
mod leaders;
mod node;
mod queue;
mod shared;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

pub use completion::SendFuture;

use crate::client::Client;
use crate::config::ProducerConfig;
use crate::error::{Error, Result};
use crate::record::{ProducerRecord, RecordReceipt};
use completion::Callback;
use driver::Driver;
use lane::Identity;
use shared::Shared;

/// Sends records. Cheap to clone; clones share buffer, batches and order.
///
/// With idempotence (the default) a record is appended once, in the order of `send` within its partition, whatever fails
/// in between. An error of class [`crate::ErrorClass::Ambiguous`] says that it may have been appended or not.
///
/// Dropping the last clone never blocks: records without a verdict then fail with [`Error::Closed`]. Call
/// [`Producer::close`] to wait for them.
///
/// ```no_run
/// # async fn example(client: waymark_client::Client) -> waymark_client::Result<()> {
/// use waymark_client::{ProducerConfig, ProducerRecord};
/// let producer = client.producer(ProducerConfig::default()).await?;
/// let mut acks = Vec::new();
/// for i in 0..1000 {
///     let record = ProducerRecord::new("orders").key(format!("key{i}")).value(format!("value{i}"));
///     acks.push(producer.send(record).await?); // waits only while the buffer is full
/// }
/// for ack in acks {
///     println!("offset {:?}", ack.await?.offset);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    shared: Arc<Shared>,
    /// Stops the driver when the last clone goes.
    _stop: Arc<DropGuard>,
}

/// A record that [`Producer::try_send`] did not take.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct TrySendError {
    /// The record, to be sent again.
    pub record: ProducerRecord,
    /// Why.
    #[source]
    pub error: Error,
}

/// Events between the streams and the driver: a few answers per stream; a reader that is faster waits.
const EVENTS: usize = 256;

impl Producer {
    pub(crate) async fn start(client: Client, config: ProducerConfig) -> Result<Self> {
        config.validate(client.config().request_timeout)?;
        let identity = if config.idempotence {
            new_identity(&client, config.max_block).await?
        } else {
            Identity::NONE
        };
        let shared = Arc::new(Shared::new(client, config, identity));
        let (events, receiver) = mpsc::channel(EVENTS);
        tokio::spawn(Driver::new(Arc::clone(&shared), events).run(receiver));
        let stop = Arc::new(shared.stop.clone().drop_guard());
        Ok(Self { shared, _stop: stop })
    }

    /// Puts a record into its partition's batch and returns the future of its acknowledgement. Waits, up to
    /// `max.block.ms`, while the topic is unknown or the buffer is full; when it returns, the record has its place in the
    /// order. Cancelled before that, the record is not sent.
    ///
    /// # Errors
    /// For a record that can never be sent (too large, no such topic or partition), after `max.block.ms`, and once closed.
    pub async fn send(&self, record: ProducerRecord) -> Result<SendFuture> {
        self.enqueue(record, None).await
    }

    /// As [`Self::send`], and tells a callback instead of a future. The callback runs in the producer's own task: it must
    /// not block.
    ///
    /// # Errors
    /// As [`Self::send`]; then the callback is not called.
    pub async fn send_with_callback(
        &self,
        record: ProducerRecord,
        callback: impl FnOnce(Result<RecordReceipt>) + Send + 'static,
    ) -> Result<()> {
        // The future of a record with a callback is not needed.
        self.enqueue(record, Some(Box::new(callback))).await.map(drop)
    }

    /// As [`Self::send`], but never waits.
    ///
    /// # Errors
    /// As [`Self::send`]; [`Error::BufferFull`] and [`Error::TopicNotReady`] instead of waiting, with the record given back.
    pub fn try_send(&self, record: ProducerRecord) -> Result<SendFuture, Box<TrySendError>> {
        let refuse = |record, error| Err(Box::new(TrySendError { record, error }));
        if let Err(error) = self.shared.check(&record) {
            return refuse(record, error);
        }
        let Some(topic) = self.shared.topic(&record.topic) else {
            let error = Error::TopicNotReady(Arc::clone(&record.topic));
            return refuse(record, error);
        };
        let cost = record.cost();
        if !self.shared.try_reserve(cost) {
            return refuse(record, Error::BufferFull);
        }
        self.shared.append(&topic, record, cost, None)
    }

    /// Sends a record and waits for its acknowledgement. One at a time this is as slow as the network and the disks; use
    /// [`Self::send`] to have many on the way.
    ///
    /// # Errors
    /// As [`Self::send`], or the reason why the record was not acknowledged.
    pub async fn send_and_wait(&self, record: ProducerRecord) -> Result<RecordReceipt> {
        self.send(record).await?.await
    }

    async fn enqueue(
        &self,
        record: ProducerRecord,
        callback: Option<Callback>,
    ) -> Result<SendFuture> {
        self.shared.check(&record)?;
        let cost = record.cost();
        let topic = match self.shared.topic(&record.topic) {
            Some(topic) => topic,
            None => self.shared.look_up(&record.topic).await?,
        };
        if !self.shared.try_reserve(cost) {
            self.shared.reserve(cost).await?;
        }
        self.shared.append(&topic, record, cost, callback).map_err(|refused| refused.error)
    }

    /// Waits until every record sent before has its verdict; batches go at once, without lingering.
    ///
    /// # Errors
    /// Never a record's own: those are told by its future. [`Error::Closed`] once closed.
    pub async fn flush(&self) -> Result<()> {
        let _flushing = self.shared.begin_flush();
        tokio::select! {
            () = self.shared.opening.unfinished.flushed() => Ok(()),
            () = self.shared.stopped() => Err(Error::Closed("the producer")),
        }
    }

    /// Refuses further records, waits up to `deadline` for those on the way, and stops. What is left then fails.
    ///
    /// # Errors
    /// [`Error::Timeout`] if some records had no verdict in time.
    pub async fn close(&self, deadline: Duration) -> Result<()> {
        self.shared.refuse_more();
        let outcome = tokio::time::timeout(deadline, self.flush()).await;
        let left = self.shared.opening.unfinished.count();
        self.shared.stop.cancel();
        match outcome {
            Ok(_) if left == 0 => Ok(()),
            _ => Err(Error::Timeout {
                what: "closing the producer",
                after: deadline,
                last: None,
                ambiguous: true,
            }),
        }
    }

    /// The partitions of a topic, looked up if need be within `max.block.ms`.
    ///
    /// # Errors
    /// When the topic does not exist or cannot be looked up.
    pub async fn partitions_for(&self, topic: &str) -> Result<i32> {
        let name: Arc<str> = topic.into();
        let allowed = self.shared.config.max_block;
        let topic = self.shared.client.topic(&name, allowed).await?;
        Ok(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
    }

    /// Bytes of buffer memory that are free now.
    #[must_use]
    pub fn buffer_available(&self) -> usize {
        self.shared.memory.available_permits()
    }
}

/// A producer id of our own.
async fn new_identity(client: &Client, allowed: Duration) -> Result<Identity> {
    let started = Instant::now();
    let identity = client
        .quick_call(("getting a producer id", allowed), |link, timeout| async move {
            crate::answers::init_producer(&link, timeout).await
        })
        .await?;
    let (producer, epoch) = identity;
    tracing::debug!(producer, epoch, took = ?started.elapsed(), "producer id");
    Ok(Identity { id: producer, epoch })
}
