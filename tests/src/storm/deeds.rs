//! Owns what each class of faults does to nodes, links, disks and clocks, and how it is undone. Faults overlap: a node that
//! is down for two reasons comes back when both are over. Never decides when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::FaultClass;
use crate::cluster::Cluster;
use crate::group_history::GroupEvent;
use crate::history::History;
use crate::links::{Cause, Wrong};
use crate::subject::{DiskCondition, Rot, Subject, host};

/// How slow a slow link is, milliseconds.
const SLOW_LINK_MS: (u64, u64) = (30, 400);
/// How far a wall clock jumps, milliseconds: an hour.
const CLOCK_JUMP_MS: i64 = 3_600_000;
/// Between two nodes that come back after a power loss of many.
const NEXT_RESTART: Duration = Duration::from_millis(700);
/// Lives of a crash loop, each shorter than a recovery may take.
const CRASHES: u32 = 5;
const SHORT_LIFE: Duration = Duration::from_millis(150);

/// What was done, and what undoing it needs.
#[derive(Debug)]
pub(super) enum Deed {
    /// Something is wrong with links.
    Links(Cause),
    /// These nodes are down; they come back one after the other.
    Down(Vec<u32>),
    /// A node dies so many times more.
    Loop { node: u32, left: u32, is_down: bool },
    /// A node's disk does what it should not, and ends its node if it fails.
    Disk { node: u32, condition: DiskCondition },
    /// Nothing to undo.
    Done,
}

/// The nodes as the faults left them.
#[derive(Debug)]
pub(super) struct World {
    subject: Arc<dyn Subject>,
    history: History,
    /// For how many reasons a node is down.
    down: BTreeMap<u32, u32>,
    /// Disks that are not as always.
    disks: BTreeMap<u32, DiskCondition>,
    /// The frozen node, and whether it is down.
    frozen: Option<(u32, Option<Cause>)>,
}

impl World {
    pub(super) fn new(subject: Arc<dyn Subject>, history: History) -> Self {
        let (down, disks) = (BTreeMap::new(), BTreeMap::new());
        Self { subject, history, down, disks, frozen: None }
    }

    /// Does something of this class, if there is anybody to do it to.
    pub(super) fn strike(
        &mut self,
        class: FaultClass,
        cluster: &mut Cluster,
        random: &mut SmallRng,
    ) -> Option<Deed> {
        self.history.note(GroupEvent::NodeFault);
        let node = self.victim(cluster, random);
        match class {
            FaultClass::Partition => Some(self.partition(node, cluster, random)),
            FaultClass::OneWay => Some(one_way(node, cluster, random)),
            FaultClass::Hold => Some(on_links(node, cluster, random, Wrong::Held)),
            FaultClass::SlowLink => {
                let longest = random.random_range(SLOW_LINK_MS.0..=SLOW_LINK_MS.1);
                let slow = Wrong::Slow(Duration::from_millis(longest));
                Some(on_links(node, cluster, random, slow))
            }
            FaultClass::Crash => {
                self.take_down(&[node], cluster, false);
                Some(Deed::Down(vec![node]))
            }
            FaultClass::PowerLoss => {
                self.take_down(&[node], cluster, true);
                Some(Deed::Down(vec![node]))
            }
            FaultClass::PowerLossMany => {
                let nodes = many(cluster, random);
                self.take_down(&nodes, cluster, true);
                Some(Deed::Down(nodes))
            }
            FaultClass::CrashLoop => {
                self.take_down(&[node], cluster, random.random_bool(0.5));
                Some(Deed::Loop { node, left: CRASHES, is_down: true })
            }
            FaultClass::WritesFail => self.spoil(node, cluster, DiskCondition::WritesFail),
            FaultClass::SyncsFail => self.spoil(node, cluster, DiskCondition::SyncsFail),
            FaultClass::SlowDisk => self.spoil(node, cluster, DiskCondition::Slow),
            FaultClass::ClockJump => {
                let by = random.random_range(-CLOCK_JUMP_MS..=CLOCK_JUMP_MS);
                self.subject.shift_clock(node, by);
                Some(Deed::Done)
            }
            FaultClass::Rot => {
                self.subject.rot(node, Rot::Records, random.random()).then_some(Deed::Done)
            }
        }
    }

    /// Undoes it; what is left to do, and how much later.
    pub(super) fn end(&mut self, deed: Deed, cluster: &mut Cluster) -> Option<(Duration, Deed)> {
        match deed {
            Deed::Links(cause) => cluster.mend(cause),
            Deed::Down(mut nodes) => {
                self.bring_up(nodes.pop()?, cluster);
                return (!nodes.is_empty()).then_some((NEXT_RESTART, Deed::Down(nodes)));
            }
            Deed::Loop { node, is_down: true, left } => {
                self.bring_up(node, cluster);
                let next = Deed::Loop { node, left: left.saturating_sub(1), is_down: false };
                return (left > 0).then_some((SHORT_LIFE, next));
            }
            Deed::Loop { node, is_down: false, left } => {
                self.take_down(&[node], cluster, false);
                let next = Deed::Loop { node, left, is_down: true };
                return Some((Duration::from_millis(1), next));
            }
            Deed::Disk { node, condition } => self.repair(node, condition, cluster),
            Deed::Done => {}
        }
        None
    }

    /// Somebody, rather a leader: what happens to others is mostly less of a test.
    fn victim(&self, cluster: &Cluster, random: &mut SmallRng) -> u32 {
        let partition = random.random_range(0..self.subject.partitions());
        let any = random.random_range(cluster.nodes());
        let leader = random.random_bool(0.5).then(|| self.subject.leader(partition)).flatten();
        leader.unwrap_or(any)
    }

