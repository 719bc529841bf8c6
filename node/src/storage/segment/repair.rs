//! Owns putting a damaged segment together anew, beside the old file: what is sound here is copied, what is not is taken
//! from peers, whose files are the same (S8), and every frame is verified before it counts. Only then the new file takes
//! the old one's name. Never talks to a peer, and never guesses a byte.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use waymark_proto::ids::TopicPartition;

use super::damage::MOST_ASIDE;
use super::frame::{Decoded, HEAD, decode};
use super::replica::{Replica, io_error};
use super::walk::{Run, Step, Walk, astray};
use crate::mutants;
use crate::storage::disk::{DiskFile, OpenMode};
use crate::storage::shard_store::{MissingRange, StoreError};

/// Bytes that are copied with one write, and asked for at a time.
const LOOK: usize = 1 << 20;
/// Name of the new file until it takes the old one's place. A restart removes it: no checkpoint names it.
const FRESH: &str = "repair";

/// How a repair ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilt {
    /// So many bytes came from peers; none when what was read as damaged reads well now.
    Whole(u64),
    /// The segment left meanwhile, and its damage with it.
    Gone,
}

/// A segment that is put together anew.
#[derive(Debug)]
pub struct Rebuild {
    replica: Arc<Replica>,
    key: (TopicPartition, i64),
    /// The old file; `None`: it is missing.
    old: Option<Arc<dyn DiskFile>>,
    fresh: Arc<dyn DiskFile>,
    /// Frames up to here stand in the new file.
    done: u64,
    /// The offset that must stand there.
    expected: Option<i64>,
    /// Up to where the segment was written when the repair began, and the offset after that.
    end: (u64, i64),
    /// What a peer gave from `done` on and is no whole frame yet.
    given: BytesMut,
    /// Runs that came from peers.
    taken: Vec<(u64, u64)>,
}

impl Replica {
    /// Begins a repair; `None`: the segment is not here any more.
    pub(in crate::storage) async fn rebuild(
        self: &Arc<Self>,
        key: (TopicPartition, i64),
    ) -> Result<Option<Rebuild>, StoreError> {
        let Some(end) = self.written_end(key) else { return Ok(None) };
        let (folder, path) = (self.partition_folder(key.0), self.path(key.0, key.1));
        let disk = &self.shelf.disk;
        disk.create_dir(&folder).await.map_err(io_error(&folder))?;
        let name = format!("{path}.{FRESH}");
        let fresh = async {
            let file = disk.open(&name, OpenMode::Write).await?;
            file.set_len(0).await?;
            Ok(file)
        };
        let fresh = fresh.await.map_err(io_error(&name))?;
        let old = match disk.open(&path, OpenMode::Read).await {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            old => Some(old.map_err(io_error(&path))?),
        };
        Ok(Some(Rebuild {
            replica: Arc::clone(self),
            key,
            old,
            fresh,
            done: 0,
            expected: Some(key.1),
            end,
            given: BytesMut::new(),
            taken: Vec::new(),
        }))
    }

    /// Up to where a segment is written, and the offset after that.
    fn written_end(&self, (at, base): (TopicPartition, i64)) -> Option<(u64, i64)> {
        let known = self.known();
        let segment = known.partitions.get(&at)?.segment(base)?;
        Some((segment.written, segment.written_next()))
    }
}

