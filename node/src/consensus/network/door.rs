//! Owns what the peer service needs of a replica and of its files, as two small traits, so that this module neither knows
//! the state machine nor needs a disk in its tests. Both are implemented here for the real things. Never decides anything.

use std::any::Any;
use std::fmt::{self, Debug};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt};
use openraft::alias::SnapshotOf;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::RaftStateMachine;

use crate::consensus::types::{
    C, Manifest, Vote, from_raft_log_id, from_raft_vote, to_raft_log_id,
};
use crate::mutants;
use crate::reached::reached;
use crate::storage::raft_record::LogId;
use crate::storage::shard_store::{MissingRange, ShardStore, StoreError};

/// A snapshot as this module carries it: position, membership and the manifest.
pub type Snapshot = SnapshotOf<C, Manifest>;

/// The replica has stopped: in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReplicaStopped(pub String);

fn stopped(error: impl std::error::Error) -> ReplicaStopped {
    ReplicaStopped(error.to_string())
}

/// The side of a replica that peers talk to. Every error means that the replica has stopped.
#[async_trait]
pub trait ReplicaDoor: Send + Sync + 'static {
    /// Appends, pipelined: answers in the order of the requests, ends when they end.
    fn stream_append(
        &self,
        requests: BoxStream<'static, AppendEntriesRequest<C>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<C>, ReplicaStopped>>;
    /// One append without the pipeline: heartbeats.
    async fn append_entries(
        &self,
        request: AppendEntriesRequest<C>,
    ) -> Result<AppendEntriesResponse<C>, ReplicaStopped>;
    /// A vote, or with `pre` only the question whether it would be granted.
    async fn vote(
        &self,
        request: VoteRequest<C>,
        pre: bool,
    ) -> Result<VoteResponse<C>, ReplicaStopped>;
    /// The leader hands over.
    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<C>,
    ) -> Result<TransferLeaderResponse<C>, ReplicaStopped>;
    /// Installs a manifest whose files are all here (S9).
    async fn install(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<C>, ReplicaStopped>;
}

#[async_trait]
impl<SM> ReplicaDoor for openraft::Raft<C, SM>
where
    SM: RaftStateMachine<C, SnapshotData = Manifest> + Send + Sync + 'static,
{
    fn stream_append(
        &self,
        requests: BoxStream<'static, AppendEntriesRequest<C>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<C>, ReplicaStopped>> {
        let answers = openraft::Raft::stream_append(self, requests);
        let told = |answer: &_| {
            if matches!(answer, Ok(Err(StreamAppendError::HigherVote(_)))) {
                reached!("stale-leader-refused");
            }
        };
        answers.inspect(told).map(|answer| answer.map_err(stopped)).boxed()
    }

    async fn append_entries(
        &self,
        request: AppendEntriesRequest<C>,
    ) -> Result<AppendEntriesResponse<C>, ReplicaStopped> {
        let answer = openraft::Raft::append_entries(self, request).map_err(stopped).await?;
        if matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            reached!("stale-leader-refused");
        }
        Ok(answer)
    }

    async fn vote(
        &self,
        request: VoteRequest<C>,
        pre: bool,
    ) -> Result<VoteResponse<C>, ReplicaStopped> {
        if mutants::planted!("grants-every-vote") {
            return Ok(VoteResponse::new(request.vote, None, true));
        }
        let mut request = request;
        if mutants::planted!("votes-for-who-lags") {
            let term = from_raft_vote(request.vote).term;
            let newest = |id| to_raft_log_id(LogId { term, ..from_raft_log_id(id) });
            request.last_log_id = request.last_log_id.map(newest);
        }
        if pre {
            self.pre_vote(request).map_err(stopped).await
        } else {
            openraft::Raft::vote(self, request).map_err(stopped).await
        }
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<C>,
    ) -> Result<TransferLeaderResponse<C>, ReplicaStopped> {
        self.handle_transfer_leader(request).map_err(stopped).await
    }

    async fn install(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<C>, ReplicaStopped> {
        if !mutants::planted!("installs-what-the-log-has") {
            // While its segments were pulled, another leader may have found that the log goes on from where the manifest ends.
            // Openraft would take the mark of what it has accepted back to there: it may not be asked to install it.
            let follows = AppendEntriesRequest {
                vote,
                prev_log_id: snapshot.meta.last_log_id,
                leader_commit: None,
                entries: Vec::new(),
            };
            match openraft::Raft::append_entries(self, follows).map_err(stopped).await? {
                AppendEntriesResponse::Success => {
                    let upto = snapshot.meta.last_log_id;
                    tracing::info!(?upto, "the log holds all of the manifest by now");
                    return Ok(SnapshotResponse::new(vote));
                }
                AppendEntriesResponse::HigherVote(vote) => return Ok(SnapshotResponse::new(vote)),
                AppendEntriesResponse::Conflict | AppendEntriesResponse::PartialSuccess(_) => {}
            }
        }
        self.install_full_snapshot(vote, snapshot).map_err(stopped).await
    }
}

/// What a leader keeps while a follower pulls a manifest of it (S9); dropping it lets go.
pub struct PullHeld {
    /// The files that the manifest names, and the entries behind it.
    pub kept: Box<dyn Any + Send + Sync>,
    /// Bytes by which the log has grown since, once there is a newer manifest to go on with.
    pub grown: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Debug for PullHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullHeld").field("grown", &(self.grown)()).finish_non_exhaustive()
    }
}

/// Keeps the files of a checkpoint from being unlinked while it lives.
pub type FilesHeld = Box<dyn Any + Send + Sync>;

/// The segment files of one replica, as a pull sees them (S9).
#[async_trait]
pub trait SegmentFiles: Send + Sync + Debug + 'static {
    /// What of a manifest's files is not here yet.
    async fn missing(&self, manifest: &Bytes) -> Result<Vec<MissingRange>, StoreError>;
    /// Stores pulled bytes of a run; `range` names exactly the bytes given.
    async fn write_pulled(&self, range: &MissingRange, data: Bytes) -> Result<(), StoreError>;
    /// Bytes from the start of `range`, at most `max_bytes` of them, none beyond the file's end.
    async fn read(&self, range: &MissingRange, max_bytes: usize) -> Result<Bytes, StoreError>;
    /// Holds what the newest checkpoint names.
    fn hold(&self) -> FilesHeld;
    /// The newest checkpoint, as a manifest.
    fn newest(&self) -> Option<Bytes> {
        None
    }
    /// From here on a restart keeps what was pulled for this manifest.
    async fn begin(&self, manifest: &Bytes) -> Result<(), StoreError> {
        let _ = manifest;
        Ok(())
    }
    /// What was pulled until now survives the machine.
    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl SegmentFiles for ShardStore {
    async fn missing(&self, manifest: &Bytes) -> Result<Vec<MissingRange>, StoreError> {
        ShardStore::missing(self, manifest).await
    }

    async fn write_pulled(&self, range: &MissingRange, data: Bytes) -> Result<(), StoreError> {
        ShardStore::write_pulled(self, range, data).await
    }

    async fn read(&self, range: &MissingRange, max_bytes: usize) -> Result<Bytes, StoreError> {
        self.read_segment(range.at, range.base_offset, range.from_byte, max_bytes).await
    }

    fn hold(&self) -> FilesHeld {
        Box::new(ShardStore::hold(self))
    }

    fn newest(&self) -> Option<Bytes> {
        self.checkpoint().map(|it| it.encoded)
    }

    async fn begin(&self, manifest: &Bytes) -> Result<(), StoreError> {
        self.begin_pull(manifest).await
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.settle_pulled().await
    }
}
