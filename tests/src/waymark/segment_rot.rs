//! What rots on the disks of nodes. Owns the rule that leaves two sound copies of everything: each file may rot on one node
//! alone, which its name decides.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::disk::SimDisk;
use crate::subject::{Harm, Rot};

/// Bytes among which bits flip.
const WIDEST: u64 = 3_000;

/// Rots one file of this node; `None`: it has none that may.
pub(super) fn rot(disk: &SimDisk, (node, nodes): (u32, u32), what: Rot, seed: u64) -> Option<Harm> {
    let mut random = SmallRng::seed_from_u64(seed);
    let wanted = |path: &str| match what {
        Rot::Records => path.ends_with(".log"),
        Rot::Checkpoint => path.ends_with("/checkpoint"),
    };
    let files = disk.at_rest().into_iter();
    let mine =
        files.filter(|(path, len)| *len > 0 && wanted(path) && falls_on(path, nodes) == node);
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

/// Whether something of what may rot has rotted, and is still there.
pub(super) fn has_rot(disk: &SimDisk) -> bool {
    disk.rotten().iter().any(|path| path.ends_with(".log") || path.ends_with("/checkpoint"))
}

/// The one node on which a file may rot. Replicas of a shard have the same files in folders of their own.
fn falls_on(path: &str, nodes: u32) -> u32 {
    let shard = path.split('/').nth(1).and_then(|it| it.split('-').next()).unwrap_or_default();
    let file = path.splitn(3, '/').nth(2).unwrap_or_default();
    1 + crc32c::crc32c(format!("{shard}/{file}").as_bytes()) % nodes
}
