//! The journal on the real disk: the way of a normal day. Crashes are tested on the simulated disk.

use std::sync::Arc;

use bytes::Bytes;
use waymark_proto::ids::{NodeId, ReplicaId, ReplicaKey, ShardId};

use super::{Journal, JournalError, JournalOptions, ShardLog};
use crate::storage::raft_record::{EntryKind, LogEntry, LogId, Vote};
use crate::storage::real_disk::RealDisk;

fn key(shard: u32) -> ReplicaKey {
    ReplicaKey { shard: ShardId(shard), incarnation: 1 }
}

fn leader() -> ReplicaId {
    ReplicaId { node: NodeId(1), incarnation: 1 }
}

fn entry(index: u64, payload: &[u8]) -> LogEntry {
    let id = LogId { term: 1, leader: leader(), index };
    LogEntry { id, kind: EntryKind::Command, payload: Bytes::copy_from_slice(payload) }
}

async fn append(log: &ShardLog, entries: Vec<LogEntry>) {
    let (tell, told) = tokio::sync::oneshot::channel();
    log.append(entries, Box::new(move |result| tell.send(result).unwrap())).unwrap();
    told.await.unwrap().unwrap();
}

async fn open(root: &std::path::Path, cache_bytes: usize) -> Journal {
    let disk = Arc::new(RealDisk::open(root).unwrap());
    let options = JournalOptions { file_bytes: 1 << 20, cache_bytes, ..JournalOptions::default() };
    Journal::open(disk, options).await.unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let journal = open(root.path(), 0).await;
    let vote = Vote { term: 3, voted_for: leader(), committed: true };
    journal.shard(key(2)).save_vote(vote).await.unwrap();
    let log = journal.shard(key(1));
    append(&log, vec![entry(5, b"five"), entry(6, b"six"), entry(7, b"seven")]).await;
    log.truncate_after(Some(entry(6, b"").id)).unwrap();
    append(&log, vec![entry(7, b"sieben")]).await;
    log.purge(entry(5, b"").id).unwrap();
    journal.shutdown().await;
    assert!(matches!(log.purge(entry(6, b"").id), Err(JournalError::Failed(_))));
    drop((log, journal));

    let journal = open(root.path(), 0).await;
    let log = journal.shard(key(1));
    assert_eq!(journal.keys(), [key(1), key(2)]);
    assert_eq!(journal.shard(key(2)).vote(), Some(vote));
    assert_eq!(log.last_purged(), Some(entry(5, b"").id));
    assert_eq!(log.read(0, 99, 1 << 20).await.unwrap(), [entry(6, b"six"), entry(7, b"sieben")]);
    assert_eq!(log.read(7, 99, 1).await.unwrap(), [entry(7, b"sieben")]);
}

#[tokio::test]
async fn the_newest_entries_are_served_from_memory_from_the_first_start_on() {
    let root = tempfile::tempdir().unwrap();
    let journal = open(root.path(), 1 << 20).await;
    let log = journal.shard(key(1));
    append(&log, vec![entry(1, b"one")]).await;
    for file in std::fs::read_dir(root.path().join("journal")).unwrap() {
        let file = std::fs::File::options().write(true).open(file.unwrap().path()).unwrap();
        file.set_len(0).unwrap();
    }
    assert_eq!(log.read(1, 2, 1 << 20).await.unwrap(), [entry(1, b"one")]);
}

#[tokio::test]
async fn an_entry_that_does_not_follow_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let journal = open(root.path(), 0).await;
    let log = journal.shard(key(1));
    append(&log, vec![entry(5, b"five")]).await;
    let gap = log.append(vec![entry(7, b"")], Box::new(|_| unreachable!()));
    assert!(matches!(gap, Err(JournalError::NotContiguous { expected: 6, got: 7, .. })));
    let large = log.append(vec![entry(6, &vec![0; 1 << 19])], Box::new(|_| unreachable!()));
    assert!(matches!(large, Err(JournalError::TooLarge { .. })));
    journal.forget(key(1));
    assert!(matches!(log.purge(entry(5, b"").id), Err(JournalError::Forgotten { .. })));
}

#[tokio::test]
async fn purged_files_are_used_again_and_what_is_kept_moves_on() {
    let root = tempfile::tempdir().unwrap();
    let journal = open(root.path(), 4096).await;
    let kept = journal.shard(key(9));
    append(&kept, vec![entry(1, b"kept from the first file")]).await;
    let log = journal.shard(key(1));
    for index in 0..300 {
        append(&log, vec![entry(index, &[7; 50_000])]).await;
        if index >= 10 {
            log.purge(entry(index - 10, b"").id).unwrap();
        }
    }
    assert!(journal.disk_bytes() <= 4 << 20, "{} bytes", journal.disk_bytes());
    assert_eq!(kept.read(0, 9, 1).await.unwrap(), [entry(1, b"kept from the first file")]);
    let tail = log.read(295, 400, 1 << 20).await.unwrap();
    assert_eq!(tail.len(), 5);
    assert!(tail.iter().all(|entry| entry.payload == vec![7; 50_000]));
    journal.shutdown().await;
}

/// Prints what an append costs on this machine's disk: `cargo test -p waymark-node --lib cost_of -- --ignored --nocapture`,
/// in a folder named by `JOURNAL_DIR` or the temporary one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn cost_of_an_append() {
    for (writers, bytes, rounds) in
        [(1_u32, 200_usize, 4000_u64), (64, 200, 1000), (64, 16_384, 400)]
    {
        let parent = std::env::var_os("JOURNAL_DIR").map_or_else(std::env::temp_dir, Into::into);
        let root = tempfile::tempdir_in(parent).unwrap();
        let disk = Arc::new(RealDisk::open(root.path()).unwrap());
        let journal = Journal::open(disk, JournalOptions::default()).await.unwrap();
        let start = tokio::time::Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let log = journal.shard(key(writer));
                let payload = vec![7; bytes];
                tokio::spawn(async move {
                    for index in 0..rounds {
                        append(&log, vec![entry(index, &payload)]).await;
                        if index % 64 == 63 {
                            log.purge(entry(index - 32, b"").id).unwrap();
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let seconds = start.elapsed().as_secs_f64();
        let entries = f64::from(writers) * rounds as f64;
        println!(
            "{writers} writers of {bytes} bytes: {:.0} entries/s, {:.1} MB/s, {:.0} µs per append of one writer",
            entries / seconds,
            entries * bytes as f64 / seconds / 1e6,
            seconds * 1e6 / rounds as f64,
        );
        journal.shutdown().await;
    }
}
