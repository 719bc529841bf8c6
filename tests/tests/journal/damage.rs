//! Damage at rest (S2, S11): whatever a journal says after it is true, what it lacks it names, and what it cannot know keeps
//! the replica from running. A peer is played by the model, which knows what the journal held.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use waymark_node::mutants;
use waymark_node::storage::disk::{Disk, OpenMode};
use waymark_node::storage::journal::{Journal, JournalError, JournalOptions, ShardLog};
use waymark_node::storage::raft_record::LogEntry;
use waymark_proto::ids::ReplicaKey;
use waymark_tests::disk::{Crash, SimDisk};

use super::{Model, ModelLog, SHARDS, Story, at_rest, bytes_of, files_by_age, key, play};

/// How a file is hurt.
#[derive(Debug, Clone, Copy)]
enum Hurt {
    Bit,
    /// So many blocks read as zeros.
    Blocks(u64),
    File,
}

/// What a journal said of the replicas after damage, in numbers.
#[derive(Debug, Default, Clone, Copy)]
struct Said {
    damaged: usize,
    mended: usize,
    doubtful: usize,
    refused: usize,
}

/// A journal after several lives of a node that never lost power, at rest.
async fn after_lives(seed: u64) -> (SimDisk, JournalOptions, Model) {
    let mut story = Story::new(seed, false);
    let lives = story.rng.random_range(1..4);
    for life in 1..=lives {
        story.disk = story.disk.attach();
        let disk: Arc<dyn Disk> = Arc::new(story.disk.clone());
        let journal = Journal::open(disk, story.options.clone()).await.unwrap();
        work(&mut story, &journal).await;
        if life == lives || story.rng.random_bool(0.5) {
            journal.shutdown().await;
        } else {
            journal.barrier().await.unwrap();
            story.disk.crash(Crash::KeepAll);
        }
    }
    let model = story.now();
    (story.disk.attach(), story.options, model)
}

async fn work(story: &mut Story, journal: &Journal) {
    for _ in 0..story.rng.random_range(20..150) {
        let op = story.next_op();
        story.certain.apply(&op);
        story.hand_over(journal, op, 0).await.unwrap();
        match story.rng.random_range(0..10) {
            0..2 => journal.barrier().await.unwrap(),
            2 => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            _ => {}
        }
    }
}

/// The newest file, and where its last flush starts: nothing tells of what was there once it is gone (S2).
async fn last_flush(disk: &SimDisk) -> (String, u64) {
    let newest = files_by_age(disk).await.pop().unwrap();
    let bytes = bytes_of(disk).await.remove(&newest).unwrap();
    let file = |at: usize| u64::from_le_bytes(bytes[at + 28..at + 36].try_into().unwrap());
    let starts = (0..bytes.len()).step_by(4096);
    let mut starts = starts.filter(|at| bytes[*at..].starts_with(b"WAYMARKJ"));
    let last = starts.rfind(|at| file(*at) == file(0)).unwrap();
    (newest, last as u64)
}

/// Hurts something before the last flush; `None` when there is nothing.
async fn hurt(disk: &SimDisk, hurt: Hurt, rng: &mut StdRng) -> Option<String> {
    let (newest, last) = last_flush(disk).await;
    let files = disk.files();
    let (path, len) = files.choose(rng)?;
    let end = if *path == newest { last } else { *len };
    let attached = disk.attach();
    match hurt {
        Hurt::Bit => {
            let at = rng.random_range(0..*len);
            disk.rot(path, at..at + 1, 1);
            Some(format!("bit at {at} of {path}"))
        }
        Hurt::Blocks(count) => {
            let at = rng.random_range(0..*len / 4096) * 4096;
            if at >= end {
                return None;
            }
            let zeros = (count * 4096).min(end - at);
            let zeros = vec![0; usize::try_from(zeros).unwrap()];
            let file = attached.open(path, OpenMode::Write).await.unwrap();
            file.write_at(at, vec![zeros.into()]).await.unwrap();
            file.sync().await.unwrap();
            Some(format!("{count} blocks at {at} of {path}"))
        }
        Hurt::File if *path == newest => None,
        Hurt::File => {
            attached.remove(path).await.unwrap();
            attached.sync_dir("journal").await.unwrap();
            Some(format!("all of {path}"))
        }
    }
}

/// Fills what a log lacks from what it held, as a peer would that has the entry which must follow.
async fn mend(log: &ShardLog, model: &ModelLog) -> Result<usize, String> {
    let mut mended = 0;
    for hole in log.holes() {
        let at_anchor = model.entries.get(&hole.anchor.index).map(|entry| entry.id);
        if at_anchor != Some(hole.anchor) {
            return Err(format!("{hole:?} is anchored at {at_anchor:?}"));
        }
        let lost = model.entries.range(hole.first..=hole.last);
        let lost: Vec<LogEntry> = lost.map(|(_, entry)| entry.clone()).collect();
        if lost.len() as u64 != hole.last - hole.first + 1 {
            return Err(format!("{hole:?} is larger than what was lost"));
        }
        mended += lost.len();
        log.mend(lost).await.map_err(|error| error.to_string())?;
    }
    Ok(mended)
}

