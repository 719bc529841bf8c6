//! The story of pulls that are interrupted (S9): a node is away until the others have purged what it lacks, and comes back. It
//! then dies in the middle of pulls, its machine or its process alone, and a peer that gives dies too. Whatever it has pulled by
//! then, it ends with everything. Then the next node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use waymark_proto::ids::ShardId;

use crate::cluster::{Broken, Cluster};
use crate::disk::Point;
use crate::group_history::GroupEvent;
use crate::history::History;
use crate::lost_disks::until_whole;
use crate::subject::Subject;
use crate::tally::Tally;
use crate::workload::SETTLE;

/// Absences in a run, each of another node.
const ABSENCES: u64 = 2;
/// How often a pull of the one that was away is interrupted, if it lasts that long.
const INTERRUPTIONS: u32 = 3;
/// Pieces that arrive before an interruption, at most.
const MOST_PIECES: u64 = 6;
/// How long a machine is off, milliseconds.
const OFF_MS: (u64, u64) = (10, 1_000);

/// Lets one node after the other be away; the next one only when all replicas are whole again.
pub(crate) fn tell(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    (history, tally): (&History, &Tally),
) -> Result<(), Broken> {
    let nodes = cluster.nodes().count() as u64;
    let first = cluster.draw(0, nodes);
    for turn in 0..ABSENCES {
        until_whole(cluster, subject)?;
        let node = u32::try_from((first + turn) % nodes + 1).unwrap_or(1);
        history.note(GroupEvent::NodeFault);
        be_away(cluster, subject, node)?;
        come_back(cluster, subject, node)?;
    }
    until_whole(cluster, subject)?;
    if tally.counts().contains_key(Point::PulledInPart.name()) {
        return Ok(());
    }
    Err(Broken(format!("nodes were away {ABSENCES} times, and no pull was interrupted")))
}

/// Until its peers have purged more than it has of a shard with records.
fn be_away(cluster: &mut Cluster, subject: &Arc<dyn Subject>, node: u32) -> Result<(), Broken> {
    let sights = subject.sights();
    let own = sights.iter().filter(|it| it.node == node && it.shard != ShardId::CATALOG);
    let ends: BTreeMap<ShardId, u64> =
        own.map(|it| (it.shard, it.stand.last.map_or(0, |last| last.index))).collect();
    cluster.crash(node);
    let lacks = || {
        let sights = subject.sights();
        ends.iter().any(|(shard, end)| {
            let mut peers = sights.iter().filter(|it| it.shard == *shard && it.node != node);
            peers.all(|it| it.stand.purged.is_some_and(|purged| purged.index > *end))
        })
    };
    if cluster.run_until(SETTLE, lacks)? {
        return Ok(());
    }
    Err(Broken(format!("within {SETTLE:?} nobody purged what node {node} lacks")))
}

/// Dies at each trap that it meets on its way.
fn come_back(cluster: &mut Cluster, subject: &Arc<dyn Subject>, node: u32) -> Result<(), Broken> {
    for turn in 0..INTERRUPTIONS {
        // The first piece always comes.
        let most = if turn == 0 { 1 } else { MOST_PIECES };
        let pieces = u32::try_from(cluster.draw(0, most)).unwrap_or(0);
        subject.set_trap(node, Some((Point::PulledInPart, pieces)));
        cluster.restart(&[node]);
        let ends = || subject.ended(node).is_some() || subject.is_whole();
        if !cluster.run_until(SETTLE, ends)? {
            return Err(Broken(format!("within {SETTLE:?} node {node} did not catch up")));
        }
        if subject.ended(node).is_none() {
            subject.set_trap(node, None);
            return Ok(());
        }
        tracing::info!(node, pieces, "a pull is interrupted");
        if cluster.draw(0, 4) == 0 {
            cluster.crash(node);
        } else {
            cluster.power_loss(&[node]);
        }
        subject.set_trap(node, None);
        let peer = cluster.nodes().find(|peer| *peer != node).filter(|_| cluster.draw(0, 3) == 0);
        peer.into_iter().for_each(|peer| cluster.crash(peer));
        let off = cluster.draw(OFF_MS.0, OFF_MS.1);
        cluster.run_for(Duration::from_millis(off))?;
        peer.into_iter().for_each(|peer| cluster.restart(&[peer]));
    }
    cluster.restart(&[node]);
    Ok(())
}
