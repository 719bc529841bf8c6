//! Owns what the journal knows in memory: each replica's log as places on disk, and the tail cache of payloads, bounded in
//! bytes for the whole node. It never touches a file; what is on disk and what is here meet in `flusher` and `replay`.

mod cache;
mod holes;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use waymark_proto::ids::{ReplicaId, ReplicaKey};

use self::cache::{Cache, Ticket};
pub use self::holes::Hole;
pub(super) use self::holes::NODE;
use super::frame::{Doubt, HEAD};
use crate::storage::raft_record::{EntryKind, LogEntry, LogId, Vote};

/// The file number of what is not on disk yet; files count from 1.
pub(super) const NOWHERE: u64 = 0;

/// Where a frame starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: u64,
    pub(super) at: u32,
}

/// One entry of a log. Invariant: it has a payload or a place, unless damage took it and it is missing (`is_missing`).
#[derive(Debug)]
pub(super) struct Row {
    pub(super) term: u64,
    pub(super) leader: ReplicaId,
    pub(super) kind: EntryKind,
    /// Bytes of payload.
    pub(super) len: u32,
    /// `None` until its flush is durable.
    pub(super) place: Option<Place>,
    pub(super) payload: Option<Bytes>,
    /// Its ticket in the cache; 0 when it holds none.
    ticket: u64,
}

impl Row {
    pub(super) fn id(&self, index: u64) -> LogId {
        LogId { term: self.term, leader: self.leader, index }
    }

    fn bytes(&self) -> u64 {
        HEAD as u64 + u64::from(self.len)
    }
}

/// What one replica keeps in one file.
#[derive(Debug, Default, Clone, Copy)]
struct Share {
    entries: u64,
    bytes: u64,
}

/// One replica's log.
#[derive(Debug, Default)]
pub(super) struct ReplicaLog {
    /// The greatest vote handed over; durable once `vote_file` says where.
    pub(super) vote: Option<Vote>,
    /// The greatest vote that is durable.
    pub(super) durable_vote: Option<Vote>,
    /// The newest file that holds a vote of this replica; `NOWHERE` before the first flush.
    pub(super) vote_file: u64,
    /// The last entry purged.
    pub(super) purged: Option<LogId>,
    /// The newest file that holds a purge mark of this replica.
    pub(super) purged_file: u64,
    /// What damage left in doubt, or that entries are missing; `None` for a sound log.
    pub(super) doubt: Option<Doubt>,
    /// The newest file that holds this doubt.
    pub(super) doubt_file: u64,
    /// Index of the first row.
    first: u64,
    rows: VecDeque<Row>,
    /// Durable rows by file: says what a file's recycling would have to carry, without looking at every row.
    shares: BTreeMap<u64, Share>,
    kept_bytes: u64,
}

impl ReplicaLog {
    /// The index that the next entry must have; `None` when any will do.
    pub(super) fn next_index(&self) -> Option<u64> {
        if self.rows.is_empty() {
            return self.purged.map(|purged| purged.index + 1);
        }
        Some(self.end())
    }

    pub(super) fn last(&self) -> Option<LogId> {
        match self.rows.back() {
            Some(row) => Some(row.id(self.end() - 1)),
            None => self.purged,
        }
    }

