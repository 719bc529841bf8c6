//! What is done to real nodes, one harm after the other, and how each is undone. Owns the list; when, to whom and for how
//! long follows from the seed, what comes of it does not: real processes run as they like.

use std::fmt;
use std::io;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::network::Place;
use super::site::Site;

/// A kind of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// SIGKILL of one process.
    Kill,
    /// SIGKILL of two of three at once.
    KillMajority,
    /// SIGKILL of all at once.
    KillAll,
    /// SIGSTOP, and SIGCONT.
    Freeze,
    /// A node reaches nobody.
    Cut,
    /// What a node sends is lost; what it is sent arrives.
    Mute,
    /// Two nodes do not reach each other; everybody else does.
    CutLink,
    /// What a node is sent comes late, or through a narrow pipe.
    SlowLink,
    /// A node's file system has no byte left.
    FullDisk,
}

/// What must be undone.
#[derive(Debug)]
pub(super) enum Done {
    Dead(Vec<u32>),
    Frozen(u32),
    Lost(Vec<(Place, Place)>),
    Slow(u32),
    Full(u32),
}

impl Harm {
    pub(super) const ALL: [Self; 9] = [
        Self::Kill,
        Self::KillMajority,
        Self::KillAll,
        Self::Freeze,
        Self::Cut,
        Self::Mute,
        Self::CutLink,
        Self::SlowLink,
        Self::FullDisk,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillMajority => "kill-majority",
            Self::KillAll => "kill-all",
            Self::Freeze => "freeze",
            Self::Cut => "cut",
            Self::Mute => "mute",
            Self::CutLink => "cut-link",
            Self::SlowLink => "slow-link",
            Self::FullDisk => "full-disk",
        }
    }

    /// Whether it can be done on this ground.
    pub(super) fn can_be_done(self, site: &Site) -> bool {
        match self {
            Self::Kill | Self::KillMajority | Self::KillAll | Self::Freeze => true,
            Self::Cut | Self::Mute | Self::CutLink | Self::SlowLink => site.network.is_some(),
            Self::FullDisk => site.small_disk.is_some(),
        }
    }

    /// How long it lasts.
    pub(super) fn lasts(self, random: &mut SmallRng) -> Duration {
        let (shortest, longest) = match self {
            Self::Kill | Self::KillMajority | Self::KillAll => (100, 3_000),
            Self::Freeze | Self::Cut | Self::Mute | Self::CutLink => (300, 8_000),
            Self::SlowLink => (2_000, 8_000),
            Self::FullDisk => (3_000, 8_000),
        };
        Duration::from_millis(random.random_range(shortest..=longest))
    }

    /// Does it.
    pub(super) fn strike(self, site: &mut Site, random: &mut SmallRng) -> io::Result<Done> {
        let node = random.random_range(site.nodes());
        let other = another(site, node, random);
        match self {
            Self::Kill => kill(site, vec![node]),
            Self::KillMajority => kill(site, vec![node, other]),
            Self::KillAll => kill(site, site.nodes().collect()),
            Self::Freeze => {
                site.machine(node).freeze()?;
                Ok(Done::Frozen(node))
            }
            Self::Cut => lose(site, ways(site, node, true, true)),
            Self::Mute => lose(site, ways(site, node, true, false)),
            Self::CutLink => {
                let (one, other) = (Place::Node(node), Place::Node(other));
                lose(site, vec![(one, other), (other, one)])
            }
            Self::SlowLink => {
                site.network()?.slow_down(node)?;
                Ok(Done::Slow(node))
            }
            Self::FullDisk => {
                let node = site.small_disk.unwrap_or(node);
                site.machine(node).fill()?;
                Ok(Done::Full(node))
            }
        }
    }
}

impl Done {
    /// Undoes it.
    pub(super) fn undo(self, site: &mut Site) -> io::Result<()> {
        match self {
            Self::Dead(nodes) => nodes.into_iter().try_for_each(|node| site.start(node)),
            Self::Frozen(node) => site.machine(node).thaw(),
            Self::Lost(ways) => {
                ways.into_iter().try_for_each(|(from, to)| site.network()?.mend(from, to))
            }
            Self::Slow(node) => site.network()?.restore_speed(node),
            Self::Full(node) => site.machine(node).make_room(),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead(nodes) => write!(f, "nodes {nodes:?} killed"),
            Self::Frozen(node) => write!(f, "node {node} stands still"),
            Self::Lost(ways) => write!(f, "lost: {ways:?}"),
            Self::Slow(node) => write!(f, "node {node} is sent everything late"),
            Self::Full(node) => write!(f, "the disk of node {node} is full"),
        }
    }
}

fn another(site: &Site, node: u32, random: &mut SmallRng) -> u32 {
    let others: Vec<u32> = site.nodes().filter(|it| *it != node).collect();
    others[random.random_range(0..others.len())]
}

fn kill(site: &mut Site, nodes: Vec<u32>) -> io::Result<Done> {
    nodes.iter().try_for_each(|node| site.machine(*node).kill())?;
    Ok(Done::Dead(nodes))
}

/// The ways from a node to everybody, and from everybody to it.
fn ways(site: &Site, node: u32, out: bool, back: bool) -> Vec<(Place, Place)> {
    let others = site.nodes().filter(|it| *it != node).map(Place::Node);
    let here = Place::Node(node);
    let all = others.chain([Place::Clients]);
    let both = all.flat_map(|other| [(out, (here, other)), (back, (other, here))]);
    both.filter_map(|(wanted, way)| wanted.then_some(way)).collect()
}

fn lose(site: &Site, ways: Vec<(Place, Place)>) -> io::Result<Done> {
    ways.iter().try_for_each(|(from, to)| site.network()?.cut(*from, *to))?;
    Ok(Done::Lost(ways))
}
