//! Coordinating consumer groups: what members send is turned into entries of the group's shard, and what its state says into
//! what they are told. Owns all that is known of members and is no state: who is connected, when each was heard of, how
//! long it has been at work. Never decides who gets what: the state does.
//!
//! | file | owns |
//! |---|---|
//! | `seam` | what the group service asks for |
//! | `session` | one message of a member, and its answer |
//! | `presence` | signs of life and of progress, and what is due by them |
//! | `keeper` | verdicts about time, topics that come and go, expiry |
//! | `lag` | how far groups are behind |
//! | `topics` | what names and patterns mean |
//! | `describe` | groups, their history and their members, as operators see them |

mod describe;
mod keeper;
mod lag;
mod presence;
pub mod seam;
mod session;
mod topics;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use waymark_proto::failure::Failure;
use waymark_proto::ids::ShardId;

use super::Core;
use super::refusal::{refused, unexpected};
use crate::consensus::Shard;
use crate::state::groups::{Changed, GroupChange, GroupEntry};
use crate::state::{Command, Reply};

pub(super) use keeper::keep;
pub(super) use lag::measure;
use presence::Present;

/// What this node knows of the members of groups that it coordinates.
#[derive(Debug)]
pub(super) struct Coordination {
    /// By shard. Emptied of shards that are led elsewhere. Whoever has it looks at no shard, which may be long at applying
    /// an entry: all heartbeats of all groups pass here.
    present: Mutex<BTreeMap<ShardId, Present>>,
    /// When a quorum last confirmed the leadership, by shard.
    confirmed: Mutex<BTreeMap<ShardId, Instant>>,
    /// When this process last felt that it runs: a longer time since is a pause.
    beat: Mutex<Instant>,
    /// How far groups were behind when that was last looked at.
    measured: Mutex<lag::Measured>,
}

impl Default for Coordination {
    fn default() -> Self {
        Self {
            present: Mutex::default(),
            confirmed: Mutex::default(),
            beat: Mutex::new(Instant::now()),
            measured: Mutex::default(),
        }
    }
}

impl Coordination {
    /// The process runs. How long ago it did before.
    fn beat(&self, now: Instant) -> std::time::Duration {
        let mut beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *beat, now);
        now.saturating_duration_since(before)
    }

    fn since_beat(&self, now: Instant) -> std::time::Duration {
        let beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(*beat)
    }

    fn present(&self) -> MutexGuard<'_, BTreeMap<ShardId, Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measured(&self) -> MutexGuard<'_, lag::Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn confirmed(&self) -> MutexGuard<'_, BTreeMap<ShardId, Instant>> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Puts a change of a group into its shard's log.
    async fn change_group(
        &self,
        shard: &Shard,
        (group, actor): (&str, crate::state::groups::Actor),
        change: GroupChange,
        deadline: Instant,
    ) -> Result<Changed, Failure> {
        let time_ms = self.env.clock.now_ms();
        let entry = GroupEntry { group: group.to_owned(), time_ms, actor, change };
        let done = shard.propose(Command::Group(entry), deadline).await;
        match done.map_err(|error| super::place::moved_coordinator(self.unwritten(&error)))?.reply {
            Reply::Group(changed) => Ok(changed),
            Reply::Refused(refusal) => Err(refused(&refusal)),
            _ => Err(unexpected()),
        }
    }
}
