//! Owns the list of what a storm can do to a cluster: an id as in tests/EVIDENCE.md, a name, and how long it lasts. To add
//! one: a variant, its line in the table, its deed in `deeds`.

use std::fmt;
use std::str::FromStr;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultClass {
    /// Some nodes are cut off from others: one alone, one from its peers, one link, halves.
    Partition,
    /// What one node sends to others, or is sent by them, is lost; the other way is whole.
    OneWay,
    /// What goes over some links waits, and then arrives at once.
    Hold,
    /// Some links are slow and uneven.
    SlowLink,
    /// A process dies and comes back; what it wrote is there.
    Crash,
    /// A machine loses power, and with it an arbitrary part of what was not synced.
    PowerLoss,
    /// A majority of the machines, or all, lose power in one tick, and come back one after the other.
    PowerLossMany,
    /// A process dies several times while it comes up.
    CrashLoop,
    /// Writes fail; the node has to stop.
    WritesFail,
    /// Syncs fail, and what they covered is lost; the node has to stop.
    SyncsFail,
    /// Syncs take longer than an election.
    SlowDisk,
    /// Wall clocks jump, forward and back.
    ClockJump,
    /// A disk is full, or nearly.
    DiskFull,
    /// Single calls are lost, or their answers; come late, or twice; streams are cut off in their middle.
    CallFaults,
    /// A machine dies between two steps of its disk.
    CrashPoint,
    /// Some writes fail; the node has to stop, or to do without.
    SomeWritesFail,
    /// Some writes leave only their first bytes, and fail.
    ShortWrites,
    /// Reads fail; what cannot be read is not served.
    ReadsFail,
    /// One sync of a journal hangs.
    DiskStall,
    /// A node stands still, and goes on as if no time had passed.
    Pause,
    /// Leaderships are handed over, some of them to nodes that are not well.
    LeaderTransfer,
    /// Logs are kept short, so that their beginnings go while everything else happens.
    Retention,
    /// Producers send far more than a node admits, and records that no log takes.
    Overload,
    /// A machine comes back with an empty disk, one at a time and only when all replicas are whole.
    DiskLost,
    /// A disk says that it has synced and has not, and then its machine loses power, if all others have what it lies about.
    LyingDisk,
    /// What is at rest on a disk rots, of a node that runs or is down: records, what a restart begins with, and of one node at a
    /// time the journal. What it took is there again before a minority is frozen.
    Rot,
}

/// A class's line in the table.
#[derive(Debug)]
struct Facts {
    class: FaultClass,
    id: &'static str,
    name: &'static str,
    /// How long it lasts, milliseconds.
    lasts: (u64, u64),
}

const TABLE: [Facts; 26] = [
    facts(FaultClass::Partition, "F1", "partition", (50, 6_000)),
    facts(FaultClass::OneWay, "F2", "one-way", (50, 6_000)),
    facts(FaultClass::Hold, "F3", "hold", (20, 3_000)),
    facts(FaultClass::SlowLink, "F4", "slow-link", (200, 8_000)),
    facts(FaultClass::Crash, "F6", "crash", (1, 5_000)),
    facts(FaultClass::PowerLoss, "F7", "power-loss", (1, 5_000)),
    facts(FaultClass::PowerLossMany, "F8", "power-loss-many", (1, 3_000)),
    facts(FaultClass::CrashLoop, "F10", "crash-loop", (1, 400)),
    facts(FaultClass::WritesFail, "F12a", "writes-fail", (100, 2_000)),
    facts(FaultClass::SyncsFail, "F12b", "syncs-fail", (100, 2_000)),
    facts(FaultClass::SlowDisk, "F13", "slow-disk", (200, 6_000)),
    facts(FaultClass::ClockJump, "F14", "clock-jump", (1, 2)),
    facts(FaultClass::DiskFull, "F12f", "disk-full", (1_500, 8_000)),
    facts(FaultClass::CallFaults, "F5", "rpc-faults", (300, 6_000)),
    facts(FaultClass::CrashPoint, "F9", "crash-point", (2_000, 15_000)),
    facts(FaultClass::SomeWritesFail, "F12c", "some-writes-fail", (200, 4_000)),
    facts(FaultClass::ShortWrites, "F12d", "short-writes", (200, 4_000)),
    facts(FaultClass::ReadsFail, "F12e", "reads-fail", (50, 3_000)),
    facts(FaultClass::DiskStall, "F13b", "disk-stall", (1, 2)),
    facts(FaultClass::Pause, "F15", "pause", (300, 6_000)),
    facts(FaultClass::LeaderTransfer, "F16", "leader-transfer", (1, 2)),
    facts(FaultClass::Retention, "F18", "retention", (2_000, 20_000)),
    facts(FaultClass::Overload, "F19", "overload", (1, 2)),
    facts(FaultClass::DiskLost, "F10b", "disk-lost", (1, 5_000)),
    facts(FaultClass::LyingDisk, "F12g", "lying-disk", (300, 4_000)),
    facts(FaultClass::Rot, "F11", "rot", (1, 2)),
];

const fn facts(
    class: FaultClass,
    id: &'static str,
    name: &'static str,
    lasts: (u64, u64),
) -> Facts {
    Facts { class, id, name, lasts }
}

impl FaultClass {
    /// Every class, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|facts| facts.class)
    }

    fn facts(self) -> &'static Facts {
        // The table's order is the variants' order; a test says so.
        &TABLE[self as usize]
    }

    /// As in tests/EVIDENCE.md.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.facts().id
    }

    /// As on the command line and in a batch's table.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Different for every class, and the same whatever other classes there are.
    pub(super) fn salt(self) -> u64 {
        let fold =
            |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.name().bytes().fold(0xcbf2_9ce4_8422_2325, fold)
    }

    /// The shortest and the longest that it lasts, milliseconds.
    pub(super) fn lasts(self) -> (u64, u64) {
        self.facts().lasts
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FaultClass {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let named = |class: &Self| class.name() == given || class.id() == given;
        let all: Vec<&str> = Self::all().map(Self::name).collect();
        let unknown = || format!("no fault {given:?}; there are {}", all.join(", "));
        Self::all().find(named).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_found_by_its_name_and_its_id() {
        for (place, class) in FaultClass::all().enumerate() {
            assert_eq!(class as usize, place);
            assert_eq!(class.name().parse(), Ok(class));
            assert_eq!(class.id().parse(), Ok(class));
        }
        assert!("earthquake".parse::<FaultClass>().unwrap_err().contains("crash-loop"));
    }
}
