//! Rot of journals at rest, in places of which the product promises something (S2, S11): something durable follows, and
//! each entry that is lost is on another node. Owns the choice of the place, by trying it on a copy; never a verdict.

use std::ops::Range;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::runtime::Builder;
use waymark_node::storage::journal::{Hole, Journal, JournalOptions};
use waymark_proto::ids::ShardId;

use crate::disk::SimDisk;

/// Places tried on one node's disk.
const TRIES: usize = 24;
/// As nodes are configured.
const FILE_BYTES: u64 = 1 << 20;

/// A place to rot, and the journal as it is after that.
struct Place {
    path: String,
    bytes: Range<u64>,
    bits: usize,
    after: Journal,
    /// Entries between what is lost and the end of its log: few of them, and no checkpoint covers it.
    depth: u64,
}

/// Flips bits in the journals of nodes that are down, given by their numbers in the list of disks: never the same entries on
/// two nodes, and no vote or end of a log. Returns how many were hit.
pub(super) fn rot_journals(disks: &[SimDisk], victims: &[usize], seed: u64) -> usize {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread");
    runtime.block_on(async {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut held = Vec::new();
        for disk in disks {
            held.push(open(disk.fork()).await);
        }
        let mut hit = 0;
        for victim in victims {
            let others = held.iter().enumerate().filter(|(number, _)| number != victim);
            let others: Vec<&Journal> =
                others.filter_map(|(_, journal)| journal.as_ref()).collect();
            let Some(place) = choose(&disks[*victim], &others, &mut random).await else { continue };
            tracing::info!(victim, place.path, ?place.bytes, place.bits, place.depth, "rot");
            disks[*victim].rot(&place.path, place.bytes, place.bits);
            held[*victim] = Some(place.after);
            hit += 1;
        }
        hit
    })
}

/// The place that costs the newest entries, of those tried that cost any; else one that costs none.
async fn choose(disk: &SimDisk, others: &[&Journal], random: &mut SmallRng) -> Option<Place> {
    let files: Vec<_> =
        disk.files().into_iter().filter(|(path, _)| path.starts_with("journal/")).collect();
    let mut best: Option<Place> = None;
    for _ in 0..TRIES {
        let (path, len) = files.choose(random)?;
        let at = random.random_range(0..*len);
        let bytes = at..(at + random.random_range(1..64)).min(*len);
        let bits = random.random_range(1..4);
        let copy = disk.fork();
        copy.rot(path, bytes.clone(), bits);
        let Some(after) = open(copy).await else { continue };
        if after.damage().is_empty() || !after.doubtful().is_empty() {
            continue;
        }
        let holes = holes(&after);
        if !holes.iter().all(|(shard, hole, _)| others.iter().any(|it| has(it, *shard, hole))) {
            continue;
        }
        let depth = holes.iter().map(|(.., depth)| *depth).min().unwrap_or(u64::MAX);
        if best.as_ref().is_none_or(|best| depth < best.depth) {
            best = Some(Place { path: path.clone(), bytes, bits, after, depth });
        }
    }
    best
}

fn holes(journal: &Journal) -> Vec<(ShardId, Hole, u64)> {
    let of = |key| {
        let log = journal.shard(key);
        let end = log.last().map_or(0, |last| last.index);
        log.holes().into_iter().map(move |hole| (key.shard, hole, end - hole.last))
    };
    journal.keys().into_iter().flat_map(of).collect()
}

fn has(journal: &Journal, shard: ShardId, hole: &Hole) -> bool {
    journal.keys().into_iter().filter(|key| key.shard == shard).any(|key| {
        let log = journal.shard(key);
        let purged = log.last_purged().is_some_and(|purged| purged.index >= hole.first);
        let lacks = |own: &Hole| own.first <= hole.last && hole.first <= own.last;
        let whole = !log.holes().iter().any(lacks);
        log.id_at(hole.anchor.index) == Some(hole.anchor) && whole && !purged
    })
}

async fn open(disk: SimDisk) -> Option<Journal> {
    let options = JournalOptions { file_bytes: FILE_BYTES, ..JournalOptions::default() };
    Journal::open(Arc::new(disk.attach()), options).await.ok()
}
