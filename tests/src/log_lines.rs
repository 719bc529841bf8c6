//! Owns which log lines may appear in a run: an error, and a warning of our own crates, is either expected, with a reason, or
//! breaks the run. What may cause a line must be able to happen in the run's plan: where nothing rots, a verdict of damage is
//! a bug. Never looks at anything below a warning.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{Level, Metadata};

use crate::perils::{self, Peril};
use crate::plan::Plan;

/// A line that may appear: the beginning of its target, a part of its message, what may cause it, and why.
struct Expected {
    target: &'static str,
    says: &'static str,
    /// One of them must be able to happen in the run; none: the line may appear in any.
    causes: &'static [Peril],
    why: &'static str,
}

const fn expected(
    target: &'static str,
    says: &'static str,
    causes: &'static [Peril],
    why: &'static str,
) -> Expected {
    Expected { target, says, causes, why }
}

/// Whatever happens, or nothing.
const ALWAYS: &[Peril] = &[];
/// A disk fails, or is taken away from a node that dies.
const DISK: &[Peril] = &[Peril::Down, Peril::DiskFails, Peril::ReadsFail, Peril::DiskFull];
/// … or a replica ends because it is to be replaced.
const ENDS: &[Peril] = &[
    Peril::Down,
    Peril::DiskFails,
    Peril::ReadsFail,
    Peril::DiskFull,
    Peril::DiskLost,
    Peril::DiskLies,
    Peril::JournalRots,
    Peril::CheckpointRots,
];
const READS: &[Peril] = &[Peril::Down, Peril::ReadsFail];
const FULL: &[Peril] = &[Peril::DiskFull];
/// A journal has lost what it held for durable.
const JOURNAL: &[Peril] = &[Peril::JournalRots, Peril::DiskLies];
/// A replica has lost what it voted or acknowledged.
const LOST: &[Peril] = &[Peril::JournalRots, Peril::DiskLies, Peril::DiskLost];
const CHECKPOINT: &[Peril] = &[Peril::CheckpointRots, Peril::DiskLies];
/// Records cannot be read, for good or for now.
const RECORDS: &[Peril] = &[Peril::RecordsRot, Peril::DiskLies, Peril::ReadsFail];
const SHORT: &[Peril] = &[Peril::Retention];
const SLOW: &[Peril] = &[Peril::DiskSlow, Peril::DiskFull, Peril::Cut];

