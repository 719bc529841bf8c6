//! Families of what clients ask for: produce, fetch, offset commits, and what the node refuses for want of room. By topic,
//! not by partition: the offsets of partitions tell the rest.

use std::fmt;

use super::family::{Family, Page, counter, gauge, histogram, wide};
use super::scrape::Scrape;
use crate::broker::{Failures, TopicNumbers};
use crate::metrics::Counter;

static PRODUCE_BATCHES: Family =
    counter("produce_batches", "Batches acknowledged. A repeat of one is not counted again.");
static PRODUCE_RECORDS: Family = counter("produce_records", "Records of acknowledged batches.");
static PRODUCE_BYTES: Family =
    counter("produce", "Bytes of acknowledged batches, compressed as they came.").bytes();
static PRODUCE_FAILURES: Family =
    counter("produce_failures", "Batches refused, or whose outcome is unknown, by failure code.");
static PRODUCE_DURATION: Family =
    histogram("produce_duration", "From taking a batch to its acknowledgement by a quorum.");
static FETCH_REQUESTS: Family =
    counter("fetch_requests", "Reads of a partition, those that found nothing included.");
static FETCH_RECORDS: Family = counter("fetch_records", "Records given to readers.");
static FETCH_BYTES: Family =
    counter("fetch", "Bytes given to readers, compressed as they are stored.").bytes();
static FETCH_FAILURES: Family =
    counter("fetch_failures", "Reads refused or failed, by failure code.");
static FETCH_DURATION: Family =
    histogram("fetch_duration", "Time of a read, without waiting for new records.");
static FETCH_WAIT: Family =
    histogram("fetch_wait", "Time that a reader at the end of a partition waited for more.");
static FETCH_WAITING: Family =
    gauge("fetch_waiting", "Readers, by partition, that wait at its end now.");
static COMMITS: Family = counter("offset_commits", "Requests to commit offsets.");
static COMMIT_FAILURES: Family =
    counter("offset_commit_failures", "Requests or their partitions refused, by failure code.");
static PENDING: Family = gauge(
    "admission_pending",
    "Bytes that wait for the disks: batches, journal entries, committed batches not yet in segments.",
)
.bytes();
static LIMIT: Family =
    gauge("admission_limit", "Bytes that may wait for the disks before batches are refused.")
        .bytes();
static REFUSALS: Family =
    counter("admission_refusals", "Batches refused because too many bytes waited.");

/// What is counted by topic.
type OfTopic = (&'static Family, fn(&TopicNumbers) -> &Counter);

const OF_TOPIC: [OfTopic; 6] = [
    (&PRODUCE_BATCHES, |topic| &topic.produced_batches),
    (&PRODUCE_RECORDS, |topic| &topic.produced_records),
    (&PRODUCE_BYTES, |topic| &topic.produced_bytes),
    (&FETCH_REQUESTS, |topic| &topic.fetches),
    (&FETCH_RECORDS, |topic| &topic.fetched_records),
    (&FETCH_BYTES, |topic| &topic.fetched_bytes),
];

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let broker = &scrape.sources.broker;
    let numbers = broker.numbers();
    let topics = numbers.topics();
    for (family, of) in OF_TOPIC {
        let mut series = page.family(family)?;
        for (topic, numbers) in &topics {
            // A topic that was deleted has no name any more.
            if let Some(name) = scrape.census.topics.get(topic) {
                series.counter(&[("topic", name)], of(numbers).get())?;
            }
        }
    }
    write_failures(&PRODUCE_FAILURES, &numbers.produce_failures, page)?;
    write_failures(&FETCH_FAILURES, &numbers.fetch_failures, page)?;
    write_failures(&COMMIT_FAILURES, &numbers.commit_failures, page)?;
    page.histogram(&PRODUCE_DURATION, &numbers.produce.read())?;
    page.histogram(&FETCH_DURATION, &numbers.fetch.read())?;
    page.histogram(&FETCH_WAIT, &numbers.fetch_waits.read())?;
    page.gauge(&FETCH_WAITING, numbers.fetch_waiting())?;
    page.counter(&COMMITS, numbers.commits.get())?;
    let room = broker.room();
    page.gauge(&PENDING, wide(room.waiting))?;
    page.gauge(&LIMIT, wide(room.limit))?;
    page.counter(&REFUSALS, numbers.refused_for_room.get())
}

fn write_failures(
    family: &'static Family,
    failures: &Failures,
    page: &mut Page<'_>,
) -> fmt::Result {
    let mut series = page.family(family)?;
    let by_code = failures.read();
    by_code.iter().try_for_each(|(code, count)| series.counter(&[("code", code)], *count))
}
