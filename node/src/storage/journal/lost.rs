//! Owns what was lost between two whole flushes: how many flushes, and whose entries stood in them, as far as the headers
//! tell that survived (S1, S11). It never decides what that means for a log (see `replay`).

use std::collections::BTreeMap;

use waymark_proto::ids::ReplicaKey;

use super::JournalError;
use super::files::JournalFile;
use super::header::{FlushHeader, Link, ShardRange};
use super::walk::{Sighting, Walk};

/// A part of a file that is unreadable, or may be.
pub(super) type Region<'a> = (&'a JournalFile, u64, u64);

/// The lowest and highest index of each replica in lost flushes, the lower above the higher when they held no entry of it.
/// `None` when one is gone with both of its headers: anything of any replica may have stood in it.
pub(super) type Touched = Option<BTreeMap<ReplicaKey, (u64, u64)>>;

/// Flushes that were durable once and cannot be read.
#[derive(Debug)]
pub(super) struct Lost {
    /// The file, or the folder when a whole file is gone.
    pub(super) path: String,
    /// Where the damage begins.
    pub(super) offset: u64,
    pub(super) what: String,
    /// Whose entries stood in them.
    pub(super) touched: Touched,
    /// Only one flush is lost, and the one before it and the one after it are whole.
    pub(super) single: bool,
}

/// A damaged part of the journal, as it was found when the journal was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, or the folder when a whole file is gone.
    pub path: String,
    /// The byte at which it begins.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The replicas that it touches; `None` when that cannot be told, so that it may be all.
    pub replicas: Option<Vec<ReplicaKey>>,
}

impl Lost {
    /// Says what was found.
    pub(super) fn tell(&self) -> Damage {
        let Self { path, offset, what, touched, single } = self;
        let shards = touched.as_ref().map_or_else(
            || "all".to_owned(),
            |touched| {
                let keys = touched.keys().map(|key| format!("{}.{}", key.shard, key.incarnation));
                keys.collect::<Vec<_>>().join(" ")
            },
        );
        tracing::warn!(
            path,
            offset,
            what,
            shards,
            single,
            "the journal is damaged: what later flushes do not make certain is fetched from peers or replaced"
        );
        let replicas = touched.as_ref().map(|touched| touched.keys().copied().collect());
        Damage { path: path.clone(), offset: *offset, what: what.clone(), replicas }
    }
}

/// What stands at the two ends of the loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends<'a> {
    /// The last whole flush before it; `None` when the chain begins with the loss, in the file with this number.
    pub(super) before: Result<&'a FlushHeader, u64>,
    /// What the first flush after it follows.
    pub(super) after: Link,
}

/// Headers that survived in the lost part, with their lists of shards.
type Survivors = BTreeMap<(u64, u32), (Sighting, Option<Vec<ShardRange>>)>;

/// Finds out what was lost between two ends, by the headers that survived in the regions between them.
pub(super) async fn between(
    ends: Ends<'_>,
    regions: &[Region<'_>],
    journal: u64,
) -> Result<(Touched, bool), JournalError> {
    let survivors = survivors(regions, journal).await?;
    let mut touched = Some(BTreeMap::new());
    let mut flushes = 0;
    let mut wanted = ends.after;
    while !is_reached(ends.before, wanted) {
        let Some((seen, ranges)) = survivors.get(&(wanted.number, wanted.checksum)) else {
            touched = None;
            break;
        };
        flushes += 1;
        match (&mut touched, ranges) {
            (Some(touched), Some(ranges)) => ranges.iter().for_each(|range| join(touched, range)),
            _ => touched = None,
        }
        if ends.before.is_err_and(|oldest| seen.start == 0 && seen.header.file == oldest) {
            return Ok((touched, flushes == 1));
        }
        wanted = seen.header.base;
    }
    let closed = is_reached(ends.before, wanted);
    // Numbers follow each other within one life of the node, so one number that is missing is one flush.
    let by_number = ends.before.is_ok_and(|before| before.number + 1 == ends.after.number);
    Ok((touched, by_number || (closed && flushes == 1)))
}

/// Whether the flush that is looked for is the one before the loss, or the one that it contains (S2).
fn is_reached(before: Result<&FlushHeader, u64>, wanted: Link) -> bool {
    before.is_ok_and(|before| wanted == before.link() || wanted == before.base)
}

async fn survivors(regions: &[Region<'_>], journal: u64) -> Result<Survivors, JournalError> {
    let mut survivors = Survivors::new();
    for (file, from, to) in regions {
        let mut walk = Walk::starting(file, *from);
        let seen = walk.headers_behind().await?;
        for seen in seen.iter().filter(|it| it.header.journal == journal && it.start < *to) {
            let ranges = walk.ranges(seen).await?;
            let link = seen.header.link();
            let known = survivors.entry((link.number, link.checksum)).or_insert((*seen, None));
            known.1 = known.1.take().or(ranges);
        }
    }
    Ok(survivors)
}

fn join(touched: &mut BTreeMap<ReplicaKey, (u64, u64)>, range: &ShardRange) {
    let (first, last) = touched.entry(range.key).or_insert((range.first, range.last));
    *first = (*first).min(range.first);
    *last = (*last).max(range.last);
}
