//! A disk that cannot be read for a while: what a replica's log does meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use tokio::time::sleep;
use waymark_node::consensus::log::RaftLog;
use waymark_node::consensus::types::{Entry, Payload, to_raft_log_id};
use waymark_node::mutants;
use waymark_node::storage::journal::{Journal, JournalOptions};
use waymark_node::storage::raft_record::LogId;
use waymark_proto::ids::{NodeId, ReplicaId, ReplicaKey, ShardId};
use waymark_tests::disk::{Faults, SimDisk};

fn entry(index: u64) -> Entry {
    let leader = ReplicaId { node: NodeId(0), incarnation: 0 };
    // Its bytes count in the cache, which has room for none.
    let payload = EntryPayload::Normal(Payload(Bytes::from_static(b"a command")));
    Entry { log_id: to_raft_log_id(LogId { term: 1, leader, index }), payload }
}

/// Entries that a log gives which asks its disk while that cannot read for a second; `None`: an error, which ends a replica.
async fn given_by_a_blind_disk() -> Option<usize> {
    let disk = SimDisk::new(1);
    let options =
        JournalOptions { cache_bytes: 0, file_bytes: 1 << 20, ..JournalOptions::default() };
    let journal = Journal::open(Arc::new(disk.clone()), options).await.unwrap();
    let key = ReplicaKey { shard: ShardId(1), incarnation: 0 };
    let mut log = RaftLog::new(journal.shard(key), 1 << 20);
    log.append((0..10).map(entry), IOFlushed::noop()).await.unwrap();
    journal.barrier().await.unwrap();
    disk.set_faults(Faults { read_errors: 1.0, ..Faults::default() });
    let wakes = async {
        sleep(Duration::from_secs(1)).await;
        disk.set_faults(Faults::default());
    };
    let (read, ()) = tokio::join!(log.limited_get_log_entries(0, 10), wakes);
    read.ok().map(|entries| entries.len())
}

#[tokio::test(start_paused = true)]
async fn a_log_waits_for_a_disk_that_cannot_be_read_for_a_moment() {
    let _sound = mutants::seclude();
    assert_eq!(given_by_a_blind_disk().await, Some(10));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_gives_up_at_once_is_caught() {
    let _bug = mutants::plant("log-read-gives-up");
    assert_eq!(given_by_a_blind_disk().await, None);
}
