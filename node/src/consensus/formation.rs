//! Owns how a cluster is founded and joined (S12). One node, the first of the list, may found, and only after all have
//! answered that they are empty; a node whose disk is empty while its peers hold data has lost what it voted and never
//! joins under its old ids (`comeback`). Never starts a replica.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tokio::time::sleep;
use waymark_proto::ids::{ClusterId, NodeId};

use super::comeback;
use super::identity::Identity;
use super::member::Member;
use super::network::{HelloAnswer, PeerError};
use super::{ConfiguredNode, StartError};
use crate::mutants;
use crate::storage::disk::Disk;

/// Folder of what replicas hold beside the journal.
const REPLICAS: &str = "shards";
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// A node that hears of no quorum for so long asks its peers whether they belong together, and again each time.
const QUORUM_PATIENCE: Duration = Duration::from_secs(5);

/// The first look at a disk, which only reads: whose it is, if anybody's.
///
/// # Errors
/// When it is another node's, a newer version's, or what it says of itself is damaged or lost.
pub async fn recognise(
    disk: &dyn Disk,
    node: NodeId,
    nodes: &[ConfiguredNode],
) -> Result<Option<Identity>, StartError> {
    let refuse = |why: String| StartError(format!("node {node} cannot start: {why}"));
    if !nodes.iter().any(|it| it.node == node) {
        return Err(refuse("it is not in the configured list of nodes".to_owned()));
    }
    let failed = |error: io::Error| refuse(error.to_string());
    match Identity::load(disk).await.map_err(failed)? {
        // Without the journal too, nothing else tells that this disk was somebody's.
        None if !disk.list(REPLICAS).await.map_err(failed)?.is_empty() => {
            Err(refuse("its disk holds data but no identity: put the file \"identity\" and the folder \"journal\" back, \
                        or empty the whole data directory and have the node's replicas replaced".to_owned()))
        }
        Some(identity) if identity.node != node => Err(refuse(format!(
            "its disk belongs to node {0}. Nothing was changed: give node {node} its own data directory (node.data), or \
             start this one as node {0} (node.id)",
            identity.node
        ))),
        known => Ok(known),
    }
}

/// Compares the disk with the configuration and the opened journal; sets the cluster if the disk knows one.
pub(super) async fn recognise_disk(member: &Member) -> Result<(), StartError> {
    let (disk, journal) = (member.parts.env.disk.as_ref(), member.parts.journal.id());
    let refuse = |why: String| StartError(format!("node {} cannot start: {why}", member.node));
    let Some(identity) = recognise(disk, member.node, &member.nodes).await? else {
        let lost = || refuse("its disk holds data but no identity".to_owned());
        return if member.is_empty() { Ok(()) } else { Err(lost()) };
    };
    match identity.journal {
        Some(known) if known != journal && !mutants::planted!("lost-journal-is-born") => {
            return Err(refuse("its disk has the journal of another one".to_owned()));
        }
        Some(_) => member.recognised(identity),
        None => {
            let named = Identity { journal: Some(journal), ..identity };
            named
                .save(disk)
                .await
                .map_err(|error| refuse(format!("it cannot persist: {error}")))?;
            member.recognised(named);
        }
    }
    Ok(())
}

/// Returns once the cluster is known and persisted here and, on the founder, by all others too.
pub(super) async fn form(member: &Member) -> Result<(), StartError> {
    if member.is_founder() && member.is_empty() && member.disk() == 0 {
        return match found(member).await? {
            Found::Cluster(cluster) => offer(member, cluster).await,
            Found::Lost(lost) => comeback::come_back(member, &lost).await,
        };
    }
    if member.cluster.borrow().is_some() {
        return comeback::refuse_replaced(member).await;
    }
    let mut known = member.cluster.subscribe();
    while known.borrow_and_update().is_none() {
        let answers = ask(member, member.peers()).await;
        if let Some(lost) = lost(member, &answers) {
            return comeback::come_back(member, &lost).await;
        }
        tokio::select! {
            _ = known.changed() => {}
            () = sleep(ASK_PAUSE) => {}
        }
    }
    Ok(())
}

/// What a founder finds out.
enum Found {
    Cluster(ClusterId),
    Lost(Lost),
}

/// The disk of this node is empty, and this peer holds data of the cluster that lists it.
pub(super) struct Lost {
    pub(super) peer: NodeId,
    pub(super) cluster: ClusterId,
}