    pub(super) fn id_at(&self, index: u64) -> Option<LogId> {
        match self.row(index) {
            Some(row) if row.is_missing() => None,
            Some(row) => Some(row.id(index)),
            None => self.purged.filter(|purged| purged.index == index),
        }
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Index of the first entry kept; meaningless when there is none.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The index after the last entry kept.
    pub(super) fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    pub(super) fn row(&self, index: u64) -> Option<&Row> {
        let at = index.checked_sub(self.first)?;
        self.rows.get(usize::try_from(at).ok()?)
    }

    fn row_mut(&mut self, id: LogId) -> Option<&mut Row> {
        let at = id.index.checked_sub(self.first)?;
        let row = self.rows.get_mut(usize::try_from(at).ok()?)?;
        (row.id(id.index) == id).then_some(row)
    }

    /// Whether anything that recovery would miss stands in this file alone.
    pub(super) fn holds(&self, file: u64) -> bool {
        let marks = [self.vote_file, self.purged_file, self.doubt_file];
        marks.contains(&file) || self.shares.contains_key(&file)
    }

    /// The oldest file that holds something of this replica.
    fn oldest_file(&self) -> Option<u64> {
        let marks = [self.vote_file, self.purged_file, self.doubt_file];
        let marks = marks.into_iter().filter(|file| *file != NOWHERE);
        marks.chain(self.shares.keys().next().copied()).min()
    }

    fn push(&mut self, index: u64, row: Row) {
        if self.rows.is_empty() {
            self.first = index;
        }
        self.kept_bytes += row.bytes();
        self.rows.push_back(row);
    }

    fn pop(&mut self, front: bool) -> Option<Row> {
        let row = if front { self.rows.pop_front() } else { self.rows.pop_back() }?;
        self.first += u64::from(front);
        self.kept_bytes -= row.bytes();
        if let Some(place) = row.place {
            self.take_share(place.file, row.bytes());
        }
        Some(row)
    }

    fn take_share(&mut self, file: u64, bytes: u64) {
        if let Some(share) = self.shares.get_mut(&file) {
            share.entries -= 1;
            share.bytes -= bytes;
            if share.entries == 0 {
                self.shares.remove(&file);
            }
        }
    }

    fn add_share(&mut self, file: u64, bytes: u64) {
        let share = self.shares.entry(file).or_default();
        share.entries += 1;
        share.bytes += bytes;
    }

    /// Entries that stand in a file, lowest index first, as many as fit the budget (at least one).
    pub(super) fn entries_in(
        &self,
        file: u64,
        budget: &mut usize,
    ) -> Vec<(LogId, EntryKind, Place, u32)> {
        let mut left = self.shares.get(&file).map_or(0, |share| share.entries);
        let mut found = Vec::new();
        for (row, index) in self.rows.iter().zip(self.first..) {
            if left == 0 || *budget == 0 {
                break;
            }
            if let Some(place) = row.place.filter(|place| place.file == file) {
                found.push((row.id(index), row.kind, place, row.len));
                left -= 1;
                *budget = budget.saturating_sub(HEAD + row.len as usize);
            }
        }
        found
    }
}

/// All logs of the node. No default: a cache without a limit of its own would keep nothing.
#[derive(Debug)]
pub(super) struct Logs {
    /// Sorted, so that whatever is derived from a walk over it is the same in every run.
    pub(super) replicas: BTreeMap<ReplicaKey, ReplicaLog>,
    cache: Cache,
    /// Bytes of durable entries still wanted, by file.
    live: BTreeMap<u64, u64>,
}

impl Logs {
    pub(super) fn new(cache_bytes: usize) -> Self {
        let cache = Cache { limit: cache_bytes, ..Cache::default() };
        Self { replicas: BTreeMap::new(), cache, live: BTreeMap::new() }
    }

    /// Appends an entry that the caller has found to follow. It stays in memory until `settle` says where it is on disk.
    pub(super) fn push(&mut self, key: ReplicaKey, entry: &LogEntry) {
        let LogId { term, leader, index } = entry.id;
        let len = u32::try_from(entry.payload.len()).expect("append refuses what exceeds a file");
        let ticket = match entry.payload.len() {
            0 => 0,
            len => self.cache.admit(key, index, len),
        };
        let payload = Some(entry.payload.clone());
        let row = Row { term, leader, kind: entry.kind, len, place: None, payload, ticket };
        self.replicas.entry(key).or_default().push(index, row);
    }

    /// Adds an entry that recovery found on disk.
    pub(super) fn restore(
        &mut self,
        key: ReplicaKey,
        id: LogId,
        kind: EntryKind,
        on_disk: (Place, u32),
    ) {
        let (place, len) = on_disk;
        let payload = (len == 0).then(Bytes::new);
        let (term, leader) = (id.term, id.leader);
        let row = Row { term, leader, kind, len, place: Some(place), payload, ticket: 0 };
        let bytes = row.bytes();
        let log = self.replicas.entry(key).or_default();
        log.push(id.index, row);
        log.add_share(place.file, bytes);
        *self.live.entry(place.file).or_default() += bytes;
    }

