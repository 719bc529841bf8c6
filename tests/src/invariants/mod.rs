//! The table of promises: id, sentence, check. One file per promise; each check is a pure function from a history to its
//! evidence, and each is shown to fail on a bad history made by hand. Nothing here knows how a cluster works.

use std::collections::BTreeMap;

use crate::history::Event;

mod catalog;
mod committed_offset;
mod contiguous;
mod damage;
mod end_offset;
mod gone;
mod groups;
mod identical;
mod linearizable;
mod log_start;
mod lost_ack;
mod no_duplicate;
mod no_phantom;
mod offset_register;
mod one_value;
mod producer_order;
mod reading;

/// A promise to clients.
#[derive(Debug)]
pub struct Invariant {
    /// That of the guarantee, or of the rule of safety, with a letter when one has several checks.
    pub id: &'static str,
    /// The promise in one sentence.
    pub sentence: &'static str,
    /// Evidence against it; empty when it held.
    pub check: fn(&[Event]) -> Vec<String>,
}

/// All promises that a history can show to be broken.
pub const TABLE: [Invariant; 21] = [
    Invariant {
        id: "G1",
        sentence: "an acknowledged record is readable at its offset",
        check: lost_ack::check,
    },
    Invariant {
        id: "G1b",
        sentence: "where a partition ends is told as of the moment of the question",
        check: end_offset::check,
    },
    Invariant {
        id: "G2",
        sentence: "an offset holds one value for every reader at every time, and nothing read is undone",
        check: one_value::check,
    },
    Invariant {
        id: "G2b",
        sentence: "what is stored was sent, and what was refused is not stored",
        check: no_phantom::check,
    },
    Invariant {
        id: "G2c",
        sentence: "what retention has removed is refused, and nothing is given instead",
        check: gone::check,
    },
    Invariant {
        id: "G2d",
        sentence: "a log begins where its limit lets it at the latest, and keeps its newest records",
        check: log_start::check,
    },
    Invariant {
        id: "G3",
        sentence: "offsets of a partition have no gaps",
        check: contiguous::check,
    },
    Invariant {
        id: "G3b",
        sentence: "a record is stored once, however often it was sent",
        check: no_duplicate::check,
    },
    Invariant {
        id: "G3c",
        sentence: "one producer's records keep their order",
        check: producer_order::check,
    },
    Invariant {
        id: "G3d",
        sentence: "a reader is given a partition's records one after the other, from where it sought",
        check: reading::check,
    },
    Invariant {
        id: "G4",
        sentence: "a committed offset never moves back unless somebody asked for it",
        check: committed_offset::check,
    },
    Invariant {
        id: "G4b",
        sentence: "the ledger tells of every move of a committed offset",
        check: groups::ledger::check,
    },
    Invariant {
        id: "G4c",
        sentence: "after a reset the group goes on at its target",
        check: groups::reset_target::check,
    },
    Invariant {
        id: "G4d",
        sentence: "who asks for a committed offset is told the latest commit",
        check: offset_register::check,
    },
    Invariant {
        id: "G5",
        sentence: "a partition has one owner at a time, and only its commits count",
        check: groups::one_owner::check,
    },
    Invariant {
        id: "G5b",
        sentence: "a planned hand-off repeats nothing and misses nothing",
        check: groups::exact_handoff::check,
    },
    Invariant {
        id: "G5c",
        sentence: "every record is finished by some member",
        check: groups::nothing_missed::check,
    },
    Invariant {
        id: "G5d",
        sentence: "who is gone is expelled, nobody else is, and a change of coordinator costs no member",
        check: groups::expulsion::check,
    },
    Invariant {
        id: "G6",
        sentence: "nobody is given damaged bytes for a record",
        check: damage::check,
    },
    Invariant {
        id: "G7",
        sentence: "after the faults all replicas of a partition hold the same bytes",
        check: identical::check,
    },
    Invariant {
        id: "S14",
        sentence: "a look at the catalog that asks for it is as of now",
        check: catalog::check,
    },
];

/// Where logs begin that were kept short; a log that nobody limited must begin with what was first in it.
fn log_starts(events: &[Event]) -> BTreeMap<u32, u64> {
    if !events.iter().any(|event| matches!(event, Event::LogsLimited { .. })) {
        return BTreeMap::new();
    }
    let start = |event: &Event| match event {
        Event::LogStart { partition, offset, .. } => Some((*partition, *offset)),
        _ => None,
    };
    events.iter().filter_map(start).collect()
}

/// The settled content of every partition: offset to value. A later settling replaces an earlier one.
fn settled(events: &[Event]) -> BTreeMap<u32, BTreeMap<u64, u64>> {
    let mut partitions = BTreeMap::new();
    for event in events {
        if let Event::Settled { partition, records } = event {
            partitions.insert(*partition, records.iter().copied().collect());
        }
    }
    partitions
}
