//! Owns one log while it is replayed: what its frames say in their order, and what a lost flush leaves of that certainty
//! (S2, S11). It never knows of another log.
//!
//! A lost flush may have held a truncation and entries instead of what was cut off, so from then on nothing known inside of
//! its range counts, until something later says where the log ends: an entry appended behind it, or a truncation. Entries
//! of that later entry's own leader stay certain, because a leader never writes an index twice: by log matching everything
//! before them stands too. What is missing then is a hole between certain entries. A truncation that was lost with nothing
//! behind it is no harm: what it cut off was never committed, and comes back in its old place.

use std::collections::BTreeMap;

use super::frame::Doubt;
use super::state::Place;
use crate::mutants;
use crate::storage::raft_record::{EntryKind, LogEntry, LogId, Vote};

/// The range of a flush of which nothing is known.
pub(super) const ANYTHING: (u64, u64) = (0, u64::MAX);
/// More missing entries than this are no hole to be filled one by one.
const MOST_MISSING: u64 = 1 << 22;

/// An entry as replay has met it last.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: LogId,
    pub(super) kind: EntryKind,
    pub(super) len: u32,
    pub(super) place: Place,
    /// Losses met before it: a later one may have replaced it.
    losses: u32,
}

/// A log while it is replayed. Entries may come in any order: carried ones come after entries that follow them.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) vote: Option<Vote>,
    pub(super) vote_file: u64,
    pub(super) purged: Option<LogId>,
    pub(super) purged_file: u64,
    pub(super) doubt_file: u64,
    pub(super) entries: BTreeMap<u64, Found>,
    /// A flush that held something of it was lost; the number of losses then.
    lost_at: Option<u32>,
    /// A greater vote may have been lost, unless one comes later.
    vote_lost: bool,
    /// An earlier recovery found its vote lost: nothing but forgetting it ends that.
    vote_doubted: bool,
    /// Indexes that lost flushes held, while nothing later says where the log ends.
    end_lost: Option<(u64, u64)>,
}

/// What stands at an index of a replayed log.
#[derive(Debug)]
pub(super) enum Spot {
    Found(Found),
    Missing,
}

impl Partial {
    /// A flush was lost that held a part of this log, perhaps a vote that no later flush repeats.
    pub(super) fn lose(&mut self, (first, last): (u64, u64), vote: bool, losses: u32) {
        self.lost_at = Some(losses);
        self.vote_lost |= vote;
        if first <= last {
            let (from, to) = self.end_lost.unwrap_or((first, last));
            self.end_lost = Some((from.min(first), to.max(last)));
        }
    }

    /// What an earlier recovery left in doubt.
    pub(super) fn doubt(&mut self, doubt: Doubt, (file, losses): (u64, u32)) {
        self.lose(doubt.end.map_or((1, 0), |last| (0, last)), false, losses);
        self.vote_doubted |= doubt.vote;
        self.doubt_file = file;
    }

    pub(super) fn entry(
        &mut self,
        entry: &LogEntry,
        carried: bool,
        (place, losses): (Place, u32),
    ) -> Result<(), String> {
        let LogId { index, .. } = entry.id;
        if self.purged.is_some_and(|purged| index <= purged.index) {
            return Ok(());
        }
        let touched = self.lost_at.is_some();
        if touched && !carried {
            self.ends_before(index, entry.id);
            self.cut(index);
        }
        let known = self.entries.get(&index);
        if !touched && known.is_some_and(|known| known.id != entry.id) {
            return Err(format!("two entries of index {index} without a truncation between them"));
        }
        let last = self.entries.keys().next_back();
        if !carried && last.is_some_and(|last| index <= *last) {
            return Err(format!("entry {index} was appended behind entry {}", last.unwrap_or(&0)));
        }
        let len = u32::try_from(entry.payload.len()).map_err(|_| "an entry above 4 GiB")?;
        let found = Found { id: entry.id, kind: entry.kind, len, place, losses };
        self.entries.insert(index, found);
        Ok(())
    }

    pub(super) fn vote(&mut self, vote: Vote, file: u64) {
        self.vote_lost = false;
        let greater = self.vote.is_none_or(|known| known.rank() <= vote.rank());
        if greater || mutants::planted!("last-vote-wins") {
            self.vote = Some(vote);
            self.vote_file = file;
        }
    }

