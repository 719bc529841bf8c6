//! Owns what a restart believes of the journal (S1, S2): which files form the chain, where it ends, and whether a bad
//! block is a torn tail or damage. It only reads and syncs, so whatever is refused here or before stays as it was; the flush
//! that makes the result sound is the flusher's first.
//!
//! 1. Of each file, the first flush. The newest file whose first flush is whole is walked to its end; the last flush there
//!    tells the oldest file needed.
//! 2. Anywhere behind the end, in that file or in files newer still, a header that follows a flush not seen proves that
//!    something durable is unreadable: damage. Otherwise the end is clean or torn.
//! 3. The chain is walked and replayed from the oldest file needed.
//!
//! After a restart writing goes on in a fresh file, so the remains of a torn flush are never followed by anything.

use std::collections::BTreeMap;

use super::files::{JournalFile, slots};
use super::flush::Flush;
use super::frame::Frame;
use super::header::{FlushHeader, Link};
use super::replay::Replay;
use super::state::Logs;
use super::walk::{Highest, Walk, continues, sync};
use super::{DIR, JournalError, JournalOptions};
use crate::mutants;
use crate::reached::reached;
use crate::storage::disk::Disk;

/// What recovery found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) logs: Logs,
    /// The files of the chain by file number.
    pub(super) chain: BTreeMap<u64, JournalFile>,
    /// Files free to be written.
    pub(super) free: Vec<JournalFile>,
    /// Files that only the last flush found says are free. It may not be durable, so they wait for the flush that
    /// supersedes it.
    pub(super) free_once_superseded: Vec<JournalFile>,
    /// A slot number above all in use.
    pub(super) next_slot: u32,
    /// The journal's id; `None` when the journal is born now.
    pub(super) journal: Option<u64>,
    pub(super) oldest_live: u64,
    pub(super) highest: Highest,
    /// What the next flush follows: the flush before the last one, which the next one contains.
    pub(super) base: Link,
    /// The last flush, to be written again.
    pub(super) repeat: Vec<Frame>,
}

/// A file and its first flush.
#[derive(Debug)]
struct Candidate {
    file: JournalFile,
    /// The header of its first flush, when that is whole.
    head: Option<FlushHeader>,
}

/// The end of the chain: the last flush of the newest file, and the position behind it.
#[derive(Debug)]
struct End {
    last: Flush,
    last_at: u64,
    at: u64,
    /// The oldest file needed as the flush before the last one says it; 0 when that stands in another file.
    certain_oldest: u64,
}

pub(super) async fn recover(
    disk: &dyn Disk,
    options: &JournalOptions,
) -> Result<Recovered, JournalError> {
    let found = async {
        // A file whose preparation a kill cut short has a name that a power cut may still take, and it is about to be used.
        if !mutants::active("trust-the-listing") {
            disk.sync_dir(DIR).await?;
        }
        slots(disk).await
    };
    let found = found.await.map_err(|source| JournalError::Io { path: DIR.to_owned(), source })?;
    let next_slot = found.iter().max().map_or(0, |slot| slot + 1);
    let mut highest = Highest::default();
    let mut files = Vec::new();
    for slot in found {
        let file = JournalFile::open(disk, slot).await?;
        let mut walk = Walk::new(&file);
        walk.refuse_newer().await?;
        let head = walk.whole_flush().await?.map(|flush| flush.header);
        if let Some(head) = &head {
            highest.see(head);
        }
        files.push(Candidate { file, head });
    }
    let Some(newest) = newest(&files) else {
        return born(options, files, next_slot).await;
    };
    let end = end_of(newest).await?;
    check_behind(newest, &files, &end, &mut highest).await?;
    let oldest_live = end.last.header.oldest_live;
    let mut replay = Replay::default();
    replay_chain(&files, oldest_live, &mut replay).await?;
    let mut repeat = replay.repeat(&end.last, end.last_at);
    let mut base = end.last.header.base;
    if mutants::active("trust-the-tail") {
        repeat.clear();
        base = end.last.header.link();
    }
    let damaged = |what: String| newest.file.damaged(end.last_at, what);
    let logs = replay.finish(options.cache_bytes).map_err(damaged)?;
    let journal = Some(end.last.header.journal);
    let (chain, free, free_once_superseded) = divide(files, oldest_live, end.certain_oldest);
    for file in chain.values() {
        sync(file).await?;
    }
    Ok(Recovered {
        logs,
        chain,
        free,
        free_once_superseded,
        next_slot,
        journal,
        oldest_live,
        highest,
        base,
        repeat,
    })
}

