//! Owns the way back: one shared handle per batch that every record's future looks into, so that a record costs a
//! reference count and not an allocation or a channel. Never blocks: the one lock guards wakers only.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::Result;
use crate::record::{BatchReceipt, RecordReceipt, TopicPartition};

/// Called with a record's receipt, or with the reason why it has none.
pub(crate) type Callback = Box<dyn FnOnce(Result<RecordReceipt>) + Send>;

/// One batch's verdict, shared by its records.
#[derive(Debug)]
pub(crate) struct Completion {
    at: TopicPartition,
    /// Set once, by the driver.
    verdict: OnceLock<Result<Arc<BatchReceipt>>>,
    /// Set once instead of the verdict, when the cluster took the batch only in two parts: the second part's first record.
    parts: OnceLock<(u32, Arc<Completion>, Arc<Completion>)>,
    /// Futures that wait, by slot; taken all at once when the verdict is there.
    wakers: Mutex<Vec<Option<Waker>>>,
}

impl Completion {
    pub(crate) fn new(at: TopicPartition) -> Arc<Self> {
        Arc::new(Self {
            at,
            verdict: OnceLock::new(),
            parts: OnceLock::new(),
            wakers: Mutex::default(),
        })
    }

    /// Gives the verdict; a second one changes nothing.
    pub(crate) fn settle(&self, verdict: Result<Arc<BatchReceipt>>) {
        if self.verdict.set(verdict).is_ok() {
            let waiting = std::mem::take(&mut *self.wakers());
            waiting.into_iter().flatten().for_each(Waker::wake);
        }
    }

    /// Two parts, each with a verdict of its own; records look into theirs from now on.
    pub(crate) fn split(&self, second_from: u32) -> (Arc<Self>, Arc<Self>) {
        let fresh = || (second_from, Self::new(self.at.clone()), Self::new(self.at.clone()));
        let (_, first, second) = self.parts.get_or_init(fresh);
        let waiting = std::mem::take(&mut *self.wakers());
        // They come back and wait at their part.
        waiting.into_iter().flatten().for_each(Waker::wake);
        (Arc::clone(first), Arc::clone(second))
    }

    /// Where a record's verdict will be, and its index there.
    fn part(&self, index: u32) -> Option<(Arc<Self>, u32)> {
        let (second_from, first, second) = self.parts.get()?;
        Some(match index.checked_sub(*second_from) {
            Some(index) => (Arc::clone(second), index),
            None => (Arc::clone(first), index),
        })
    }

    fn wakers(&self) -> std::sync::MutexGuard<'_, Vec<Option<Waker>>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receipt of the record at `index` of the batch, if there is a verdict.
    pub(crate) fn receipt(&self, index: u32, timestamp_ms: i64) -> Option<Result<RecordReceipt>> {
        let verdict = self.verdict.get()?;
        Some(verdict.clone().map(|batch| RecordReceipt {
            at: self.at.clone(),
            offset: batch.base_offset.map(|base| base + i64::from(index)),
            timestamp_ms: if batch.log_append_time { batch.append_time_ms } else { timestamp_ms },
            batch,
        }))
    }
}

/// The acknowledgement of one record, to be awaited or dropped: dropping it does not take the record back. Owns what it
/// needs, so it may outlive the producer.
#[must_use = "a record's failure is told here only"]
pub struct SendFuture {
    completion: Arc<Completion>,
    index: u32,
    timestamp_ms: i64,
    slot: Option<usize>,
}

impl SendFuture {
    pub(crate) fn new(completion: Arc<Completion>, index: u32, timestamp_ms: i64) -> Self {
        Self { completion, index, timestamp_ms, slot: None }
    }

    /// The partition the record was put into.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.completion.at
    }
}

impl fmt::Debug for SendFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendFuture({}, record {} of its batch)", self.completion.at, self.index)
    }
}

impl Future for SendFuture {
    type Output = Result<RecordReceipt>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some((part, index)) = self.completion.part(self.index) {
                (self.completion, self.index, self.slot) = (part, index, None);
                continue;
            }
            if let Some(receipt) = self.completion.receipt(self.index, self.timestamp_ms) {
                return Poll::Ready(receipt);
            }
            let completion = Arc::clone(&self.completion);
            let mut wakers = completion.wakers();
            // Either may have come before the lock: then nobody would wake us.
            if completion.verdict.get().is_some() || completion.parts.get().is_some() {
                continue;
            }
            match self.slot.and_then(|slot| wakers.get_mut(slot)) {
                Some(waker) => *waker = Some(cx.waker().clone()),
                None => {
                    self.slot = Some(wakers.len());
                    wakers.push(Some(cx.waker().clone()));
                }
            }
            return Poll::Pending;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn future(index: u32) -> (Arc<Completion>, SendFuture) {
        let completion = Completion::new(TopicPartition::new("t", 1));
        let future = SendFuture::new(Arc::clone(&completion), index, 77);
        (completion, future)
    }

    #[tokio::test]
    async fn a_records_offset_counts_from_its_batchs_first() {
        let (completion, future) = future(3);
        let receipt = BatchReceipt { base_offset: Some(100), ..BatchReceipt::default() };
        let waiting = tokio::spawn(future);
        tokio::task::yield_now().await;
        completion.settle(Ok(Arc::new(receipt)));
        let receipt = waiting.await.unwrap().unwrap();
        assert_eq!((receipt.offset, receipt.timestamp_ms), (Some(103), 77));
    }

    #[tokio::test]
    async fn a_record_of_a_split_batch_waits_for_its_own_part() {
        let (completion, early) = future(1);
        let late = SendFuture::new(Arc::clone(&completion), 3, 77);
        let (early, late) = (tokio::spawn(early), tokio::spawn(late));
        tokio::task::yield_now().await;
        let (first, second) = completion.split(2);
        second.settle(Err(Error::Closed("the producer")));
        let receipt = BatchReceipt { base_offset: Some(100), ..BatchReceipt::default() };
        first.settle(Ok(Arc::new(receipt)));
        assert_eq!(early.await.unwrap().unwrap().offset, Some(101));
        assert!(late.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn the_first_verdict_stands() {
        let (completion, future) = future(0);
        completion.settle(Err(Error::Closed("the producer")));
        completion.settle(Ok(Arc::new(BatchReceipt::default())));
        assert!(matches!(future.await, Err(Error::Closed(_))));
    }

    #[tokio::test]
    async fn append_time_replaces_the_records_own_where_the_topic_says_so() {
        let (completion, future) = future(0);
        let receipt =
            BatchReceipt { log_append_time: true, append_time_ms: 9, ..BatchReceipt::default() };
        completion.settle(Ok(Arc::new(receipt)));
        assert_eq!(future.await.unwrap().timestamp_ms, 9);
    }
}
