//! What the partitions of one replica must hold: a plain list of batches, trimmed, deleted and born again under new ids.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;
use waymark_node::state::{FRAME_OVERHEAD, Row, StampedBatch};
use waymark_node::storage::raft_record::LogId;
use waymark_node::storage::shard_store::{Cut, ShardStore, Store, StoreError, StoreOptions};
use waymark_node::storage::tables::MemoryTables;
use waymark_proto::ids::{
    NodeId, PartitionId, ReplicaId, ReplicaKey, ShardId, TopicId, TopicPartition,
};
use waymark_proto::stored::PartitionRow;
use waymark_tests::disk::{Crash, SimDisk};

pub(crate) const PARTITIONS: usize = 3;
pub(crate) const KEY: ReplicaKey = ReplicaKey { shard: ShardId(1), incarnation: 2 };

/// A partition as it must be at some point.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    number: u8,
    /// Earlier topics of this place, deleted since.
    lives: u8,
    pub(crate) start: i64,
    pub(crate) next: i64,
    segment_base: i64,
    segment_bytes: usize,
    /// First offset and bytes of every batch.
    batches: Vec<(i64, Vec<u8>)>,
}

impl Log {
    pub(crate) fn at(&self) -> TopicPartition {
        self.at_life(self.lives)
    }

    fn at_life(&self, life: u8) -> TopicPartition {
        let partition = PartitionId(i32::from(self.number));
        TopicPartition { topic: TopicId([life; 16]), partition }
    }

    /// Those that were deleted.
    pub(crate) fn dead(&self) -> impl Iterator<Item = TopicPartition> {
        (0..self.lives).map(|life| self.at_life(life))
    }

    fn key(at: TopicPartition) -> Vec<u8> {
        let mut key = vec![2];
        key.extend_from_slice(&at.topic.0);
        key.extend_from_slice(&(at.partition.0 ^ i32::MIN).to_be_bytes());
        key
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        let row = PartitionRow {
            log_start_offset: self.start,
            next_offset: self.next,
            segment_base_offset: self.segment_base,
            segment_bytes: i64::try_from(self.segment_bytes).unwrap(),
            ..PartitionRow::default()
        };
        let gone = self.dead().map(|at| Row { key: Self::key(at), value: None });
        let here = Row { key: Self::key(self.at()), value: Some(row.encode_to_vec()) };
        gone.chain(std::iter::once(here))
    }

    /// A batch of two records at the end.
    pub(crate) fn append(&mut self, fill: u8, body: usize) -> StampedBatch {
        let mut whole = vec![fill; 61 + body];
        let length = i32::try_from(whole.len() - 12).unwrap();
        whole[..8].copy_from_slice(&self.next.to_be_bytes());
        whole[8..12].copy_from_slice(&length.to_be_bytes());
        whole[23..27].copy_from_slice(&1_i32.to_be_bytes());
        whole[35..43].copy_from_slice(&self.next.to_be_bytes());
        let crc = crc32c::crc32c(&whole[21..]);
        whole[17..21].copy_from_slice(&crc.to_be_bytes());
        let framed = whole.len() + FRAME_OVERHEAD;
        let starts_segment = self.segment_bytes == 0 || self.segment_bytes + framed > 2000;
        if starts_segment {
            (self.segment_base, self.segment_bytes) = (self.next, 0);
        }
        self.segment_bytes += framed;
        let base_offset = self.next;
        self.next += 2;
        let batch = StampedBatch {
            at: self.at(),
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

    /// As `state` does it: a log without a record begins a segment next.
    fn trim(&mut self, to: i64) {
        self.start = to;
        if to == self.next {
            self.segment_bytes = 0;
        }
    }

    pub(crate) fn bytes_from_start(&self) -> Vec<u8> {
        let kept = self.batches.iter().filter(|(base, _)| *base >= self.start);
        kept.flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    }
}

/// One applied entry.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    Append { number: usize, fill: u8, body: usize },
    Trim { number: usize, to: i64 },
    Delete { number: usize },
}

/// All partitions of the replica.
#[derive(Debug, Clone)]
pub(crate) struct Logs(pub(crate) [Log; PARTITIONS]);

impl Default for Logs {
    fn default() -> Self {
        Self([0, 1, 2].map(|number| Log { number, ..Log::default() }))
    }
}

impl Logs {
    /// An entry that may come next.
    pub(crate) fn any_op(&self, rng: &mut StdRng) -> Op {
        let number = rng.random_range(0..PARTITIONS);
        let log = &self.0[number];
        match rng.random_range(0..40) {
            0 => Op::Delete { number },
            1 => Op::Trim { number, to: log.next },
            2..5 => {
                let places = log.batches.iter().map(|(base, _)| *base);
                let kept: Vec<i64> = places.filter(|base| *base >= log.start).collect();
                let to = kept.get(kept.len() / 2).copied().unwrap_or(log.start);
                Op::Trim { number, to }
            }
            _ => Op::Append { number, fill: rng.random(), body: rng.random_range(0..600) },
        }
    }