    pub(super) fn truncate(&mut self, to: Option<LogId>) {
        let Some(to) = to else {
            self.end_lost = None;
            return self.cut(0);
        };
        let end = to.index.saturating_add(1);
        if self.lost_at.is_some() {
            self.ends_before(end, to);
        }
        self.cut(end);
        let purged = self.purged.is_some_and(|purged| to.index <= purged.index);
        let known = self.entries.get(&to.index).is_some_and(|found| found.id == to);
        if self.lost_at.is_some() && !purged && !known {
            // The log ended with it, and nothing shows that until something is appended behind it.
            self.entries.remove(&to.index);
            self.end_lost = Some((to.index, to.index));
        }
    }

    pub(super) fn purge(&mut self, upto: LogId, file: u64) {
        if self.purged.is_some_and(|known| known.index > upto.index) {
            return;
        }
        let covered = self.end_lost.is_some_and(|(_, last)| last <= upto.index);
        if covered && self.goes_on_after(upto) {
            self.end_lost = None;
        }
        self.purged = Some(upto);
        self.purged_file = file;
        self.entries = self.entries.split_off(&upto.index.saturating_add(1));
    }

    fn cut(&mut self, from: u64) {
        self.entries.split_off(&from);
    }

    /// The log ended before this index once, and what came there or stood before it has this id.
    fn ends_before(&mut self, end: u64, id: LogId) {
        let Some((first, last)) = self.end_lost.take() else { return };
        if first >= end {
            return;
        }
        let own = self.entries.range(first..end).rev().find(|(_, it)| same_leader(it.id, id));
        let from = own.map_or(first, |(index, _)| index + 1);
        let losses = self.lost_at.unwrap_or(0);
        self.entries.retain(|index, it| {
            let lost = (from..end).contains(index) && *index <= last;
            !lost || it.losses >= losses
        });
    }

    /// Whether what stands behind an entry that is certain belongs there, although a loss came after it.
    fn goes_on_after(&self, certain: LogId) -> bool {
        let behind = certain.index.saturating_add(1);
        let Some((index, next)) = self.entries.range(behind..).next() else { return true };
        let at = self.entries.get(&certain.index);
        let later = self.lost_at.is_some_and(|losses| next.losses >= losses);
        let fits = same_leader(next.id, certain) || at.is_some_and(|at| at.id == certain);
        *index == behind && (later || fits)
    }

    /// What is left in doubt; `None` when nothing is missing either.
    pub(super) fn doubts(&self, missing: bool) -> Option<Doubt> {
        let vote = self.vote_lost || self.vote_doubted;
        let doubt = Doubt { vote, end: self.end_lost.map(|(_, last)| last) };
        (doubt.is_grave() || missing).then_some(doubt)
    }

    /// The whole log, index by index, with what is missing in it.
    ///
    /// # Errors
    /// What is wrong, when entries are missing and no loss explains it.
    pub(super) fn spots(&mut self) -> Result<Vec<(u64, Spot)>, String> {
        let entries = std::mem::take(&mut self.entries);
        let Some((&first, _)) = entries.first_key_value() else { return Ok(Vec::new()) };
        let first = match (self.purged, self.lost_at) {
            (Some(purged), _) => purged.index + 1,
            // A log that was never purged begins with its first entry ever.
            (None, Some(_)) => 0,
            (None, None) => first,
        };
        let mut next = first;
        let mut spots = Vec::with_capacity(entries.len());
        for (index, found) in entries {
            if index != next {
                if self.lost_at.is_none() {
                    return Err(format!("lacks entries before index {index}"));
                }
                if mutants::planted!("hole-skipped") && !spots.is_empty() {
                    return Ok(spots);
                }
                self.gap(&mut spots, (next, index));
            }
            spots.push((index, Spot::Found(found)));
            next = index + 1;
        }
        Ok(spots)
    }

    fn gap(&mut self, spots: &mut Vec<(u64, Spot)>, (from, to): (u64, u64)) {
        if to - from > MOST_MISSING {
            // Only a checkpoint can cover so many. Until one does, the replica has nothing before the gap.
            let (first, _) = self.end_lost.unwrap_or((from, to));
            self.end_lost = Some((first, to - 1));
            spots.clear();
            return;
        }
        spots.extend((from..to).map(|index| (index, Spot::Missing)));
    }
}

/// A leader appends and never takes back, so two entries of it belong to one log.
pub(super) fn same_leader(one: LogId, other: LogId) -> bool {
    (one.term, one.leader) == (other.term, other.leader)
}
