//! Owns the ledger: every change of a committed offset as a fact, with its time, its maker, from where and to where. Never
//! moves an offset itself.
//!
//! It is bounded by a rule, for each partition of a group:
//! - the newest [`EXACT`] facts stand as they were made;
//! - of those before, commits of one member within one minute are folded into one fact; of those before the newest
//!   [`BY_MINUTE`], within one hour. A folded fact keeps where the first began, where the last ended, and how many they were;
//! - resets, undos, hand-offs, deletions and expiries are never folded, and nothing is folded across one of them;
//! - at most [`MOST`] facts are kept; then the oldest go.
//!
//! So a group that commits every five seconds is known exactly for over a minute, to the minute for a quarter of an hour,
//! and to the hour for more than a day.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use waymark_proto::ids::TopicPartition;

use super::group::Actor;

/// Facts of a partition that stand as they were made.
pub const EXACT: usize = 16;
/// Facts beyond which commits fold by the hour.
pub const BY_MINUTE: usize = 32;
/// Facts of a partition.
pub const MOST: usize = 64;

/// No group counts further; a damaged row must not make it overflow.
const LAST: u64 = 1 << 62;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// A change of one committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Its number in the group, from 0.
    pub sequence: u64,
    /// When, Unix ms; of the last commit where several are folded.
    pub time_ms: i64,
    /// When the first of them was made.
    pub first_time_ms: i64,
    /// Commits that it stands for.
    pub count: u32,
    /// From where; `None`: nothing was committed.
    pub before: Option<i64>,
    /// To where; `None`: nothing is committed any more.
    pub after: Option<i64>,
    /// What it was.
    pub kind: ChangeKind,
    /// For commits: what made the member commit, as on the wire.
    pub cause: i32,
    /// Who.
    pub actor: Arc<Actor>,
    /// In which generation.
    pub generation: i32,
    /// The maker's own words.
    pub note: String,
}

/// What changed an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// A commit.
    Commit,
    /// The last commit of an owner, with the partition given up.
    Handoff,
    /// Moved by an operator.
    Reset,
    /// Put back by an operator.
    Undo,
    /// Deleted by an operator.
    Delete,
    /// Gone by retention.
    Expiry,
}

/// Where a partition stood at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastOffset {
    /// Exactly there; `None`: nothing was committed.
    Exact(Option<i64>),
    /// Somewhere between this and what was committed next: the facts of that time are folded.
    NotAfter(Option<i64>),
    /// The ledger does not reach back that far.
    Unknown,
}

/// Every change that is still known, by partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Oldest first.
    places: BTreeMap<TopicPartition, VecDeque<Fact>>,
    /// Partitions whose oldest facts are gone: what was before them is not known.
    cut: BTreeSet<TopicPartition>,
    /// Partitions with folded facts: when the last commit was made that is folded.
    folded: BTreeMap<TopicPartition, i64>,
    /// The number of the next fact.
    next: u64,
    /// Rows to write or to remove.
    pub(in crate::state) dirty: BTreeSet<(TopicPartition, u64)>,
}

impl Ledger {
    /// Notes a change. The sequence is given here.
    pub(super) fn note(&mut self, at: TopicPartition, mut fact: Fact) {
        if crate::mutants::planted!("ledger-loses-a-fact") && self.next == 3 {
            self.next += 1;
            return;
        }
        fact.sequence = self.next;
        self.next += 1;
        let facts = self.places.entry(at).or_default();
        if let Some(last) = facts.back().filter(|last| last.actor == fact.actor) {
            fact.actor = Arc::clone(&last.actor);
        }
        self.dirty.insert((at, fact.sequence));
        facts.push_back(fact);
        let mut shorter = false;
        for (from_newest, width) in [(EXACT, MINUTE_MS), (BY_MINUTE, HOUR_MS)] {
            if let Some(gone) = fold(facts, from_newest, width) {
                self.dirty.insert((at, gone.0));
                self.dirty.insert((at, gone.1));
                shorter = true;
            }
        }
        while facts.len() > MOST {
            shorter = true;
            self.cut.insert(at);
            self.dirty.extend(facts.pop_front().map(|gone| (at, gone.sequence)));
            // The row of the oldest one says that something was before it.
            self.dirty.extend(facts.front().map(|oldest| (at, oldest.sequence)));
        }
        if shorter {
            match last_folded(facts) {
                Some(time_ms) => self.folded.insert(at, time_ms),
                None => self.folded.remove(&at),
            };
        }
    }

