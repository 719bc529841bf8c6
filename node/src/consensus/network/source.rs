//! Owns the giving side of a pull: reads the runs of segment files that a follower lacks, at the node's pace for pulls,
//! and holds the files meanwhile (S7, S9). Never decides what is missing.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;
use waymark_proto::peer;

use super::door::SegmentFiles;
use super::link::Shared;
use super::throttle::Throttle;
use super::wire;
use crate::storage::shard_store::MissingRange;

/// Bytes in one message: small enough that appends and pulls share a connection fairly.
pub(super) const PULL_CHUNK: usize = 256 << 10;
/// Chunks read ahead of the connection.
pub(super) const PULL_AHEAD: usize = 4;
/// Ranges in one request; who lacks more asks again.
pub(super) const MOST_RANGES: usize = 4096;

type Chunks = mpsc::Sender<Result<peer::PullChunk, Status>>;

/// A manifest in messages.
pub(super) fn parts(mut manifest: Bytes) -> Vec<peer::ManifestPart> {
    let head = peer::ManifestHead { length: manifest.len() as u64, ..Default::default() };
    let mut parts = vec![peer::ManifestPart { head: Some(head), data: Bytes::new() }];
    while !manifest.is_empty() {
        let data = manifest.split_to(manifest.len().min(PULL_CHUNK));
        parts.push(peer::ManifestPart { head: None, data });
    }
    parts
}

/// The ranges of a request.
pub(super) fn ranges(request: &peer::PullRequest) -> Result<Vec<MissingRange>, Status> {
    if request.ranges.len() > MOST_RANGES {
        return Err(Status::invalid_argument("too many ranges"));
    }
    let ranges: Result<Vec<_>, _> = request.ranges.iter().map(wire::range_from).collect();
    ranges.map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Sends all ranges in their order; a range whose file ends early is sent as far as it goes.
pub(super) async fn send(
    files: Arc<dyn SegmentFiles>,
    ranges: Vec<MissingRange>,
    (throttle, shared): (Arc<Throttle>, Arc<Shared>),
    chunks: Chunks,
) {
    let _held = files.hold();
    for (number, range) in (0..).zip(ranges) {
        let outcome =
            send_range(files.as_ref(), (number, range), (&throttle, &shared), &chunks).await;
        match outcome {
            Ok(()) => {}
            Err(Some(status)) => {
                let _gone = chunks.send(Err(status)).await;
                return;
            }
            Err(None) => return,
        }
    }
}

/// `Err(None)`: nobody listens any more.
async fn send_range(
    files: &dyn SegmentFiles,
    (number, mut rest): (u32, MissingRange),
    (throttle, shared): (&Throttle, &Shared),
    chunks: &Chunks,
) -> Result<(), Option<Status>> {
    while rest.from_byte < rest.to_byte {
        let left = usize::try_from(rest.to_byte - rest.from_byte).unwrap_or(usize::MAX);
        let most = left.min(PULL_CHUNK);
        throttle.take(most).await;
        let read = files.read(&rest, most).await;
        let mut data = read.map_err(|error| Some(Status::not_found(error.to_string())))?;
        data.truncate(most);
        if data.is_empty() {
            return Ok(());
        }
        let from_byte = rest.from_byte;
        rest.from_byte += data.len() as u64;
        shared.pulls.given.add(data.len() as u64);
        let chunk = peer::PullChunk { range: number, from_byte, data };
        chunks.send(Ok(chunk)).await.map_err(|_| None)?;
    }
    Ok(())
}
