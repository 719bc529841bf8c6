//! The story of disks that lie (F12g): under load a disk says that it has synced and has not, and loses all of that with its
//! machine's power at a moment when every other replica has it. Nothing is lost then; but leaders that the node followed have
//! heard it acknowledge what it no longer has, and must say so (S10) and have it replaced (S11). Then the next node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use waymark_proto::ids::{ReplicaId, ShardId};

use crate::cluster::{Broken, Cluster};
use crate::group_history::GroupEvent;
use crate::history::History;
use crate::lost_disks::until_whole;
use crate::subject::{DiskCondition, Subject};
use crate::tally::Tally;
use crate::workload::SETTLE;

/// How often a disk loses what it lied about.
const LOSSES: u64 = 4;
/// … at most, until a leader has said so: of some losses the node itself finds traces, and of many a leader hears first that
/// another replica comes.
const MOST_LOSSES: u64 = 24;
/// For how long it lies before that at least, milliseconds.
const LIES_MS: (u64, u64) = (200, 2_000);
/// How long its machine is off, milliseconds: so short that leaders elsewhere stay what they are.
const OFF_MS: (u64, u64) = (10, 200);
/// What a node says when its follower has less than it acknowledged, and what a node says of a replica of its own.
const ALARM: &str = "log-reverted";
const DOUBTFUL: &str = "replica-doubtful";

/// Lets one disk after the other lie; the next one only when all replicas are whole again.
pub(crate) fn tell(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    (history, tally): (&History, &Tally),
) -> Result<(), Broken> {
    let nodes = cluster.nodes().count() as u64;
    let first = cluster.draw(0, nodes);
    let counted = |what: &str| tally.counts().get(what).copied().unwrap_or(0);
    for turn in (0..MOST_LOSSES).take_while(|turn| *turn < LOSSES || counted(ALARM) == 0) {
        until_whole(cluster, subject)?;
        let node = u32::try_from((first + turn) % nodes + 1).unwrap_or(1);
        history.note(GroupEvent::NodeFault);
        let (before, alarms, doubts) = (ids(subject, node), counted(ALARM), counted(DOUBTFUL));
        lie(cluster, subject, node)?;
        until_whole(cluster, subject)?;
        if counted(ALARM) == alarms {
            continue;
        }
        // Who found traces of the loss itself is replaced for that.
        let others = || {
            let gone = before.difference(&ids(subject, node)).count() as u64;
            gone > counted(DOUBTFUL) - doubts
        };
        if !cluster.run_until(SETTLE, others)? {
            let why = "has less than it acknowledged, and runs on under its id";
            return Err(Broken(format!("a replica of node {node} {why}")));
        }
    }
    until_whole(cluster, subject)?;
    if counted(ALARM) == 0 {
        let why = "disks lost what they had acknowledged again and again, and no leader said so";
        return Err(Broken(why.to_owned()));
    }
    Ok(())
}

fn ids(subject: &Arc<dyn Subject>, node: u32) -> BTreeSet<(ShardId, ReplicaId)> {
    let own = subject.sights().into_iter().filter(|sight| sight.node == node);
    own.map(|sight| (sight.shard, sight.replica)).collect()
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
