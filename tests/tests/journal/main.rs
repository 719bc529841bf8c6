//! Crashes of the journal on the simulated disk (S1–S4). Everything goes through one queue, so what a restart finds must be
//! the state after some prefix of what was handed over, and that prefix must reach what was acknowledged.
//!
//! Each planted bug must be found by the same search that finds nothing without it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod damage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::time::timeout;
use waymark_node::mutants;
use waymark_node::storage::disk::{Disk, OpenMode};
use waymark_node::storage::journal::{Expected, Journal, JournalError, JournalOptions};
use waymark_node::storage::raft_record::{EntryKind, LogEntry, LogId, Vote};
use waymark_proto::ids::{NodeId, ReplicaId, ReplicaKey, ShardId};
use waymark_tests::disk::{Crash, Faults, SimDisk};

const SHARDS: u32 = 4;
const LIVES: usize = 8;

fn key(shard: u32) -> ReplicaKey {
    ReplicaKey { shard: ShardId(shard), incarnation: 1 }
}

fn replica(node: u32) -> ReplicaId {
    ReplicaId { node: NodeId(node), incarnation: 1 }
}

#[derive(Debug, Clone)]
enum Op {
    Append(u32, Vec<LogEntry>),
    Vote(u32, Vote),
    Truncate(u32, Option<LogId>),
    Purge(u32, LogId),
}

/// An append of several entries may be cut between any two of them.
fn steps(op: &Op) -> Vec<Op> {
    match op {
        Op::Append(shard, entries) => {
            entries.iter().map(|entry| Op::Append(*shard, vec![entry.clone()])).collect()
        }
        other => vec![other.clone()],
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ModelLog {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, LogEntry>,
}

impl ModelLog {
    fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.id).or(self.purged)
    }
}

#[derive(Debug, Clone, Default)]
struct Model {
    logs: BTreeMap<u32, ModelLog>,
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(shard, entries) => {
                let log = self.logs.entry(*shard).or_default();
                log.entries.extend(entries.iter().map(|entry| (entry.id.index, entry.clone())));
            }
            Op::Vote(shard, vote) => {
                let log = self.logs.entry(*shard).or_default();
                if log.vote.is_none_or(|known| known.rank() < vote.rank()) {
                    log.vote = Some(*vote);
                }
            }
            Op::Truncate(shard, last) => {
                let log = self.logs.entry(*shard).or_default();
                log.entries.split_off(&last.map_or(0, |last| last.index + 1));
            }
            Op::Purge(shard, upto) => {
                let log = self.logs.entry(*shard).or_default();
                log.purged = Some(*upto);
                log.entries = log.entries.split_off(&(upto.index + 1));
            }
        }
    }

    /// Whether a recovered state is this one. Votes and purge marks may run ahead: they are carried as they are known.
    fn explains(&self, found: &Self) -> bool {
        (0..SHARDS).all(|shard| {
            let empty = ModelLog::default();
            let ours = self.logs.get(&shard).unwrap_or(&empty);
            let theirs = found.logs.get(&shard).unwrap_or(&empty);
            let from = theirs.purged.map_or(0, |purged| purged.index + 1);
            let purged = |log: &ModelLog| log.purged.map(|purged| purged.index);
            let rank = |log: &ModelLog| log.vote.map(|vote| vote.rank());
            purged(ours) <= purged(theirs)
                && rank(ours) <= rank(theirs)
                && ours.entries.range(from..).eq(theirs.entries.range(..))
        })
    }
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (shard, log) in &self.logs {
            let ids = || log.entries.values().map(|entry| (entry.id.term, entry.id.index));
            let (purged, vote) = (log.purged.map(|id| id.index), log.vote.map(|vote| vote.rank()));
            let (first, last) = (ids().next(), ids().next_back());
            write!(f, "\n  shard {shard}: {vote:?}, purged {purged:?}, {first:?} to {last:?}")?;
        }
        Ok(())
    }
}

/// One journal through several lives.
struct Story {
    rng: StdRng,
    disk: SimDisk,
    options: JournalOptions,
    /// The state that is certain, then what was handed over since.
    certain: Model,
    pending: Vec<Op>,
    /// Of `pending`, how many are acknowledged.
    acked: Arc<AtomicUsize>,
    term: u64,
    with_io_errors: bool,
}