    /// Says of the facts from a number on in which generation they were made.
    pub(super) fn stamp(&mut self, from: u64, generation: i32) {
        for (at, _) in self.dirty.iter().filter(|(_, sequence)| *sequence >= from) {
            let facts = self.places.get_mut(at).into_iter().flat_map(|it| it.iter_mut().rev());
            let new = facts.take_while(|fact| fact.sequence >= from);
            new.for_each(|fact| fact.generation = generation);
        }
    }

    /// All facts, partition by partition, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (TopicPartition, &Fact)> {
        self.places.iter().flat_map(|(at, facts)| facts.iter().map(move |fact| (*at, fact)))
    }

    /// At most so many facts from a number on, in the order in which they were made. Costs a look at each partition and at
    /// what is returned, not at every fact.
    #[must_use]
    pub fn page(&self, from: u64, limit: usize) -> Vec<(TopicPartition, &Fact)> {
        // Each partition's facts stand in order, so the next of all is the first of what is left of some partition.
        let later = self.places.iter().map(|(at, facts)| {
            let before = facts.partition_point(|it| it.sequence < from);
            (*at, facts.range(before..).peekable())
        });
        let mut left: Vec<_> = later.collect();
        let first = left
            .iter_mut()
            .enumerate()
            .filter_map(|(place, (_, facts))| Some(Reverse((facts.peek()?.sequence, place))));
        let mut firsts: BinaryHeap<_> = first.collect();
        let mut page = Vec::new();
        while page.len() < limit
            && let Some(Reverse((_, place))) = firsts.pop()
        {
            let Some((at, facts)) = left.get_mut(place) else { break };
            page.extend(facts.next().map(|fact| (*at, fact)));
            firsts.extend(facts.peek().map(|fact| Reverse((fact.sequence, place))));
        }
        page
    }

    /// Partitions that it tells of.
    pub fn places(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.places.keys().copied()
    }

    /// Since when every fact of a partition stands as it was made.
    #[must_use]
    pub fn exact_since_ms(&self) -> i64 {
        let cut = self.cut.iter().filter_map(|at| self.places.get(at)?.front());
        let cut = cut.map(|it| it.first_time_ms).max();
        self.folded.values().copied().max().max(cut).unwrap_or(0)
    }

    /// One fact.
    #[must_use]
    pub fn get(&self, at: TopicPartition, sequence: u64) -> Option<&Fact> {
        self.places.get(&at)?.iter().find(|it| it.sequence == sequence)
    }

    /// Where a partition stood at a time.
    #[must_use]
    pub fn at_time(&self, at: TopicPartition, time_ms: i64) -> PastOffset {
        let Some(facts) = self.places.get(&at) else { return PastOffset::Unknown };
        let after = facts.iter().find(|it| it.time_ms > time_ms);
        match after {
            Some(fact) if fact.first_time_ms <= time_ms => PastOffset::NotAfter(fact.before),
            Some(fact) if self.cut.contains(&at) && is_oldest(facts, fact) => PastOffset::Unknown,
            Some(fact) => PastOffset::Exact(fact.before),
            None => facts.back().map_or(PastOffset::Unknown, |it| PastOffset::Exact(it.after)),
        }
    }

    /// Forgets partitions, of a deleted topic or all.
    pub(super) fn forget(&mut self, goes: impl Fn(TopicPartition) -> bool) {
        let dirty = &mut self.dirty;
        self.places.retain(|at, facts| {
            let gone = goes(*at);
            if gone {
                dirty.extend(facts.iter().map(|it| (*at, it.sequence)));
            }
            !gone
        });
        self.cut.retain(|at| !goes(*at));
        self.folded.retain(|at, _| !goes(*at));
    }

    /// Puts a fact back from its row; rows of a partition come in order.
    pub(in crate::state) fn restore(&mut self, at: TopicPartition, mut fact: Fact, cut: bool) {
        self.next = self.next.max(fact.sequence + 1);
        if cut {
            self.cut.insert(at);
        }
        if fact.count > 1 {
            let last = self.folded.entry(at).or_insert(fact.time_ms);
            *last = fact.time_ms.max(*last);
        }
        let facts = self.places.entry(at).or_default();
        if let Some(last) = facts.back().filter(|last| last.actor == fact.actor) {
            fact.actor = Arc::clone(&last.actor);
        }
        facts.push_back(fact);
    }

    /// The number of the next fact.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Numbers below this one were given.
    pub(in crate::state) fn go_on_from(&mut self, next: u64) {
        self.next = self.next.max(next.min(LAST));
    }

    /// Whether this fact is the oldest that is left of its partition, and others were before it.
    #[must_use]
    pub fn is_cut_before(&self, at: TopicPartition, fact: &Fact) -> bool {
        self.cut.contains(&at) && self.places.get(&at).is_some_and(|it| is_oldest(it, fact))
    }
}

