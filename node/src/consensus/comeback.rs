//! Owns the way back of replicas whose disk was lost, or that must not run on under their ids (S10–S12): the catalog gives
//! them a new incarnation, this disk notes what may run on it from then on, and only then is anything started. Also owns
//! that a disk which others came instead of does not run. Never changes the members of a shard: their leaders do
//! (`replacer`).

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};
use waymark_proto::ids::{ReplicaId, ReplicaKey, ShardId};

use super::StartError;
use super::formation::Lost;
use super::member::Member;
use super::propose;
use crate::mutants;
use crate::reached::reached;
use crate::state::{CatalogCommand, Command, Refusal, Reply};

/// Shard 0 needs a quorum without this node to give out an incarnation, and may have none for long.
const ASK_AGAIN: Duration = Duration::from_millis(500);
const PROPOSAL_TIME: Duration = Duration::from_secs(5);
/// A node whose replica of shard 0 hears of no leader for so long asks whether it was replaced.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A node that nothing was heard of for so long may be down.
const SILENCE: Duration = Duration::from_secs(5);

/// Has every replica of this node replaced, because its disk is empty and should not be. Returns once this disk says under
/// which incarnation they come back: before that it must not run one.
pub(super) async fn come_back(member: &Member, lost: &Lost) -> Result<(), StartError> {
    let (node, peer, cluster) = (member.node, lost.peer, lost.cluster);
    if mutants::planted!("replaced-keeps-its-id") {
        return member.join(cluster).await.map_err(StartError);
    }
    tracing::warn!(
        %node, %peer, %cluster,
        "this disk is empty, but a peer holds data of a cluster that lists this node: what it voted and acknowledged is lost, \
         so its replicas are to be replaced"
    );
    member.network.set_cluster(cluster);
    let journal = member.parts.journal.id();
    let incarnation = allotted(member, CatalogCommand::AdmitDisk { node, journal }).await?;
    member.join_as(cluster, incarnation).await.map_err(StartError)?;
    if member.disk() != incarnation {
        let why =
            format!("node {node} was offered cluster {cluster} while its lost disk was replaced");
        return Err(StartError(why));
    }
    reached!("disk-admitted");
    tracing::warn!(%node, incarnation, "this disk takes the place of the lost one: its replicas come back under new ids");
    Ok(())
}

/// Has a replica replaced of which damage took what it voted or acknowledged. Until the catalog has given a new id, nothing
/// of its shard runs here.
pub(super) fn replace(member: &Arc<Member>, key: ReplicaKey) {
    let Some(reason) = member.parts.journal.shard(key).doubt() else { return };
    member.doubt(key);
    let member = Arc::clone(member);
    tokio::spawn(async move {
        let stopping = member.stopping.clone();
        stopping.run_until_cancelled(replace_one(&member, key, reason)).await;
    });
}

async fn replace_one(member: &Member, key: ReplicaKey, reason: String) {
    let old = ReplicaId { node: member.node, incarnation: key.incarnation };
    tracing::warn!(
        shard = %key.shard, replica = %old, reason,
        "this replica may have lost what it voted or acknowledged, so it is to be replaced"
    );
    let asked = CatalogCommand::ReplaceReplica { shard: key.shard, old, votes: false };
    let floor = match allotted(member, asked).await {
        Ok(incarnation) => member.raise_floor(key.shard, incarnation).await,
        Err(error) => Err(error.0),
    };
    if let Err(reason) = floor {
        return member.fail(reason);
    }
    member.end_doubt(key);
    member.catalog_changed.notify_one();
}

/// A follower of a replica here was seen to lack what it acknowledged. Returns whether that is news: it is told of more than once
/// before it is replaced.
pub(super) fn begin_replacing(member: &Member, shard: ShardId, old: ReplicaId) -> bool {
    member.reverted.lock().unwrap_or_else(PoisonError::into_inner).insert((shard, old))
}

/// Has it replaced: what it voted may be lost as well (S11). It is asked for until it is done or this node ends, also when
/// another node leads by then: what was seen stays true.
pub(super) fn replace_reverted(member: &Arc<Member>, shard: ShardId, old: ReplicaId) {
    let member = Arc::clone(member);
    tokio::spawn(async move {
        let stopping = member.stopping.clone();
        if stopping.run_until_cancelled(replace_voter(&member, shard, old)).await.is_some() {
            let mut reverted = member.reverted.lock().unwrap_or_else(PoisonError::into_inner);
            reverted.remove(&(shard, old));
        }
    });
}