/// Draws the cluster's id once every node has said that it is empty. An id that an earlier attempt has spread is taken
/// up again: that attempt wrote nothing else.
async fn found(member: &Member) -> Result<Found, StartError> {
    let known = *member.cluster.borrow();
    if let Some(cluster) = known {
        return Ok(Found::Cluster(cluster));
    }
    let spread = loop {
        let answers = ask(member, member.peers()).await;
        if let Some(lost) = lost(member, &answers) {
            return Ok(Found::Lost(lost));
        }
        let heard: Vec<HelloAnswer> = answers.into_iter().filter_map(|(_, it)| it.ok()).collect();
        if heard.len() == member.peers().len() {
            break heard.iter().filter_map(|it| it.cluster).collect::<BTreeSet<_>>();
        }
        sleep(ASK_PAUSE).await;
    };
    if spread.len() > 1 {
        return Err(StartError("the configured nodes belong to different clusters".to_owned()));
    }
    let cluster = spread.first().copied();
    let cluster = cluster.unwrap_or_else(|| ClusterId(member.parts.env.random.next_id()));
    member.join(cluster).await.map_err(StartError)?;
    Ok(Found::Cluster(cluster))
}

/// All others must have persisted the cluster before anything is written in its name, so that an empty disk can never be
/// taken for one that was not asked yet.
async fn offer(member: &Member, cluster: ClusterId) -> Result<(), StartError> {
    let mut waiting = member.peers();
    while !waiting.is_empty() {
        let offers =
            waiting.iter().map(|node| member.network.offer_cluster(*node, cluster).boxed());
        let answers = join_all(offers).await;
        let mut left = Vec::new();
        for (node, answer) in waiting.into_iter().zip(answers) {
            match answer {
                Ok(Ok(())) => {}
                Ok(Err(reason)) | Err(PeerError::Refused { reason, .. }) => {
                    return Err(StartError(format!("node {node} does not join: {reason}")));
                }
                Err(_) => left.push(node),
            }
        }
        waiting = left;
        if !waiting.is_empty() {
            sleep(ASK_PAUSE).await;
        }
    }
    Ok(())
}

/// A data directory of another cluster is refused by everybody for ever, so its node stops and says so: once most of its
/// peers belong to another one. That leaves too few for a quorum of its own, and a node that has found a quorum is never
/// asked again, so what a few peers say stops nobody.
pub(super) async fn leave_foreign_cluster(member: &Member) {
    let peers = member.peers();
    let quorum = peers.len().div_ceil(2) + 1;
    while member.heard_of() + 1 < quorum {
        sleep(QUORUM_PATIENCE).await;
        let Some(ours) = *member.cluster.borrow() else { continue };
        let mut strangers = Vec::new();
        let mut with_us = 1;
        for (node, answer) in ask(member, peers.clone()).await {
            match answer {
                Ok(it) if comeback::is_replaced(member, it.callers_disk) => {
                    return member.fail(comeback::replaced(member, it.callers_disk));
                }
                Ok(it) if it.cluster == Some(ours) => with_us += 1,
                Err(PeerError::Refused { cluster: Some(theirs), .. }) => {
                    tracing::error!(%node, %ours, %theirs, "a listed node belongs to another cluster");
                    strangers.push(format!("node {node} to cluster {theirs}"));
                }
                Ok(_) | Err(_) => {}
            }
        }
        if with_us >= quorum {
            return;
        }
        if strangers.len() > peers.len() / 2 {
            return member.fail(format!(
                "its data directory belongs to cluster {ours}, but of the nodes that its configuration lists {}: give it the \
                 data directory that it has in that cluster (node.data), or the list of its own cluster (cluster.nodes)",
                strangers.join(", ")
            ));
        }
    }
}

pub(super) type Answers = Vec<(NodeId, Result<HelloAnswer, PeerError>)>;

pub(super) async fn ask(member: &Member, nodes: Vec<NodeId>) -> Answers {
    let hello = |node: NodeId| {
        let network = member.network.clone();
        async move { (node, network.hello(node).await) }.boxed()
    };
    join_all(nodes.into_iter().map(hello)).await
}

fn lost(member: &Member, answers: &Answers) -> Option<Lost> {
    let (peer, cluster) = answers.iter().find_map(|(node, answer)| {
        let answer = answer.as_ref().ok()?;
        Some((*node, answer.cluster.filter(|_| !answer.empty)?))
    })?;
    // The offer may have come while the peers were asked.
    member.cluster.borrow().is_none().then_some(Lost { peer, cluster })
}