    /// What apply does with an entry.
    pub(crate) fn apply(&mut self, shard: &ShardStore, op: Op) {
        match op {
            Op::Append { number, fill, body } => shard.append(self.0[number].append(fill, body)),
            Op::Trim { number, to } => {
                let log = &mut self.0[number];
                log.trim(to);
                shard.set_log_start(log.at(), to);
            }
            Op::Delete { number } => {
                let log = &mut self.0[number];
                shard.close_partition(log.at());
                *log = Log { number: log.number, lives: log.lives + 1, ..Log::default() };
            }
        }
    }

    pub(crate) fn cut(&self, index: u64) -> Cut {
        let leader = ReplicaId { node: NodeId(1), incarnation: 1 };
        let rows = self.0.iter().flat_map(Log::rows).collect();
        let applied = LogId { term: 1, leader, index };
        Cut { applied, membership: Bytes::from_static(b"members"), rows }
    }

    /// Everything reads back as it was written.
    pub(crate) async fn check(&self, shard: &ShardStore) -> Result<(), String> {
        for log in self.0.iter().filter(|log| log.next > log.start) {
            match read_all(shard, log).await {
                Ok(bytes) if bytes == log.bytes_from_start() => {}
                Ok(_) => return Err(format!("{} holds other bytes", log.at())),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Right after a checkpoint: no byte on disk is one that it does not name, and it names no segment that is over.
    pub(crate) fn check_space(&self, shard: &ShardStore, disk: &SimDisk) -> Result<(), String> {
        let mut named = 0;
        for log in &self.0 {
            for segment in shard.segments(log.at()) {
                named += segment.bytes;
                if segment.next_offset <= log.start {
                    return Err(format!("{} keeps a segment below {}", log.at(), log.start));
                }
            }
            if let Some(at) = log.dead().find(|at| !shard.segments(*at).is_empty()) {
                return Err(format!("{at} was deleted and has segments"));
            }
        }
        let files = disk.files();
        let there: u64 = files.iter().filter(|it| it.0.ends_with(".log")).map(|it| it.1).sum();
        if named == there {
            return Ok(());
        }
        Err(format!("{there} bytes in segments, the checkpoint names {named}"))
    }
}

pub(crate) async fn read_all(shard: &ShardStore, log: &Log) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let mut offset = log.start;
    while offset < log.next {
        let read = shard.read(log.at(), offset, log.next, 700).await?;
        assert!(read.next_offset > offset, "a read that does not go on");
        bytes.extend_from_slice(&read.bytes);
        offset = read.next_offset;
    }
    Ok(bytes)
}

pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        segment_write_bytes: 500,
        segment_write_after: Duration::from_millis(5),
        segment_sync_bytes: 600,
        pending_bytes: 4000,
        open_files: 4,
        index_interval_bytes: 300,
        scrub_bytes_per_second: 0,
        scrub_interval: Duration::from_secs(1),
    }
}

pub(crate) async fn open(disk: &SimDisk) -> Result<(Store, ShardStore), StoreError> {
    let tables = Arc::new(MemoryTables::default());
    let store = Store::open(Arc::new(disk.attach()), tables, options()).await?;
    let shard = store.open_shard(KEY).await?;
    Ok((store, shard))
}

/// The machine loses its power, or the process alone dies: what is not synced is still there then.
pub(crate) fn die(disk: &SimDisk, rng: &mut StdRng) {
    if rng.random_bool(0.7) {
        disk.crash(Crash::ALL[rng.random_range(0..Crash::ALL.len())]);
    } else {
        disk.power_off();
    }
}

pub(crate) fn simulated<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(test)
}