/// The newest file whose first flush is whole.
fn newest(files: &[Candidate]) -> Option<&Candidate> {
    let whole = files.iter().filter(|candidate| candidate.head.is_some());
    whole.max_by_key(|candidate| candidate.head.map(|head| head.file))
}

/// No file begins with a whole flush: the journal was never opened before, or its birth was cut short. The flush of the
/// birth is synced before anything is served, so any header elsewhere means that flushes were lost.
async fn born(
    options: &JournalOptions,
    files: Vec<Candidate>,
    next_slot: u32,
) -> Result<Recovered, JournalError> {
    for Candidate { file, .. } in &files {
        let headers = Walk::new(file).headers_behind().await?;
        if let Some((_, header)) = headers.iter().find(|(_, header)| header.base.number > 0) {
            let what = format!("the first flush is unreadable, yet flush {} exists", header.number);
            return Err(file.damaged(0, what));
        }
    }
    Ok(Recovered {
        logs: Logs::new(options.cache_bytes),
        chain: BTreeMap::new(),
        free: files.into_iter().map(|candidate| candidate.file).collect(),
        free_once_superseded: Vec::new(),
        next_slot,
        journal: None,
        oldest_live: 1,
        highest: Highest::default(),
        base: Link::default(),
        repeat: Vec::new(),
    })
}

/// Walks a file to its last whole flush.
async fn end_of(candidate: &Candidate) -> Result<End, JournalError> {
    let mut walk = Walk::new(&candidate.file);
    let Some(mut last) = walk.whole_flush().await? else {
        return Err(candidate.file.damaged(0, "the first flush changed while it was read"));
    };
    let mut last_at = 0;
    let mut certain_oldest = 0;
    walk.at = u64::from(last.header.total_len);
    loop {
        let at = walk.at;
        let Some(flush) = walk.next(&last.header).await? else {
            return Ok(End { last, last_at, at, certain_oldest });
        };
        certain_oldest = last.header.oldest_live;
        last = flush;
        last_at = at;
    }
}

/// Torn or damaged (S2): looks behind the end of the chain for proof that something durable is missing.
async fn check_behind(
    newest: &Candidate,
    files: &[Candidate],
    end: &End,
    highest: &mut Highest,
) -> Result<(), JournalError> {
    let last = &end.last.header;
    highest.see(last);
    let lost = |header: &FlushHeader| {
        header.journal == last.journal
            && header.base.number > last.number
            && !mutants::active("damage-is-torn")
    };
    let mut walk = Walk::new(&newest.file);
    walk.at = end.at;
    for (_, header) in walk.headers_behind().await? {
        // A recycled file still holds flushes of its earlier lives; they carry another file number.
        if header.journal != last.journal || header.file != last.file {
            continue;
        }
        highest.see(&header);
        if header.base.number == last.number {
            reached!("torn-tail");
        }
        if lost(&header) || mutants::active("torn-is-damage") {
            return Err(newest.file.damaged(end.at, unreadable(last, &header)));
        }
    }
    for Candidate { file, .. } in files.iter().filter(|candidate| candidate.head.is_none()) {
        for (start, header) in Walk::new(file).headers_behind().await? {
            if header.journal != last.journal || header.file <= last.file {
                continue;
            }
            highest.see(&header);
            if lost(&header) {
                // The first flush of a file is whole or torn itself and proves a loss before it; any other one proves
                // that the first was durable and is unreadable now.
                let (file, at) = if start == 0 { (&newest.file, end.at) } else { (file, 0) };
                return Err(file.damaged(at, unreadable(last, &header)));
            }
        }
    }
    Ok(())
}

