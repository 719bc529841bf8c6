//! Owns what each class of faults does to nodes, disks and clocks, and how it is undone. Faults overlap: a node that
//! is down for two reasons comes back when both are over. Never decides when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::FaultClass;
use super::ailments::condition;
use super::errands::Errand;
use super::errands::Errands;
use super::flood::Flood;
use super::wires::on_links;
use crate::cluster::Cluster;
use crate::disk::Point;
use crate::group_history::GroupEvent;
use crate::history::{Event, History};
use crate::links::{Cause, Wrong};
use crate::subject::{DiskCondition, End, Subject};
use crate::tally::Tally;

/// How far a wall clock jumps, milliseconds: an hour.
const CLOCK_JUMP_MS: i64 = 3_600_000;
/// Between two nodes that come back after a power loss of many.
pub(super) const NEXT_RESTART: Duration = Duration::from_millis(700);
/// What a log is kept to, bytes: some segments, of which the newest always stays.
const LOG_BYTES: (u32, u32) = (1, 400_000);
/// Of a hundred calls, how many go wrong.
const CALLS_PERCENT: (u8, u8) = (2, 40);
/// A point is passed so often at most before a machine dies at it.
const MOST_PASSES: u32 = 2;
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
    /// A node's disk lies, and is to lose what it lies about at a moment when all others have that, which is looked for so often.
    Lies { node: u32, looks: u32 },
    /// A node's machine is to die at a point.
    Trap(u32),
    /// A node stands still; its timers are to jump so far.
    Paused { node: u32, cause: Cause, jump: Duration },
    /// Calls to and from a node go wrong.
    Calls(u32),
    /// Logs are kept short.
    Limited,
    /// Nothing to undo.
    Done,
}

/// The nodes as the faults left them.
#[derive(Debug)]
pub(super) struct World {
    pub(super) subject: Arc<dyn Subject>,
    history: History,
    /// For how many reasons a node is down.
    pub(super) down: BTreeMap<u32, u32>,
    /// Disks that are not as always.
    pub(super) disks: BTreeMap<u32, DiskCondition>,
    /// Nodes that are to die at a point, and nodes whose calls go wrong.
    trapped: BTreeSet<u32>,
    calls: BTreeSet<u32>,
    /// Who does what is done to the cluster itself, and who sends too much.
    errands: Errands,
    flood: Flood,
    pub(super) tally: Tally,
    /// Whose disk was lost last, or lost what it had promised to hold.
    pub(super) lost: Option<u32>,
    /// The frozen nodes, and whether each is down.
    frozen: Vec<(u32, Option<Cause>)>,
}

impl World {
    pub(super) fn new(
        cluster: &mut Cluster,
        subject: &Arc<dyn Subject>,
        (history, tally): (&History, &Tally),
    ) -> Self {
        Self {
            subject: Arc::clone(subject),
            history: history.clone(),
            down: BTreeMap::new(),
            disks: BTreeMap::new(),
            trapped: BTreeSet::new(),
            calls: BTreeSet::new(),
            errands: Errands::begin(cluster, subject, tally),
            flood: Flood::begin(cluster, subject, history),
            tally: tally.clone(),
            lost: None,
            frozen: Vec::new(),
        }
    }

    /// Nothing more is done to the cluster, and nobody sends too much.
    pub(super) fn dismiss(&self) {
        self.errands.end();
        self.flood.end();
    }