impl Story {
    fn new(seed: u64, with_io_errors: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let options = JournalOptions {
            file_bytes: 64 << 10,
            cache_bytes: rng.random_range(0..40_000),
            flush_bytes: rng.random_range(4_096..16_384),
            closing_flush_after: Duration::from_millis(5),
            new_journal_id: seed,
            ..JournalOptions::default()
        };
        Self {
            rng,
            disk: SimDisk::new(seed),
            options,
            certain: Model::default(),
            pending: Vec::new(),
            acked: Arc::default(),
            term: 1,
            with_io_errors,
        }
    }

    fn now(&self) -> Model {
        let mut model = self.certain.clone();
        self.pending.iter().for_each(|op| model.apply(op));
        model
    }

    async fn run(mut self) -> Result<(), String> {
        for life in 0..LIVES {
            self.disk = self.disk.attach();
            self.disk.set_faults(Faults {
                sync_latency: Duration::ZERO..Duration::from_millis(2),
                ..Faults::default()
            });
            if self.rng.random_bool(0.3) {
                self.disk.power_off_after(self.rng.random_range(0..60));
            }
            let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
            match Journal::open(disk, self.options.clone()).await {
                Ok(journal) => {
                    self.check(&journal).await.map_err(|what| format!("life {life}: {what}"))?;
                    self.live(&journal).await?;
                }
                Err(_) if self.disk.is_off() => {}
                Err(error) => return Err(format!("life {life}: {error}")),
            }
            self.die();
        }
        Ok(())
    }

    /// Ends a life: a power cut of some kind, or only the process.
    fn die(&mut self) {
        if self.rng.random_bool(0.2) {
            self.disk.power_off();
        } else {
            let mode = *Crash::ALL.choose(&mut self.rng).unwrap();
            self.disk.crash(mode);
        }
    }

    async fn check(&mut self, journal: &Journal) -> Result<(), String> {
        // A crash alone never looks like damage.
        if !journal.damage().is_empty() {
            return Err(format!("damaged: {:?}", journal.damage()));
        }
        let mut found = Model::default();
        for key in journal.keys() {
            let log = journal.shard(key);
            let mut entries = Vec::new();
            loop {
                let from = entries.last().map_or(0, |last: &LogEntry| last.id.index + 1);
                match log.read(from, u64::MAX, 5000).await {
                    Ok(more) if more.is_empty() => break,
                    Ok(more) => entries.extend(more),
                    Err(_) if self.disk.is_off() => return Ok(()),
                    Err(error) => return Err(error.to_string()),
                }
            }
            let model = found.logs.entry(key.shard.0).or_default();
            model.vote = log.vote();
            model.purged = log.last_purged();
            model.entries = entries.into_iter().map(|entry| (entry.id.index, entry)).collect();
            if model.last() != log.last() {
                return Err(format!("shard {} ends at {:?}", key.shard, log.last()));
            }
        }
        let acked = self.acked.load(Ordering::SeqCst);
        let mut model = self.certain.clone();
        self.pending[..acked].iter().for_each(|op| model.apply(op));
        let mut explained = model.explains(&found);
        for op in &self.pending[acked..] {
            if explained {
                break;
            }
            model.apply(op);
            explained = model.explains(&found);
        }
        if !explained {
            let mut acknowledged = self.certain.clone();
            self.pending[..acked].iter().for_each(|op| acknowledged.apply(op));
            return Err(format!("found {found}\nacknowledged {acknowledged}\nhanded over {model}"));
        }
        // What a restart has served must stay, acknowledged or not.
        self.certain = found;
        self.pending.clear();
        self.acked = Arc::default();
        Ok(())
    }

