//! Log and state machine alone: openraft's suite, and what a restart believes (S5).

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftSnapshotBuilder};
use tempfile::TempDir;
use tokio::sync::Notify;
use waymark_node::consensus::log::RaftLog;
use waymark_node::consensus::machine::{Ground, Machine};
use waymark_node::consensus::types::{C, Entry, Payload, to_raft_log_id};
use waymark_node::mutants;
use waymark_node::storage::disk::Disk;
use waymark_node::storage::journal::{Journal, JournalOptions};
use waymark_node::storage::raft_record::LogId;
use waymark_node::storage::real_disk::RealDisk;
use waymark_node::storage::shard_store::Store;
use waymark_node::storage::tables::MemoryTables;
use waymark_proto::ids::{NodeId, ReplicaId, ReplicaKey, ShardId};

use crate::cluster::{Notes, offset_commit, store_options};
use crate::stalled_disk::StalledDisk;

const SHARD: ShardId = ShardId(1);

async fn open(folder: &TempDir) -> (RaftLog, Machine) {
    open_on(Arc::new(RealDisk::open(folder.path()).unwrap())).await
}

async fn open_on(disk: Arc<dyn Disk>) -> (RaftLog, Machine) {
    let options = JournalOptions { file_bytes: 1 << 20, ..JournalOptions::default() };
    let journal = Journal::open(disk.clone(), options).await.unwrap();
    let tables = Arc::new(MemoryTables::default());
    let store = Store::open(disk, tables, store_options()).await.unwrap();
    let key = ReplicaKey { shard: SHARD, incarnation: 0 };
    let log = RaftLog::new(journal.shard(key), 1 << 20);
    let ground = Ground {
        shard: SHARD,
        replica: ReplicaId { node: NodeId(0), incarnation: 0 },
        journal,
        store: store.open_shard(key).await.unwrap(),
        observer: Arc::new(Notes::default()),
        catalog_changed: Arc::new(Notify::new()),
    };
    (log, Machine::open(ground).unwrap())
}

struct Stores;

impl StoreBuilder<C, RaftLog, Machine, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, RaftLog, Machine), openraft::StorageError<C>> {
        let folder = tempfile::tempdir().unwrap();
        let (log, machine) = open(&folder).await;
        Ok((folder, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_state_machine_pass_the_suite_of_the_consensus_library() {
    let _sound = mutants::seclude();
    Suite::<C, RaftLog, Machine, Stores, TempDir>::test_all(Stores).await.unwrap();
}

fn entry(index: u64) -> Entry {
    let leader = ReplicaId { node: NodeId(0), incarnation: 0 };
    let log_id = to_raft_log_id(LogId { term: 1, leader, index });
    let command = offset_commit(i32::try_from(index).unwrap(), 7).encode();
    Entry { log_id, payload: EntryPayload::Normal(Payload(command)) }
}

/// Ten entries in the log, five of them applied, then a checkpoint and a restart: what does the replica believe?
async fn believed_after_a_restart() -> (Option<u64>, Option<u64>) {
    let folder = tempfile::tempdir().unwrap();
    {
        let (mut log, mut machine) = open(&folder).await;
        log.append((0..10).map(entry), IOFlushed::noop()).await.unwrap();
        machine.apply(stream::iter((0..5).map(|at| Ok((entry(at), None))))).await.unwrap();
        let mut builder = machine.try_create_snapshot_builder(true).await.unwrap();
        builder.build_snapshot().await.unwrap();
        machine.apply(stream::iter((5..8).map(|at| Ok((entry(at), None))))).await.unwrap();
    }
    // The journal's flusher ends with its last handle.
    let (_, mut machine) = loop {
        if RealDisk::open(folder.path()).is_ok() {
            break open(&folder).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let (applied, _) = machine.applied_state().await.unwrap();
    let snapshot = machine.get_current_snapshot().await.unwrap().unwrap();
    (applied.map(|it| it.index), snapshot.meta.last_log_id.map(|it| it.index))
}

#[tokio::test]
async fn a_restart_believes_the_checkpoint_and_nothing_above() {
    let _sound = mutants::seclude();
    assert_eq!(believed_after_a_restart().await, (Some(4), Some(4)));
}

#[tokio::test]
async fn a_checkpoint_that_claims_more_than_was_applied_is_caught() {
    let _bug = mutants::plant("checkpoint-above-applied");
    assert_ne!(believed_after_a_restart().await, (Some(4), Some(4)));
}

/// Whether a checkpoint gets finished although the journal cannot sync the entries that it covers (S6).
async fn checkpoint_overtakes_the_journal() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(StalledDisk::over(RealDisk::open(folder.path()).unwrap()));
    let (mut log, mut machine) = open_on(disk.clone()).await;
    disk.stall(true);
    log.append((0..5).map(entry), IOFlushed::noop()).await.unwrap();
    machine.apply(stream::iter((0..5).map(|at| Ok((entry(at), None))))).await.unwrap();
    let mut builder = machine.try_create_snapshot_builder(true).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), builder.build_snapshot()).await;
    disk.stall(false);
    if early.is_err() {
        builder.build_snapshot().await.unwrap();
    }
    early.is_ok()
}

#[tokio::test]
async fn a_checkpoint_waits_for_the_journal() {
    let _sound = mutants::seclude();
    assert!(!checkpoint_overtakes_the_journal().await);
}

#[tokio::test]
async fn a_checkpoint_that_overtakes_the_journal_is_caught() {
    let _bug = mutants::plant("checkpoint-before-journal");
    assert!(checkpoint_overtakes_the_journal().await);
}

/// Whether a machine that waits for its log, for ever, has ended before it was let go, and whether it is once it was told to.
async fn ends() -> (bool, bool) {
    let folder = tempfile::tempdir().unwrap();
    let (_log, mut machine) = open(&folder).await;
    let life = machine.life();
    let applying = tokio::spawn(async move { machine.apply(stream::pending()).await });
    let ended = |within| tokio::time::timeout(Duration::from_millis(within), life.until_ended());
    let before = ended(50).await.is_ok();
    life.end();
    let after = ended(10_000).await.is_ok();
    assert!(applying.await.unwrap().is_err(), "it has not applied what it was to apply");
    (before, after)
}

#[tokio::test]
async fn a_replica_has_ended_once_nothing_is_applied_any_more() {
    let _sound = mutants::seclude();
    assert_eq!(ends().await, (false, true));
}

#[tokio::test]
async fn a_replica_that_is_removed_while_it_applies_is_caught() {
    let _bug = mutants::plant("removed-while-it-applies");
    assert_eq!(ends().await, (true, true));
}
