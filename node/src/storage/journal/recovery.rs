//! Owns what a restart believes of the journal (S1, S2): which files form the chain, where it ends, and whether a bad
//! block is a torn tail or damage. It only reads and syncs, so whatever is refused here or before stays as it was; the flush
//! that makes the result sound is the flusher's first.
//!
//! 1. Of each file, the first whole flush. The newest file is walked to its end, over what is unreadable if whole flushes
//!    follow; the last one there tells the oldest file needed.
//! 2. Anywhere behind the end, in that file or in files newer still, a header that follows a flush not seen proves that
//!    something durable is unreadable: damage. Otherwise the end is clean or torn.
//! 3. The chain is walked and replayed from the oldest file needed (`chain`). What damage took is said of each replica that
//!    it touched (S11), and written into the flush that supersedes what was found.
//!
//! After a restart writing goes on in a fresh file, so the remains of a torn flush are never followed by anything.

use std::collections::BTreeMap;

use super::chain::{Candidate, hidden, replay_chain, unreadable};
use super::files::{JournalFile, slots};
use super::flush::Flush;
use super::frame::Frame;
use super::header::Link;
use super::lost::{Ends, Lost, between};
use super::replay::{Replay, doubts};
use super::state::Logs;
use super::walk::{Highest, Sighting, Walk, sync};
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
    /// The last flush, to be written again, and what damage left in doubt.
    pub(super) repeat: Vec<Frame>,
    /// What is unreadable, oldest first.
    pub(super) lost: Vec<Lost>,
}

/// The end of the chain: the last flush of the newest file, and the position behind it.
#[derive(Debug)]
struct End {
    last: Flush,
    last_at: u64,
    at: u64,
    /// The oldest file needed as the flush before the last one says it; 0 when that stands in another file.
    certain_oldest: u64,
    /// Every header behind it in its file.
    behind: Vec<Sighting>,
}

pub(super) async fn recover(
    disk: &dyn Disk,
    options: &JournalOptions,
) -> Result<Recovered, JournalError> {
    let found = async {
        // A file whose preparation a kill cut short has a name that a power cut may still take, and it is about to be used.
        if !mutants::planted!("trust-the-listing") {
            disk.sync_dir(DIR).await?;
        }
        slots(disk).await
    };
    let found = found.await.map_err(|source| JournalError::Io { path: DIR.to_owned(), source })?;
    let next_slot = found.iter().max().map_or(0, |slot| slot + 1);
    let mut files = Vec::new();
    for slot in found {
        files.push(Candidate::look(JournalFile::open(disk, slot).await?).await?);
    }
    let Some(newest) = files.iter().filter(|it| it.head.is_some()).max_by_key(|it| it.number())
    else {
        return born(options, files, next_slot).await;
    };
    let end = end_of(newest).await?;
    let journal = end.last.header.journal;
    let highest = highest(&files, &end);
    let oldest_live = end.last.header.oldest_live;
    let mut replay = Replay::default();
    let mut lost = replay_chain(&files, (journal, oldest_live), &mut replay).await?;
    if let Some(tail) = lost_behind(newest, &files, &end).await? {
        replay.lose(&tail, None);
        lost.push(tail);
    }
    let mut repeat = replay.repeat(&end.last, end.last_at);
    let mut base = end.last.header.base;
    if mutants::planted!("trust-the-tail") {
        repeat.clear();
        base = end.last.header.link();
    }
    let damaged = |what: String| newest.file.damaged(end.last_at, what);
    let logs = replay.finish(options.cache_bytes).map_err(damaged)?;
    repeat.extend(doubts(&logs));
    let (chain, free, free_once_superseded) =
        divide(files, (journal, oldest_live), end.certain_oldest);
    for file in chain.values() {
        sync(file).await?;
    }
    Ok(Recovered {
        logs,
        chain,
        free,
        free_once_superseded,
        next_slot,
        journal: Some(journal),
        oldest_live,
        highest,
        base,
        repeat,
        lost,
    })
}

/// The highest numbers in any header that could be taken for one of the chain.
fn highest(files: &[Candidate], end: &End) -> Highest {
    let last = &end.last.header;
    let mut highest = Highest::default();
    for Candidate { head, sightings, .. } in files {
        head.iter().for_each(|(_, head)| highest.see(head));
        let later = sightings.iter().map(|seen| &seen.header);
        later.filter(|it| it.journal == last.journal).for_each(|it| highest.see(it));
    }
    highest.see(last);
    // A recycled file still holds flushes of its earlier lives; they carry another file number.
    let behind = end.behind.iter().map(|seen| &seen.header);
    let behind = behind.filter(|it| it.journal == last.journal && it.file == last.file);
    behind.for_each(|it| highest.see(it));
    highest
}

