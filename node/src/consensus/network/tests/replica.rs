//! Replicas and segment files that only pretend.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};
use waymark_proto::ids::{PartitionId, TopicId, TopicPartition};

use super::super::door::{FilesHeld, ReplicaDoor, ReplicaStopped, SegmentFiles, Snapshot};
use crate::consensus::types::{C, Vote};
use crate::storage::shard_store::{MissingRange, StoreError};

/// Grants everything, remembers counts, answers appends only while its gate is open.
#[derive(Debug)]
pub(super) struct FakeReplica {
    pub(super) open: watch::Sender<bool>,
    pub(super) taken: Arc<AtomicUsize>,
    pub(super) streams: Arc<AtomicUsize>,
    pub(super) beats: AtomicUsize,
    /// It lacks what comes before whatever it is sent.
    pub(super) conflicts: Arc<AtomicBool>,
    pub(super) stopped: AtomicBool,
    pub(super) installed: Mutex<Vec<(Vote, Bytes)>>,
}

impl Default for FakeReplica {
    fn default() -> Self {
        Self {
            open: watch::channel(true).0,
            taken: Arc::default(),
            streams: Arc::default(),
            beats: AtomicUsize::new(0),
            conflicts: Arc::default(),
            stopped: AtomicBool::new(false),
            installed: Mutex::default(),
        }
    }
}

struct CountedStream(Arc<AtomicUsize>);

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl FakeReplica {
    fn check(&self) -> Result<(), ReplicaStopped> {
        if self.stopped.load(SeqCst) { Err(ReplicaStopped("stopped".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl ReplicaDoor for FakeReplica {
    fn stream_append(
        &self,
        requests: BoxStream<'static, AppendEntriesRequest<C>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<C>, ReplicaStopped>> {
        self.streams.fetch_add(1, SeqCst);
        let counted = CountedStream(Arc::clone(&self.streams));
        let (taken, open, stopped) =
            (Arc::clone(&self.taken), self.open.subscribe(), self.check().is_err());
        let conflicts = Arc::clone(&self.conflicts);
        requests
            .map(move |request| {
                let _counted = &counted;
                taken.fetch_add(1, SeqCst);
                let (mut open, conflicts) = (open.clone(), Arc::clone(&conflicts));
                async move {
                    let _gone = open.wait_for(|open| *open).await;
                    let last = request.entries.last().map(|entry| entry.log_id);
                    if let (true, Some(lacks)) = (conflicts.load(SeqCst), request.prev_log_id) {
                        return Ok(Err(StreamAppendError::Conflict(lacks)));
                    }
                    if stopped { Err(ReplicaStopped("stopped".into())) } else { Ok(Ok(last)) }
                }
            })
            .buffered(1000)
            .boxed()
    }
    async fn append_entries(
        &self,
        _: AppendEntriesRequest<C>,
    ) -> Result<AppendEntriesResponse<C>, ReplicaStopped> {
        self.check()?;
        self.beats.fetch_add(1, SeqCst);
        let mut open = self.open.subscribe();
        let _gone = open.wait_for(|open| *open).await.map(|_| ());
        if self.conflicts.load(SeqCst) {
            return Ok(AppendEntriesResponse::Conflict);
        }
        Ok(AppendEntriesResponse::Success)
    }
    async fn vote(
        &self,
        request: VoteRequest<C>,
        pre: bool,
    ) -> Result<VoteResponse<C>, ReplicaStopped> {
        self.check()?;
        // Told apart by the answer: a pre-vote is granted, a vote is not.
        Ok(VoteResponse::new(request.vote, request.last_log_id, pre))
    }
    async fn transfer_leader(
        &self,
        _: TransferLeaderRequest<C>,
    ) -> Result<TransferLeaderResponse<C>, ReplicaStopped> {
        self.check()?;
        Ok(Ok(()))
    }
    async fn install(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<C>, ReplicaStopped> {
        self.check()?;
        self.installed.lock().unwrap().push((vote, snapshot.snapshot));
        Ok(SnapshotResponse::new(vote))
    }
}

/// Segments by base offset. Its manifests list base offsets and lengths.
#[derive(Debug, Default)]
pub(super) struct FakeFiles {
    pub(super) segments: Mutex<BTreeMap<i64, Vec<u8>>>,
    /// Bytes it still gives before it fails; pulled bytes are counted beside.
    pub(super) gives: Mutex<Option<usize>>,
    pub(super) given: AtomicU64,
    /// Each chunk takes this long to write.
    pub(super) write_time: Duration,
}

pub(super) fn at() -> TopicPartition {
    TopicPartition { topic: TopicId([3; 16]), partition: PartitionId(0) }
}

/// What a segment must hold.
fn fill(base: i64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as i64 + base).to_le_bytes()[0]).collect()
}

impl FakeFiles {
    pub(super) fn holding(segments: &[(i64, usize)]) -> Self {
        let segments = segments.iter().map(|(base, len)| (*base, fill(*base, *len))).collect();
        Self { segments: Mutex::new(segments), ..Self::default() }
    }
    pub(super) fn manifest(&self) -> Bytes {
        let segments = self.segments.lock().unwrap();
        let row = |(base, bytes): (&i64, &Vec<u8>)| {
            [base.to_le_bytes(), (bytes.len() as u64).to_le_bytes()].concat()
        };
        segments.iter().flat_map(row).collect()
    }
}

#[async_trait]
impl SegmentFiles for FakeFiles {
    async fn missing(&self, manifest: &Bytes) -> Result<Vec<MissingRange>, StoreError> {
        let mut segments = self.segments.lock().unwrap();
        let mut missing = Vec::new();
        for row in manifest.chunks_exact(16) {
            let base_offset = i64::from_le_bytes(row[..8].try_into().unwrap());
            let to_byte = u64::from_le_bytes(row[8..].try_into().unwrap());
            let whole = usize::try_from(to_byte).unwrap();
            segments.retain(|base, bytes| {
                *base != base_offset || bytes.len() < whole || *bytes == fill(*base, whole)
            });
            let from_byte = segments.get(&base_offset).map_or(0, |bytes| bytes.len() as u64);
            if from_byte < to_byte {
                missing.push(MissingRange { at: at(), base_offset, from_byte, to_byte });
            }
        }
        Ok(missing)
    }
    async fn write_pulled(&self, range: &MissingRange, data: Bytes) -> Result<(), StoreError> {
        sleep(self.write_time).await;
        let mut segments = self.segments.lock().unwrap();
        let segment = segments.entry(range.base_offset).or_default();
        assert_eq!(segment.len() as u64, range.from_byte, "a hole in a pulled file");
        assert_eq!(range.to_byte - range.from_byte, data.len() as u64);
        segment.extend_from_slice(&data);
        Ok(())
    }
    async fn read(&self, range: &MissingRange, max_bytes: usize) -> Result<Bytes, StoreError> {
        let segments = self.segments.lock().unwrap();
        let missing = || StoreError::NoPartition(range.at);
        let bytes = segments.get(&range.base_offset).ok_or_else(missing)?;
        let from = usize::try_from(range.from_byte).unwrap().min(bytes.len());
        let data = &bytes[from..bytes.len().min(from + max_bytes)];
        let mut gives = self.gives.lock().unwrap();
        if let Some(left) = gives.as_mut() {
            *left = left.checked_sub(data.len()).ok_or_else(missing)?;
        }
        self.given.fetch_add(data.len() as u64, SeqCst);
        Ok(Bytes::copy_from_slice(data))
    }
    fn hold(&self) -> FilesHeld {
        Box::new(())
    }
}