    fn partition(&self, node: u32, cluster: &mut Cluster, random: &mut SmallRng) -> Deed {
        let others: Vec<u32> = cluster.nodes().filter(|other| *other != node).collect();
        let shape = random.random_range(0..4);
        let other = others[random.random_range(0..others.len())];
        let cause = cluster.new_cause();
        match shape {
            // Alone.
            0 => cluster.break_off(node, Wrong::Lost, cause),
            // From its peers; clients still reach it and believe it.
            1 => others.iter().for_each(|it| cluster.break_link(node, *it, Wrong::Lost, cause)),
            // One link: both ends still reach a majority.
            2 => cluster.break_link(node, other, Wrong::Lost, cause),
            // Halves: this one and another against the rest. Of three, the rest is one.
            _ => {
                for third in others.iter().filter(|it| **it != other) {
                    cluster.break_link(node, *third, Wrong::Lost, cause);
                    cluster.break_link(other, *third, Wrong::Lost, cause);
                }
            }
        }
        Deed::Links(cause)
    }

    fn take_down(&mut self, nodes: &[u32], cluster: &mut Cluster, with_power: bool) {
        let up: Vec<u32> =
            nodes.iter().copied().filter(|node| !self.down.contains_key(node)).collect();
        for node in nodes {
            *self.down.entry(*node).or_default() += 1;
        }
        if with_power {
            cluster.power_loss(&up);
            // Also of a machine whose process is down: what it had not synced goes with the power.
            let others = nodes.iter().copied().filter(|node| !up.contains(node));
            others.for_each(|node| cluster.lose_unsynced(node));
        } else {
            up.iter().for_each(|node| cluster.crash(*node));
        }
    }

    fn bring_up(&mut self, node: u32, cluster: &mut Cluster) {
        let Some(reasons) = self.down.get_mut(&node) else { return };
        *reasons -= 1;
        if *reasons == 0 {
            self.down.remove(&node);
            cluster.restart(&[node]);
        }
    }

    fn spoil(
        &mut self,
        node: u32,
        cluster: &mut Cluster,
        condition: DiskCondition,
    ) -> Option<Deed> {
        if self.disks.contains_key(&node) {
            return None;
        }
        self.disks.insert(node, condition);
        cluster.set_disk(node, condition);
        Some(Deed::Disk { node, condition })
    }

    fn repair(&mut self, node: u32, condition: DiskCondition, cluster: &mut Cluster) {
        self.disks.remove(&node);
        if condition == DiskCondition::Slow {
            return cluster.set_disk(node, DiskCondition::Healthy);
        }
        // Whether it stopped or met no failure in this time: its next life begins on a disk that works.
        self.take_down(&[node], cluster, false);
        cluster.set_disk(node, DiskCondition::Healthy);
        self.bring_up(node, cluster);
    }

    /// One node stays down, or cut off, or behind a disk that hardly moves.
    pub(super) fn freeze(&mut self, cluster: &mut Cluster) -> Option<u32> {
        let last = cluster.nodes().count() as u64;
        let node = u32::try_from(cluster.draw(1, last + 1)).ok()?;
        let cause = match cluster.draw(0, 3) {
            0 => {
                self.take_down(&[node], cluster, true);
                None
            }
            1 => {
                let cause = cluster.new_cause();
                cluster.break_off(node, Wrong::Lost, cause);
                Some(cause)
            }
            _ => {
                let cause = cluster.new_cause();
                cluster.break_off(node, Wrong::Held, cause);
                Some(cause)
            }
        };
        self.frozen = Some((node, cause));
        Some(node)
    }

    /// The frozen one is well again.
    pub(super) fn thaw(&mut self, cluster: &mut Cluster) {
        match self.frozen.take() {
            Some((node, None)) => self.bring_up(node, cluster),
            Some((_, Some(cause))) => cluster.mend(cause),
            None => {}
        }
    }
}

fn one_way(node: u32, cluster: &mut Cluster, random: &mut SmallRng) -> Deed {
    let cause = cluster.new_cause();
    let (mute, one) = (random.random_bool(0.5), random.random_bool(0.3));
    let others: Vec<u32> = cluster.nodes().filter(|other| *other != node).collect();
    let chosen = random.random_range(0..others.len());
    for (place, other) in others.into_iter().enumerate() {
        if one && place != chosen {
            continue;
        }
        let (from, to) = if mute { (node, other) } else { (other, node) };
        cluster.break_way((&host(from), &host(to)), Wrong::Lost, cause);
    }
    Deed::Links(cause)
}

/// The same wrong with one link of a node, or with all.
fn on_links(node: u32, cluster: &mut Cluster, random: &mut SmallRng, wrong: Wrong) -> Deed {
    let cause = cluster.new_cause();
    let others: Vec<u32> = cluster.nodes().filter(|other| *other != node).collect();
    let other = others[random.random_range(0..others.len())];
    if random.random_bool(0.5) {
        cluster.break_link(node, other, wrong, cause);
    } else {
        cluster.break_off(node, wrong, cause);
    }
    Deed::Links(cause)
}

/// A majority, or all.
fn many(cluster: &Cluster, random: &mut SmallRng) -> Vec<u32> {
    let mut nodes: Vec<u32> = cluster.nodes().collect();
    let majority = nodes.len() / 2 + 1;
    let count = random.random_range(majority..=nodes.len());
    for place in 0..count {
        let other = random.random_range(place..nodes.len());
        nodes.swap(place, other);
    }
    nodes.truncate(count);
    nodes
}
