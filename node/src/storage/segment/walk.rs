//! Owns the way from frame to frame through a segment file, each one verified before the next: for checks, for those who
//! pull, and for repair. Never decides what a flaw means, and never changes a file.

use std::sync::Arc;

use bytes::Bytes;

use super::frame::{Decoded, Head, Place, decode};
use super::reader::left;
use crate::storage::disk::DiskFile;

/// What is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) position: u64,
    /// The byte after it, if what stands there still says where its frame ends.
    pub(super) end: Option<u64>,
    /// The offset that must stand there, if it is known.
    pub(super) offset: Option<i64>,
    pub(super) what: String,
}

/// A run of frames in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Its first byte, where a frame begins.
    pub(super) from: u64,
    /// The byte after its last one, where a frame ends.
    pub(super) to: u64,
    /// The offset at `from`, if it is known.
    pub(super) first: Option<i64>,
}

/// A frame as it stands in the file.
#[derive(Debug)]
pub(super) struct Framed {
    pub(super) position: u64,
    pub(super) place: Place,
    pub(super) bytes: Bytes,
}

/// What the next step met.
#[derive(Debug)]
pub(super) enum Step {
    Frame(Framed),
    /// The walk goes no further: what follows has no known beginning.
    Flaw(Flaw),
    End,
}

/// Walks through a run.
#[derive(Debug)]
pub(super) struct Walk {
    file: Arc<dyn DiskFile>,
    /// Where the next frame begins.
    position: u64,
    to: u64,
    expected: Option<i64>,
    /// Bytes of one look, unless a frame has more.
    look: usize,
    /// What was read from `position` on.
    window: Bytes,
}

/// A frame that stands where another offset belongs, though its checksum is right: a write that went astray.
pub(super) fn astray(found: i64, expected: i64) -> String {
    format!("offset {found} stands where {expected} must")
}

impl Walk {
    pub(super) fn new(file: Arc<dyn DiskFile>, run: Run, look: usize) -> Self {
        let Run { from, to, first } = run;
        Self { file, position: from, to, expected: first, look, window: Bytes::new() }
    }

    /// Where it stands: the byte, and the offset if it is known.
    pub(super) fn place(&self) -> (u64, Option<i64>) {
        (self.position, self.expected)
    }

    /// How much the next looks read, unless a frame has more.
    pub(super) fn look_for(&mut self, bytes: usize) {
        self.look = bytes;
    }

    pub(super) async fn step(&mut self) -> std::io::Result<Step> {
        while self.position < self.to {
            let left = left(self.position, self.to);
            let need = match decode(&self.window) {
                Decoded::Whole(stored) => {
                    let (len, place) = (stored.len, stored.place);
                    return Ok(self.pass(len, place));
                }
                Decoded::Damaged(what) => return Ok(self.flaw(what)),
                Decoded::Short(need) if need > left => {
                    return Ok(self.flaw("it ends inside a frame"));
                }
                Decoded::Short(need) => need,
            };
            let asked = need.max(self.look).min(left);
            self.window = self.file.read_at(self.position, asked).await?;
            if self.window.len() < need {
                return Ok(self.flaw("it is shorter than what was written"));
            }
        }
        Ok(Step::End)
    }

    fn pass(&mut self, len: usize, place: Place) -> Step {
        if let Some(expected) = self.expected.filter(|it| *it != place.base_offset) {
            return self.flaw(&astray(place.base_offset, expected));
        }
        let (position, bytes) = (self.position, self.window.split_to(len));
        self.position += len as u64;
        self.expected = Some(place.next_offset);
        Step::Frame(Framed { position, place, bytes })
    }

    fn flaw(&self, what: &str) -> Step {
        let sound = Head::read(&self.window).ok();
        let end = sound.map(|head| self.position + head.len).filter(|end| *end <= self.to);
        let (position, offset) = (self.position, self.expected);
        Step::Flaw(Flaw { position, end, offset, what: what.to_owned() })
    }
}
