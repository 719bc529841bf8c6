//! Owns how many payloads of entries stay in memory, and which goes first. Never holds one itself.

use std::collections::VecDeque;

use waymark_proto::ids::ReplicaKey;

use super::Row;

/// Charged to the cache for every payload beside its bytes: the allocation, the row and the ticket.
const CACHE_OVERHEAD: usize = 128;

/// A row of the cache's queue: which entry to evict when its turn comes. Stale once the row's own ticket differs.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) number: u64,
    pub(super) key: ReplicaKey,
    pub(super) index: u64,
}

/// Payloads in memory, oldest first.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub(super) limit: usize,
    pub(super) bytes: usize,
    /// Tickets not stale.
    pub(super) live: usize,
    pub(super) last_ticket: u64,
    pub(super) tickets: VecDeque<Ticket>,
}

impl Cache {
    pub(super) fn admit(&mut self, key: ReplicaKey, index: u64, len: usize) -> u64 {
        self.last_ticket += 1;
        self.live += 1;
        self.bytes += len + CACHE_OVERHEAD;
        self.tickets.push_back(Ticket { number: self.last_ticket, key, index });
        self.last_ticket
    }

    pub(super) fn give_back(&mut self, row: &Row) {
        if row.ticket != 0 {
            self.live -= 1;
            self.bytes -= row.len as usize + CACHE_OVERHEAD;
        }
    }
}
