//! Owns finding leaders: when metadata is read again, and which nodes are given up because another leads in their place.
//! Never sends a batch.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::driver::{Driver, Event, Refresh};
use crate::answers;
use crate::error::{Error, Result};
use crate::retry::LEADER_PAUSE;

impl Driver {
    pub(super) fn refreshed(&mut self, outcome: Result<()>) {
        self.refresh = Refresh::Idle;
        if let Err(error) = outcome {
            tracing::warn!(%error, "metadata could not be read");
        }
        self.shared.follow_topics();
        self.leave_lost_topics();
        self.leave_deposed_leaders();
        for lane in std::mem::take(&mut self.leaderless) {
            if let Some(partition) = self.partitions.get_mut(lane as usize) {
                partition.queued = false;
            }
            self.enqueue(lane);
        }
    }

    /// Records for a topic that is gone can arrive nowhere. One that was made anew under its name is another one: its
    /// consumers were not promised these records.
    fn leave_lost_topics(&mut self) {
        for number in 0..self.partitions.len() {
            let partition = &mut self.partitions[number];
            let (at, id) = (&partition.queue.at, &partition.queue.topic_id);
            if self.shared.client.metadata().is_known_as(&at.topic, id) {
                continue;
            }
            let error = answers::lost_topic(&at.topic);
            let settled = partition.lane.lose(&error);
            self.settle(settled);
            self.fail_unsent(number, &error);
        }
    }

    /// A node that is silent while metadata names another leader is given up before its connection is.
    fn leave_deposed_leaders(&mut self) {
        let metadata = self.shared.client.metadata();
        let now = Instant::now();
        let mut deposed = BTreeSet::new();
        for partition in self.partitions.iter().filter(|p| p.lane.on_wire() > 0) {
            let at = &partition.queue.at;
            let leader = metadata.leader(&at.topic, at.partition).and_then(|leader| leader.node);
            if let (Some(leader), Some(carrier)) = (leader, partition.carried_by)
                && leader != carrier
            {
                deposed.insert(carrier);
            }
        }
        for node in deposed {
            let Some(known) = self.nodes.get(&node).filter(|node| node.is_silent(now)) else {
                continue;
            };
            let error = Error::protocol("silent, and no longer leader");
            self.broken((node, known.incarnation), &error);
        }
    }

    pub(super) fn want_refresh(&mut self, now: Instant) {
        if self.refresh == Refresh::Idle && self.leaderless.is_empty() {
            self.refresh = Refresh::Due(now);
        }
        // A leader that is not there yet is asked for with growing pauses.
        self.want_refresh_soon(now);
    }

    /// What is known may be as new as it can be: a shard without a quorum has no other leader.
    pub(super) fn want_refresh_soon(&mut self, now: Instant) {
        if self.refresh == Refresh::Idle {
            let pause = self.backoff.pause(&self.shared.client.config().random).min(LEADER_PAUSE);
            self.refresh = Refresh::Due(now + pause);
        }
    }

    pub(super) fn start_refresh(&mut self, now: Instant) {
        match self.refresh {
            Refresh::Due(at) if at <= now => {}
            Refresh::Due(at) => {
                self.next_sweep = self.next_sweep.min(at);
                return;
            }
            Refresh::Idle | Refresh::Running => return,
        }
        self.refresh = Refresh::Running;
        let (client, events) = (self.shared.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = client.refresh().await;
            let _ = events.send(Event::Refreshed(outcome)).await;
        });
    }
}
