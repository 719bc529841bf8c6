//! Families of what a node does to its disk: the journal, which every acknowledgement waits for, segments, checkpoints.

use std::fmt;

use super::family::{Family, Page, counter, gauge, histogram, wide};
use super::scrape::Scrape;

static FLUSHES: Family =
    counter("journal_flushes", "Writes of the journal, each with one sync of the disk.");
static WRITTEN: Family =
    counter("journal_written", "Bytes written to the journal, with headers and padding.").bytes();
static SYNC: Family = histogram(
    "journal_sync_duration",
    "Time of one write and sync of the journal. Every acknowledgement waits for one on a quorum of nodes.",
);
static QUEUE: Family =
    gauge("journal_queue", "Bytes handed to the journal that are not on the disk yet.").bytes();
static JOURNAL_SIZE: Family =
    gauge("journal_size", "Bytes of the journal files that a restart would need now.").bytes();
static JOURNAL_DAMAGE: Family = counter(
    "journal_damaged_parts",
    "Damaged parts of the journal found when it was opened: flushes that could not be read.",
);
static MENDED: Family = counter(
    "journal_mended_entries",
    "Entries taken from other nodes, because damage made them unreadable here.",
);
static DOUBTFUL: Family = gauge(
    "doubtful_replicas",
    "Replicas that do not run, because damage took their vote or the end of their log.",
);
static WAITING: Family = gauge(
    "segments_waiting",
    "Committed bytes in memory that are in no segment yet. The journal has them on disk.",
)
.bytes();
static DAMAGED: Family = counter(
    "damaged_ranges",
    "Damaged runs of bytes that were found in segments and checkpoints. None of them is served.",
);
static REPAIRED: Family =
    counter("segments_repaired", "Damaged segments that were put together anew, from peers.");
static DAMAGE: Family = gauge(
    "damaged_ranges_open",
    "Damaged runs of bytes in segments that no peer has given again yet: reads of them are refused.",
);
static SCRUBBED: Family =
    counter("scrubbed", "Bytes of segments that were verified though nobody read them.").bytes();
static PULLED: Family = counter(
    "segments_pulled",
    "Bytes of segments received from other nodes: to catch up with them, and to repair damage.",
)
.bytes();
static GIVEN: Family =
    counter("segments_given", "Bytes of segments given to other nodes that catch up or repair.")
        .bytes();
static CHECKPOINTS: Family = counter("checkpoints", "Checkpoints that became durable.");
static CHECKPOINT_FAILURES: Family =
    counter("checkpoint_failures", "Checkpoints that failed; the one before stays in force.");
static CHECKPOINT: Family =
    histogram("checkpoint_duration", "Time of a checkpoint, with the syncs of its segments.");

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let (journal, store) = (&scrape.sources.journal, &scrape.sources.store);
    let syncs = journal.numbers().syncs.read();
    page.counter(&FLUSHES, syncs.count)?;
    page.counter(&WRITTEN, journal.numbers().bytes.get())?;
    page.histogram(&SYNC, &syncs)?;
    page.gauge(&QUEUE, wide(journal.queued_bytes()))?;
    page.gauge(&JOURNAL_SIZE, journal.disk_bytes())?;
    page.counter(&JOURNAL_DAMAGE, journal.numbers().damaged.get())?;
    page.counter(&MENDED, journal.numbers().mended.get())?;
    page.gauge(&DOUBTFUL, wide(journal.doubtful().len()))?;
    page.gauge(&WAITING, wide(store.pending_bytes()))?;
    page.counter(&DAMAGED, store.numbers().damaged_ranges.get())?;
    page.counter(&REPAIRED, store.numbers().repaired_segments.get())?;
    page.gauge(&DAMAGE, wide(store.open_damage()))?;
    page.counter(&SCRUBBED, store.numbers().scrubbed_bytes.get())?;
    let pulls = scrape.sources.consensus.pull_numbers();
    page.counter(&PULLED, pulls.pulled.get())?;
    page.counter(&GIVEN, pulls.given.get())?;
    let checkpoints = store.numbers().checkpoints.read();
    page.counter(&CHECKPOINTS, checkpoints.count)?;
    page.counter(&CHECKPOINT_FAILURES, store.numbers().failed_checkpoints.get())?;
    page.histogram(&CHECKPOINT, &checkpoints)
}
