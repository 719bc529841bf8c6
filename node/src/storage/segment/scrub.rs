//! Owns looking at what nobody reads: every segment of a replica from end to end, and its checkpoint, at a bounded pace. What
//! it finds is damage like any other; a checkpoint that rotted is written again from memory. Never repairs a segment.

use std::io::ErrorKind;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;
use waymark_proto::ids::TopicPartition;

use super::manifest;
use super::replica::{Replica, io_error};
use super::walk::{Flaw, Run, Step, Walk};
use crate::storage::disk::OpenMode;
use crate::storage::shard_store::StoreError;

/// Bytes of one look.
const LOOK: usize = 256 << 10;
/// A place that cannot be read so often in a row, with this pause, is damaged.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The pace of a scrub: nothing is read ahead of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::storage) struct Pace(pub(in crate::storage) u64);

impl Pace {
    async fn rest(self, read: u64) {
        let nanos = u128::from(read) * 1_000_000_000 / u128::from(self.0.max(1));
        sleep(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))).await;
    }
}

/// Looks at all of a replica once, unless it ends before. Keeps neither it nor its disk alive meanwhile.
pub(in crate::storage) async fn scrub(replica: Weak<Replica>, pace: Pace) {
    let alive = || replica.upgrade();
    let Some(segments) = alive().map(|it| it.durable_segments()) else { return };
    for key in segments {
        scrub_segment(&replica, key, pace).await;
    }
    if let Some(replica) = alive() {
        let read = replica.scrub_checkpoint().await;
        let read = read.unwrap_or_else(|error| {
            tracing::warn!(shard = %replica.key.shard, %error, "a checkpoint cannot be looked at");
            0
        });
        drop(replica);
        pace.rest(read).await;
    }
}

async fn scrub_segment(replica: &Weak<Replica>, key: (TopicPartition, i64), pace: Pace) {
    let (mut from, mut first, mut failed) = (0, Some(key.1), 0);
    while let Some(alive) = replica.upgrade() {
        // Anew for each stretch: it may have been repaired, cut or retired meanwhile.
        let Some(to) = alive.durable_end(key).filter(|to| *to > from) else { return };
        let (outcome, place) = alive.scrub_stretch(key, Run { from, to, first }).await;
        drop(alive);
        match outcome {
            Ok(true) if place.0 > from => {
                failed = 0;
                pace.rest(place.0 - from).await;
                (from, first) = place;
            }
            Ok(_) => return,
            Err(error) => {
                failed += 1;
                if failed >= ATTEMPTS {
                    let what = format!("it cannot be read: {error}");
                    let flaw = Flaw { position: place.0, end: None, offset: place.1, what };
                    if let Some(alive) = replica.upgrade() {
                        alive.note_damage(key, flaw);
                    }
                    return;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

impl Replica {
    fn durable_segments(&self) -> Vec<(TopicPartition, i64)> {
        let known = self.known();
        let all = known.partitions.iter();
        let each = all.flat_map(|(at, it)| it.segments.iter().map(move |it| (*at, it.base)));
        each.collect()
    }

    fn durable_end(&self, (at, base): (TopicPartition, i64)) -> Option<u64> {
        let known = self.known();
        Some(known.partitions.get(&at)?.segment(base)?.durable)
    }

    /// About one look; whether it went on, and to where.
    async fn scrub_stretch(
        &self,
        key: (TopicPartition, i64),
        run: Run,
    ) -> (Result<bool, StoreError>, (u64, Option<i64>)) {
        let path = self.path(key.0, key.1);
        let file = match self.shelf.disk.open(&path, OpenMode::Read).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Noted only if the segment is still here.
                drop(self.missing_file(key));
                return (Ok(false), (run.from, run.first));
            }
            Err(error) => return (Err(io_error(&path)(error)), (run.from, run.first)),
        };
        let mut walk = Walk::new(Arc::clone(&file), run, LOOK);
        loop {
            let outcome = match walk.step().await {
                Ok(Step::Frame(frame)) => {
                    self.saw(key, frame.place.base_offset, frame.position);
                    if walk.place().0 - run.from < LOOK as u64 {
                        continue;
                    }
                    Ok(true)
                }
                Ok(Step::Flaw(flaw)) => {
                    self.note_damage(key, flaw);
                    Ok(false)
                }
                Ok(Step::End) => Ok(true),
                Err(error) => Err(io_error(&path)(error)),
            };
            self.shelf.numbers.scrubbed_bytes.add(walk.place().0 - run.from);
            return (outcome, walk.place());
        }
    }

    /// The checkpoint's file must hold what memory does; if not, it is written again. Returns the bytes that were read.
    async fn scrub_checkpoint(&self) -> Result<u64, StoreError> {
        let Some(newest) = self.checkpoint() else { return Ok(0) };
        let _turn = self.publishing.lock().await;
        if self.checkpoint().is_none_or(|it| it.applied != newest.applied) {
            return Ok(0);
        }
        let path = self.checkpoint_path();
        let must = manifest::to_file(&newest.encoded);
        let there = match self.shelf.disk.open(&path, OpenMode::Read).await {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            file => {
                let file = file.map_err(io_error(&path))?;
                Some(file.read_at(0, must.len() + 1).await.map_err(io_error(&path))?)
            }
        };
        if there.as_ref() != Some(&must) {
            self.shelf.numbers.damaged_ranges.one();
            tracing::warn!(file = path, "damaged: the checkpoint is written again from memory");
            self.publish_in_turn(&newest.encoded).await?;
        }
        Ok(must.len() as u64)
    }
}
