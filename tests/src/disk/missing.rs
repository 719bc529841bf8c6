//! Which bytes of a file were written and are not on the disk, though no unsynced change says so: the write failed, or the
//! sync that covered it did. Owns the ranges, for as long as a node lives: the next life has only what it finds, and writes
//! again what it doubts (S2). Never the bytes.

use std::ops::Range;

use super::content::Change;
use super::{Node, SimDisk, State};

/// Ranges of one file.
#[derive(Debug, Clone, Default)]
pub(super) struct Missing {
    /// In no order; they may overlap.
    ranges: Vec<Range<u64>>,
    /// The generation of the disk in which they came to be missing.
    generation: u64,
}

impl Missing {
    /// These bytes are missing from now on.
    pub(super) fn note(&mut self, range: Range<u64>, generation: u64) {
        if self.generation != generation {
            (self.ranges, self.generation) = (Vec::new(), generation);
        }
        if !range.is_empty() {
            self.ranges.push(range);
        }
    }

    /// These bytes came to the disk after all, or others in their place.
    pub(super) fn arrived(&mut self, range: &Range<u64>) {
        let pieces = self.ranges.drain(..).flat_map(|it| {
            let before = it.start..it.end.min(range.start);
            let behind = it.start.max(range.end)..it.end;
            [before, behind]
        });
        self.ranges = pieces.filter(|piece| !piece.is_empty()).collect();
    }

    /// Whether one of the first bytes, so many, is missing.
    pub(super) fn is_below(&self, bytes: u64, generation: u64) -> bool {
        self.generation == generation && self.ranges.iter().any(|range| range.start < bytes)
    }
}

impl SimDisk {
    /// Whether the first bytes of a file, so many, would survive a power cut at this moment as they were written in this
    /// life, and its name with them. Neither a write nor a sync that failed has made anything durable.
    #[must_use]
    pub fn has_durable(&self, path: &str, bytes: u64) -> bool {
        let state = self.lock();
        let named = state.durable_names.get(path).and_then(Node::inode);
        let inode = named.and_then(|number| state.inodes.get(&number));
        inode.is_some_and(|inode| inode.has_durable(bytes, state.generation))
    }
}

impl State {
    /// Whoever wrote it is told that it failed, and may not hear.
    pub(super) fn miss(&mut self, number: u64, change: &Change) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.miss(change, self.generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_missing_no_more_and_the_rest_is() {
        let mut missing = Missing::default();
        missing.note(10..30, 1);
        assert!(missing.is_below(11, 1) && !missing.is_below(10, 1));
        missing.arrived(&(0..15));
        assert!(missing.is_below(16, 1) && !missing.is_below(15, 1));
        missing.arrived(&(20..25));
        assert_eq!(missing.ranges, [15..20, 25..30]);
        missing.arrived(&(15..30));
        assert!(!missing.is_below(u64::MAX, 1));
    }

    #[test]
    fn the_next_life_misses_nothing_of_the_one_before() {
        let mut missing = Missing::default();
        missing.note(10..30, 1);
        assert!(!missing.is_below(30, 2));
        missing.note(40..50, 2);
        assert!(missing.is_below(41, 2) && !missing.is_below(40, 2));
    }
}
