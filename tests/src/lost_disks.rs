//! The story of lost disks: under load a node loses its disk while another one lags behind it, and comes back with an empty
//! disk where that one alone answers. Those two know too little to decide anything; once the third is there, the node's
//! replicas are replaced. Then the next node.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Broken, Cluster};
use crate::group_history::GroupEvent;
use crate::history::History;
use crate::subject::Subject;
use crate::workload::SETTLE;

/// Disks that are lost in a run, each of another node.
const LOSSES: u32 = 2;
/// Acknowledged while one node lags, so that it lacks something that counts.
const MISSED: usize = 20;
/// How long the empty one is with the one that lags alone, milliseconds.
const ALONE_MS: (u64, u64) = (500, 4_000);

/// Loses one disk after the other; the next one only when all replicas are whole again.
pub(crate) fn tell(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    history: &History,
) -> Result<(), Broken> {
    let nodes = cluster.nodes().count() as u64;
    let first = cluster.draw(0, nodes);
    for turn in 0..u64::from(LOSSES) {
        until_whole(cluster, subject)?;
        let node = u32::try_from((first + turn) % nodes + 1).unwrap_or(1);
        lose(cluster, history, node, |cluster| cluster.lose_disk(node))?;
    }
    until_whole(cluster, subject)
}

pub(crate) fn until_whole(cluster: &mut Cluster, subject: &Arc<dyn Subject>) -> Result<(), Broken> {
    if cluster.run_until(SETTLE, || subject.is_whole())? {
        return Ok(());
    }
    Err(Broken(format!("after {SETTLE:?} there are still replicas that do not vote or lag behind")))
}

/// A node loses power, and then something of its disk, while another one lags behind it, and comes back where that one alone
/// answers; later the third does.
pub(crate) fn lose(
    cluster: &mut Cluster,
    history: &History,
    node: u32,
    harm: impl FnOnce(&mut Cluster),
) -> Result<(), Broken> {
    history.note(GroupEvent::NodeFault);
    let mut others: Vec<u32> = cluster.nodes().filter(|other| *other != node).collect();
    if cluster.draw(0, 2) == 1 {
        others.reverse();
    }
    let [behind, ahead] = others[..] else {
        return Err(Broken("this story is about three nodes".to_owned()));
    };
    cluster.cut_from_peers(behind);
    let before = history.acknowledged();
    cluster.run_until(SETTLE, || history.acknowledged() >= before + MISSED)?;
    tracing::info!(node, behind, ahead, "a disk is harmed");
    cluster.power_loss(&[node]);
    harm(cluster);
    cluster.cut_from_peers(ahead);
    cluster.heal(behind);
    cluster.restart(&[node]);
    let alone = cluster.draw(ALONE_MS.0, ALONE_MS.1);
    cluster.run_for(Duration::from_millis(alone))?;
    cluster.heal(ahead);
    Ok(())
}
