//! Owns one consumer of the group: a connection of its own, a task that reads, and its two ways to end. Never counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use waymark_client::{Client, ClientConfig, Consumer, ConsumerConfig, OffsetReset};

use super::super::super::Failure;
use super::super::input::TOPIC;
use super::super::read::GROUP;
use super::book::Book;

const POLL: Duration = Duration::from_millis(100);
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// The shortest that the cluster takes.
pub(super) const SESSION: Duration = Duration::from_secs(6);
/// What a kill repeats is at most this much.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

pub(super) type SharedBook = Arc<Mutex<Book>>;

pub(super) fn lock(book: &SharedBook) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A consumer and the task that reads with it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    consumer: Arc<Consumer>,
    reading: JoinHandle<Result<(), waymark_client::Error>>,
    stop: oneshot::Sender<()>,
}

impl Member {
    pub(super) async fn join(
        addresses: Vec<String>,
        name: &'static str,
        book: &SharedBook,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::because(name, error);
        let client = ClientConfig::new(addresses).client_id(name);
        let client = Client::connect(client).await.map_err(failed)?;
        let config = ConsumerConfig::default()
            .group_id(GROUP)
            .auto_offset_reset(OffsetReset::Earliest)
            .auto_commit_interval(COMMIT_EVERY)
            .session_timeout(SESSION);
        let consumer = Arc::new(client.consumer(config).map_err(failed)?);
        consumer.subscribe([TOPIC]).await.map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let reading = tokio::spawn(read(Arc::clone(&consumer), Arc::clone(book), stopped));
        Ok(Self { name, consumer, reading, stop })
    }

    /// Leaves as a program does that is stopped in an orderly way.
    pub(super) async fn leave(self) -> Result<(), Failure> {
        let failed = |error| Failure::because(self.name, error);
        // It may have stopped by itself, with an error that comes next.
        let _ = self.stop.send(());
        let read = self.reading.await.map_err(|error| Failure::because(self.name, error))?;
        read.map_err(failed)?;
        self.consumer.close(CLOSE_WITHIN).await.map_err(failed)
    }

    /// Ends without a word: nothing is committed, nobody is told.
    pub(super) async fn kill(self) {
        self.reading.abort();
        // Cancelled, which is what was asked for.
        let _ = self.reading.await;
    }
}

/// Every record that is handed out goes into the book before another one is asked for.
async fn read(
    consumer: Arc<Consumer>,
    book: SharedBook,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), waymark_client::Error> {
    loop {
        let records = tokio::select! {
            records = consumer.poll(POLL) => records?,
            _ = &mut stopped => return Ok(()),
        };
        let mut book = lock(&book);
        for record in records {
            let fence = record.fencing_epoch.unwrap_or_default();
            book.read(record.partition, record.offset, fence);
        }
    }
}
