//! The story of disks that run full under load (S19): one, and the others go on without it; then a majority, and records are
//! refused while committed offsets are not; then there is room, and service comes back with it, without a restart. Owns how
//! full and for how long; what was promised is the oracle's business.

use std::sync::Arc;
use std::time::Duration;

use crate::calls::{Answer, Call, spans};
use crate::cluster::{Broken, Cluster};
use crate::course::served_again;
use crate::history::History;
use crate::subject::{DiskCondition, Subject};

/// Too little for the entries of other nodes.
const HARDLY_ANY: u64 = 1 << 20;
/// Too little for records, enough for the rest.
const SOME: u64 = 10 << 20;
/// A node looks at its disk every second, and tells its leaders with heartbeats.
const NOTICED: Duration = Duration::from_secs(3);
/// A majority is full for so long.
const LASTS: Duration = Duration::from_secs(5);

/// Tells it.
pub(crate) fn tell(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    history: &History,
) -> Result<(), Broken> {
    let last = cluster.nodes().count() as u64;
    let drawn = u32::try_from(cluster.draw(1, last + 1)).unwrap_or(1);
    fill(cluster, &[drawn], HARDLY_ANY);
    cluster.run_for(NOTICED)?;
    served_again(cluster, subject, history, &format!("with the disk of node {drawn} full"))?;
    let more = Duration::from_millis(cluster.draw(0, 4_000));
    cluster.run_for(more)?;
    empty(cluster, &[drawn]);
    cluster.run_for(NOTICED)?;
    let majority: Vec<u32> = cluster.nodes().filter(|node| *node != drawn).collect();
    fill(cluster, &majority, SOME);
    cluster.run_for(NOTICED)?;
    let (records, commits) = (history.acknowledged(), commits(history));
    cluster.run_for(LASTS)?;
    judge_full(history, (records, commits)).map_err(Broken)?;
    empty(cluster, &majority);
    served_again(cluster, subject, history, "with room on all disks again")
}

fn fill(cluster: &mut Cluster, nodes: &[u32], free: u64) {
    tracing::info!(?nodes, free, "disks are full");
    nodes.iter().for_each(|node| cluster.set_disk(*node, DiskCondition::Full { free }));
}

fn empty(cluster: &mut Cluster, nodes: &[u32]) {
    tracing::info!(?nodes, "disks have room");
    nodes.iter().for_each(|node| cluster.set_disk(*node, DiskCondition::Healthy));
}

/// Commits of offsets that were answered so far.
pub(crate) fn commits(history: &History) -> usize {
    let all = spans(&history.snapshot());
    let commits = all.iter().filter(|it| matches!(it.what, Call::Commit { .. }));
    commits.filter(|it| it.answer() == Some(Answer::Done)).count()
}

/// No record since, and some offsets.
pub(crate) fn judge_full(
    history: &History,
    (records, before): (usize, usize),
) -> Result<(), String> {
    let taken = history.acknowledged() - records;
    if taken > 0 {
        return Err(format!("{taken} records were taken while a majority of disks is full"));
    }
    if commits(history) == before {
        return Err("no offset can be committed while a majority of disks is full".to_owned());
    }
    Ok(())
}
