//! Crashes of the store on the simulated disk (S5–S8): whatever the power cut leaves, a restart finds exactly one of the
//! checkpoints that were asked for, not older than the last one acknowledged, and every byte that it names.
//!
//! Each planted bug must be found by the same search that finds nothing without it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use waymark_node::mutants;
use waymark_node::state::{FRAME_OVERHEAD, Row, StampedBatch};
use waymark_node::storage::disk::Disk;
use waymark_node::storage::raft_record::LogId;
use waymark_node::storage::shard_store::{Cut, ShardStore, Store, StoreError, StoreOptions};
use waymark_node::storage::tables::MemoryTables;
use waymark_proto::ids::{
    NodeId, PartitionId, ReplicaId, ReplicaKey, ShardId, TopicId, TopicPartition,
};
use waymark_proto::stored::PartitionRow;
use waymark_tests::disk::{Crash, Faults, SimDisk};

const PARTITIONS: usize = 3;
const KEY: ReplicaKey = ReplicaKey { shard: ShardId(1), incarnation: 2 };

fn partition(number: usize) -> TopicPartition {
    let partition = PartitionId(i32::try_from(number).unwrap());
    TopicPartition { topic: TopicId([7; 16]), partition }
}

/// A partition as it must be at some cut.
#[derive(Debug, Clone, Default)]
struct Log {
    start: i64,
    next: i64,
    segment_base: i64,
    segment_bytes: usize,
    /// First offset and bytes of every batch.
    batches: Vec<(i64, Vec<u8>)>,
}

impl Log {
    fn row(&self, at: TopicPartition) -> Row {
        let mut key = vec![2];
        key.extend_from_slice(&at.topic.0);
        key.extend_from_slice(&(at.partition.0 ^ i32::MIN).to_be_bytes());
        let row = PartitionRow {
            log_start_offset: self.start,
            next_offset: self.next,
            segment_base_offset: self.segment_base,
            segment_bytes: i64::try_from(self.segment_bytes).unwrap(),
            ..PartitionRow::default()
        };
        Row { key, value: Some(row.encode_to_vec()) }
    }

    fn append(&mut self, at: TopicPartition, fill: u8, body: usize) -> StampedBatch {
        let mut whole = vec![fill; 61 + body];
        let length = i32::try_from(whole.len() - 12).unwrap();
        whole[..8].copy_from_slice(&self.next.to_be_bytes());
        whole[8..12].copy_from_slice(&length.to_be_bytes());
        whole[23..27].copy_from_slice(&1_i32.to_be_bytes());
        whole[35..43].copy_from_slice(&self.next.to_be_bytes());
        let framed = whole.len() + FRAME_OVERHEAD;
        let starts_segment = self.segment_bytes == 0 || self.segment_bytes + framed > 2000;
        if starts_segment {
            (self.segment_base, self.segment_bytes) = (self.next, 0);
        }
        self.segment_bytes += framed;
        let base_offset = self.next;
        self.next += 2;
        let batch = StampedBatch {
            at,
            base_offset,
            next_offset: self.next,
            max_timestamp: base_offset,
            append_time_ms: 1,
            index: 1,
            term: 1,
            starts_segment,
            stamp: whole[..21].try_into().unwrap(),
            body: Bytes::copy_from_slice(&whole[21..]),
        };
        self.batches.push((base_offset, whole));
        batch
    }

    fn bytes_from_start(&self) -> Vec<u8> {
        let kept = self.batches.iter().filter(|(base, _)| *base >= self.start);
        kept.flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    }
}

type Logs = [Log; PARTITIONS];

fn options() -> StoreOptions {
    StoreOptions {
        segment_write_bytes: 500,
        segment_write_after: Duration::from_millis(5),
        pending_bytes: 4000,
        open_files: 4,
        index_interval_bytes: 300,
    }
}

fn simulated<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(test)
}

async fn open(disk: &SimDisk) -> Result<(Store, ShardStore), StoreError> {
    let tables = Arc::new(MemoryTables::default());
    let store = Store::open(Arc::new(disk.attach()), tables, options()).await?;
    let shard = store.open_shard(KEY).await?;
    Ok((store, shard))
}

async fn read_all(
    shard: &ShardStore,
    at: TopicPartition,
    log: &Log,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let mut offset = log.start;
    while offset < log.next {
        let read = shard.read(at, offset, log.next, 700).await?;
        assert!(read.next_offset > offset, "a read that does not go on");
        bytes.extend_from_slice(&read.bytes);
        offset = read.next_offset;
    }
    Ok(bytes)
}

