//! Owns the walk over the chain of flushes, from the oldest file needed to the newest, and over damage on the way: a flush
//! that cannot be read does not hide those after it (S11). It never decides what a torn tail is (see `recovery`) nor what a
//! loss means for a log (see `replay`).

use super::DIR;
use super::JournalError;
use super::files::JournalFile;
use super::flush::Flush;
use super::header::FlushHeader;
use super::lost::{Ends, Lost, Region, between};
use super::replay::Replay;
use super::walk::{Sighting, Walk, continues};

/// A file and the flushes that begin in it.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) file: JournalFile,
    /// Where its first whole flush stands, and that flush's header: at its beginning unless that is torn or damaged.
    pub(super) head: Option<(u64, FlushHeader)>,
    /// Every header in it, when it does not begin with a whole flush.
    pub(super) sightings: Vec<Sighting>,
}

impl Candidate {
    pub(super) async fn look(file: JournalFile) -> Result<Self, JournalError> {
        let mut walk = Walk::new(&file);
        walk.refuse_newer().await?;
        if let Some(first) = walk.whole_flush().await? {
            let head = Some((0, first.header));
            return Ok(Self { file, head, sightings: Vec::new() });
        }
        let sightings = walk.headers_behind().await?;
        let mut head: Option<(u64, FlushHeader)> = None;
        for seen in &sightings {
            // A recycled file still holds flushes of its earlier lives, under lower numbers.
            if head.is_none_or(|(_, head)| head.file < seen.header.file) {
                walk.at = seen.start;
                let whole = walk.whole_flush().await?;
                head = whole.map(|flush| (seen.start, flush.header)).or(head);
            }
        }
        Ok(Self { file, head, sightings })
    }

    /// The file number, when any flush in it is whole.
    pub(super) fn number(&self) -> Option<u64> {
        self.head.map(|(_, header)| header.file)
    }

    /// The highest file number that any header of this journal in it has.
    pub(super) fn last_number(&self, journal: u64) -> Option<u64> {
        let ours = self.sightings.iter().filter(|seen| seen.header.journal == journal);
        self.number().max(ours.map(|seen| seen.header.file).max())
    }
}

/// The last whole flush read, and where the next one was expected.
struct Last<'a> {
    header: FlushHeader,
    file: &'a JournalFile,
    end: u64,
}

/// Walks the chain from the oldest file needed to its end and replays it; what is unreadable is told to the replay in its
/// place, and returned.
pub(super) async fn replay_chain(
    files: &[Candidate],
    (journal, oldest): (u64, u64),
    replay: &mut Replay,
) -> Result<Vec<Lost>, JournalError> {
    let numbered = files.iter().filter_map(|it| Some((it.number()?, it)));
    let mut chain: Vec<_> = numbered.filter(|(number, _)| *number >= oldest).collect();
    chain.sort_by_key(|(number, _)| *number);
    let mut all_lost = Vec::new();
    let mut last: Option<Last<'_>> = None;
    for (at, (number, candidate)) in chain.iter().enumerate() {
        let Some((start, head)) = candidate.head else { continue };
        let file = &candidate.file;
        let goes_on = match &last {
            Some(last) => start == 0 && continues(&head, &last.header),
            None => start == 0 && *number == oldest,
        };
        let mut walk = Walk::starting(file, start);
        let Some(flush) = walk.whole_flush().await? else {
            return Err(file.damaged(start, "a flush changed while it was read"));
        };
        walk.at = start + u64::from(head.total_len);
        if !goes_on {
            let lost = before_file(files, last.as_ref(), (candidate, start), (journal, oldest));
            let lost = lost.await?;
            replay.lose(&lost, Some(&flush));
            all_lost.push(lost);
        }
        let next_file = chain.get(at + 1).and_then(|(_, next)| next.head);
        let next_file = next_file.filter(|(start, _)| *start == 0).map(|(_, header)| header);
        last = Some(replay_file((walk, start), flush, next_file, replay, &mut all_lost).await?);
    }
    Ok(all_lost)
}

/// Replays one file; behind its last flush it looks for more only if the next file does not go on from there.
async fn replay_file<'a>(
    (mut walk, start): (Walk<'a>, u64),
    first: Flush,
    next_file: Option<FlushHeader>,
    replay: &mut Replay,
    all_lost: &mut Vec<Lost>,
) -> Result<Last<'a>, JournalError> {
    let file = walk.file;
    let (mut flush, mut at) = (first, start);
    loop {
        replay.apply(&flush, at).map_err(|what| file.damaged(at, what))?;
        let (last, end) = (flush.header, walk.at);
        if let Some(next) = walk.next(&last).await? {
            (flush, at) = (next, end);
            continue;
        }
        let goes_on = next_file.is_some_and(|next| continues(&next, &last));
        let beyond = if goes_on { None } else { walk.beyond(&last).await? };
        let Some((start, next)) = beyond else {
            return Ok(Last { header: last, file, end });
        };
        let ends = Ends { before: Ok(&last), after: next.header.base };
        let (touched, single) = between(ends, &[(file, end, start)], last.journal).await?;
        let what = unreadable(&last, &next.header);
        let lost = Lost { path: file.path.clone(), offset: end, what, touched, single };
        replay.lose(&lost, Some(&next));
        all_lost.push(lost);
        (flush, at) = (next, start);
    }
}

/// What is lost between the last flush of one file and the first whole one of a later file.
async fn before_file(
    files: &[Candidate],
    last: Option<&Last<'_>>,
    (next, start): (&Candidate, u64),
    (journal, oldest): (u64, u64),
) -> Result<Lost, JournalError> {
    let head = next.head.map(|(_, header)| header).unwrap_or_default();
    let from = last.map_or(oldest, |last| last.header.file + 1);
    let hidden: Vec<&Candidate> = hidden(files, journal, (from, head.file)).collect();
    let tail = last.map(|last| (last.file, last.end, u64::MAX));
    let whole = hidden.iter().map(|it| (&it.file, 0, u64::MAX));
    let front = (start > 0).then_some((&next.file, 0, start));
    let regions: Vec<Region<'_>> = tail.into_iter().chain(whole).chain(front).collect();
    let before = last.map_or(Err(oldest), |last| Ok(&last.header));
    let (touched, single) = between(Ends { before, after: head.base }, &regions, journal).await?;
    let what = match last {
        Some(last) => unreadable(&last.header, &head),
        None => format!("journal file number {oldest} is missing or begins with damage"),
    };
    let (path, offset) = match (hidden.first(), last) {
        (Some(hidden), _) => (hidden.file.path.clone(), 0),
        _ if start > 0 => (next.file.path.clone(), 0),
        (None, Some(last)) if last.header.file + 1 == head.file => {
            (last.file.path.clone(), last.end)
        }
        (None, _) => (DIR.to_owned(), 0),
    };
    Ok(Lost { path, offset, what, touched, single })
}

/// Files that headers in them place between two file numbers, without a whole flush there.
pub(super) fn hidden(
    files: &[Candidate],
    journal: u64,
    (from, to): (u64, u64),
) -> impl Iterator<Item = &Candidate> {
    files.iter().filter(move |it| {
        let number = it.number().filter(|number| *number >= from);
        number.is_none() && it.last_number(journal).is_some_and(|at| (from..to).contains(&at))
    })
}

pub(super) fn unreadable(last: &FlushHeader, later: &FlushHeader) -> String {
    format!("no readable flush follows flush {}, yet flush {} exists", last.number, later.number)
}
