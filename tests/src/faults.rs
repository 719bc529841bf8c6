//! What can happen to a running cluster: each fault strikes, lasts, and is over, and how long and whom follows from the seed
//! of the run. Owns the faults; which of them happen when is the profile's decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cluster::{Broken, Cluster};
use crate::group_history::GroupEvent;
use crate::history::History;
use crate::readers::believe;
use crate::subject::{DiskCondition, Rot, Subject};
use crate::workload::SETTLE;

/// A power loss of all waits so long for an acknowledgement, which there is not while a cluster recovers.
const NEXT_ACK: Duration = Duration::from_secs(1);

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The leader of a partition is cut off from everyone.
    LeaderAlone,
    /// The leader of a partition is cut off from its peers; clients still reach it and believe it.
    LeaderDeposed,
    /// What a leader sends to its peers is lost, what they send arrives.
    LeaderMute,
    /// Everything to and from the leader of a partition is delayed, and then arrives at once.
    LeaderHeld,
    /// The disk of a node needs very long for a sync.
    SlowDisk,
    /// The syncs of a node fail, and it has to stop.
    SyncsFail,
    /// A process dies; its machine and what it wrote live on.
    Crash,
    /// One machine loses power.
    PowerLoss,
    /// All machines lose power in one tick.
    PowerLossAll,
    /// Records at rest rot on the disk of a node that runs.
    Rot,
    /// A process dies; before its next life begins, records rot on its disk, or what a restart begins with.
    RotAtRest,
    /// Bits of a node's journal flip while it is down.
    JournalRots,
    /// … of this node's and another one's, in places that hold different entries.
    TwoJournalsRot,
}

impl Fault {
    /// Those that any story may draw.
    pub(crate) const ALL: [Self; 9] = [
        Self::LeaderAlone,
        Self::LeaderDeposed,
        Self::LeaderMute,
        Self::LeaderHeld,
        Self::SlowDisk,
        Self::SyncsFail,
        Self::Crash,
        Self::PowerLoss,
        Self::PowerLossAll,
    ];

    /// Strikes, lasts and ends; what it leaves behind may take longer.
    pub(crate) fn strike(
        self,
        cluster: &mut Cluster,
        subject: &Arc<dyn Subject>,
        history: &History,
    ) -> Result<(), Broken> {
        match self {
            Self::LeaderAlone | Self::LeaderDeposed | Self::LeaderMute | Self::LeaderHeld => {
                let (partition, node) = leader(cluster, subject)?;
                let stop = Arc::new(AtomicBool::new(false));
                if self == Self::LeaderDeposed {
                    let client = subject.client_at(node, cluster.draw(0, u64::MAX));
                    cluster.client(believe(client, partition, history.clone(), Arc::clone(&stop)));
                }
                let struck = self.strike_node(cluster, node, history);
                stop.store(true, Ordering::SeqCst);
                struck
            }
            _ => {
                let node = any(cluster);
                self.strike_node(cluster, node, history)
            }
        }
    }

    /// As [`Self::strike`], this node.
    pub(crate) fn strike_node(
        self,
        cluster: &mut Cluster,
        node: u32,
        history: &History,
    ) -> Result<(), Broken> {
        history.note(GroupEvent::NodeFault);
        if self == Self::PowerLossAll {
            // What has just been acknowledged is what a disk may not have yet.
            let before = history.acknowledged();
            cluster.run_until(NEXT_ACK, || history.acknowledged() > before)?;
        }
        tracing::info!(fault = ?self, node, "fault");
        self.begin(cluster, node);
        let (shortest, longest) = match self {
            Self::PowerLossAll => (1, 500),
            // Until others lead, producers have found them, and whoever believes the deposed one is told what was.
            Self::LeaderDeposed => (2_000, 6_000),
            _ => (1, 4_000),
        };
        let lasts = Duration::from_millis(cluster.draw(shortest, longest));
        cluster.run_for(lasts)?;
        self.end(cluster, node);
        Ok(())
    }

    fn begin(self, cluster: &mut Cluster, node: u32) {
        match self {
            Self::LeaderAlone => cluster.isolate(node),
            Self::LeaderDeposed => cluster.cut_from_peers(node),
            Self::LeaderMute => cluster.mute(node),
            Self::LeaderHeld => cluster.hold(node),
            Self::SlowDisk => cluster.set_disk(node, DiskCondition::Slow),
            Self::SyncsFail => cluster.set_disk(node, DiskCondition::SyncsFail),
            Self::Crash => cluster.crash(node),
            Self::PowerLoss => cluster.power_loss(&[node]),
            Self::PowerLossAll => cluster.power_loss(&cluster.nodes().collect::<Vec<u32>>()),
            Self::Rot => cluster.rot(node, Rot::Records),
            Self::RotAtRest => {
                cluster.crash(node);
                cluster.rot(node, Rot::Records);
                if cluster.draw(0, 2) == 0 {
                    cluster.rot(node, Rot::Checkpoint);
                }
            }
            Self::JournalRots => rot(cluster, &[node]),
            Self::TwoJournalsRot => rot(cluster, &[node, next_to(cluster, node)]),
        }
    }

    fn end(self, cluster: &mut Cluster, node: u32) {
        match self {
            Self::LeaderAlone | Self::LeaderDeposed | Self::LeaderMute | Self::LeaderHeld => {
                cluster.heal(node);
            }
            Self::SlowDisk => cluster.set_disk(node, DiskCondition::Healthy),
            Self::SyncsFail => {
                // Whether it stopped or met no sync in this time: its next life begins on a disk that works.
                cluster.crash(node);
                cluster.set_disk(node, DiskCondition::Healthy);
                cluster.restart(&[node]);
            }
            Self::Crash | Self::PowerLoss | Self::RotAtRest | Self::JournalRots => {
                cluster.restart(&[node])
            }
            Self::TwoJournalsRot => cluster.restart(&[node, next_to(cluster, node)]),
            Self::Rot => {}
            Self::PowerLossAll => cluster.restart(&cluster.nodes().collect::<Vec<u32>>()),
        }
    }
}

fn rot(cluster: &mut Cluster, nodes: &[u32]) {
    nodes.iter().for_each(|node| cluster.crash(*node));
    let hit = cluster.rot_journals(nodes);
    tracing::info!(hit, ?nodes, "journals rotted");
}

fn next_to(cluster: &Cluster, node: u32) -> u32 {
    if cluster.nodes().contains(&(node + 1)) { node + 1 } else { 1 }
}

fn any(cluster: &mut Cluster) -> u32 {
    let last = cluster.nodes().count() as u64;
    u32::try_from(cluster.draw(1, last + 1)).unwrap_or(1)
}

/// Some partition and its leader, as soon as there is one.
fn leader(cluster: &mut Cluster, subject: &Arc<dyn Subject>) -> Result<(u32, u32), Broken> {
    let partition = cluster.draw(0, subject.partitions().into());
    let partition = u32::try_from(partition).unwrap_or(0);
    let led = || subject.leader(partition).is_some();
    cluster.run_until(SETTLE, led)?;
    let leader = subject.leader(partition).map(|node| (partition, node));
    leader.ok_or_else(|| Broken(format!("partition {partition} has no leader for {SETTLE:?}")))
}