/// All of them. A line that stands for a mistake of the product never comes here.
const EXPECTED: &[Expected] = &[
    expected(
        "waymark_node::storage::journal",
        "a journal flush has failed",
        DISK,
        "disks fail, also under a node whose power is gone",
    ),
    expected("waymark_node::storage::segment_writer", "segments cannot be", DISK, "disks fail"),
    expected("waymark_node::consensus::checkpointer", "checkpoint failed", DISK, "disks fail"),
    expected(
        "waymark_node::consensus::member",
        "this node must stop",
        DISK,
        "a node whose disk fails stops (S4)",
    ),
    expected(
        "waymark_node::consensus::runner",
        "replica died",
        ENDS,
        "its disk failed, or its node stops",
    ),
    expected("waymark_node::consensus::balancer", "the journal stalls", SLOW, "disks are slow"),
    expected(
        "waymark_node::consensus::host",
        "has lost entries that it acknowledged",
        LOST,
        "disks lie, and the alarm of S10 says so",
    ),
    expected("waymark_node::consensus::log", "log read failed", READS, "disks fail"),
    expected(
        "waymark_node::consensus::network::pull",
        "manifest not installed",
        ALWAYS,
        "its source, or this disk, failed meanwhile",
    ),
    expected(
        "waymark_node::consensus::keeper",
        "the catalog is not complete yet",
        ALWAYS,
        "there is no quorum yet",
    ),
    expected(
        "waymark_node::consensus::birth",
        "shard not initialized",
        ALWAYS,
        "a node that died in the middle of a birth does it again",
    ),
    expected(
        "waymark_node::broker::groups::keeper",
        "member expelled",
        &[Peril::Members, Peril::Down, Peril::Cut],
        "members die and are cut off",
    ),
    expected(
        "waymark_node::broker::groups::keeper",
        "partitions not given up in time",
        ALWAYS,
        "members are cut off",
    ),
    expected("waymark_node::storage::segment::checkpoint", "stays on disk", DISK, "disks fail"),
    expected("waymark_node::storage::journal::files", "could not be removed", DISK, "disks fail"),
    expected(
        "waymark_node::node::running",
        "stopping without the last checkpoints",
        DISK,
        "disks fail",
    ),
    expected(
        "waymark_node::consensus::opening",
        "a replica cannot be opened",
        DISK,
        "disks fail reads",
    ),
    expected(
        "waymark_node::consensus::repair",
        "damage is not repaired",
        RECORDS,
        "no peer that has it can be reached",
    ),
    expected(
        "waymark_node::consensus::restore",
        "a peer's checkpoint is needed",
        CHECKPOINT,
        "checkpoints rot",
    ),
    expected(
        "waymark_node::consensus::restore",
        "no peer gives a checkpoint yet",
        CHECKPOINT,
        "nobody can be reached",
    ),
    expected(
        "waymark_node::consensus::restore",
        "what was pulled cannot be written",
        DISK,
        "disks fail",
    ),
    expected("waymark_node::consensus::log_mend", "damage took entries", JOURNAL, "journals rot"),
    expected(
        "waymark_node::consensus::log_mend",
        "must not run again under its id",
        JOURNAL,
        "journals rot",
    ),
    expected(
        "waymark_node::consensus::log_mend",
        "no node has the entries",
        JOURNAL,
        "peers have purged what rot took",
    ),
    expected(
        "waymark_node::consensus::log_mend",
        "unreadable",
        &[Peril::JournalRots, Peril::DiskLies, Peril::ReadsFail],
        "journals rot, and disks fail reads",
    ),
    expected(
        "waymark_node::consensus::log_mend",
        "fetched entries were not taken",
        DISK,
        "disks fail",
    ),
    expected(
        "waymark_node::consensus::runner",
        "this replica was replaced",
        LOST,
        "disks are lost",
    ),
    expected("waymark_node::consensus::comeback", "this disk is empty", LOST, "disks are lost"),
    expected(
        "waymark_node::consensus::comeback",
        "takes the place of the lost one",
        LOST,
        "disks are lost",
    ),
    expected("waymark_node::consensus::comeback", "so it is to be replaced", LOST, "journals rot"),
    expected(
        "waymark_node::consensus::comeback",
        "the catalog does not answer yet",
        ALWAYS,
        "there is no quorum yet",
    ),
    expected("waymark_node::consensus::comeback", "is not removed yet", DISK, "disks fail"),
    expected(
        "waymark_node::consensus::room",
        "the room on this node's disk has changed",
        FULL,
        "disks run full",
    ),
    expected("waymark_node::consensus::room", "does not say how full it is", DISK, "disks fail"),
    expected(
        "waymark_node::storage::journal::lost",
        "the journal is damaged",
        JOURNAL,
        "journals rot",
    ),
    expected(
        "waymark_node::storage::journal::recycle",
        "cannot be read, its file stays",
        &[Peril::JournalRots, Peril::ReadsFail],
        "journals rot, and disks fail reads",
    ),
    expected(
        "waymark_node::storage::journal::flusher",
        "the journal waits for room",
        FULL,
        "disks run full",
    ),
    expected(
        "waymark_node::storage::journal::flusher",
        "the journal has room again",
        FULL,
        "disks run full",
    ),
    expected(
        "waymark_node::storage::segment::repair",
        "damaged bytes are not kept",
        DISK,
        "disks fail",
    ),
    expected(
        "waymark_node::storage::segment::scrub",
        "a checkpoint cannot be looked at",
        READS,
        "disks fail reads",
    ),
    expected(
        "waymark_node::storage::segment::scrub",
        "written again from memory",
        CHECKPOINT,
        "checkpoints rot",
    ),
    expected(
        "waymark_node::storage::segment::damage",
        "not served until a peer has given it again",
        RECORDS,
        "records rot",
    ),
    expected(
        "waymark_node::broker::groups::lag",
        "about to remove records that the group has not read",
        SHORT,
        "retention is made tiny",
    ),
    expected(
        "waymark_node::broker::retention",
        "unread records go",
        SHORT,
        "retention is made tiny",
    ),
    expected("openraft", "Input/output error", DISK, "disks fail"),
    expected("openraft", "No space left", FULL, "disks run full"),
    expected("openraft", "an earlier sync failed", DISK, "disks fail, and their nodes stop"),
    expected("openraft", "the journal has failed", DISK, "disks fail, and replicas stop with them"),
    expected(
        "openraft",
        "this replica has ended",
        ENDS,
        "replicas end in the middle of their work",
    ),
    expected("openraft", "RaftCore", ENDS, "replicas stop with their disk"),
    expected("openraft", "raft stopped", ENDS, "calls wait when a replica stops with its disk"),
    expected("openraft", "failed to send HeartbeatProgress", ENDS, "replicas stop with their disk"),
    expected(
        "openraft",
        "has to forward request to",
        &[Peril::Moves, Peril::Down, Peril::Cut, Peril::DiskSlow],
        "leaders change while a replica is swapped",
    ),
    expected("waymark_client", "metadata could not be read", ALWAYS, "nobody can be reached"),
    expected("waymark_client", "stream broke", ALWAYS, "nodes die"),
    expected("waymark_client", "offsets not committed", ALWAYS, "nobody can be reached"),
    expected("waymark_client", "no new producer id yet", ALWAYS, "nobody can be reached"),
    expected("waymark_client", "the coordinator does not answer", ALWAYS, "nodes die"),
    expected("waymark_client", "expelled", ALWAYS, "members are cut off"),
    expected(
        "waymark_client",
        "partitions were not given up in time",
        ALWAYS,
        "members are cut off",
    ),
    expected("waymark_client", "given up too late", ALWAYS, "members are cut off"),
    expected("waymark_client", "counted as done", ALWAYS, "a repeated call finds its effect"),
    expected("waymark_client", "offset out of range, reset", SHORT, "retention has taken it"),
];