    async fn live(&mut self, journal: &Journal) -> Result<(), String> {
        self.disk.power_off_after(self.rng.random_range(5..400));
        if self.with_io_errors && self.rng.random_bool(0.5) {
            self.disk.set_faults(Faults { sync_errors: 0.02, ..Faults::default() });
        }
        for _ in 0..self.rng.random_range(0..300) {
            let op = self.next_op();
            let before = self.pending.len();
            self.pending.extend(steps(&op));
            let count = self.pending.len();
            if self.hand_over(journal, op, count).await.is_err() {
                self.pending.truncate(before);
                break;
            }
            match self.rng.random_range(0..20) {
                0..4 => tokio::task::yield_now().await,
                4 => tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..20))).await,
                5 if journal.barrier().await.is_ok() => {
                    self.acked.fetch_max(count, Ordering::SeqCst);
                }
                _ => {}
            }
        }
        if self.rng.random_bool(0.2) {
            journal.shutdown().await;
        }
        if self.disk.is_off() { Ok(()) } else { self.check_reads(journal).await }
    }

    /// What is readable while the journal runs is what was handed over, flushed or not.
    async fn check_reads(&mut self, journal: &Journal) -> Result<(), String> {
        for (shard, model) in &self.now().logs {
            let read = journal.shard(key(*shard)).read(0, u64::MAX, usize::MAX).await;
            match read {
                Ok(read) if read.iter().eq(model.entries.values()) => {}
                Err(_) if self.disk.is_off() => return Ok(()),
                other => return Err(format!("shard {shard} reads {other:?}")),
            }
        }
        Ok(())
    }

    fn next_op(&mut self) -> Op {
        let shard = self.rng.random_range(0..SHARDS);
        let log = self.now().logs.remove(&shard).unwrap_or_default();
        let last = log.last();
        let kept = log.entries.len();
        match self.rng.random_range(0..20) {
            0 => {
                let term = self.rng.random_range(0..=self.term);
                let voted_for = replica(self.rng.random_range(1..4));
                Op::Vote(shard, Vote { term, voted_for, committed: self.rng.random_bool(0.5) })
            }
            1 if kept > 0 => {
                self.term += 1;
                let keep = self.rng.random_range(kept.saturating_sub(5)..kept);
                let to = log.entries.values().take(keep).last().map(|entry| entry.id);
                Op::Truncate(shard, to.or(log.purged))
            }
            // The last shard is lazy, so that its entries have to be carried.
            2..4 if kept > 0 && (shard + 1 < SHARDS || kept > 60) => {
                let upto = self.rng.random_range(0..kept);
                Op::Purge(shard, log.entries.values().nth(upto).unwrap().id)
            }
            4 if self.rng.random_bool(0.1) => {
                let index = last.map_or(0, |last| last.index) + self.rng.random_range(1..9);
                Op::Purge(shard, LogId { term: self.term, leader: replica(1), index })
            }
            _ => {
                let first = last.map_or(0, |last| last.index + 1);
                let count = self.rng.random_range(1..4);
                Op::Append(shard, (first..first + count).map(|index| self.entry(index)).collect())
            }
        }
    }

    fn entry(&mut self, index: u64) -> LogEntry {
        let len = match self.rng.random_range(0..10) {
            0 => 0,
            1 => self.rng.random_range(0..9000),
            _ => self.rng.random_range(0..700),
        };
        let kind = if len == 0 { EntryKind::Blank } else { EntryKind::Command };
        let payload = Bytes::from(vec![self.rng.random(); len]);
        LogEntry { id: LogId { term: self.term, leader: replica(1), index }, kind, payload }
    }

    async fn hand_over(&self, journal: &Journal, op: Op, count: usize) -> Result<(), JournalError> {
        let acked = Arc::clone(&self.acked);
        match op {
            Op::Append(shard, entries) => journal.shard(key(shard)).append(
                entries,
                Box::new(move |result| {
                    if result.is_ok() {
                        acked.fetch_max(count, Ordering::SeqCst);
                    }
                }),
            ),
            Op::Vote(shard, vote) => {
                let log = journal.shard(key(shard));
                let mut saved = Box::pin(async move { log.save_vote(vote).await });
                // The first poll puts it into the queue; its end is awaited elsewhere.
                if let std::task::Poll::Ready(result) = futures::poll!(&mut saved) {
                    return result;
                }
                tokio::spawn(async move {
                    if saved.await.is_ok() {
                        acked.fetch_max(count, Ordering::SeqCst);
                    }
                });
                Ok(())
            }
            Op::Truncate(shard, last) => journal.shard(key(shard)).truncate_after(last),
            Op::Purge(shard, upto) => journal.shard(key(shard)).purge(upto),
        }
    }
}

/// Plays a story in a runtime of its own, with simulated time.
fn play<F: Future>(story: F) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(story)
}

/// The first seed whose story goes wrong.
fn search(seeds: std::ops::Range<u64>, with_io_errors: bool) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| {
        let result = play(Story::new(seed, with_io_errors).run());
        result.err().map(|what| (seed, what))
    })
}

#[test]
fn what_was_acknowledged_survives_every_kind_of_crash() {
    let _secluded = mutants::seclude();
    assert_eq!(search(0..300, false), None);
}

