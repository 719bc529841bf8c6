//! The story of journals in doubt (S11 c): under load a node loses power while another one lags behind it, and damage takes
//! its vote, or the end of its log. It comes back where the one that lags alone answers. Those two know too little to decide
//! anything, and what is in doubt must not vote; once the third is there, the replicas in doubt are replaced by learners under
//! new ids. Then the next node.

use std::collections::BTreeMap;
use std::sync::Arc;

use waymark_proto::ids::{ReplicaId, ShardId};

use crate::cluster::{Broken, Cluster};
use crate::course::served_again;
use crate::history::History;
use crate::lost_disks::{lose, until_whole};
use crate::storm::{JOURNAL_CUT, JOURNAL_DOUBTED};
use crate::subject::{Harm, Subject};
use crate::tally::Tally;
use crate::workload::SETTLE;

/// Journals that are damaged in a run, each of another node.
const DAMAGED: u32 = 3;
/// What a node says of a replica that is not to run, and of one that took its place.
const DOUBTFUL: &str = "replica-doubtful";
const REPLACED: &str = "replica-replaced";

/// Damages one journal after the other; the next one only when all replicas are whole again.
pub(crate) fn tell(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    (history, tally): (&History, &Tally),
) -> Result<(), Broken> {
    let nodes = cluster.nodes().count() as u64;
    let first = cluster.draw(0, nodes);
    for turn in 0..u64::from(DAMAGED) {
        until_whole(cluster, subject)?;
        let node = u32::try_from((first + turn) % nodes + 1).unwrap_or(1);
        damage(cluster, subject, (history, tally), node)?;
    }
    until_whole(cluster, subject)?;
    for state in [DOUBTFUL, REPLACED] {
        if !tally.counts().contains_key(state) {
            let why = format!("{DAMAGED} journals were damaged, and {state} was never reached");
            return Err(Broken(why));
        }
    }
    Ok(())
}

fn damage(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    (history, tally): (&History, &Tally),
    node: u32,
) -> Result<(), Broken> {
    let own = subject.sights().into_iter().filter(|sight| sight.node == node);
    let before: BTreeMap<ShardId, ReplicaId> = own.map(|it| (it.shard, it.replica)).collect();
    let seed = cluster.draw(0, u64::MAX);
    lose(cluster, history, node, |_| tally_harm(subject.doubt_journal(node, seed), tally))?;
    served_again(cluster, subject, history, &format!("with the journal of node {node} damaged"))?;
    let mut wrong = None;
    let ends = || {
        wrong = runs_in_doubt(subject, node, &before);
        wrong.is_some() || subject.is_whole()
    };
    cluster.run_until(SETTLE, ends)?;
    wrong.map_or(Ok(()), |wrong| Err(Broken(wrong)))
}

fn tally_harm(harm: Option<Harm>, tally: &Tally) {
    match harm {
        Some(Harm::Flipped) => tally.count(JOURNAL_DOUBTED),
        Some(Harm::Cut) => tally.count(JOURNAL_CUT),
        None => {}
    }
}

/// A replica runs under the id that it had, although its node says that it is in doubt.
fn runs_in_doubt(
    subject: &Arc<dyn Subject>,
    node: u32,
    before: &BTreeMap<ShardId, ReplicaId>,
) -> Option<String> {
    let doubtful = subject.in_doubt(node);
    let own = subject.sights().into_iter().filter(|sight| sight.node == node);
    let mut wrong = own.filter(|sight| {
        doubtful.contains(&sight.shard) && before.get(&sight.shard) == Some(&sight.replica)
    });
    let (shard, replica) = wrong.next().map(|sight| (sight.shard, sight.replica))?;
    Some(format!("shard {shard}: replica {replica} is in doubt, and runs under its id"))
}
