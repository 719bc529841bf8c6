//! Owns reading entries: from the tail cache, or from disk with the frame's own checksum (G6). It never serves a byte that
//! does not verify.
//!
//! A place may move while it is read, because its file is recycled; a frame that does not verify is therefore damage only
//! if its place is still the same afterwards.

use bytes::Bytes;
use waymark_proto::ids::ReplicaKey;

use super::JournalError;
use super::files::JournalFile;
use super::frame::{Fact, Frame, HEAD};
use super::queue::Shared;
use super::state::Place;
use crate::storage::raft_record::{EntryKind, LogEntry, LogId};

/// Neighbouring frames are fetched in one read of up to this many bytes …
const READ_BYTES: u64 = 1 << 20;
/// … unless more than this many bytes of other shards lie between them.
const READ_GAP: u64 = 64 * 1024;
/// A place can move only when a file is recycled, which takes flushes; so often in a row is not a race any more.
const ATTEMPTS: usize = 16;

/// One entry to be returned.
#[derive(Debug)]
struct Planned {
    id: LogId,
    kind: EntryKind,
    len: u32,
    payload: Option<Bytes>,
    place: Option<(Place, JournalFile)>,
}

impl Planned {
    fn end(&self) -> Option<u64> {
        self.place
            .as_ref()
            .map(|(place, _)| u64::from(place.at) + HEAD as u64 + u64::from(self.len))
    }
}

/// Reads entries `from..to` as far as they exist.
pub(super) async fn read(
    shared: &Shared,
    key: ReplicaKey,
    range: (u64, u64),
    max_bytes: usize,
) -> Result<Vec<LogEntry>, JournalError> {
    read_under(shared, key, range, (max_bytes, None)).await.map(|(_, entries)| entries)
}

/// Reads entries up to the first one that is missing, and the id of another entry, all of one moment.
pub(super) async fn read_under(
    shared: &Shared,
    key: ReplicaKey,
    range: (u64, u64),
    (max_bytes, anchor): (usize, Option<u64>),
) -> Result<(Option<LogId>, Vec<LogEntry>), JournalError> {
    let mut moved = None;
    for _ in 0..ATTEMPTS {
        let (anchored, planned) = plan(shared, key, range, (max_bytes, anchor));
        match fetch(key, planned).await? {
            Ok(entries) => return Ok((anchored, entries)),
            Err((id, place, file)) => {
                let state = shared.lock();
                let row = state.logs.replicas.get(&key).and_then(|log| log.row(id.index));
                if row.is_some_and(|row| row.place == Some(place)) {
                    let what = format!("entry {} of shard {} is unreadable", id.index, key.shard);
                    return Err(file.damaged(place.at.into(), what));
                }
                moved = Some(id.index);
            }
        }
    }
    Err(JournalError::Missing { key, from: moved.unwrap_or(range.0) })
}

/// What to return and where to find it, as of now.
fn plan(
    shared: &Shared,
    key: ReplicaKey,
    range: (u64, u64),
    (max_bytes, anchor): (usize, Option<u64>),
) -> (Option<LogId>, Vec<Planned>) {
    let state = shared.lock();
    let Some(log) = state.logs.replicas.get(&key) else { return (None, Vec::new()) };
    let anchored = anchor.and_then(|index| log.id_at(index));
    let mut planned = Vec::new();
    let mut bytes = 0;
    for index in range.0.max(log.first())..range.1.min(log.end()) {
        let Some(row) = log.row(index) else { break };
        if anchor.is_some() && row.is_missing() {
            break;
        }
        let id = row.id(index);
        bytes += row.len as usize;
        if bytes > max_bytes && !planned.is_empty() {
            break;
        }
        let place = row.place.filter(|_| row.payload.is_none());
        let place = place.and_then(|place| Some((place, state.files.get(&place.file)?.clone())));
        planned.push(Planned {
            id,
            kind: row.kind,
            len: row.len,
            payload: row.payload.clone(),
            place,
        });
    }
    (anchored, planned)
}

/// The entries, or the first one whose frame does not verify.
async fn fetch(
    key: ReplicaKey,
    planned: Vec<Planned>,
) -> Result<Result<Vec<LogEntry>, (LogId, Place, JournalFile)>, JournalError> {
    let mut entries = Vec::with_capacity(planned.len());
    let mut window = Window::default();
    for at in 0..planned.len() {
        let Planned { id, kind, payload, place, .. } = &planned[at];
        let payload = match (payload, place) {
            (Some(payload), _) => payload.clone(),
            (None, None) => return Err(JournalError::Missing { key, from: id.index }),
            (None, Some((place, file))) => {
                let bytes = window.frame(&planned[at..], *place, file).await?;
                let same = |entry: &LogEntry| entry.id == *id && entry.kind == *kind;
                match Frame::decode(&bytes) {
                    Some((Frame { key: owner, fact: Fact::Entry(entry), .. }, _, _))
                        if owner == key && same(&entry) =>
                    {
                        entry.payload
                    }
                    _ => return Ok(Err((*id, *place, file.clone()))),
                }
            }
        };
        entries.push(LogEntry { id: *id, kind: *kind, payload });
    }
    Ok(Ok(entries))
}

/// Bytes of one file, read ahead for the entries that follow.
#[derive(Debug, Default)]
struct Window {
    file: u64,
    at: u64,
    bytes: Bytes,
}

impl Window {
    /// The bytes of the first planned frame.
    async fn frame(
        &mut self,
        planned: &[Planned],
        place: Place,
        file: &JournalFile,
    ) -> Result<Bytes, JournalError> {
        let start = u64::from(place.at);
        let end = planned[0].end().unwrap_or(start);
        if self.file != place.file || start < self.at || end > self.at + self.bytes.len() as u64 {
            let to = run_end(planned, place.file, start);
            let len = usize::try_from(to - start).expect("a run is short");
            let read = file.read.read_at(start, len).await;
            self.bytes = read.map_err(|source| file.failed(source))?;
            self.file = place.file;
            self.at = start;
        }
        let from = usize::try_from(start - self.at).expect("inside the window");
        let to = usize::try_from(end - self.at).expect("inside the window");
        Ok(self.bytes.slice(from.min(self.bytes.len())..to.min(self.bytes.len())))
    }
}

/// Where a read that starts with the first planned frame ends.
fn run_end(planned: &[Planned], file: u64, start: u64) -> u64 {
    let mut end = planned[0].end().unwrap_or(start);
    for next in &planned[1..] {
        let (Some((place, _)), Some(next_end)) = (&next.place, next.end()) else { break };
        let at = u64::from(place.at);
        if place.file != file || at < end || at - end > READ_GAP || next_end - start > READ_BYTES {
            break;
        }
        end = next_end;
    }
    end
}

/// One frame of a file; `None` when it does not verify.
pub(super) async fn read_frame(
    file: &JournalFile,
    at: u64,
    len: usize,
) -> Result<Option<Frame>, JournalError> {
    let bytes = file.read.read_at(at, len).await.map_err(|source| file.failed(source))?;
    Ok(Frame::decode(&bytes).map(|(frame, _, _)| frame))
}
