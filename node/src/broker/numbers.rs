//! What the broker counts of itself: what was appended and read, by topic, what was refused, by code, and how long it took.
//! Owns the meaning of its numbers; never decides by them. Topics that the catalog does not list any more are forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicId;

use super::logs::{Appended, Batches, ReadAt};
use super::{Broker, Core};
use crate::metrics::{Counter, Histogram};
use crate::reached::reached;

/// Counted since the node was started.
#[derive(Debug, Default)]
pub struct Numbers {
    /// What was appended and read.
    topics: RwLock<BTreeMap<TopicId, Arc<TopicNumbers>>>,
    /// From the moment that a batch was taken to its acknowledgement.
    pub produce: Histogram,
    /// Batches that were not appended, or not known to be.
    pub produce_failures: Failures,
    /// Batches refused because too many bytes waited.
    pub refused_for_room: Counter,
    /// Reads, without what they waited for.
    pub fetch: Histogram,
    /// Reads that were refused or failed.
    pub fetch_failures: Failures,
    /// How long readers waited for something new.
    pub fetch_waits: Histogram,
    /// Readers that wait now.
    fetch_waiting: AtomicU64,
    /// Requests to commit offsets.
    pub commits: Counter,
    /// Offsets that were not committed, by whole request or by partition.
    pub commit_failures: Failures,
}

/// What was appended to the partitions of a topic and read from them, here.
#[derive(Debug, Default)]
pub struct TopicNumbers {
    /// Batches acknowledged; repeats of one are not counted again.
    pub produced_batches: Counter,
    /// Their records.
    pub produced_records: Counter,
    /// Their bytes as they came.
    pub produced_bytes: Counter,
    /// Reads, also those that found nothing.
    pub fetches: Counter,
    /// Records that readers passed.
    pub fetched_records: Counter,
    /// Bytes given to readers.
    pub fetched_bytes: Counter,
}

/// Failures by code.
#[derive(Debug, Default)]
pub struct Failures(Mutex<BTreeMap<&'static str, u64>>);

impl Failures {
    fn count(&self, failure: &Failure) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(failure.code.as_str_name()).or_default() += 1;
    }

    /// Each code that occurred, in lower case, with how often.
    #[must_use]
    pub fn read(&self) -> Vec<(String, u64)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let short = |name: &str| name.trim_start_matches("FAILURE_CODE_").to_ascii_lowercase();
        known.iter().map(|(name, count)| (short(name), *count)).collect()
    }
}

/// Bytes that wait for the disks, and how many may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Taken.
    pub waiting: usize,
    /// At most.
    pub limit: usize,
}

impl Numbers {
    /// Topics of which something was counted.
    #[must_use]
    pub fn topics(&self) -> BTreeMap<TopicId, Arc<TopicNumbers>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Readers that wait now.
    #[must_use]
    pub fn fetch_waiting(&self) -> u64 {
        self.fetch_waiting.load(Ordering::Relaxed)
    }

    pub(super) fn not_produced(&self, failure: &Failure) {
        if failure.code == FailureCode::Overloaded {
            self.refused_for_room.one();
        }
        self.produce_failures.count(failure);
    }

    /// Offsets were asked to be committed, and this came of it.
    pub(super) fn committed(&self, outcome: &Result<Vec<Result<(), Failure>>, Failure>) {
        self.commits.one();
        match outcome {
            Ok(each) => {
                each.iter().filter_map(|it| it.as_ref().err()).for_each(|failure| {
                    self.commit_failures.count(failure);
                });
            }
            Err(failure) => self.commit_failures.count(failure),
        }
    }
}

impl Broker {
    /// What it counted.
    #[must_use]
    pub fn numbers(&self) -> &Numbers {
        &self.core.numbers
    }

    /// How much more it could take.
    #[must_use]
    pub fn room(&self) -> Room {
        let core = &self.core;
        let waiting = core.waiting_bytes(core.pending.load(Ordering::Relaxed));
        Room { waiting, limit: core.options.pending_bytes }
    }
}

impl Core {
    /// A batch was acknowledged.
    pub(super) fn count_appended(
        &self,
        topic: TopicId,
        bytes: usize,
        appended: &Appended,
        took: Duration,
    ) {
        self.numbers.produce.observe(took);
        if appended.receipt.duplicate {
            reached!("duplicate-refused");
            return;
        }
        let numbers = self.topic_numbers(topic);
        numbers.produced_batches.one();
        numbers.produced_records.add(u64::try_from(appended.receipt.record_count).unwrap_or(0));
        numbers.produced_bytes.add(bytes as u64);
    }

    /// A read ended.
    pub(super) fn count_read(&self, at: &ReadAt, read: &Result<Batches, Failure>, took: Duration) {
        self.numbers.fetch.observe(took);
        match read {
            Ok(read) => {
                let numbers = self.topic_numbers(at.at.topic);
                numbers.fetches.one();
                let passed = read.next_offset.saturating_sub(at.offset);
                numbers.fetched_records.add(u64::try_from(passed).unwrap_or(0));
                numbers.fetched_bytes.add(read.bytes.len() as u64);
            }
            Err(failure) => self.numbers.fetch_failures.count(failure),
        }
    }

    fn topic_numbers(&self, topic: TopicId) -> Arc<TopicNumbers> {
        {
            let known = self.numbers.topics.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(numbers) = known.get(&topic) {
                return Arc::clone(numbers);
            }
        }
        // The moment of a new one is the moment to forget those that are gone: there are never more than once were listed.
        let listed = self.catalog(|catalog| catalog.topics().map(|it| it.id).collect());
        let listed: Option<BTreeSet<TopicId>> = listed.ok();
        let mut known = self.numbers.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(listed) = listed {
            known.retain(|topic, _| listed.contains(topic));
        }
        Arc::clone(known.entry(topic).or_default())
    }
}

/// A reader that waits; counted until it is dropped.
#[derive(Debug)]
pub(super) struct FetchWait {
    core: Arc<Core>,
    since: Instant,
}

impl FetchWait {
    pub(super) fn begin(core: &Arc<Core>) -> Self {
        core.numbers.fetch_waiting.fetch_add(1, Ordering::Relaxed);
        Self { core: Arc::clone(core), since: Instant::now() }
    }
}

impl Drop for FetchWait {
    fn drop(&mut self) {
        let numbers = &self.core.numbers;
        numbers.fetch_waiting.fetch_sub(1, Ordering::Relaxed);
        numbers.fetch_waits.observe(self.since.elapsed());
    }
}
