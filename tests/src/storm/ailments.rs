//! Owns what a disk does in each class of faults of disks. Never decides whose disk, or when.

use rand::Rng;
use rand::rngs::SmallRng;

use super::FaultClass;
use crate::subject::DiskCondition;

/// What a full disk has left at most, bytes: below the mark at which its node has no more room for records.
const MOST_FREE: u64 = 16 << 20;
/// Of a hundred reads, how many fail while reads fail.
const SOME_READS: [u8; 3] = [5, 40, 100];
/// How long a sync hangs, milliseconds.
const STALL_MS: (u32, u32) = (1_000, 15_000);

/// What a disk does in a class of faults of disks.
pub(super) fn condition(class: FaultClass, random: &mut SmallRng) -> Option<DiskCondition> {
    match class {
        FaultClass::WritesFail => Some(DiskCondition::WritesFail),
        FaultClass::SyncsFail => Some(DiskCondition::SyncsFail),
        FaultClass::SlowDisk => Some(DiskCondition::Slow),
        FaultClass::DiskFull => {
            Some(DiskCondition::Full { free: random.random_range(0..MOST_FREE) })
        }
        FaultClass::SomeWritesFail => Some(DiskCondition::SomeWritesFail),
        FaultClass::ShortWrites => Some(DiskCondition::ShortWrites),
        FaultClass::ReadsFail => {
            let percent = SOME_READS[random.random_range(0..SOME_READS.len())];
            Some(DiskCondition::ReadsFail { percent })
        }
        FaultClass::DiskStall => {
            Some(DiskCondition::Stalled { ms: random.random_range(STALL_MS.0..=STALL_MS.1) })
        }
        _ => None,
    }
}
