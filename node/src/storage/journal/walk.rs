//! Owns reading a journal file flush by flush: the next flush if it is whole and follows, and every header that stands
//! anywhere behind a bad block. It never decides whether a bad block is torn or damaged (see `recovery`).

use std::io;

use bytes::Bytes;

use super::JournalError;
use super::files::JournalFile;
use super::flush::Flush;
use super::header::{FlushHeader, HEADER, Link, RANGE, ShardRange, VERSION, decode_ranges};
use crate::mutants;
use crate::storage::disk::BLOCK;

/// Read ahead by this much, so that a file of small flushes costs few trips to the disk.
const WINDOW: usize = 1 << 20;

/// The highest numbers seen in any header of this journal, whole flush or not: what is written next must exceed them, so
/// that the remains of a torn flush can never be taken for something newer.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Highest {
    pub(super) epoch: u64,
    pub(super) file: u64,
    pub(super) number: u64,
}

impl Highest {
    pub(super) fn see(&mut self, header: &FlushHeader) {
        self.epoch = self.epoch.max(header.epoch);
        self.file = self.file.max(header.file);
        self.number = self.number.max(header.number);
    }
}

/// A header met where no whole flush was asked for: the opening or the closing one of a flush.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    /// Where its flush starts.
    pub(super) start: u64,
    pub(super) header: FlushHeader,
    /// Where its list of shards should stand.
    ranges_at: u64,
}

/// A reader of one file with a window of bytes ahead.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) file: &'a JournalFile,
    /// Where the next flush starts.
    pub(super) at: u64,
    window: Bytes,
    window_at: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: &'a JournalFile) -> Self {
        Self::starting(file, 0)
    }

    /// A reader that starts inside the file.
    pub(super) fn starting(file: &'a JournalFile, at: u64) -> Self {
        Self { file, at, window: Bytes::new(), window_at: 0 }
    }

    /// The flush at the current position, when it is whole and belongs to this file and journal. Does not move.
    pub(super) async fn whole_flush(&mut self) -> Result<Option<Flush>, JournalError> {
        let head = self.bytes(self.at, HEADER).await?;
        let Some(header) = FlushHeader::decode(&head) else { return Ok(None) };
        let len = header.total_len as usize;
        if self.at + len as u64 > self.file.bytes {
            return Ok(None);
        }
        let bytes = self.bytes(self.at, len).await?;
        Ok(Flush::decode(&bytes))
    }

    /// Refuses a file that a newer version of the program began. Only its first bytes count: anywhere else they may be a
    /// record of somebody who wants to be taken for one.
    pub(super) async fn refuse_newer(&mut self) -> Result<(), JournalError> {
        let head = self.bytes(0, HEADER).await?;
        match FlushHeader::newer_version(&head) {
            Some(found) if !mutants::planted!("newer-journal-is-empty") => {
                let path = self.file.path.clone();
                Err(JournalError::Newer { path, found, known: VERSION })
            }
            _ => Ok(()),
        }
    }

    /// The next flush, when it is whole and follows `last`; moves behind it.
    pub(super) async fn next(&mut self, last: &FlushHeader) -> Result<Option<Flush>, JournalError> {
        let Some(flush) = self.whole_flush().await? else { return Ok(None) };
        let follows = flush.header.journal == last.journal
            && flush.header.file == last.file
            && flush.header.base == last.link();
        if !follows && !mutants::planted!("no-flush-chain") {
            return Ok(None);
        }
        self.at += u64::from(flush.header.total_len);
        Ok(Some(flush))
    }

    /// The next whole flush anywhere behind the current position that was written after one which `last` does not know: what
    /// stands between is damaged (S2). Moves behind it, and returns where it starts.
    pub(super) async fn beyond(
        &mut self,
        last: &FlushHeader,
    ) -> Result<Option<(u64, Flush)>, JournalError> {
        if mutants::planted!("damage-is-torn") {
            return Ok(None);
        }
        let was_at = self.at;
        for Sighting { start, header, .. } in self.headers_behind().await? {
            let later = header.journal == last.journal
                && header.file == last.file
                && header.base.number > last.number;
            if !later || start < was_at {
                continue;
            }
            self.at = start;
            if let Some(flush) = self.whole_flush().await?
                && flush.header == header
            {
                self.at = start + u64::from(header.total_len);
                return Ok(Some((start, flush)));
            }
        }
        self.at = was_at;
        Ok(None)
    }

    /// The list of shards that stands beside a header, when it is whole.
    pub(super) async fn ranges(
        &mut self,
        seen: &Sighting,
    ) -> Result<Option<Vec<ShardRange>>, JournalError> {
        let bytes = self.bytes(seen.ranges_at, seen.header.range_count as usize * RANGE).await?;
        Ok(decode_ranges(&seen.header, &bytes))
    }

    /// Every header, opening or closing, from the current position to the end of the file.
    pub(super) async fn headers_behind(&mut self) -> Result<Vec<Sighting>, JournalError> {
        let mut found = Vec::new();
        let mut at = self.at;
        while at < self.file.bytes {
            let block = self.bytes(at, BLOCK).await?;
            if let Some(header) = FlushHeader::decode(&block) {
                found.push(Sighting { start: at, header, ranges_at: at + HEADER as u64 });
            }
            let end = at + BLOCK as u64;
            if block.len() == BLOCK
                && let Some(header) = FlushHeader::decode(&block[BLOCK - HEADER..])
                && let Some(start) = end.checked_sub(u64::from(header.total_len))
            {
                let list = HEADER as u64 + u64::from(header.range_count) * RANGE as u64;
                found.push(Sighting { start, header, ranges_at: end - list });
            }
            at = end;
        }
        Ok(found)
    }

    /// Bytes of the file, fewer at its end.
    async fn bytes(&mut self, at: u64, len: usize) -> Result<Bytes, JournalError> {
        if let Some(bytes) = self.in_window(at, len) {
            return Ok(bytes);
        }
        let read = self.file.read.read_at(at, len.max(WINDOW)).await;
        self.window = read.map_err(|source| self.file.failed(source))?;
        self.window_at = at;
        let end = len.min(self.window.len());
        Ok(self.window.slice(..end))
    }

    fn in_window(&self, at: u64, len: usize) -> Option<Bytes> {
        let from = usize::try_from(at.checked_sub(self.window_at)?).ok()?;
        let to = from.checked_add(len)?;
        (to <= self.window.len()).then(|| self.window.slice(from..to))
    }
}

/// Makes what a file shows durable, as far as the disk tells the truth.
pub(super) async fn sync(file: &JournalFile) -> Result<(), JournalError> {
    file.write.sync().await.map_err(|source: io::Error| file.failed(source))
}

/// Whether the first flush of a later file goes on from the last one accepted: it follows it, or it contains it (S2).
pub(super) fn continues(first: &FlushHeader, last: &FlushHeader) -> bool {
    let link: Link = first.base;
    link == last.link() || link == last.base
}
