//! Owns how a cluster is founded and joined (S12). One node, the first of the list, may found, and only after all have
//! answered that they are empty; a node whose disk is empty while its peers hold data has lost what it voted and never
//! joins under its old id. Never starts a replica.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tokio::time::sleep;
use waymark_proto::ids::{ClusterId, NodeId};

use super::StartError;
use super::identity::Identity;
use super::inner::Inner;
use super::network::{HelloAnswer, PeerError};

const ASK_PAUSE: Duration = Duration::from_millis(100);

/// Compares the disk with the configuration; sets the cluster if the disk knows one.
pub(super) async fn recognise_disk(inner: &Inner) -> Result<(), StartError> {
    let loaded = Identity::load(inner.parts.env.disk.as_ref()).await;
    let refuse = |why: String| StartError(format!("node {} cannot start: {why}", inner.node));
    if !inner.nodes.iter().any(|it| it.node == inner.node) {
        return Err(refuse("it is not in the configured list of nodes".to_owned()));
    }
    match loaded.map_err(|error| refuse(error.to_string()))? {
        None if inner.is_empty() => Ok(()),
        None => Err(refuse("its disk holds data but no identity".to_owned())),
        Some(identity) if identity.node != inner.node => {
            Err(refuse(format!("its disk belongs to node {}", identity.node)))
        }
        Some(identity) => {
            inner.set_cluster(identity.cluster);
            Ok(())
        }
    }
}

/// A single look at the peers, so that a node that lost its disk says so at once and not in the middle of its life.
pub(super) async fn refuse_lost_disk(inner: &Inner) -> Result<(), StartError> {
    if inner.cluster.borrow().is_none() {
        let answers = ask(inner, inner.peers()).await;
        check_lost(inner, &answers)?;
    }
    Ok(())
}

/// Returns once the cluster is known and persisted here and, on the founder, by all others too.
pub(super) async fn form(inner: &Inner) -> Result<(), StartError> {
    if inner.is_founder() && inner.is_empty() {
        let cluster = found(inner).await?;
        return offer(inner, cluster).await;
    }
    let mut known = inner.cluster.subscribe();
    while known.borrow_and_update().is_none() {
        let answers = ask(inner, inner.peers()).await;
        check_lost(inner, &answers)?;
        tokio::select! {
            _ = known.changed() => {}
            () = sleep(ASK_PAUSE) => {}
        }
    }
    Ok(())
}

/// Draws the cluster's id once every node has said that it is empty. An id that an earlier attempt has spread is taken
/// up again: that attempt wrote nothing else.
async fn found(inner: &Inner) -> Result<ClusterId, StartError> {
    let known = *inner.cluster.borrow();
    if let Some(cluster) = known {
        return Ok(cluster);
    }
    let spread = loop {
        let answers = ask(inner, inner.peers()).await;
        check_lost(inner, &answers)?;
        let heard: Vec<HelloAnswer> = answers.into_iter().filter_map(|(_, it)| it.ok()).collect();
        if heard.len() == inner.peers().len() {
            break heard.iter().filter_map(|it| it.cluster).collect::<BTreeSet<_>>();
        }
        sleep(ASK_PAUSE).await;
    };
    if spread.len() > 1 {
        return Err(StartError("the configured nodes belong to different clusters".to_owned()));
    }
    let cluster = spread.first().copied();
    let cluster = cluster.unwrap_or_else(|| ClusterId(inner.parts.env.random.next_id()));
    inner.join(cluster).await.map_err(StartError)?;
    Ok(cluster)
}

/// All others must have persisted the cluster before anything is written in its name, so that an empty disk can never be
/// taken for one that was not asked yet.
async fn offer(inner: &Inner, cluster: ClusterId) -> Result<(), StartError> {
    let mut waiting = inner.peers();
    while !waiting.is_empty() {
        let mut answers = Vec::new();
        for node in &waiting {
            answers.push(inner.network.offer_cluster(*node, cluster).await);
        }
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

type Answers = Vec<(NodeId, Result<HelloAnswer, PeerError>)>;

async fn ask(inner: &Inner, nodes: Vec<NodeId>) -> Answers {
    let hello = |node: NodeId| {
        let network = inner.network.clone();
        async move { (node, network.hello(node).await) }.boxed()
    };
    join_all(nodes.into_iter().map(hello)).await
}

fn check_lost(inner: &Inner, answers: &Answers) -> Result<(), StartError> {
    let formed = answers.iter().find_map(|(node, answer)| {
        let answer = answer.as_ref().ok()?;
        Some((node, answer.cluster.filter(|_| !answer.empty)?))
    });
    match formed {
        // The offer may have come while the peers were asked.
        Some((peer, cluster)) if inner.cluster.borrow().is_none() => Err(StartError(format!(
            "node {} has an empty disk, but node {peer} holds data of cluster {cluster} that lists it: what it voted for \
             and acknowledged is lost, so its replicas must be replaced",
            inner.node
        ))),
        _ => Ok(()),
    }
}
