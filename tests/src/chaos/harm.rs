//! What is done to real nodes, one harm after the other, and how each is undone. Owns the list; when, to whom and for how
//! long follows from the seed, what comes of it does not: real processes run as they like.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::{sleep, timeout};

use super::network::Place;
use super::rot::{self, Kind, Part};
use super::site::Site;

/// A node that cannot read who it is says so within this time.
const REFUSES_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What a full majority has left, bytes: too little for records, enough for the rest, by the settings of these runs.
const LEFT_OF_A_MAJORITY: u64 = 144 << 20;

/// A kind of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
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
    /// The file systems of two nodes have no room for records.
    FullMajority,
    /// Bits flip in segments and checkpoints of a node that runs, and in its journal and its tables while it is down.
    Rot,
    /// Bits flip in segments of two nodes that run, never in the same half of a file.
    RotTwo,
    /// Bits flip in a node's identity, so that it refuses to start; and as it says then, its data directory goes, and it
    /// starts on an empty one.
    LostDisk,
}

/// What must be undone.
#[derive(Debug)]
pub(super) enum Done {
    Dead(Vec<u32>),
    Frozen(u32),
    Lost(Vec<(Place, Place)>),
    Slow(u32),
    Full(Vec<u32>),
    Rotten(Rotten),
}

/// In how many files of each kind bits flipped, by node.
#[derive(Debug, Default)]
pub(super) struct Rotten(pub(super) BTreeMap<u32, BTreeMap<Kind, usize>>);

impl FromStr for Harm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|harm| harm.name() == name);
        found.ok_or_else(|| format!("no harm {name:?}; there are {all}"))
    }
}

impl Harm {
    pub(super) const ALL: [Self; 13] = [
        Self::Kill,
        Self::KillMajority,
        Self::KillAll,
        Self::Freeze,
        Self::Cut,
        Self::Mute,
        Self::CutLink,
        Self::SlowLink,
        Self::FullDisk,
        Self::FullMajority,
        Self::Rot,
        Self::RotTwo,
        Self::LostDisk,
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
            Self::FullMajority => "full-majority",
            Self::Rot => "rot",
            Self::RotTwo => "rot-two",
            Self::LostDisk => "lost-disk",
        }
    }

    /// Whether it can be done on this ground.
    pub(super) fn can_be_done(self, site: &Site) -> bool {
        match self {
            Self::Cut | Self::Mute | Self::CutLink | Self::SlowLink => site.network.is_some(),
            Self::FullDisk | Self::FullMajority => site.small_disks.len() >= 2,
            _ => true,
        }
    }

    /// How long it lasts.
    pub(super) fn lasts(self, random: &mut SmallRng) -> Duration {
        let (shortest, longest) = match self {
            Self::Kill | Self::KillMajority | Self::KillAll => (100, 3_000),
            Self::Rot | Self::RotTwo | Self::LostDisk => (100, 1_000),
            Self::Freeze | Self::Cut | Self::Mute | Self::CutLink => (300, 8_000),
            Self::SlowLink => (2_000, 8_000),
            Self::FullDisk => (3_000, 8_000),
            // Long enough by what is looked at meanwhile.
            Self::FullMajority => (0, 1_000),
        };
        Duration::from_millis(random.random_range(shortest..=longest))
    }

    /// Whether something else may only happen once all of it is whole again: the same on a second node at the same time is
    /// more than three replicas can bear.
    pub(super) fn takes_a_copy(self) -> bool {
        matches!(self, Self::Rot | Self::RotTwo | Self::LostDisk)
    }

    /// Does it.
    pub(super) async fn strike(self, site: &mut Site, random: &mut SmallRng) -> io::Result<Done> {
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
                let node = site.small_disks[random.random_range(0..site.small_disks.len())];
                fill(site, vec![node], 0)
            }
            Self::FullMajority => fill(site, site.small_disks.clone(), LEFT_OF_A_MAJORITY),
            Self::Rot => {
                let mut rotten = Rotten::default();
                rotten.rot(
                    site,
                    node,
                    (&[Kind::Segments, Kind::Checkpoints], Part::All),
                    random,
                )?;
                site.machine(node).kill()?;
                rotten.rot(site, node, (&[Kind::Journal, Kind::Tables], Part::All), random)?;
                site.start(node)?;
                Ok(Done::Rotten(rotten))
            }
            Self::RotTwo => {
                let mut rotten = Rotten::default();
                rotten.rot(site, node, (&[Kind::Segments], Part::FirstHalf), random)?;
                rotten.rot(site, other, (&[Kind::Segments], Part::SecondHalf), random)?;
                Ok(Done::Rotten(rotten))
            }
            Self::LostDisk => {
                site.machine(node).kill()?;
                let mut rotten = Rotten::default();
                rotten.rot(site, node, (&[Kind::Identity], Part::All), random)?;
                site.start(node)?;
                refuses(site, node, "is damaged").await?;
                site.machine(node).lose_data()?;
                site.start(node)?;
                Ok(Done::Rotten(rotten))
            }
        }
    }
}