/// Climbs the ladder for one replica: whether it may run, and how many entries it took from the model.
async fn climb(
    journal: &Journal,
    key: ReplicaKey,
    model: &ModelLog,
) -> Result<Option<usize>, String> {
    let log = journal.shard(key);
    if log.doubt().is_some() || !log.holes().is_empty() {
        // A checkpoint is never below the purge mark.
        let Some(checkpoint) = model.purged else {
            return if log.doubt().is_some() {
                Ok(None)
            } else {
                Ok(Some(mend(&log, model).await?))
            };
        };
        let fit = log.covered_by(checkpoint).await.map_err(|error| error.to_string())?;
        if fit == log.doubt().is_some() {
            return Err(format!("fit {fit}, but {:?}", log.doubt()));
        }
        if !fit {
            return Ok(None);
        }
    }
    Ok(Some(mend(&log, model).await?))
}

async fn same(log: &ShardLog, model: &ModelLog) -> Result<(), String> {
    if log.vote() != model.vote {
        return Err(format!("votes {:?}, voted {:?}", log.vote(), model.vote));
    }
    let purged = log.last_purged();
    if purged.map(|id| id.index) > model.purged.map(|id| id.index) {
        return Err(format!("purged {purged:?}, was {:?}", model.purged));
    }
    let mut read: Vec<LogEntry> = Vec::new();
    let first = model.entries.keys().next().copied().unwrap_or(0);
    loop {
        let from = read.last().map_or(first, |last| last.id.index + 1);
        match log.read(from, u64::MAX, 5000).await {
            Ok(more) if more.is_empty() => break,
            Ok(more) => read.extend(more),
            Err(error) => return Err(error.to_string()),
        }
    }
    let read: BTreeMap<u64, LogEntry> = read.into_iter().map(|it| (it.id.index, it)).collect();
    // Behind the end may stand what was cut off: a truncation that nothing followed may be lost.
    let end = model.last().map_or(0, |last| last.index + 1);
    if !read.range(..end).eq(model.entries.range(..)) {
        let has = read.values().map(|it| (it.id.term, it.id.index)).collect::<Vec<_>>();
        let had = model.entries.values().map(|it| (it.id.term, it.id.index)).collect::<Vec<_>>();
        return Err(format!("holds {has:?}, held {had:?}"));
    }
    Ok(())
}

/// All replicas against what they were. Returns who is doubtful.
async fn judge(journal: &Journal, model: &Model, said: &mut Said) -> Result<Vec<u32>, String> {
    let mut doubtful = Vec::new();
    for shard in 0..SHARDS {
        let Some(log) = model.logs.get(&shard) else { continue };
        let judged = async {
            let Some(mended) = climb(journal, key(shard), log).await? else { return Ok(false) };
            said.mended += mended;
            same(&journal.shard(key(shard)), log).await.map(|()| true)
        };
        if !judged.await.map_err(|what: String| format!("shard {shard} {what}"))? {
            doubtful.push(shard);
        }
    }
    Ok(doubtful)
}

/// One journal, hurt once, opened again and again while it goes on.
async fn hurt_once(seed: u64, kind: Hurt) -> Result<Said, String> {
    let (disk, options, model) = after_lives(seed).await;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut said = Said::default();
    let Some(place) = hurt(&disk, kind, &mut rng).await else { return Ok(said) };
    let failed = |what: String| format!("{place}: {what}");
    let mut before = None;
    let mut story = Story::new(seed + 1_000_000, false);
    story.options = JournalOptions { new_journal_id: 7, ..options.clone() };
    story.certain = model;
    story.term = 1 << 20;
    for life in 0..3 {
        story.disk = disk.attach();
        let opened = Journal::open(Arc::new(story.disk.clone()), options.clone()).await;
        let journal = match opened {
            Ok(journal) => journal,
            Err(JournalError::Damaged { .. }) if life == 0 => {
                said.refused = 1;
                return Ok(said);
            }
            Err(error) => return Err(failed(format!("life {life}: {error}"))),
        };
        let now = story.now();
        let doubtful = judge(&journal, &now, &mut said).await;
        let doubtful = doubtful.map_err(|what| failed(format!("life {life}: {what}")))?;
        if life == 0 {
            said.damaged = journal.damage().len();
            said.doubtful = doubtful.len();
        }
        if !doubtful.is_empty() && said.damaged == 0 {
            return Err(failed(format!("{doubtful:?} doubtful without damage")));
        }
        if before.get_or_insert_with(|| doubtful.clone()) != &doubtful {
            return Err(failed(format!("{before:?} doubtful first, then {doubtful:?}")));
        }
        // What may run runs on, far enough that files are recycled; who is doubtful stands still.
        for _ in 0..100 {
            let op = story.next_op();
            let shard = match &op {
                super::Op::Append(shard, _)
                | super::Op::Vote(shard, _)
                | super::Op::Truncate(shard, _)
                | super::Op::Purge(shard, _) => *shard,
            };
            if doubtful.contains(&shard) {
                continue;
            }
            story.certain.apply(&op);
            let handed = story.hand_over(&journal, op, 0).await;
            handed.map_err(|error| failed(error.to_string()))?;
            if story.rng.random_bool(0.1) {
                journal.barrier().await.unwrap();
            }
        }
        journal.shutdown().await;
    }
    Ok(said)
}