/// Waits for a majority of the shard without it, on nodes that were heard of lately. The replica has been filled up again
/// meanwhile, and to end it would cost the shard more than what its vote may do: two such losses at once need an operator anyway.
async fn replace_voter(member: &Member, shard: ShardId, old: ReplicaId) {
    let mut told = false;
    loop {
        let runs = |node| node == member.node || member.has_heard(node, SILENCE);
        let stand = member.shard(ShardId::CATALOG).and_then(|catalog| {
            catalog.read(|state| {
                let catalog = state.catalog()?;
                let is_member = catalog.replica_on(shard, old.node) == Some(old);
                Some((is_member, catalog.can_spare(shard, old.node, runs)))
            })
        });
        if stand.is_some_and(|(is_member, _)| !is_member) {
            // Its disk was lost meanwhile, or its topic deleted.
            return;
        }
        if stand.is_some_and(|(_, spared)| spared) {
            let asked = CatalogCommand::ReplaceReplica { shard, old, votes: true };
            match answered(member, asked).await {
                Reply::Incarnation(_) => return,
                // Another one of its shard was replaced in the same moment.
                Reply::Refused(Refusal::NoMajorityWithout) => {}
                reply => {
                    tracing::error!(%shard, replica = %old, ?reply, "a replica that has lost entries is not replaced");
                    return;
                }
            }
        } else if stand.is_some() && !std::mem::replace(&mut told, true) {
            tracing::error!(
                %shard, replica = %old,
                "a replica that has lost entries runs on: its shard has no majority without it"
            );
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The incarnation that the catalog gives.
async fn allotted(member: &Member, command: CatalogCommand) -> Result<u32, StartError> {
    let what = command.to_string();
    match answered(member, command).await {
        Reply::Incarnation(incarnation) => Ok(incarnation),
        reply => Err(StartError(format!("the catalog refuses to {what}: {reply:?}"))),
    }
}

/// What the catalog answers; asked until it does.
async fn answered(member: &Member, command: CatalogCommand) -> Reply {
    let what = command.to_string();
    let command = Command::Catalog(command).encode();
    loop {
        let deadline = Instant::now() + PROPOSAL_TIME;
        let asked = propose::anywhere(member, ShardId::CATALOG, &command, deadline).await;
        match asked.map(|committed| committed.reply) {
            Ok(reply) => return reply,
            Err(error) => {
                tracing::warn!(node = %member.node, %error, what, "the catalog does not answer yet");
            }
        }
        sleep(ASK_AGAIN).await;
    }
}

/// The node has a newer disk than this one.
pub(super) fn is_replaced(member: &Member, newest: u32) -> bool {
    newest > member.disk() && !mutants::planted!("old-disk-votes")
}

/// Why a disk that was replaced does not run.
pub(super) fn replaced(member: &Member, newest: u32) -> String {
    format!(
        "node {} has had another disk since this one: the cluster took this one for lost, and replaced its replicas \
         (incarnation {newest}, here {}). What is on it must not run again. Nothing was changed: give the node that newer data \
         directory (node.data), or an empty one",
        member.node,
        member.disk()
    )
}

/// Asks the peers, for as long as one may take to answer, whether this disk was replaced. Others may not answer, and a vote
/// of this disk is one that it could have given before: so nobody has to.
pub(super) async fn refuse_replaced(member: &Member) -> Result<(), StartError> {
    let hellos = member.peers().into_iter().map(|node| member.network.hello(node));
    let mut hellos: FuturesUnordered<_> = hellos.collect();
    let newer = async {
        while let Some(answer) = hellos.next().await {
            let newest = answer.map_or(0, |it| it.callers_disk);
            if is_replaced(member, newest) {
                return Some(newest);
            }
        }
        None
    };
    match timeout(member.options.election_min, newer).await {
        Ok(Some(newest)) => Err(StartError(replaced(member, newest))),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// A disk that was replaced hears of no leader: its ids are no members any more. Asks why, for ever.
pub(super) async fn watch_replaced(member: &Member) {
    loop {
        sleep(LOOK_AGAIN).await;
        let Some(shard0) = member.shard(ShardId::CATALOG) else { continue };
        if shard0.leadership().leader.is_some() {
            continue;
        }
        if let Err(error) = refuse_replaced(member).await {
            return member.fail(error.0);
        }
    }
}

/// Removes what this disk still has of replicas that must not run here any more.
pub(super) async fn sweep(member: &Member) {
    for key in member.parts.journal.keys() {
        let runs =
            member.started(key.shard).is_some_and(|it| it.replica.incarnation == key.incarnation);
        if runs || key.incarnation >= member.floor(key.shard) {
            continue;
        }
        // The journal's mark goes last: while it stands, a crash in between is made up for.
        if let Err(error) = member.parts.store.remove_shard(key).await {
            tracing::warn!(shard = %key.shard, incarnation = key.incarnation, %error, "a replaced replica is not removed yet");
            continue;
        }
        member.parts.journal.forget(key);
        tracing::info!(shard = %key.shard, incarnation = key.incarnation, "what was left of a replaced replica is removed");
    }
}
