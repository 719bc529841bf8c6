//! Owns the end of one replica's work on its log and its segments. Openraft waits for its core when it is shut down, and not
//! for what reads the log and applies: that may be waiting for a disk, long after the replica is gone. Never ends raft.

use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::mutants;

/// The life of one state machine. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// What is in hand is to be left.
    ending: CancellationToken,
    /// Openraft has let go of the machine.
    ended: CancellationToken,
}

impl Life {
    /// Asks the machine to leave what it has in hand, however long that would wait for its disk.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// Returns once nothing is read or applied any more: only then may the log be opened anew, or removed.
    pub async fn until_ended(&self) {
        if !mutants::planted!("removed-while-it-applies") {
            self.ended.cancelled().await;
        }
    }

    pub(super) async fn until_ending(&self) {
        self.ending.cancelled().await;
    }

    /// What the machine holds for as long as openraft has it.
    pub(super) fn guard(&self) -> Arc<DropGuard> {
        Arc::new(self.ended.clone().drop_guard())
    }
}
