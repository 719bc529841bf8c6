//! Owns reading a journal file flush by flush: the next flush if it is whole and follows, and every header that stands
//! anywhere behind a bad block. It never decides whether a bad block is torn or damaged (see `recovery`).

use std::io;

use bytes::Bytes;

use super::JournalError;
use super::files::JournalFile;
use super::flush::Flush;
use super::header::{FlushHeader, HEADER, Link, VERSION};
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
        Self { file, at: 0, window: Bytes::new(), window_at: 0 }
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
            Some(found) if !mutants::active("newer-journal-is-empty") => {
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
        if !follows && !mutants::active("no-flush-chain") {
            return Ok(None);
        }
        self.at += u64::from(flush.header.total_len);
        Ok(Some(flush))
    }

    /// Every header, opening or closing, from the current position to the end of the file, with the start of its flush.
    pub(super) async fn headers_behind(&mut self) -> Result<Vec<(u64, FlushHeader)>, JournalError> {
        let mut found = Vec::new();
        let mut at = self.at;
        while at < self.file.bytes {
            let block = self.bytes(at, BLOCK).await?;
            if let Some(header) = FlushHeader::decode(&block) {
                found.push((at, header));
            }
            let end = at + BLOCK as u64;
            if block.len() == BLOCK
                && let Some(header) = FlushHeader::decode(&block[BLOCK - HEADER..])
                && let Some(start) = end.checked_sub(u64::from(header.total_len))
            {
                found.push((start, header));
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