/// Every line that may appear: its target, what it says, and why.
pub fn reasons() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    EXPECTED.iter().map(|it| (it.target, it.says, it.why))
}

/// Errors of every crate, warnings of these.
const OWN: [&str; 3] = ["waymark_node", "waymark_client", "waymark_proto"];
/// More lines say no more.
const MOST: usize = 20;

/// The lines of a run that nobody expected. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Unexpected {
    perils: BTreeSet<Peril>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Unexpected {
    /// Of a run of this plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self { perils: perils::of(plan), lines: Arc::default() }
    }

    /// Looks at a line; `text` is everything that it says.
    pub(crate) fn judge(&self, metadata: &Metadata<'_>, text: &str) {
        // The library with planted bugs has a name of its own.
        let target = metadata.target().replacen("waymark_node_mutated", "waymark_node", 1);
        if is_judged(*metadata.level(), &target) && !is_expected(&target, text, &self.perils) {
            let mut lines = self.lock();
            if lines.len() < MOST {
                lines.push(text.to_owned());
            }
        }
    }

    /// All so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_judged(level: Level, target: &str) -> bool {
    match level {
        Level::ERROR => true,
        Level::WARN => OWN.iter().any(|own| target.starts_with(own)),
        _ => false,
    }
}

fn is_expected(target: &str, text: &str, perils: &BTreeSet<Peril>) -> bool {
    EXPECTED.iter().any(|it| {
        let can_be = it.causes.is_empty() || it.causes.iter().any(|cause| perils.contains(cause));
        can_be && target.starts_with(it.target) && text.contains(it.says)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_anybody_and_a_warning_of_ours_needs_a_reason() {
        assert!(is_judged(Level::ERROR, "openraft::core"));
        assert!(is_judged(Level::WARN, "waymark_node::broker"));
        assert!(!is_judged(Level::WARN, "h2::proto"));
        assert!(!is_judged(Level::INFO, "waymark_node::broker"));
        let target = "waymark_node::storage::journal::flusher";
        let fails = BTreeSet::from([Peril::DiskFails]);
        assert!(is_expected(target, "a journal flush has failed error=EIO", &fails));
        assert!(!is_expected(target, "a flush was forgotten", &fails));
        assert!(!is_expected("waymark_client::producer", "a journal flush has failed", &fails));
        assert!(EXPECTED.iter().all(|it| !it.why.is_empty()));
    }

    #[test]
    fn a_verdict_of_damage_needs_something_that_damages() {
        let target = "waymark_node::storage::journal::lost";
        let damaged = |perils: &[Peril]| {
            let perils = perils.iter().copied().collect();
            is_expected(target, "the journal is damaged path=journal/00000000.wal", &perils)
        };
        assert!(damaged(&[Peril::Down, Peril::JournalRots]));
        assert!(!damaged(&[]), "in a calm run");
        assert!(!damaged(&[Peril::Down, Peril::DiskFails]), "a torn tail is no damage");
    }
}