impl Rebuild {
    /// Copies what is sound here; the next bytes that a peer must give, or none when all are there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn lacking(&mut self) -> Result<Option<MissingRange>, StoreError> {
        if self.given.is_empty() {
            self.copy_sound(self.end.0).await?;
        }
        if self.done >= self.end.0 {
            return Ok(None);
        }
        let from_byte = self.done + self.given.len() as u64;
        let to_byte = self.end.0.min(from_byte + LOOK as u64);
        let (at, base_offset) = self.key;
        Ok(Some(MissingRange { at, base_offset, from_byte, to_byte }))
    }

    /// Copies frames up to a byte, or to the first flaw. A place that cannot be read is one.
    async fn copy_sound(&mut self, to: u64) -> Result<(), StoreError> {
        let Some(old) = self.old.clone() else { return Ok(()) };
        let run = Run { from: self.done, to, first: self.expected };
        let mut walk = Walk::new(old, run, LOOK);
        let (mut pieces, mut gathered) = (Vec::new(), 0);
        while let Ok(Step::Frame(frame)) = walk.step().await {
            gathered += frame.bytes.len();
            self.expected = Some(frame.place.next_offset);
            pieces.push(frame.bytes);
            if gathered >= LOOK {
                self.write(std::mem::take(&mut pieces)).await?;
                gathered = 0;
            }
        }
        self.write(pieces).await
    }

    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StoreError> {
        let len: u64 = pieces.iter().map(|it| it.len() as u64).sum();
        let written = self.fresh.write_at(self.done, pieces).await;
        written.map_err(io_error(&self.fresh_path()))?;
        self.done += len;
        Ok(())
    }

    /// Takes what a peer gave of the range asked for, from its beginning on, as far as it is right.
    ///
    /// # Errors
    /// When it is not what was written, or the disk refuses. Another peer may give better.
    pub async fn take(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.given.extend_from_slice(&data);
        if mutants::planted!("repair-unverified") {
            let raw = self.given.split().freeze();
            self.expected = None;
            self.taken.push((self.done, self.done + raw.len() as u64));
            return self.write(vec![raw]).await;
        }
        while let Some(len) = self.next_given()? {
            let frame = self.given.split_to(len).freeze();
            self.taken.push((self.done, self.done + len as u64));
            self.write(vec![frame]).await?;
            if self.sound_again().await {
                self.given.clear();
            }
        }
        Ok(())
    }

    /// The length of the frame at the beginning of what was given, if it is whole; what is wrong is thrown away.
    fn next_given(&mut self) -> Result<Option<usize>, StoreError> {
        let left = self.end.0 - self.done;
        let wrong = match decode(&self.given) {
            Decoded::Whole(stored) if stored.len as u64 > left => {
                "a frame beyond the end".to_owned()
            }
            Decoded::Whole(stored) => {
                let (found, next) = (stored.place.base_offset, stored.place.next_offset);
                match self.expected.filter(|it| *it != found) {
                    None => {
                        let len = stored.len;
                        self.expected = Some(next);
                        return Ok(Some(len));
                    }
                    Some(expected) => astray(found, expected),
                }
            }
            Decoded::Short(need) if need as u64 <= left => return Ok(None),
            Decoded::Short(_) => {
                if self.given.is_empty() {
                    return Ok(None);
                }
                "it ends inside a frame".to_owned()
            }
            Decoded::Damaged(what) => what.to_owned(),
        };
        self.given.clear();
        let path = format!("{} as a peer gave it", self.path());
        Err(StoreError::Damaged { path, offset: self.done, what: wrong })
    }

    /// Whether the old file goes on here as it must.
    async fn sound_again(&self) -> bool {
        let Some(old) = &self.old else { return false };
        let run = Run { from: self.done, to: self.end.0, first: self.expected };
        let mut walk = Walk::new(Arc::clone(old), run, HEAD);
        matches!(walk.step().await, Ok(Step::Frame(_)))
    }

    /// Gives the new file the old one's name, with what was written meanwhile. The old one's damaged bytes are kept aside.
    ///
    /// # Errors
    /// When the disk refuses, or the segment was cut meanwhile: the old file stays, and the repair is owed again.
    pub async fn finish(mut self) -> Result<Rebuilt, StoreError> {
        let replica = Arc::clone(&self.replica);
        self.sync_fresh().await?;
        self.keep_damaged().await;
        let _turn = replica.io.lock().await;
        replica.shelf.trusted()?;
        let Some((written, next)) = replica.written_end(self.key) else {
            return self.give_up().await;
        };
        if written < self.done {
            return Err(self.busy("it was cut meanwhile"));
        }
        if written > self.done {
            self.copy_sound(written).await?;
            self.sync_fresh().await?;
        }
        if self.done != written || self.expected.is_some_and(|it| it != next) {
            return Err(self.busy("what was written meanwhile is damaged too"));
        }
        self.take_the_name().await?;
        let (at, base) = self.key;
        replica.let_go(at, base);
        let mut known = replica.known();
        let segment = known.partitions.get_mut(&at).and_then(|it| it.segment_mut(base));
        if let Some(segment) = segment {
            segment.durable = segment.durable.max(written);
        }
        known.damaged.remove(&self.key);
        known.given.remove(&self.key);
        // What a pull had put behind it went with the old file.
        known.pulled.remove(&self.key);
        drop(known);
        replica.shelf.numbers.repaired_segments.one();
        Ok(Rebuilt::Whole(self.taken.iter().map(|(from, to)| to - from).sum()))
    }

    async fn sync_fresh(&self) -> Result<(), StoreError> {
        let synced = self.replica.shelf.synced(self.fresh.sync().await);
        synced.map_err(io_error(&self.fresh_path()))
    }

    /// The name is durable before anything is written through it: a name that a power cut takes back would bring the
    /// old file back, without what was written since.
    async fn take_the_name(&self) -> Result<(), StoreError> {
        let (path, folder) = (self.path(), self.replica.partition_folder(self.key.0));
        let shelf = &self.replica.shelf;
        let renamed = async {
            shelf.disk.rename(&self.fresh_path(), &path).await?;
            shelf.synced(shelf.disk.sync_dir(&folder).await)
        };
        renamed.await.map_err(io_error(&path))
    }

    async fn give_up(&self) -> Result<Rebuilt, StoreError> {
        // With its folder it may be gone already.
        let _ = self.replica.shelf.disk.remove(&self.fresh_path()).await;
        Ok(Rebuilt::Gone)
    }

    /// Best effort: nothing depends on it.
    async fn keep_damaged(&self) {
        let Some(old) = &self.old else { return };
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (from, to) in &self.taken {
            match runs.last_mut().filter(|last| last.1 == *from) {
                Some(last) => last.1 = *to,
                None => runs.push((*from, *to)),
            }
        }
        for (from, to) in runs {
            let len = usize::try_from((to - from).min(MOST_ASIDE)).unwrap_or(usize::MAX);
            let Ok(bytes) = old.read_at(from, len).await else { continue };
            if let Err(error) = self.replica.keep_aside(self.key, from, bytes).await {
                tracing::warn!(file = self.path(), from, %error, "damaged bytes are not kept");
            }
        }
    }

    fn busy(&self, why: &str) -> StoreError {
        StoreError::Io { path: self.path(), source: std::io::Error::other(why.to_owned()) }
    }

    fn path(&self) -> String {
        self.replica.path(self.key.0, self.key.1)
    }

    fn fresh_path(&self) -> String {
        format!("{}.{FRESH}", self.path())
    }
}