#[test]
fn a_failed_sync_never_passes_for_durable() {
    let _secluded = mutants::seclude();
    assert_eq!(search(1000..1300, true), None);
}

#[test]
fn every_planted_bug_is_found() {
    let bugs = [
        ("ack-before-fsync", false, 2000),
        ("no-flush-chain", false, 2000),
        ("carry-nothing", false, 2000),
        ("last-vote-wins", false, 2000),
        ("torn-is-damage", false, 2000),
        ("trust-the-listing", false, 0),
        ("trust-the-tail", true, 2000),
    ];
    for (bug, with_io_errors, first) in bugs {
        let _planted = mutants::plant(bug);
        let found = search(first..first + 400, with_io_errors);
        println!("{bug}: {found:?}");
        assert!(found.is_some(), "nothing finds {bug}");
    }
}

/// A journal of several files at rest, and its state.
async fn at_rest(seed: u64) -> (SimDisk, JournalOptions, Model) {
    let mut story = Story::new(seed, false);
    let disk: Arc<dyn Disk> = Arc::new(story.disk.clone());
    let journal = Journal::open(disk, story.options.clone()).await.unwrap();
    for _ in 0..150 {
        let op = story.next_op();
        story.pending.extend(steps(&op));
        story.hand_over(&journal, op, story.pending.len()).await.unwrap();
        if story.rng.random_bool(0.2) {
            journal.barrier().await.unwrap();
        }
    }
    journal.shutdown().await;
    let model = story.now();
    (story.disk, story.options, model)
}

#[test]
fn a_rotten_entry_is_reported_to_its_reader() {
    let _secluded = mutants::seclude();
    play(async {
        let disk = SimDisk::new(1);
        let options = JournalOptions { cache_bytes: 0, ..Story::new(1, false).options };
        let journal = Journal::open(Arc::new(disk.clone()), options).await.unwrap();
        let log = journal.shard(key(1));
        let id = LogId { term: 1, leader: replica(1), index: 0 };
        let payload = Bytes::from(vec![1; 3000]);
        let entry = LogEntry { id, kind: EntryKind::Command, payload };
        log.append(vec![entry.clone()], Box::new(|_| {})).unwrap();
        journal.barrier().await.unwrap();
        assert_eq!(log.read(0, 1, 1).await.unwrap(), [entry]);
        for (path, _) in disk.files() {
            disk.rot(&path, 4096 + 1000..4096 + 2000, 1);
        }
        let error = log.read(0, 1, 1).await.unwrap_err();
        assert!(matches!(error, JournalError::Damaged { offset: 4216, .. }), "{error}");
    });
}

#[test]
fn a_failed_flush_fails_everything_after_it() {
    let _secluded = mutants::seclude();
    play(async {
        let disk = SimDisk::new(1);
        let options = Story::new(1, false).options;
        let journal = Journal::open(Arc::new(disk.clone()), options).await.unwrap();
        disk.set_faults(Faults { sync_errors: 1.0, ..Faults::default() });
        let log = journal.shard(key(1));
        let vote = Vote { term: 1, voted_for: replica(1), committed: false };
        assert!(matches!(log.save_vote(vote).await, Err(JournalError::Failed(_))));
        assert!(matches!(journal.failed().await, JournalError::Failed(_)));
        disk.set_faults(Faults::default());
        assert!(matches!(journal.barrier().await, Err(JournalError::Failed(_))));
        assert!(matches!(log.truncate_after(None), Err(JournalError::Failed(_))));
    });
}

/// Fills a disk under a journal. Whether the journal waits for room, and then goes on as if nothing had been.
async fn waits_for_room() -> bool {
    let disk = SimDisk::new(1);
    let options = Story::new(1, false).options;
    let journal = Journal::open(Arc::new(disk.attach()), options.clone()).await.unwrap();
    let log = journal.shard(key(1));
    // More than all files together that the journal has by now.
    let entries: Vec<LogEntry> = (1..=100).map(|index| entry_of(index, 4_000)).collect();
    disk.set_faults(Faults { capacity: Some(disk.used()), ..Faults::default() });
    log.append(entries.clone(), Box::new(|_| {})).unwrap();
    let stuck = timeout(Duration::from_secs(60), journal.barrier()).await.is_err();
    let files = disk.files().len();
    disk.set_faults(Faults::default());
    if !stuck {
        return false;
    }
    timeout(Duration::from_secs(5), journal.barrier()).await.expect("room again").unwrap();
    assert!(files < 10, "a minute on a full disk has left {files} files");
    journal.shutdown().await;
    let journal = Journal::open(Arc::new(disk.attach()), options).await.unwrap();
    journal.shard(key(1)).read(1, 101, usize::MAX).await.unwrap() == entries
}