fn hurt_all(seeds: std::ops::Range<u64>, kind: Hurt) -> Result<Said, String> {
    let mut sum = Said::default();
    for seed in seeds {
        let said = play(hurt_once(seed, kind)).map_err(|what| format!("seed {seed}: {what}"))?;
        sum.damaged += said.damaged;
        sum.mended += said.mended;
        sum.doubtful += said.doubtful;
        sum.refused += said.refused;
    }
    Ok(sum)
}

#[test]
fn a_flipped_bit_is_named_mended_or_keeps_a_replica_from_running() {
    let _secluded = mutants::seclude();
    let said = hurt_all(0..200, Hurt::Bit).unwrap();
    println!("{said:?}");
    assert!(said.damaged > 40 && said.mended > 40 && said.doubtful > 0, "{said:?}");
}

#[test]
fn lost_blocks_are_named_mended_or_keep_replicas_from_running() {
    let _secluded = mutants::seclude();
    for count in [1, 2, 5] {
        let said = hurt_all(0..120, Hurt::Blocks(count)).unwrap();
        println!("{count} blocks: {said:?}");
        assert!(said.damaged > 20 && said.mended > 20 && said.doubtful > 0, "{said:?}");
    }
}

#[test]
fn a_lost_file_keeps_replicas_from_running_and_is_never_taken_for_the_whole() {
    let _secluded = mutants::seclude();
    let said = hurt_all(0..120, Hurt::File).unwrap();
    println!("{said:?}");
    assert!(said.damaged > 30 && said.doubtful > 30, "{said:?}");
}

#[test]
fn damage_that_is_not_climbed_is_found() {
    for (bug, kind) in [
        ("hole-skipped", Hurt::Bit),
        ("damage-is-torn", Hurt::Bit),
        ("carried-vote-stands-once", Hurt::Bit),
    ] {
        let _planted = mutants::plant(bug);
        let found = hurt_all(0..2000, kind);
        println!("{bug}: {found:?}");
        assert!(found.is_err(), "nothing finds {bug}");
    }
}

/// What a flipped bit leads to: damage named at or before it, or none.
async fn named(seed: u64) -> Result<bool, String> {
    let (disk, options, _) = at_rest(seed).await;
    let mut rng = StdRng::seed_from_u64(seed);
    let files = disk.files();
    let (path, len) = files.choose(&mut rng).unwrap();
    let at = rng.random_range(0..*len);
    disk.rot(path, at..at + 1, 1);
    let journal =
        Journal::open(Arc::new(disk), options).await.map_err(|error| error.to_string())?;
    match journal.damage() {
        [] => Ok(false),
        [damage] if damage.path == *path && damage.offset <= at => Ok(true),
        other => Err(format!("{path} rotted at {at}, but {other:?}")),
    }
}

#[test]
fn damage_is_named_by_file_and_offset() {
    let _secluded = mutants::seclude();
    let reported = (0..200).filter(|seed| match play(named(*seed)) {
        Ok(reported) => reported,
        Err(what) => panic!("seed {seed}: {what}"),
    });
    let reported = reported.count();
    assert!(reported > 40, "only {reported} of 200 were reported");
}

#[test]
fn an_unreadable_entry_is_written_anew_and_read_again() {
    let _secluded = mutants::seclude();
    play(async {
        let disk = SimDisk::new(1);
        let options = JournalOptions { cache_bytes: 0, ..Story::new(1, false).options };
        let journal = Journal::open(Arc::new(disk.clone()), options.clone()).await.unwrap();
        let log = journal.shard(key(1));
        let entry = Story::new(1, false).entry(0);
        let entry = LogEntry { payload: Bytes::from(vec![1; 3000]), ..entry };
        log.append(vec![entry.clone()], Box::new(|_| {})).unwrap();
        journal.barrier().await.unwrap();
        for (path, _) in disk.files() {
            disk.rot(&path, 4096 + 1000..4096 + 2000, 1);
        }
        log.read(0, 1, 1).await.unwrap_err();
        let mut other = entry.clone();
        other.id.term += 1;
        let refused = log.mend(vec![other]).await;
        assert!(matches!(refused, Err(JournalError::Missing { from: 0, .. })), "{refused:?}");
        log.mend(vec![entry.clone()]).await.unwrap();
        assert_eq!(log.read(0, 1, 1).await.unwrap(), std::slice::from_ref(&entry));
        assert_eq!(journal.numbers().mended.get(), 1);
        journal.shutdown().await;
        drop((log, journal));
        let journal = Journal::open(Arc::new(disk), options).await.unwrap();
        assert_eq!(journal.shard(key(1)).read(0, 1, 1).await.unwrap(), [entry]);
    });
}