/// No flush is whole: the journal was never opened before, or its birth was cut short. The flush of the
/// birth is synced before anything is served, so any header elsewhere means that flushes were lost.
async fn born(
    options: &JournalOptions,
    files: Vec<Candidate>,
    next_slot: u32,
) -> Result<Recovered, JournalError> {
    for Candidate { file, sightings, .. } in &files {
        if let Some(seen) = sightings.iter().find(|seen| seen.header.base.number > 0) {
            let number = seen.header.number;
            let what = format!("the first flush is unreadable, yet flush {number} exists");
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
        lost: Vec::new(),
    })
}

/// Walks a file to its last whole flush, over what is unreadable before it.
async fn end_of(candidate: &Candidate) -> Result<End, JournalError> {
    let start = candidate.head.map_or(0, |(start, _)| start);
    let mut walk = Walk::starting(&candidate.file, start);
    let Some(mut last) = walk.whole_flush().await? else {
        return Err(candidate.file.damaged(start, "a flush changed while it was read"));
    };
    let mut last_at = start;
    let mut certain_oldest = 0;
    walk.at = start + u64::from(last.header.total_len);
    loop {
        let at = walk.at;
        let next = match walk.next(&last.header).await? {
            Some(next) => Some((at, next)),
            None => walk.beyond(&last.header).await?,
        };
        let Some((start, flush)) = next else {
            let behind = walk.headers_behind().await?;
            return Ok(End { last, last_at, at, certain_oldest, behind });
        };
        certain_oldest = last.header.oldest_live;
        last = flush;
        last_at = start;
    }
}

/// Torn or damaged (S2): looks behind the end of the chain for proof that something durable is missing.
async fn lost_behind(
    newest: &Candidate,
    files: &[Candidate],
    end: &End,
) -> Result<Option<Lost>, JournalError> {
    let last = &end.last.header;
    let proves = |seen: &&Sighting| {
        let later = seen.header.journal == last.journal && seen.header.base.number > last.number;
        let torn = seen.header.journal == last.journal && seen.header.base.number == last.number;
        (later && !mutants::planted!("damage-is-torn"))
            || (torn && mutants::planted!("torn-is-damage"))
    };
    let here = || end.behind.iter().filter(|seen| seen.header.file == last.file);
    if here().any(|it| it.header.journal == last.journal && it.header.base.number == last.number) {
        reached!("torn-tail");
    }
    let later: Vec<_> = hidden(files, last.journal, (last.file + 1, u64::MAX)).collect();
    let there = || {
        let all = later.iter().flat_map(|it| it.sightings.iter().map(|seen| (&it.file, seen)));
        all.filter(|(_, seen)| seen.header.file > last.file && proves(seen))
    };
    let proof = here().filter(proves).map(|seen| (&newest.file, seen)).chain(there());
    let Some((file, proof)) = proof.max_by_key(|(_, seen)| seen.header.number) else {
        return Ok(None);
    };
    let tail = (&newest.file, end.at, u64::MAX);
    let whole = later.iter().map(|it| (&it.file, 0, u64::MAX));
    let regions: Vec<_> = std::iter::once(tail).chain(whole).collect();
    let ends = Ends { before: Ok(last), after: proof.header.base };
    let (touched, _) = between(ends, &regions, last.journal).await?;
    let touched = touched.filter(|_| !mutants::planted!("torn-is-damage"));
    // The first flush of a file is whole or torn itself and proves a loss before it; any other one proves that the first
    // was durable and is unreadable now.
    let here = proof.header.file == last.file || proof.start == 0;
    let (file, offset) = if here { (&newest.file, end.at) } else { (file, 0) };
    let what = unreadable(last, &proof.header);
    Ok(Some(Lost { path: file.path.clone(), offset, what, touched, single: false }))
}

/// The files of the chain by number, files that are certainly free, and files that only the last flush frees. A file of the
/// chain in which no flush is whole stays in it: what it held is known only while it is there.
fn divide(
    files: Vec<Candidate>,
    (journal, oldest): (u64, u64),
    certain_oldest: u64,
) -> (BTreeMap<u64, JournalFile>, Vec<JournalFile>, Vec<JournalFile>) {
    let mut chain = BTreeMap::new();
    let (mut free, mut doubtful) = (Vec::new(), Vec::new());
    let newest = files.iter().filter_map(Candidate::number).max().unwrap_or(0);
    for candidate in files {
        let whole = candidate.number().filter(|number| *number >= oldest);
        let hidden = candidate.last_number(journal);
        let hidden = hidden.filter(|number| (oldest..newest).contains(number));
        // Beyond the newest: torn, or all that is left of something durable until the next flush says what was lost.
        let beyond = candidate.last_number(journal).is_some_and(|number| number > newest);
        match (whole, hidden, candidate.number()) {
            (Some(number), ..) => drop(chain.insert(number, candidate.file)),
            (None, Some(number), _) => {
                chain.entry(number).or_insert(candidate.file);
            }
            (None, None, Some(number)) if number >= certain_oldest => doubtful.push(candidate.file),
            (None, None, _) if beyond => doubtful.push(candidate.file),
            (None, None, _) => free.push(candidate.file),
        }
    }
    (chain, free, doubtful)
}