fn last_folded(facts: &VecDeque<Fact>) -> Option<i64> {
    facts.iter().filter(|it| it.count > 1).map(|it| it.time_ms).max()
}

fn is_oldest(facts: &VecDeque<Fact>, fact: &Fact) -> bool {
    facts.front().is_some_and(|it| it.sequence == fact.sequence)
}

/// Folds the fact that has just left the newest `from_newest` into the one before it, where the rule allows that. Returns
/// the sequences of the one that went and of the one that changed.
fn fold(facts: &mut VecDeque<Fact>, from_newest: usize, width_ms: i64) -> Option<(u64, u64)> {
    let later = facts.len().checked_sub(from_newest + 1)?;
    let earlier = later.checked_sub(1)?;
    let (one, two) = (facts.get(earlier)?, facts.get(later)?);
    let commits = one.kind == ChangeKind::Commit && two.kind == ChangeKind::Commit;
    let same = one.actor == two.actor && one.generation == two.generation;
    let together = one.first_time_ms.div_euclid(width_ms) == two.time_ms.div_euclid(width_ms);
    if !(commits && same && together && one.note.is_empty() && two.note.is_empty()) {
        return None;
    }
    let gone = facts.remove(later)?;
    let kept = facts.get_mut(earlier)?;
    kept.after = gone.after;
    kept.time_ms = gone.time_ms;
    kept.count = kept.count.saturating_add(gone.count);
    Some((gone.sequence, kept.sequence))
}

#[cfg(test)]
mod tests {
    use waymark_proto::ids::{PartitionId, TopicId};

    use super::*;

    fn place(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(partition) }
    }

    fn commit(time_ms: i64, kind: ChangeKind) -> Fact {
        Fact {
            sequence: 0,
            time_ms,
            first_time_ms: time_ms,
            count: 1,
            before: None,
            after: Some(time_ms),
            kind,
            cause: 0,
            actor: Arc::new(Actor::default()),
            generation: 1,
            note: String::new(),
        }
    }

    /// Partitions that commit unequally often, so that some have folded and lost facts and others have not.
    fn unequal() -> Ledger {
        let mut ledger = Ledger::default();
        for number in 0..3_000_i64 {
            let partition = (number * number % 13).min(number % 7);
            let kind = if number % 5 == 0 { ChangeKind::Reset } else { ChangeKind::Commit };
            ledger.note(place(i32::try_from(partition).unwrap()), commit(number * 700, kind));
        }
        assert!(!ledger.cut.is_empty() && ledger.iter().any(|(_, it)| it.count > 1));
        ledger
    }

    #[test]
    fn pages_of_any_size_put_together_are_the_whole_ledger_in_its_order() {
        let ledger = unequal();
        let mut whole: Vec<_> = ledger.iter().collect();
        whole.sort_by_key(|(_, fact)| fact.sequence);
        for limit in [1, 2, 7, 64, whole.len(), usize::MAX] {
            let (mut read, mut from) = (Vec::new(), 0);
            loop {
                let page = ledger.page(from, limit);
                assert!(page.len() <= limit);
                let Some((_, last)) = page.last() else { break };
                from = last.sequence + 1;
                read.extend(page);
            }
            assert_eq!(read, whole, "by {limit}");
        }
        assert!(ledger.page(0, 0).is_empty());
        assert!(ledger.page(ledger.next(), 10).is_empty());
    }

    #[test]
    fn since_when_it_is_exact_is_what_a_look_at_every_fact_finds() {
        let exact_since = |ledger: &Ledger| {
            let folded = ledger.iter().filter(|(_, it)| it.count > 1).map(|(_, it)| it.time_ms);
            let cut = ledger.iter().filter(|(at, it)| ledger.is_cut_before(*at, it));
            folded.chain(cut.map(|(_, it)| it.first_time_ms)).max().unwrap_or(0)
        };
        let mut ledger = Ledger::default();
        for number in 0..2_000_i64 {
            // Clocks go back now and then, by a minute or by hours.
            let time = number * 900 - number % 3 * 20_000 - (number / 500 % 2) * 9_000_000;
            let kind = if number % 11 == 0 { ChangeKind::Reset } else { ChangeKind::Commit };
            ledger.note(place(i32::from(number % 4 == 0)), commit(time, kind));
            assert_eq!(ledger.exact_since_ms(), exact_since(&ledger), "after {number}");
        }
        let mut loaded = Ledger::default();
        for (at, fact) in ledger.iter() {
            loaded.restore(at, fact.clone(), ledger.is_cut_before(at, fact));
        }
        ledger.dirty.clear();
        assert_eq!(loaded, ledger);
        ledger.forget(|at| at == place(0));
        assert_eq!(ledger.exact_since_ms(), exact_since(&ledger));
    }
}
