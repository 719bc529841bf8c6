//! Owns which log lines may appear in a run: an error, and a warning of our own crates, is either expected, with a reason, or
//! breaks the run. Never looks at anything below a warning.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{Level, Metadata};

/// A line that may appear: the beginning of its target, a part of its message, and why.
struct Expected {
    target: &'static str,
    says: &'static str,
    why: &'static str,
}

const fn expected(target: &'static str, says: &'static str, why: &'static str) -> Expected {
    Expected { target, says, why }
}

/// All of them. A line that stands for a mistake of the product never comes here.
const EXPECTED: &[Expected] = &[
    expected(
        "waymark_node::storage::journal",
        "a journal flush has failed",
        "disks fail, also under a node whose power is gone",
    ),
    expected("waymark_node::storage::segment_writer", "segments cannot be", "disks fail"),
    expected("waymark_node::consensus::checkpointer", "checkpoint failed", "disks fail"),
    expected(
        "waymark_node::consensus::member",
        "this node must stop",
        "a node whose disk fails stops (S4)",
    ),
    expected(
        "waymark_node::consensus::runner",
        "replica died",
        "its disk failed, or its node stops",
    ),
    expected("waymark_node::consensus::balancer", "the journal stalls", "disks are slow"),
    expected(
        "waymark_node::consensus::host",
        "has lost entries that it acknowledged",
        "disks lie, and the alarm of S10 says so",
    ),
    expected("waymark_node::consensus::log", "log read failed", "disks fail"),
    expected(
        "waymark_node::consensus::network::pull",
        "manifest not installed",
        "its source, or this disk, failed meanwhile",
    ),
    expected(
        "waymark_node::consensus::keeper",
        "the catalog is not complete yet",
        "there is no quorum yet",
    ),
    expected(
        "waymark_node::consensus::birth",
        "shard not initialized",
        "a node that died in the middle of a birth does it again",
    ),
    expected(
        "waymark_node::broker::groups::keeper",
        "member expelled",
        "members die and are cut off",
    ),
    expected(
        "waymark_node::broker::groups::keeper",
        "partitions not given up in time",
        "members are cut off",
    ),
    expected("waymark_node::storage::segment::checkpoint", "stays on disk", "disks fail"),
    expected("waymark_node::storage::journal::files", "could not be removed", "disks fail"),
    expected("waymark_node::node::running", "stopping without the last checkpoints", "disks fail"),
    expected("waymark_node::consensus::opening", "a replica cannot be opened", "disks fail reads"),
    expected(
        "waymark_node::consensus::repair",
        "damage is not repaired",
        "no peer that has it can be reached",
    ),
    expected(
        "waymark_node::consensus::restore",
        "a peer's checkpoint is needed",
        "checkpoints rot",
    ),
    expected(
        "waymark_node::consensus::restore",
        "no peer gives a checkpoint yet",
        "nobody can be reached",
    ),
    expected("waymark_node::consensus::restore", "what was pulled cannot be written", "disks fail"),
    expected("waymark_node::consensus::log_mend", "damage took entries", "journals rot"),
    expected(
        "waymark_node::consensus::log_mend",
        "must not run again under its id",
        "journals rot",
    ),
    expected(
        "waymark_node::consensus::log_mend",
        "no node has the entries",
        "peers have purged what rot took",
    ),
    expected(
        "waymark_node::consensus::log_mend",
        "unreadable",
        "journals rot, and disks fail reads",
    ),
    expected("waymark_node::consensus::log_mend", "fetched entries were not taken", "disks fail"),
    expected("waymark_node::consensus::runner", "this replica was replaced", "disks are lost"),
    expected("waymark_node::consensus::comeback", "this disk is empty", "disks are lost"),
    expected(
        "waymark_node::consensus::comeback",
        "takes the place of the lost one",
        "disks are lost",
    ),
    expected("waymark_node::consensus::comeback", "so it is to be replaced", "journals rot"),
    expected(
        "waymark_node::consensus::comeback",
        "the catalog does not answer yet",
        "there is no quorum yet",
    ),
    expected("waymark_node::consensus::comeback", "is not removed yet", "disks fail"),
    expected(
        "waymark_node::consensus::room",
        "the room on this node's disk has changed",
        "disks run full",
    ),
    expected("waymark_node::consensus::room", "does not say how full it is", "disks fail"),
    expected("waymark_node::storage::journal::lost", "the journal is damaged", "journals rot"),
    expected(
        "waymark_node::storage::journal::recycle",
        "cannot be read, its file stays",
        "journals rot, and disks fail reads",
    ),
    expected(
        "waymark_node::storage::journal::flusher",
        "the journal waits for room",
        "disks run full",
    ),
    expected(
        "waymark_node::storage::journal::flusher",
        "the journal has room again",
        "disks run full",
    ),
    expected("waymark_node::storage::segment::repair", "damaged bytes are not kept", "disks fail"),
    expected(
        "waymark_node::storage::segment::scrub",
        "a checkpoint cannot be looked at",
        "disks fail reads",
    ),
    expected(
        "waymark_node::storage::segment::scrub",
        "written again from memory",
        "checkpoints rot",
    ),
    expected(
        "waymark_node::storage::segment::damage",
        "not served until a peer has given it again",
        "records rot",
    ),
    expected(
        "waymark_node::broker::groups::lag",
        "about to remove records that the group has not read",
        "retention is made tiny",
    ),
    expected("waymark_node::broker::retention", "unread records go", "retention is made tiny"),
    expected("openraft", "Input/output error", "disks fail"),
    expected("openraft", "No space left", "disks run full"),
    expected("openraft", "an earlier sync failed", "disks fail, and their nodes stop"),
    expected("openraft", "the journal has failed", "disks fail, and replicas stop with them"),
    expected("openraft", "RaftCore", "replicas stop with their disk"),
    expected("openraft", "raft stopped", "calls wait when a replica stops with its disk"),
    expected("openraft", "failed to send HeartbeatProgress", "replicas stop with their disk"),
    expected("openraft", "has to forward request to", "leaders change while a replica is swapped"),
    expected("waymark_client", "metadata could not be read", "nobody can be reached"),
    expected("waymark_client", "stream broke", "nodes die"),
    expected("waymark_client", "offsets not committed", "nobody can be reached"),
    expected("waymark_client", "no new producer id yet", "nobody can be reached"),
    expected("waymark_client", "the coordinator does not answer", "nodes die"),
    expected("waymark_client", "expelled", "members are cut off"),
    expected("waymark_client", "partitions were not given up in time", "members are cut off"),
    expected("waymark_client", "given up too late", "members are cut off"),
    expected("waymark_client", "counted as done", "a repeated call finds its effect"),
    expected("waymark_client", "offset out of range, reset", "retention has taken it"),
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
pub struct Unexpected(Arc<Mutex<Vec<String>>>);

impl Unexpected {
    /// Looks at a line; `text` is everything that it says.
    pub(crate) fn judge(&self, metadata: &Metadata<'_>, text: &str) {
        // The library with planted bugs has a name of its own.
        let target = metadata.target().replacen("waymark_node_mutated", "waymark_node", 1);
        if is_judged(*metadata.level(), &target) && !is_expected(&target, text) {
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_judged(level: Level, target: &str) -> bool {
    match level {
        Level::ERROR => true,
        Level::WARN => OWN.iter().any(|own| target.starts_with(own)),
        _ => false,
    }
}

fn is_expected(target: &str, text: &str) -> bool {
    EXPECTED.iter().any(|it| target.starts_with(it.target) && text.contains(it.says))
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
        assert!(is_expected(target, "a journal flush has failed error=EIO"));
        assert!(!is_expected(target, "a flush was forgotten"));
        assert!(!is_expected("waymark_client::producer", "a journal flush has failed"));
        assert!(EXPECTED.iter().all(|it| !it.why.is_empty()));
    }
}