impl Done {
    /// Undoes it.
    pub(super) fn undo(&self, site: &mut Site) -> io::Result<()> {
        match self {
            Self::Dead(nodes) => nodes.iter().try_for_each(|node| site.start(*node)),
            Self::Frozen(node) => site.machine(*node).thaw(),
            Self::Lost(ways) => {
                ways.iter().try_for_each(|(from, to)| site.network()?.mend(*from, *to))
            }
            Self::Slow(node) => site.network()?.restore_speed(*node),
            Self::Full(nodes) => nodes.iter().try_for_each(|node| site.machine(*node).make_room()),
            Self::Rotten(_) => Ok(()),
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
            Self::Full(nodes) => write!(f, "the disks of nodes {nodes:?} are full"),
            Self::Rotten(rotten) => write!(f, "bits flipped in {rotten}"),
        }
    }
}

impl Rotten {
    fn rot(
        &mut self,
        site: &mut Site,
        node: u32,
        (kinds, part): (&[Kind], Part),
        random: &mut SmallRng,
    ) -> io::Result<()> {
        let data = site.machine(node).data();
        for kind in kinds {
            let hurt = rot::rot(&data, *kind, part, random)?;
            *self.0.entry(node).or_default().entry(*kind).or_default() += hurt;
        }
        Ok(())
    }
}

impl fmt::Display for Rotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (node, kinds) in &self.0 {
            write!(f, "{comma}node {node}:")?;
            kinds.iter().try_for_each(|(kind, files)| write!(f, " {files} {}", kind.name()))?;
            comma = ", ";
        }
        Ok(())
    }
}

fn another(site: &Site, node: u32, random: &mut SmallRng) -> u32 {
    let others: Vec<u32> = site.nodes().filter(|it| *it != node).collect();
    others[random.random_range(0..others.len())]
}

fn fill(site: &mut Site, nodes: Vec<u32>, free: u64) -> io::Result<Done> {
    nodes.iter().try_for_each(|node| site.machine(*node).fill(free))?;
    Ok(Done::Full(nodes))
}

/// A node ends by itself and says why.
async fn refuses(site: &mut Site, node: u32, why: &str) -> io::Result<()> {
    let refused = async {
        while site.machine(node).ended()?.is_none() {
            sleep(LOOK_AGAIN).await;
        }
        Ok(site.machine(node).last_words(3))
    };
    let late = |_| io::Error::other(format!("node {node} starts, though its identity has rotted"));
    let words: io::Result<String> = timeout(REFUSES_WITHIN, refused).await.map_err(late)?;
    match words? {
        words if words.contains(why) => Ok(()),
        words => Err(io::Error::other(format!("node {node} does not say why it ends: {words}"))),
    }
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
