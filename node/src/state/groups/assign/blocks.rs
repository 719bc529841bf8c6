//! Owns how even loads can be. Unequal subscriptions cut a group into blocks: who reads only what few subscribe carries
//! less than others, and nobody can help. Within a block all loads can be made equal within one, and no partition of a
//! block's topics goes to a member of another block in any most balanced assignment. So whatever gives each block's
//! partitions to its members, evenly within one, is most balanced, and nothing else is. Never looks at who has what now.
//!
//! "Most balanced": loads sorted from the highest down are the least possible in the order of words. Loads of members
//! form the bases of a polymatroid, for which that means the least sum of squares as well, and at the same time the least
//! total above every threshold (Frank and Murota call such vectors decreasingly minimal).
//!
//! How a block is found: let nobody take more than the mean `q`, and fill. If partitions are left over, the members to
//! which they could still get are full, and no partition that could go elsewhere needs them: by the last of the three
//! meanings above every most balanced assignment gives these members at least `q` each and the others at most `q`, and
//! the two sides share no partition. Cut there and go on with both sides. If nothing can be left over, it is a block.

use super::classes::{Classes, Pool};
use super::flow::{Flow, SINK, SOURCE};

/// Members whose loads can be equal within one, and the topics that they, and nobody else, read.
pub(super) struct Block {
    /// Cohort numbers, ascending.
    pub(super) cohorts: Vec<usize>,
    pub(super) shares: Vec<Share>,
}

/// A pool and those of its subscribers that are in the block.
pub(super) struct Share {
    pub(super) pool: usize,
    /// Cohort numbers, ascending; never empty.
    pub(super) cohorts: Vec<usize>,
}

impl Block {
    pub(super) fn members(&self, classes: &Classes<'_>) -> usize {
        self.cohorts.iter().map(|cohort| classes.cohorts[*cohort].len()).sum()
    }

    pub(super) fn partitions(&self, classes: &Classes<'_>) -> i64 {
        self.shares.iter().map(|share| classes.pools[share.pool].partitions).sum()
    }
}

/// Cuts a group into its blocks.
pub(super) fn blocks(classes: &Classes<'_>) -> Vec<Block> {
    let share = |(pool, it): (usize, &Pool)| Share { pool, cohorts: it.cohorts.clone() };
    let whole = Block {
        cohorts: (0..classes.cohorts.len()).collect(),
        shares: classes.pools.iter().enumerate().map(share).collect(),
    };
    let mut uncut = vec![whole];
    let mut blocks = Vec::new();
    // Ends: both sides of a cut have fewer cohorts.
    while let Some(part) = uncut.pop() {
        match overloaded(classes, &part) {
            Some(heavy) => uncut.extend(cut(part, &heavy)),
            None => blocks.push(part),
        }
    }
    blocks
}

/// Which cohorts, by their place in the part, must carry more than the mean so that others carry less. `None`: nobody.
fn overloaded(classes: &Classes<'_>, part: &Block) -> Option<Vec<bool>> {
    if part.cohorts.len() < 2 {
        return None;
    }
    let members = i64::try_from(part.members(classes)).unwrap_or(i64::MAX);
    let partitions = part.partitions(classes);
    let mean = partitions / members;
    let mut flow = Flow::new();
    let mut room = Vec::new();
    let mut nodes = Vec::new();
    for cohort in &part.cohorts {
        let size = i64::try_from(classes.cohorts[*cohort].len()).unwrap_or(i64::MAX);
        let node = flow.node();
        nodes.push(node);
        room.push((flow.arc(node, SINK, mean * size, 0), size));
    }
    for share in &part.shares {
        let supply = classes.pools[share.pool].partitions;
        let node = flow.node();
        flow.arc(SOURCE, node, supply, 0);
        for cohort in &share.cohorts {
            if let Ok(place) = part.cohorts.binary_search(cohort) {
                flow.arc(node, nodes[place], supply, 0);
            }
        }
    }
    let filled = flow.fill();
    let mut is_even = filled == mean * members;
    if is_even && filled < partitions {
        room.iter().for_each(|(arc, size)| flow.widen(*arc, *size));
        is_even = filled + flow.fill() == partitions;
    }
    let reached = (!is_even).then(|| flow.reached())?;
    let heavy: Vec<bool> = nodes.into_iter().map(|node| reached[node]).collect();
    // Always so, as something is left over and somebody has room; were it not, the loop above would have no end.
    (heavy.contains(&true) && heavy.contains(&false)).then_some(heavy)
}

/// The two sides of a cut. What both could read is for those with the lower loads.
fn cut(part: Block, is_heavy: &[bool]) -> [Block; 2] {
    let heavy =
        |cohort: &usize| part.cohorts.binary_search(cohort).is_ok_and(|place| is_heavy[place]);
    let (heavies, lights) = part.cohorts.iter().copied().partition(heavy);
    let mut sides = [
        Block { cohorts: heavies, shares: Vec::new() },
        Block { cohorts: lights, shares: Vec::new() },
    ];
    for share in part.shares {
        let pool = share.pool;
        let (heavies, lights): (Vec<usize>, Vec<usize>) =
            share.cohorts.into_iter().partition(heavy);
        let [heavy_side, light_side] = &mut sides;
        if lights.is_empty() {
            heavy_side.shares.push(Share { pool, cohorts: heavies });
        } else {
            light_side.shares.push(Share { pool, cohorts: lights });
        }
    }
    sides
}