fn unreadable(last: &FlushHeader, later: &FlushHeader) -> String {
    format!("no readable flush follows flush {}, yet flush {} exists", last.number, later.number)
}

/// Walks and replays the chain from the oldest file needed to the newest.
async fn replay_chain(
    files: &[Candidate],
    oldest_live: u64,
    replay: &mut Replay,
) -> Result<(), JournalError> {
    let mut chain: Vec<(&JournalFile, FlushHeader)> = files
        .iter()
        .filter_map(|candidate| Some((&candidate.file, candidate.head?)))
        .filter(|(_, head)| head.file >= oldest_live)
        .collect();
    chain.sort_by_key(|(_, head)| head.file);
    if chain.first().is_none_or(|(_, head)| head.file != oldest_live) {
        let what = format!("journal file number {oldest_live} is missing or begins with damage");
        return Err(match hidden_file(files, oldest_live, oldest_live + 1).await? {
            Some(file) => file.damaged(0, what),
            None => JournalError::Damaged { path: DIR.to_owned(), offset: 0, what },
        });
    }
    let mut last: Option<(FlushHeader, &JournalFile, u64)> = None;
    for (file, head) in chain {
        if let Some((last, before, at)) = last
            && !continues(&head, &last)
        {
            let what = unreadable(&last, &head);
            return Err(match hidden_file(files, last.file + 1, head.file).await? {
                Some(hidden) => hidden.damaged(0, what),
                None => before.damaged(at, what),
            });
        }
        let (header, at) = replay_file(file, replay).await?;
        last = Some((header, file, at));
    }
    Ok(())
}

async fn replay_file(
    file: &JournalFile,
    replay: &mut Replay,
) -> Result<(FlushHeader, u64), JournalError> {
    let mut walk = Walk::new(file);
    let mut at = 0;
    let Some(mut flush) = walk.whole_flush().await? else {
        return Err(file.damaged(0, "the first flush changed while it was read"));
    };
    walk.at = u64::from(flush.header.total_len);
    loop {
        replay.apply(&flush, at).map_err(|what| file.damaged(at, what))?;
        at = walk.at;
        match walk.next(&flush.header).await? {
            Some(next) => flush = next,
            None => return Ok((flush.header, at)),
        }
    }
}

/// A file whose first flush is unreadable but which other headers in it place between two file numbers.
async fn hidden_file(
    files: &[Candidate],
    from: u64,
    to: u64,
) -> Result<Option<&JournalFile>, JournalError> {
    for Candidate { file, .. } in files.iter().filter(|candidate| candidate.head.is_none()) {
        let headers = Walk::new(file).headers_behind().await?;
        if headers.iter().any(|(_, header)| (from..to).contains(&header.file)) {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// The files of the chain by number, files that are certainly free, and files that only the last flush frees.
fn divide(
    files: Vec<Candidate>,
    oldest: u64,
    certain_oldest: u64,
) -> (BTreeMap<u64, JournalFile>, Vec<JournalFile>, Vec<JournalFile>) {
    let mut chain = BTreeMap::new();
    let (mut free, mut doubtful) = (Vec::new(), Vec::new());
    for Candidate { file, head } in files {
        match head {
            Some(head) if head.file >= oldest => {
                chain.insert(head.file, file);
            }
            Some(head) if head.file >= certain_oldest => doubtful.push(file),
            Some(_) | None => free.push(file),
        }
    }
    (chain, free, doubtful)
}