    /// Whether everybody who sent too much was told what came of it.
    pub(super) fn is_calm(&self) -> bool {
        self.flood.has_ended()
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
        if let Some(condition) = condition(class, random) {
            return self.spoil(node, cluster, condition);
        }
        if let Some(deed) = on_links(class, node, cluster, random) {
            return Some(deed);
        }
        match class {
            FaultClass::Crash | FaultClass::PowerLoss => {
                self.take_down(&[node], cluster, class == FaultClass::PowerLoss);
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
            FaultClass::ClockJump => {
                let by = random.random_range(-CLOCK_JUMP_MS..=CLOCK_JUMP_MS);
                self.subject.shift_clock(node, by);
                Some(Deed::Done)
            }
            FaultClass::CallFaults => self.confuse(node, random),
            FaultClass::CrashPoint => self.set_trap(node, random),
            FaultClass::LeaderTransfer => {
                for partition in 0..self.subject.partitions() {
                    let to = random.random_range(cluster.nodes());
                    self.errands.give(Errand::MoveLeader { partition, to });
                }
                Some(Deed::Done)
            }
            FaultClass::Retention => {
                let bytes = random.random_range(LOG_BYTES.0..=LOG_BYTES.1);
                self.history.note(Event::LogsLimited { bytes: bytes.into() });
                self.errands.give(Errand::LimitLogs { bytes: Some(bytes) });
                Some(Deed::Limited)
            }
            FaultClass::Overload => self.flood.swell().then_some(Deed::Done),
            FaultClass::DiskLost => self.lose_disk(node, cluster),
            FaultClass::LyingDisk => self.deceive(node, cluster),
            FaultClass::Rot => self.rot(node, cluster, random),
            // Of disks and of links: done above.
            _ => None,
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
            Deed::Lies { node, looks } => return self.lose_lies((node, looks), cluster),
            Deed::Disk { node, condition } => self.repair(node, condition, cluster),
            Deed::Trap(node) => {
                // Sprung or not: who died at it comes back as all who ended do.
                self.trapped.remove(&node);
                if self.subject.ended(node).is_none() {
                    self.subject.set_trap(node, None);
                }
            }
            Deed::Paused { node, cause, jump } => {
                // Its timers first: what it was sent meanwhile has to wait for a process that wakes up.
                self.subject.skip_time(node, jump);
                return Some((Duration::from_millis(1), Deed::Links(cause)));
            }
            Deed::Limited => self.errands.give(Errand::LimitLogs { bytes: None }),
            Deed::Calls(node) => {
                self.calls.remove(&node);
                self.subject.set_calls(node, 0);
            }
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

    pub(super) fn take_down(&mut self, nodes: &[u32], cluster: &mut Cluster, with_power: bool) {
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

    pub(super) fn bring_up(&mut self, node: u32, cluster: &mut Cluster) {
        let Some(reasons) = self.down.get_mut(&node) else { return };
        *reasons -= 1;
        if *reasons == 0 {
            self.down.remove(&node);
            cluster.restart(&[node]);
        }
    }

    /// Calls of a node go wrong.
    fn confuse(&mut self, node: u32, random: &mut SmallRng) -> Option<Deed> {
        if !self.calls.insert(node) {
            return None;
        }
        let percent = random.random_range(CALLS_PERCENT.0..=CALLS_PERCENT.1);
        self.subject.set_calls(node, percent);
        Some(Deed::Calls(node))
    }

    fn set_trap(&mut self, node: u32, random: &mut SmallRng) -> Option<Deed> {
        if self.subject.ended(node).is_some() || !self.trapped.insert(node) {
            return None;
        }
        let point = Point::ALL[random.random_range(0..Point::ALL.len())];
        self.subject.set_trap(node, Some((point, random.random_range(0..=MOST_PASSES))));
        Some(Deed::Trap(node))
    }

    /// Whether a node that is not down has ended by itself.
    pub(super) fn some_ended(&self, mut nodes: impl Iterator<Item = u32>) -> bool {
        nodes.any(|node| self.has_ended(node).is_some())
    }

    fn has_ended(&self, node: u32) -> Option<End> {
        self.subject.ended(node).filter(|_| !self.down.contains_key(&node))
    }

    /// Those that ended by themselves are down from now on; each comes back by its deed.
    pub(super) fn take_those_ended(
        &mut self,
        cluster: &mut Cluster,
        random: &mut SmallRng,
    ) -> Vec<Deed> {
        let mut deeds = Vec::new();
        for node in cluster.nodes() {
            let Some(end) = self.has_ended(node) else { continue };
            tracing::info!(node, ?end, "a node has ended");
            // At a point its process dies, or its machine.
            let with_power = matches!(end, End::Trapped(_)) && random.random_bool(0.7);
            self.take_down(&[node], cluster, with_power);
            self.subject.set_trap(node, None);
            deeds.push(Deed::Down(vec![node]));
        }
        deeds
    }

    /// Every disk is well, and so is every node's life on it: none has to end for what was before.
    pub(super) fn renew_those_in_doubt(&mut self, cluster: &mut Cluster) {
        for node in cluster.nodes() {
            let up = !self.down.contains_key(&node);
            if up && (self.subject.may_end(node) || self.subject.ended(node).is_some()) {
                self.subject.set_trap(node, None);
                self.renew(node, cluster);
            }
        }
    }

    /// A minority of the replicas of everything stays down, or cut off, or behind links that hold all back: one node, or up
    /// to as many as partitions can spare. Returns which.
    pub(super) fn freeze(&mut self, cluster: &mut Cluster) -> Vec<u32> {
        let (nodes, spare) = (cluster.nodes().count() as u64, self.subject.spare() as u64);
        let drawn = cluster.draw(1, nodes + 1);
        let count = if spare > 1 { cluster.draw(1, spare + 1) } else { spare };
        // One that is not replaced yet and a whole minority that is frozen would be a majority.
        let lost = self.lost.filter(|_| !self.subject.is_whole()).map(u64::from);
        let first = lost.unwrap_or(drawn);
        for turn in 0..count {
            let node = u32::try_from((first + turn - 1) % nodes + 1).unwrap_or(1);
            let cause = self.freeze_one(node, cluster);
            self.frozen.push((node, cause));
        }
        self.frozen.iter().map(|(node, _)| *node).collect()
    }

    fn freeze_one(&mut self, node: u32, cluster: &mut Cluster) -> Option<Cause> {
        let wrong = match cluster.draw(0, 3) {
            0 => {
                self.take_down(&[node], cluster, true);
                return None;
            }
            1 => Wrong::Lost,
            _ => Wrong::Held,
        };
        let cause = cluster.new_cause();
        cluster.break_off(node, wrong, cause);
        Some(cause)
    }

    /// The frozen ones are well again.
    pub(super) fn thaw(&mut self, cluster: &mut Cluster) {
        for (node, cause) in std::mem::take(&mut self.frozen) {
            match cause {
                None => self.bring_up(node, cluster),
                Some(cause) => cluster.mend(cause),
            }
        }
    }
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
