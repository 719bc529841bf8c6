//! Owns what may happen to nodes in a run, as far as log lines depend on it: each story and each class of faults brings its
//! own. Never says what a line means.

use std::collections::BTreeSet;

use crate::plan::Plan;
use crate::profile::Profile;
use crate::storm::FaultClass;

/// Something that may happen to nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peril {
    /// Processes die, or machines lose power.
    Down,
    /// Links are cut or slow, calls go wrong, a process stands still.
    Cut,
    /// Disks fail writes or syncs.
    DiskFails,
    /// Disks fail reads.
    ReadsFail,
    /// Disks are slow.
    DiskSlow,
    /// Disks run full.
    DiskFull,
    /// Disks are lost.
    DiskLost,
    /// Disks lie, and lose what they lied about.
    DiskLies,
    /// Journals rot.
    JournalRots,
    /// Records at rest rot.
    RecordsRot,
    /// What a restart begins with rots.
    CheckpointRots,
    /// Logs are kept short.
    Retention,
    /// Leaderships are handed over.
    Moves,
    /// Members of groups die, are cut off, or come and go.
    Members,
}

/// What may happen in a run of this plan.
pub(crate) fn of(plan: &Plan) -> BTreeSet<Peril> {
    use Peril::{
        CheckpointRots, Cut, DiskFails, DiskFull, DiskLies, DiskLost, DiskSlow, Down, JournalRots,
        Members, Moves, RecordsRot,
    };
    let of_story: &[Peril] = match plan.profile {
        Profile::Calm => &[],
        Profile::LeaderPartition | Profile::CatalogCut => &[Cut],
        Profile::PowerLossAll | Profile::Birth | Profile::PullInterrupted => &[Down],
        Profile::Chaos => &[Down, Cut, DiskFails, DiskSlow],
        Profile::JournalRot | Profile::JournalDoubt => &[Down, JournalRots],
        Profile::GroupCoordinatorCut => &[Members, Cut],
        Profile::GroupCoordinatorCrash => &[Members, Down],
        Profile::GroupPlanned | Profile::GroupMembersLost | Profile::GroupReset => &[Members],
        Profile::GroupChaos => &[Members, Down, Cut, DiskFails, DiskSlow],
        Profile::DiskFull => &[DiskFull],
        Profile::Rot => &[Down, RecordsRot, CheckpointRots],
        Profile::DiskReplaced => &[Down, Cut, DiskLost],
        Profile::DiskLies => &[Down, DiskLies],
        // After each storm one node is frozen, down or cut off; a caretaker moves leaders in each.
        Profile::Swarm => &[Down, Cut, Moves],
    };
    let members = plan.has_group().then_some(Members);
    let drawn = plan.classes().into_iter().flat_map(of_class).copied();
    of_story.iter().copied().chain(members).chain(drawn).collect()
}

fn of_class(class: FaultClass) -> &'static [Peril] {
    match class {
        FaultClass::Partition
        | FaultClass::OneWay
        | FaultClass::Hold
        | FaultClass::SlowLink
        | FaultClass::CallFaults
        | FaultClass::Pause => &[Peril::Cut],
        FaultClass::Crash
        | FaultClass::PowerLoss
        | FaultClass::PowerLossMany
        | FaultClass::CrashLoop
        | FaultClass::CrashPoint => &[Peril::Down],
        FaultClass::WritesFail
        | FaultClass::SyncsFail
        | FaultClass::SomeWritesFail
        | FaultClass::ShortWrites => &[Peril::DiskFails],
        FaultClass::ReadsFail => &[Peril::ReadsFail],
        FaultClass::SlowDisk | FaultClass::DiskStall => &[Peril::DiskSlow],
        FaultClass::DiskFull => &[Peril::DiskFull],
        FaultClass::DiskLost => &[Peril::DiskLost],
        FaultClass::LyingDisk => &[Peril::DiskLies],
        FaultClass::Rot => &[Peril::RecordsRot, Peril::CheckpointRots, Peril::JournalRots],
        FaultClass::Retention => &[Peril::Retention],
        FaultClass::LeaderTransfer => &[Peril::Moves],
        FaultClass::ClockJump | FaultClass::Overload => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_brings_its_own_and_a_storm_what_its_seed_drew() {
        assert!(of(&Plan::new(Profile::Calm, 1)).is_empty());
        assert!(of(&Plan::new(Profile::Rot, 1)).contains(&Peril::RecordsRot));
        let only = [FaultClass::ReadsFail].into();
        let storm = of(&Plan { only, ..Plan::new(Profile::Swarm, 1) });
        assert!(storm.contains(&Peril::ReadsFail) && !storm.contains(&Peril::DiskFails));
    }
}
