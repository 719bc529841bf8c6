//! The story of disks that lie (F12g): under load a disk says that it has synced and has not, and loses all of that with its
//! machine's power at a moment when every other replica has it. Nothing is lost then; but leaders that the node followed have
//! heard it acknowledge what it no longer has, and must say so (S10), or nobody would replace that disk. Then the next node.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Broken, Cluster};
use crate::group_history::GroupEvent;
use crate::history::History;
use crate::lost_disks::until_whole;
use crate::subject::{DiskCondition, Subject};
use crate::tally::Tally;
use crate::workload::SETTLE;

/// How often a disk loses what it lied about.
const LOSSES: u64 = 4;
/// For how long it lies before that at least, milliseconds.
const LIES_MS: (u64, u64) = (200, 2_000);
/// How long its machine is off, milliseconds: so short that leaders elsewhere stay what they are.
const OFF_MS: (u64, u64) = (10, 200);
/// What a node says when its follower has less than it acknowledged.
const ALARM: &str = "log-reverted";

/// Lets one disk after the other lie; the next one only when all replicas are whole again.
pub(crate) fn tell(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    (history, tally): (&History, &Tally),
) -> Result<(), Broken> {
    let nodes = cluster.nodes().count() as u64;
    let first = cluster.draw(0, nodes);
    for turn in 0..LOSSES {
        until_whole(cluster, subject)?;
        let node = u32::try_from((first + turn) % nodes + 1).unwrap_or(1);
        history.note(GroupEvent::NodeFault);
        lie(cluster, subject, node)?;
    }
    until_whole(cluster, subject)?;
    if tally.counts().contains_key(ALARM) {
        return Ok(());
    }
    Err(Broken(format!(
        "disks lost what they had acknowledged {LOSSES} times, and no leader said so"
    )))
}

fn lie(cluster: &mut Cluster, subject: &Arc<dyn Subject>, node: u32) -> Result<(), Broken> {
    cluster.set_disk(node, DiskCondition::Lies);
    let lies = cluster.draw(LIES_MS.0, LIES_MS.1);
    cluster.run_for(Duration::from_millis(lies))?;
    if !cluster.run_until(SETTLE, || subject.expose_lies(node))? {
        return Err(Broken(format!("within {SETTLE:?} no other replica had what node {node} has")));
    }
    tracing::info!(node, "what its disk lied about is lost");
    cluster.power_loss(&[node]);
    cluster.set_disk(node, DiskCondition::Healthy);
    let off = cluster.draw(OFF_MS.0, OFF_MS.1);
    cluster.run_for(Duration::from_millis(off))?;
    cluster.restart(&[node]);
    Ok(())
}