fn cut(index: u64, logs: &Logs) -> Cut {
    let leader = ReplicaId { node: NodeId(1), incarnation: 1 };
    let rows = logs.iter().enumerate().map(|(number, log)| log.row(partition(number)));
    let applied = LogId { term: 1, leader, index };
    Cut { applied, membership: Bytes::from_static(b"members"), rows: rows.collect() }
}

struct Run {
    disk: SimDisk,
    rng: StdRng,
    /// The state at each cut asked for since the last restart, the first one as found then.
    cuts: Vec<Logs>,
    first_index: u64,
    acknowledged: u64,
    sync_errors: f64,
}

impl Run {
    fn new(seed: u64, sync_errors: f64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            rng: StdRng::seed_from_u64(seed),
            cuts: vec![Logs::default()],
            first_index: 0,
            acknowledged: 0,
            sync_errors,
        }
    }

    /// Appends, raises log starts and checkpoints until the power goes.
    async fn live(&mut self, shard: &ShardStore) {
        let life = self.rng.random_range(5..120);
        self.disk.power_off_after(life);
        let sync_errors = self.sync_errors;
        self.disk.set_faults(Faults { sync_errors, ..Faults::default() });
        let mut now = self.cuts.last().unwrap().clone();
        for _ in 0..self.rng.random_range(1..120) {
            match self.rng.random_range(0..20) {
                0..2 => {
                    self.cuts.push(now.clone());
                    let index = self.first_index + self.cuts.len() as u64 - 1;
                    if shard.write_checkpoint(cut(index, &now)).await.is_ok() {
                        self.acknowledged = index;
                    }
                }
                2 => tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..20))).await,
                3 => {
                    let number = self.rng.random_range(0..PARTITIONS);
                    let log = &mut now[number];
                    let places = log.batches.iter().map(|(base, _)| *base);
                    let kept: Vec<i64> = places.filter(|base| *base >= log.start).collect();
                    if let Some(to) = kept.get(kept.len() / 2) {
                        log.start = *to;
                        shard.set_log_start(partition(number), *to);
                    }
                }
                _ => {
                    let number = self.rng.random_range(0..PARTITIONS);
                    let (fill, body) = (self.rng.random(), self.rng.random_range(0..600));
                    let room = tokio::time::timeout(Duration::from_millis(50), shard.make_room());
                    if room.await.is_err() {
                        break;
                    }
                    shard.append(now[number].append(partition(number), fill, body));
                }
            }
        }
    }

    /// What a restart finds.
    async fn check(&mut self, shard: &ShardStore) -> Result<(), String> {
        let found = shard.checkpoint().map_or(0, |it| it.applied.index);
        if found < self.acknowledged {
            return Err(format!("found {found}, acknowledged {}", self.acknowledged));
        }
        let place = usize::try_from(found - self.first_index).unwrap();
        let logs = self.cuts.get(place).ok_or(format!("found {found}, never asked for"))?.clone();
        for (number, log) in logs.iter().enumerate().filter(|(_, log)| log.next > log.start) {
            let at = partition(number);
            match read_all(shard, at, log).await {
                Ok(bytes) if bytes == log.bytes_from_start() => {}
                Ok(_) => return Err(format!("{at} holds other bytes")),
                Err(error) => return Err(error.to_string()),
            }
        }
        let named: u64 =
            (0..PARTITIONS).flat_map(|at| shard.segments(partition(at))).map(|it| it.bytes).sum();
        let files = self.disk.files();
        let there: u64 = files.iter().filter(|it| it.0.ends_with(".log")).map(|it| it.1).sum();
        if named != there {
            return Err(format!("{there} bytes in segments, the checkpoint names {named}"));
        }
        (self.cuts, self.first_index, self.acknowledged) = (vec![logs], found, found);
        Ok(())
    }
}