    /// The entry is durable at a place; a carried copy moves it there. Nothing happens when the entry is gone meanwhile.
    pub(super) fn settle(&mut self, key: ReplicaKey, id: LogId, place: Place) {
        let Some(log) = self.replicas.get_mut(&key) else { return };
        let Some(row) = log.row_mut(id) else { return };
        let bytes = row.bytes();
        if let Some(from) = row.place.replace(place) {
            log.take_share(from.file, bytes);
            unlive(&mut self.live, from.file, bytes);
        }
        log.add_share(place.file, bytes);
        *self.live.entry(place.file).or_default() += bytes;
    }

    /// Removes entries after an index (all when `None`); says whether there were any.
    pub(super) fn truncate_after(&mut self, key: ReplicaKey, last: Option<u64>) -> bool {
        let keep = |log: &ReplicaLog| last.is_some_and(|last| log.end() <= last.saturating_add(1));
        self.drop_rows(key, false, keep)
    }

    /// Removes entries up to an index; says whether there were any.
    pub(super) fn purge_to(&mut self, key: ReplicaKey, index: u64) -> bool {
        self.drop_rows(key, true, |log| log.first > index)
    }

    /// Forgets a replica; says whether it was known.
    pub(super) fn forget(&mut self, key: ReplicaKey) -> bool {
        self.drop_rows(key, true, |_| false);
        self.replicas.remove(&key).is_some()
    }

    fn drop_rows(
        &mut self,
        key: ReplicaKey,
        front: bool,
        done: impl Fn(&ReplicaLog) -> bool,
    ) -> bool {
        let Some(log) = self.replicas.get_mut(&key) else { return false };
        let mut any = false;
        while !log.rows.is_empty() && !done(log) {
            let Some(row) = log.pop(front) else { break };
            any = true;
            self.cache.give_back(&row);
            if let Some(place) = row.place {
                unlive(&mut self.live, place.file, row.bytes());
            }
        }
        any
    }

    /// Evicts the oldest payloads until the cache fits its limit; stops at the first one that is not on disk yet, behind
    /// which none is: tickets are drawn in the order of the queue.
    pub(super) fn evict(&mut self) {
        while self.cache.bytes > self.cache.limit {
            let Some(ticket) = self.cache.tickets.front() else { break };
            if let Some(row) = ticket_row(&mut self.replicas, ticket) {
                if row.place.is_none() {
                    break;
                }
                self.cache.give_back(row);
                row.ticket = 0;
                row.payload = None;
            }
            self.cache.tickets.pop_front();
        }
        // Stale tickets of purged entries would pile up while the cache never fills.
        if self.cache.tickets.len() > 2 * self.cache.live + 1024 {
            let replicas = &mut self.replicas;
            self.cache.tickets.retain(|ticket| ticket_row(replicas, ticket).is_some());
        }
    }

    /// Bytes still wanted in a file.
    pub(super) fn live_in(&self, file: u64) -> u64 {
        self.live.get(&file).copied().unwrap_or(0)
    }

    /// Bytes still wanted in all files.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live.values().sum()
    }

    /// Replicas that keep something in a file.
    pub(super) fn holders(&self, file: u64) -> impl Iterator<Item = (ReplicaKey, &ReplicaLog)> {
        self.replicas.iter().filter(move |(_, log)| log.holds(file)).map(|(key, log)| (*key, log))
    }

    /// Replicas that keep entries in a file: those that a checkpoint would make let go of it.
    pub(super) fn entry_holders(&self, file: u64) -> Vec<ReplicaKey> {
        let holders = self.replicas.iter().filter(|(_, log)| log.shares.contains_key(&file));
        holders.map(|(key, _)| *key).collect()
    }

    /// The oldest file that holds anything wanted.
    pub(super) fn oldest_file(&self) -> Option<u64> {
        self.replicas.values().filter_map(ReplicaLog::oldest_file).min()
    }
}

fn unlive(live: &mut BTreeMap<u64, u64>, file: u64, bytes: u64) {
    if let Some(left) = live.get_mut(&file) {
        *left -= bytes;
        if *left == 0 {
            live.remove(&file);
        }
    }
}

fn ticket_row<'a>(
    replicas: &'a mut BTreeMap<ReplicaKey, ReplicaLog>,
    ticket: &Ticket,
) -> Option<&'a mut Row> {
    let log = replicas.get_mut(&ticket.key)?;
    let at = usize::try_from(ticket.index.checked_sub(log.first)?).ok()?;
    log.rows.get_mut(at).filter(|row| row.ticket == ticket.number)
}
