//! Rot of journals at rest, in places of which the product promises something (S2, S11): something durable follows, and
//! each entry that is lost is on another node, or its replica is known to be in doubt. Owns the choice of the place, by trying
//! it on a copy; never a verdict.

use std::ops::Range;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::runtime::Builder;
use waymark_node::storage::journal::{Hole, Journal, JournalOptions};
use waymark_proto::ids::{ReplicaKey, ShardId};

use crate::disk::SimDisk;
use crate::subject::Harm;

/// Places tried on one node's disk.
const TRIES: usize = 24;
/// … for one that leaves something in doubt, of each kind of harm.
const TRIES_FOR_DOUBT: usize = 32;
/// How far bits flip that are to take whole flushes, as powers of two, and one bit for so many bytes.
const WIDTHS: Range<u32> = 8..18;
const BYTES_FOR_A_BIT: u64 = 512;
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
    apart(async {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut held = open_all(disks).await;
        let mut hit = 0;
        for victim in victims {
            let others = but(*victim, &held);
            let Some(place) = choose(&disks[*victim], &others, &mut random).await else { continue };
            tracing::info!(victim, place.path, ?place.bytes, place.bits, place.depth, "rot");
            disks[*victim].rot(&place.path, place.bytes, place.bits);
            held[*victim] = Some(place.after);
            hit += 1;
        }
        hit
    })
}

/// Damages the journal of a node that is down so that some of its replicas are in doubt, and each of the others is as it was,
/// or lacks what another node has. Returns what was done; `None`: no place was found for it.
pub(super) fn put_in_doubt(disks: &[SimDisk], victim: usize, seed: u64) -> Option<Harm> {
    apart(async {
        let mut random = SmallRng::seed_from_u64(seed);
        let held = open_all(disks).await;
        let (before, others) = (held[victim].as_ref()?, but(victim, &held));
        let disk = &disks[victim];
        let files = journal_files(disk);
        let mut kinds = [Harm::Cut, Harm::Flipped];
        if random.random_bool(0.5) {
            kinds.reverse();
        }
        for harm in kinds.into_iter().flat_map(|harm| [harm; TRIES_FOR_DOUBT]) {
            let (path, len) = files.choose(&mut random)?;
            let from = random.random_range(0..*len);
            let to = (from + (1 << random.random_range(WIDTHS))).min(*len);
            let bits = usize::try_from((to - from) / BYTES_FOR_A_BIT + 1).unwrap_or(1);
            let strike = |disk: &SimDisk| match harm {
                Harm::Cut => disk.truncate(path, from),
                Harm::Flipped => disk.rot(path, from..to, bits),
            };
            let copy = disk.fork();
            strike(&copy);
            let Some(after) = open(copy).await else { continue };
            if !after.doubtful().is_empty() && is_known(before, &after, &others) {
                tracing::info!(victim, path, from, to, ?harm, doubt = ?after.doubtful(), "doubt");
                strike(disk);
                return Some(harm);
            }
        }
        None
    })
}

/// Whether the damaged journal knows of all that it has lost: a replica is in doubt up to its last entry, or as it was, or
/// lacks what another node has.
fn is_known(before: &Journal, after: &Journal, others: &[&Journal]) -> bool {
    let known = |key: ReplicaKey| {
        let (was, is) = (before.shard(key), after.shard(key));
        let Some(reason) = is.doubt() else {
            return (was.last(), was.vote()) == (is.last(), is.vote());
        };
        // Of one that has only its end in doubt: up to which index.
        let up_to = reason.rsplit(' ').next().and_then(|it| it.parse::<u64>().ok());
        up_to.is_none_or(|end| {
            let all = was.last() == is.last() || was.last().is_none_or(|last| last.index <= end);
            all && was.vote() == is.vote()
        })
    };
    let mut fit = holes(after);
    fit.retain(|(shard, ..)| after.doubtful().iter().all(|(key, _)| key.shard != *shard));
    before.keys().into_iter().all(known) && are_elsewhere(&fit, others)
}

/// Lets something happen outside simulated time.
fn apart<T>(what: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread").block_on(what)
}

async fn open_all(disks: &[SimDisk]) -> Vec<Option<Journal>> {
    let mut held = Vec::new();
    for disk in disks {
        held.push(open(disk.fork()).await);
    }
    held
}

fn but(victim: usize, held: &[Option<Journal>]) -> Vec<&Journal> {
    let others = held.iter().enumerate().filter(|(number, _)| *number != victim);
    others.filter_map(|(_, journal)| journal.as_ref()).collect()
}

fn journal_files(disk: &SimDisk) -> Vec<(String, u64)> {
    let files = disk.files().into_iter();
    files.filter(|(path, len)| path.starts_with("journal/") && *len > 0).collect()
}

/// The place that costs the newest entries, of those tried that cost any; else one that costs none.
async fn choose(disk: &SimDisk, others: &[&Journal], random: &mut SmallRng) -> Option<Place> {
    let files = journal_files(disk);
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
        if !are_elsewhere(&holes, others) {
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

/// Whether each hole is whole on some other node.
fn are_elsewhere(holes: &[(ShardId, Hole, u64)], others: &[&Journal]) -> bool {
    holes.iter().all(|(shard, hole, _)| others.iter().any(|it| has(it, *shard, hole)))
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
