//! What rots on the disks of nodes. Owns the rule that leaves two sound copies of everything that can be given: each file may
//! rot on one node alone, which its name decides, and of a shard records rot only where two others have them as well, none of
//! which waits for a checkpoint.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::disk::SimDisk;
use crate::subject::{Harm, Rot};

const RECORDS: &str = ".log";
const CHECKPOINT: &str = "/checkpoint";
/// Bytes among which bits flip.
const WIDEST: u64 = 3_000;

/// Of what rots so many others have a copy.
const OTHERS: usize = 2;

/// Rots one file of this node, one of all; `None`: it has none that may.
pub(super) fn rot(disks: &[SimDisk], node: u32, what: Rot, seed: u64) -> Option<Harm> {
    let mut random = SmallRng::seed_from_u64(seed);
    let disk = &disks[node as usize - 1];
    let others = Others::than(node, disks);
    let files = disk.at_rest().into_iter();
    let mine = files.filter(|(path, len)| {
        *len > 0 && falls_on(path, disks.len()) == node && others.let_rot(what, path, *len)
    });
    let mine: Vec<(String, u64)> = mine.collect();
    if mine.is_empty() {
        return None;
    }
    let (path, len) = &mine[random.random_range(0..mine.len())];
    let from = random.random_range(0..*len);
    if random.random_bool(0.25) {
        tracing::info!(node, path, from, "a file loses its end");
        disk.truncate(path, from);
        Some(Harm::Cut)
    } else {
        let bits = random.random_range(1..=8);
        let to = (from + random.random_range(1..WIDEST)).min(*len);
        tracing::info!(node, path, from, to, bits, "bits flip");
        disk.rot(path, from..to, bits);
        Some(Harm::Flipped)
    }
}

/// What the other nodes have on their disks.
struct Others {
    copies: Vec<(String, u64)>,
    rotten: Vec<String>,
}

impl Others {
    fn than(node: u32, disks: &[SimDisk]) -> Self {
        let others = || (1..).zip(disks).filter(|(other, _)| *other != node).map(|(_, it)| it);
        let copies = others().flat_map(SimDisk::at_rest).collect();
        Self { copies, rotten: others().flat_map(SimDisk::rotten).collect() }
    }

    fn let_rot(&self, what: Rot, path: &str, len: u64) -> bool {
        let place = Place::of(path);
        let is_copy = |(other, held): &&(String, u64)| Place::of(other) == place && *held >= len;
        let mut rotten = self.rotten.iter().filter(|it| Place::of(it).shard == place.shard);
        match what {
            Rot::Records => {
                let copies = self.copies.iter().filter(is_copy).count();
                let waits = rotten.any(|it| it.ends_with(CHECKPOINT));
                path.ends_with(RECORDS) && copies >= OTHERS && !waits
            }
            // Its replica gives nothing before a peer has given it another one, with all that that one names.
            Rot::Checkpoint => path.ends_with(CHECKPOINT) && rotten.next().is_none(),
        }
    }
}

/// Whether something of what may rot has rotted, and is still there.
pub(super) fn has_rot(disk: &SimDisk) -> bool {
    disk.rotten().iter().any(|path| path.ends_with(RECORDS) || path.ends_with(CHECKPOINT))
}

/// Which file it is, whoever has it: replicas of a shard have the same files in folders of their own.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    shard: &'a str,
    file: &'a str,
}

impl<'a> Place<'a> {
    fn of(path: &'a str) -> Self {
        let folder = path.split('/').nth(1).and_then(|it| it.split('-').next());
        let file = path.splitn(3, '/').nth(2);
        Self { shard: folder.unwrap_or_default(), file: file.unwrap_or_default() }
    }
}

/// The one node on which a file may rot.
fn falls_on(path: &str, nodes: usize) -> u32 {
    let Place { shard, file } = Place::of(path);
    let nodes = u32::try_from(nodes).expect("a cluster has a handful of nodes");
    1 + crc32c::crc32c(format!("{shard}/{file}").as_bytes()) % nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lets(what: Rot, path: &str, copies: &[(&str, u64)], rotten: &[&str]) -> bool {
        let copies = copies.iter().map(|(path, len)| ((*path).to_owned(), *len)).collect();
        let rotten = rotten.iter().map(|path| (*path).to_owned()).collect();
        Others { copies, rotten }.let_rot(what, path, 50)
    }

    #[test]
    fn records_rot_where_two_others_have_them_and_give_them() {
        let rots = |copies: &[(&str, u64)], rotten: &[&str]| {
            lets(Rot::Records, "shards/5-0/a.1/7.log", copies, rotten)
        };
        let both = [("shards/5-0/a.1/7.log", 50), ("shards/5-3/a.1/7.log", 60)];
        assert!(rots(&both, &["shards/5-0/a.1/2.log", "shards/4-0/checkpoint"]));
        assert!(!rots(&both[..1], &[]));
        assert!(!rots(&[both[0], ("shards/5-3/a.1/7.log", 49)], &[]));
        assert!(!rots(&[both[0], ("shards/4-0/a.1/7.log", 60)], &[]));
        assert!(!rots(&both, &["shards/5-3/checkpoint"]));
    }

    #[test]
    fn a_checkpoint_rots_where_nothing_else_of_its_shard_has() {
        let rots = |rotten: &[&str]| lets(Rot::Checkpoint, "shards/5-0/checkpoint", &[], rotten);
        assert!(rots(&["shards/4-0/checkpoint", "shards/15-0/a.1/7.log"]));
        assert!(!rots(&["shards/5-1/a.1/7.log"]));
        assert!(!rots(&["shards/5-0/checkpoint"]));
    }
}
