//! Owns how far one follower has acknowledged to one leadership, and the alarm of S10: a follower that then has less has lost
//! what counted. Answers are the only witness: openraft starts over with such a follower, and has brought it up to where it
//! was before anybody could see its progress shrink. Never decides anything.

use std::sync::{Arc, Mutex, PoisonError};

use openraft::raft::{StreamAppendError, StreamAppendResult};

use super::link::Links;
use super::wire::Route;
use crate::consensus::types::C;
use crate::mutants;

/// One follower of one leadership; a new leadership, and one with other members, begins a new one.
pub(super) struct Acknowledged {
    links: Arc<Links>,
    route: Route,
    /// The highest index that it said to have. It only rises, until the follower turns out to have less.
    highest: Mutex<Option<u64>>,
}

impl Acknowledged {
    pub(super) fn new(links: Arc<Links>, route: Route) -> Self {
        Self { links, route, highest: Mutex::new(None) }
    }

    /// Takes an answer, in the order in which the follower gave them.
    ///
    /// A leader asks for what follows an entry of its own log. By log matching, a follower that had that entry under this
    /// leadership lacks it only if it has lost it.
    pub(super) fn take(&self, answer: &StreamAppendResult<C>) {
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(Some(last)) => *highest = (*highest).max(Some(last.index)),
            Err(StreamAppendError::Conflict(lacks)) if Some(lacks.index) <= *highest => {
                let before = highest.take();
                drop(highest);
                self.tell(before.unwrap_or(lacks.index), lacks.index);
            }
            Ok(None) | Err(_) => {}
        }
    }

    /// Takes the answer to a heartbeat. It asks for the last entry that the follower had under this leadership, by a stream
    /// or a manifest, and openraft starts over at once with one that lacks it: the streams then hear nothing of it.
    pub(super) fn take_beat(&self, answer: &StreamAppendResult<C>) {
        if let Err(StreamAppendError::Conflict(lacks)) = answer
            && !mutants::planted!("heartbeats-witness-nothing")
        {
            self.tell(lacks.index, lacks.index);
        }
    }

    fn tell(&self, before: u64, lacks: u64) {
        if mutants::planted!("reversion-unnoticed") {
            return;
        }
        if let Some(host) = self.links.shared.host() {
            host.has_less(self.route.shard, self.route.to, (before, lacks));
        }
    }
}
