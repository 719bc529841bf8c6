//! Owns what damage leaves of a log in memory: entries that are missing from its middle, and their coming back. It never says
//! what is lost; see `replay`.

use waymark_proto::ids::{ReplicaId, ReplicaKey, ShardId};

use super::{Logs, NOWHERE, ReplicaLog, Row, unlive};
use crate::storage::journal::partial::same_leader;
use crate::storage::raft_record::{EntryKind, LogEntry, LogId};

/// No replica: under this key stands what damage left in doubt of replicas that nothing else in the journal names. The end
/// of its doubt is the highest incarnation that this concerns.
pub(in crate::storage::journal) const NODE: ReplicaKey =
    ReplicaKey { shard: ShardId(u32::MAX), incarnation: u32::MAX };

/// Entries that damage took from the middle of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// The entry behind the last one, or of a single entry itself: whoever has it has the same ones before it.
    pub anchor: LogId,
}

impl Row {
    /// Damage took it, and nothing has brought it back yet. Its id is not known either.
    pub(in crate::storage::journal) fn is_missing(&self) -> bool {
        self.payload.is_none() && self.place.is_none()
    }
}

impl ReplicaLog {
    /// What is missing, lowest first.
    pub(in crate::storage::journal) fn holes(&self) -> Vec<Hole> {
        let mut holes: Vec<Hole> = Vec::new();
        if self.doubt.is_none() {
            return holes;
        }
        let mut first = None;
        for (row, index) in self.rows.iter().zip(self.first..) {
            match (row.is_missing(), first) {
                (true, None) => first = Some(index),
                (false, Some(from)) => {
                    holes.push(Hole { first: from, last: index - 1, anchor: row.id(index) });
                    first = None;
                }
                _ => {}
            }
        }
        holes
    }

    /// What is behind an entry belongs there although the end of the log was in doubt up to it: see `partial`.
    pub(in crate::storage::journal) fn goes_on_after(&self, certain: LogId) -> bool {
        let behind = certain.index.saturating_add(1);
        if self.rows.is_empty() || self.end() <= behind {
            return true;
        }
        let next = self.row(behind).filter(|row| !row.is_missing()).map(|row| row.id(behind));
        let at = self.id_at(certain.index);
        next.is_some_and(|next| same_leader(next, certain) || at == Some(certain))
    }
}

impl Logs {
    /// Adds an entry that damage took, so that what comes behind it has its place.
    pub(in crate::storage::journal) fn restore_missing(&mut self, key: ReplicaKey, index: u64) {
        let (term, leader, kind) = (0, ReplicaId::default(), EntryKind::Blank);
        let row = Row { term, leader, kind, len: 0, place: None, payload: None, ticket: 0 };
        self.replicas.entry(key).or_default().push(index, row);
    }

    /// Puts an entry where one is missing, or where this very one is unreadable: it is in memory from now on, and on disk
    /// once its new frame is. Says whether there was room for it.
    pub(in crate::storage::journal) fn mend(&mut self, key: ReplicaKey, entry: &LogEntry) -> bool {
        let LogId { term, leader, index } = entry.id;
        let Some(log) = self.replicas.get_mut(&key) else { return false };
        let known = log.id_at(index);
        let at = index.checked_sub(log.first).and_then(|at| usize::try_from(at).ok());
        let Some(row) = at.and_then(|at| log.rows.get_mut(at)) else { return false };
        if known != Some(entry.id) && !row.is_missing() {
            return false;
        }
        let Ok(len) = u32::try_from(entry.payload.len()) else { return false };
        self.cache.give_back(row);
        let before = (row.bytes(), row.place.take());
        let ticket = match len {
            0 => 0,
            len => self.cache.admit(key, index, len as usize),
        };
        let payload = Some(entry.payload.clone());
        *row = Row { term, leader, kind: entry.kind, len, place: None, payload, ticket };
        log.kept_bytes = log.kept_bytes - before.0 + row.bytes();
        if let (bytes, Some(place)) = before {
            log.take_share(place.file, bytes);
            unlive(&mut self.live, place.file, bytes);
        }
        true
    }

    /// A log from which nothing is missing any more, and of which nothing is in doubt, is sound again.
    pub(in crate::storage::journal) fn settle_doubt(&mut self, key: ReplicaKey) {
        let Some(log) = self.replicas.get_mut(&key) else { return };
        if log.doubt.is_some_and(|doubt| !doubt.is_grave()) && log.holes().is_empty() {
            log.doubt = None;
            log.doubt_file = NOWHERE;
        }
    }
}