fn entry_of(index: u64, len: usize) -> LogEntry {
    let id = LogId { term: 1, leader: replica(1), index };
    LogEntry { id, kind: EntryKind::Command, payload: Bytes::from(vec![7; len]) }
}

#[test]
fn a_journal_on_a_full_disk_waits_for_room() {
    let _secluded = mutants::seclude();
    assert!(play(waits_for_room()));
}

#[test]
fn a_journal_that_ends_on_a_full_disk_is_caught() {
    let _planted = mutants::plant("full-disk-ends-the-journal");
    assert!(!play(waits_for_room()));
}

#[test]
fn a_journal_on_a_full_disk_can_be_shut_down_and_opened_again_with_what_was_synced() {
    let _secluded = mutants::seclude();
    play(async {
        let (disk, options, model) = at_rest(3).await;
        let journal = Journal::open(Arc::new(disk.attach()), options.clone()).await.unwrap();
        disk.set_faults(Faults { capacity: Some(disk.used()), ..Faults::default() });
        let log = journal.shard(key(SHARDS + 1));
        log.append((1..=100).map(|index| entry_of(index, 4_000)).collect(), Box::new(|_| {}))
            .unwrap();
        assert!(timeout(Duration::from_secs(60), journal.barrier()).await.is_err());
        timeout(Duration::from_secs(5), journal.shutdown())
            .await
            .expect("nobody waits for room at the end");
        disk.set_faults(Faults::default());
        let journal = Journal::open(Arc::new(disk.attach()), options).await.unwrap();
        for (shard, log) in &model.logs {
            let read = journal.shard(key(*shard)).read(0, u64::MAX, usize::MAX).await.unwrap();
            assert!(read.iter().eq(log.entries.values()), "shard {shard} reads {read:?}");
        }
    });
}

/// Every byte on a disk.
async fn bytes_of(disk: &SimDisk) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    for (path, len) in disk.files() {
        let file = disk.attach().open(&path, OpenMode::Read).await.unwrap();
        all.insert(path, file.read_at(0, usize::try_from(len).unwrap()).await.unwrap());
    }
    all
}

/// The files of a journal that begin with a flush, oldest first.
async fn files_by_age(disk: &SimDisk) -> Vec<String> {
    let all = bytes_of(disk).await.into_iter().filter(|(_, bytes)| bytes.starts_with(b"WAYMARKJ"));
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes[28..36].try_into().unwrap());
    let mut files: Vec<_> = all.map(|(path, bytes)| (number(&bytes), path)).collect();
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

/// Makes a file one that the next version of the program wrote: the same layout under another number.
async fn raise_version(disk: &SimDisk, path: &str) {
    let file = disk.attach().open(path, OpenMode::Write).await.unwrap();
    let len = file.len().await.unwrap();
    let mut bytes = file.read_at(0, usize::try_from(len).unwrap()).await.unwrap().to_vec();
    for block in bytes.chunks_mut(4096) {
        for at in [0, 4096 - 96] {
            let header = &mut block[at..at + 96];
            if header.starts_with(b"WAYMARKJ") {
                header[8] = 2;
                let crc = crc32c::crc32c(&header[..92]);
                header[92..].copy_from_slice(&crc.to_le_bytes());
            }
        }
    }
    file.write_at(0, vec![bytes.into()]).await.unwrap();
    file.sync().await.unwrap();
}

/// Opens a journal that must be refused, and tells why; `None` when it is opened and written to. A refusal must have left
/// every byte as it was.
async fn refused(disk: &SimDisk, options: JournalOptions) -> Option<JournalError> {
    let before = bytes_of(disk).await;
    let opened = Journal::open(Arc::new(disk.attach()), options).await;
    let unchanged = bytes_of(disk).await == before;
    match opened {
        Ok(journal) => {
            journal.shutdown().await;
            assert!(!unchanged, "an opened journal begins a file");
            None
        }
        Err(error) => {
            assert!(unchanged, "{error}, yet something was written");
            Some(error)
        }
    }
}

