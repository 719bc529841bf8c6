//! Owns the giving side of a pull: bytes of a segment file, each frame of them verified first, so that damage here never
//! becomes damage elsewhere (G6). Never decides who gets what.

use std::io::ErrorKind;

use bytes::{Bytes, BytesMut};
use waymark_proto::ids::TopicPartition;

use super::replica::{Replica, io_error};
use super::walk::{Run, Step, Walk};
use crate::mutants;
use crate::storage::disk::OpenMode;
use crate::storage::shard_store::StoreError;

/// Bytes of one look: one message of a pull.
const LOOK: usize = 256 << 10;
/// Files of which it is remembered how far they were given; who goes on after that is led there from the beginning.
const REMEMBERED: usize = 256;

/// Where a frame begins, and its offset if that is known.
pub(super) type Begin = (u64, Option<i64>);

impl Replica {
    /// Bytes from a place on, fewer than asked for where the file or what is sound ends. Whole frames where they fit.
    pub(in crate::storage) async fn read_segment(
        &self,
        at: TopicPartition,
        base: i64,
        from: u64,
        most: usize,
    ) -> Result<Bytes, StoreError> {
        let path = self.path(at, base);
        let opened = self.file(at, base, OpenMode::Read).await;
        let file = match opened {
            Err(StoreError::Io { source, .. })
                if source.kind() == ErrorKind::NotFound && self.written(at, base) > 0 =>
            {
                return Err(self.missing_file((at, base)));
            }
            opened => opened?,
        };
        if mutants::planted!("damage-spreads") {
            return file.read_at(from, most).await.map_err(io_error(&path));
        }
        let there = file.len().await.map_err(io_error(&path))?;
        // What stands beyond what is written is not part of the segment: a pull under way, or a write.
        let to = Some(self.written(at, base)).filter(|it| *it > 0).unwrap_or(there);
        let (begin, first) = self.given_before((at, base), from);
        let mut walk = Walk::new(file, Run { from: begin, to, first }, LOOK.min(most.max(1)));
        let mut given = BytesMut::new();
        loop {
            match walk.step().await.map_err(io_error(&path))? {
                Step::Frame(frame) => {
                    let skipped = usize::try_from(from.saturating_sub(frame.position));
                    let part = skipped.ok().and_then(|it| frame.bytes.get(it..)).unwrap_or(&[]);
                    if part.is_empty() {
                        continue;
                    }
                    if given.is_empty() {
                        given.extend_from_slice(&part[..part.len().min(most)]);
                    } else if given.len() + part.len() > most {
                        break;
                    } else {
                        given.extend_from_slice(part);
                    }
                    let position = frame.position + frame.bytes.len() as u64;
                    if from + given.len() as u64 != position {
                        // Of a frame that is larger than a message, a part: the next one begins inside.
                        self.gave((at, base), (frame.position, Some(frame.place.base_offset)));
                        return Ok(given.freeze());
                    }
                    self.gave((at, base), walk.place());
                }
                Step::Flaw(flaw) if given.is_empty() => return Err(self.met((at, base), flaw)),
                Step::Flaw(_) | Step::End => break,
            }
        }
        Ok(given.freeze())
    }

    /// The nearest place at or before a byte where a frame is known to begin.
    fn given_before(&self, (at, base): (TopicPartition, i64), position: u64) -> Begin {
        let known = self.known();
        let given = known.given.get(&(at, base)).copied().filter(|it| it.0 <= position);
        let segment = known.partitions.get(&at).and_then(|it| it.segment(base));
        let marked = segment.map(|it| it.begin_at_or_before(position));
        let marked = marked.map_or((0, Some(base)), |(byte, offset)| (byte, Some(offset)));
        given.filter(|it| it.0 > marked.0).unwrap_or(marked)
    }

    fn gave(&self, key: (TopicPartition, i64), place: Begin) {
        let given = &mut self.known().given;
        if given.len() >= REMEMBERED && !given.contains_key(&key) {
            given.clear();
        }
        given.insert(key, place);
    }
}