fn search(seeds: u64, sync_errors: f64) -> Result<(), String> {
    for seed in 0..seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let outcome = runtime.unwrap().block_on(async {
            let mut run = Run::new(seed, sync_errors);
            for life in 0..5 {
                run.disk.set_faults(Faults::default());
                let opened = open(&run.disk).await;
                let (store, shard) = opened.map_err(|error| format!("life {life}: {error}"))?;
                run.check(&shard).await.map_err(|error| format!("life {life}: {error}"))?;
                run.live(&shard).await;
                let mode = Crash::ALL[run.rng.random_range(0..Crash::ALL.len())];
                run.disk.crash(mode);
                store.shutdown().await;
            }
            Ok(())
        });
        outcome.map_err(|error: String| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}

#[test]
fn a_restart_finds_a_checkpoint_that_was_asked_for_and_all_that_it_names() {
    let _sound = mutants::seclude();
    search(300, 0.0).unwrap();
}

#[test]
fn a_sync_that_failed_is_never_believed_by_a_later_checkpoint() {
    let _sound = mutants::seclude();
    search(300, 0.05).unwrap();
}

#[test]
fn a_checkpoint_that_does_not_sync_segments_is_caught() {
    let _bug = mutants::plant("checkpoint-without-sync");
    search(300, 0.0).unwrap_err();
}

#[test]
fn files_that_go_before_the_checkpoint_that_forgets_them_are_caught() {
    let _bug = mutants::plant("unlink-before-checkpoint");
    search(300, 0.0).unwrap_err();
}

#[test]
fn bytes_above_the_checkpoint_that_are_believed_are_caught() {
    let _bug = mutants::plant("trust-above-checkpoint");
    search(300, 0.0).unwrap_err();
}

/// Whether a read gives out bytes that rotted on disk.
fn serves_rot() -> bool {
    simulated(async {
        let disk = SimDisk::new(1);
        let (_store, shard) = open(&disk).await.unwrap();
        let mut logs = Logs::default();
        shard.append(logs[0].append(partition(0), 9, 300));
        shard.write_checkpoint(cut(1, &logs)).await.unwrap();
        let (path, bytes) = disk.files().into_iter().find(|it| it.0.ends_with(".log")).unwrap();
        disk.rot(&path, 200..bytes, 1);
        match read_all(&shard, partition(0), &logs[0]).await {
            Ok(_) => true,
            Err(StoreError::Damaged { path: named, offset: 0, .. }) if named == path => false,
            Err(other) => panic!("{other}"),
        }
    })
}

#[test]
fn a_read_never_gives_out_rotten_bytes() {
    let _sound = mutants::seclude();
    assert!(!serves_rot());
}

#[test]
fn a_read_that_skips_the_checksum_is_caught() {
    let _bug = mutants::plant("skip-read-crc");
    assert!(serves_rot());
}

/// A follower pulls a manifest in pieces that end inside frames, one of them with a turned bit the first time; whether it
/// takes the damage for the truth.
fn installs_damage() -> bool {
    simulated(async {
        let (_source, source) = open(&SimDisk::new(1)).await.unwrap();
        let disk = SimDisk::new(2);
        let (_follower, follower) = open(&disk).await.unwrap();
        let mut logs = Logs::default();
        for round in 0..12 {
            source.append(logs[1].append(partition(1), round, 500));
        }
        let manifest = source.write_checkpoint(cut(4, &logs)).await.unwrap().encoded;
        pull(&source, &follower, &manifest, true).await;
        if follower.install(manifest.clone()).await.is_ok() {
            return true;
        }
        pull(&source, &follower, &manifest, false).await;
        follower.install(manifest.clone()).await.unwrap();
        assert_eq!(follower.checkpoint_rows(), source.checkpoint_rows());
        disk.crash(Crash::LoseAll);
        let (_follower, follower) = open(&disk).await.unwrap();
        assert_eq!(follower.checkpoint().unwrap().encoded, manifest);
        let bytes = read_all(&follower, partition(1), &logs[1]).await.unwrap();
        assert_eq!(bytes, logs[1].bytes_from_start());
        false
    })
}

async fn pull(source: &ShardStore, follower: &ShardStore, manifest: &Bytes, damage: bool) {
    for mut range in follower.missing(manifest).await.unwrap() {
        let end = range.to_byte;
        while range.from_byte < end {
            let most = usize::try_from(end - range.from_byte).unwrap().min(111);
            let read = source.read_segment(range.at, range.base_offset, range.from_byte, most);
            let mut bytes = read.await.unwrap().to_vec();
            if damage && range.from_byte == 111 {
                bytes[50] ^= 1;
            }
            range.to_byte = range.from_byte + bytes.len() as u64;
            follower.write_pulled(&range, bytes.into()).await.unwrap();
            range.from_byte = range.to_byte;
        }
    }
}

#[test]
fn a_pulled_manifest_is_installed_once_every_frame_is_right() {
    let _sound = mutants::seclude();
    assert!(!installs_damage());
}

#[test]
fn a_manifest_that_is_installed_unverified_is_caught() {
    let _bug = mutants::plant("install-without-verify");
    assert!(installs_damage());
}

#[test]
fn the_disk_is_let_go_with_the_last_handle_of_the_store() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let tables = Arc::new(MemoryTables::default());
        let store = Store::open(Arc::clone(&disk), tables, options()).await.unwrap();
        let shard = store.open_shard(KEY).await.unwrap();
        shard.append(Logs::default()[0].append(partition(0), 1, 10));
        assert!(store.pending_bytes() > 0);
        drop(shard);
        assert_eq!(store.pending_bytes(), 0, "a replica that left holds no room");
        drop(store);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&disk), 1);
    });
}