/// What an older program says of a journal of which a newer one wrote the newest file, or all.
fn newer(all: bool) -> Option<JournalError> {
    play(async {
        let (disk, options, _) = at_rest(1).await;
        let mut files = files_by_age(&disk).await;
        if !all {
            files.drain(..files.len() - 1);
        }
        for path in files {
            raise_version(&disk, &path).await;
        }
        refused(&disk, options).await
    })
}

#[test]
fn a_journal_of_a_newer_version_is_refused_by_name_and_version_and_left_as_it_was() {
    let _secluded = mutants::seclude();
    for all in [false, true] {
        let error = newer(all).unwrap();
        assert!(matches!(error, JournalError::Newer { found: 2, known: 1, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(".wal has format 2") && text.contains("up to 1"), "{text}");
    }
}

#[test]
fn a_newer_journal_that_is_taken_for_empty_is_caught() {
    let _planted = mutants::plant("newer-journal-is-empty");
    assert!(newer(false).is_none() && newer(true).is_none(), "what must be refused is written to");
}

#[derive(Debug, Clone, Copy)]
enum Loss {
    Emptied,
    Zeroed,
}

/// What is said of a journal that was there and is gone.
fn lost(loss: Loss, expected: Expected) -> Option<JournalError> {
    play(async {
        let (disk, options, _) = at_rest(2).await;
        let attached = disk.attach();
        for (path, len) in disk.files() {
            match loss {
                Loss::Emptied => attached.remove(&path).await.unwrap(),
                Loss::Zeroed => {
                    let file = attached.open(&path, OpenMode::Write).await.unwrap();
                    let zeros = vec![0; usize::try_from(len).unwrap()];
                    file.write_at(0, vec![zeros.into()]).await.unwrap();
                }
            }
        }
        refused(&disk, JournalOptions { expected, ..options }).await
    })
}

#[test]
fn a_journal_that_is_gone_is_not_born_again() {
    let _secluded = mutants::seclude();
    for loss in [Loss::Emptied, Loss::Zeroed] {
        for expected in [Expected::Existing, Expected::Id(2)] {
            let error = lost(loss, expected).unwrap();
            assert!(matches!(error, JournalError::Lost { .. }), "{loss:?} {expected:?}: {error}");
        }
        assert!(lost(loss, Expected::Unused).is_none(), "{loss:?}: nobody misses it");
    }
}

#[test]
fn a_lost_journal_that_is_born_again_is_caught() {
    let _planted = mutants::plant("lost-journal-is-born");
    assert!(lost(Loss::Emptied, Expected::Id(2)).is_none());
    assert!(lost(Loss::Zeroed, Expected::Existing).is_none());
}

#[test]
fn a_journal_that_is_not_this_disk_s_own_is_refused() {
    let _secluded = mutants::seclude();
    play(async {
        let (disk, options, _) = at_rest(3).await;
        let expected = Expected::Id(4);
        let error = refused(&disk, JournalOptions { expected, ..options.clone() }).await.unwrap();
        assert!(matches!(error, JournalError::Foreign { found: 3, expected: 4 }), "{error}");
        let expected = Expected::Unused;
        let error = refused(&disk, JournalOptions { expected, ..options.clone() }).await.unwrap();
        assert!(matches!(error, JournalError::Unowned), "{error}");
        let expected = Expected::Id(3);
        assert!(refused(&disk, JournalOptions { expected, ..options }).await.is_none());
    });
}

#[test]
fn a_journal_on_a_read_only_file_system_is_refused_and_one_that_turns_so_has_failed() {
    let _secluded = mutants::seclude();
    play(async {
        let (disk, options, _) = at_rest(4).await;
        disk.set_faults(Faults { read_only: true, ..Faults::default() });
        let error = refused(&disk, options.clone()).await.unwrap();
        assert!(error.to_string().contains("Read-only file system"), "{error}");
        disk.set_faults(Faults::default());
        let journal = Journal::open(Arc::new(disk.attach()), options).await.unwrap();
        disk.set_faults(Faults { read_only: true, ..Faults::default() });
        let vote = Vote { term: 1 << 40, voted_for: replica(1), committed: false };
        let saved = journal.shard(key(1)).save_vote(vote).await;
        assert!(matches!(saved, Err(JournalError::Failed(_))), "{saved:?}");
    });
}
