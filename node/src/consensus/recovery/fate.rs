//! Owns what becomes of a replica on another node: what its node says of it, or an operator of the node. Changes nothing
//! there, and never guesses: who does not answer is neither lost nor sound.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::ids::{NodeId, ReplicaId, ReplicaKey, ShardId};

use super::RecoveryError;
use crate::consensus::network::{Network, Question, ReplicaFate};
use crate::storage::raft_record::LogId;

/// A node that is up answers at once.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What becomes of a replica that votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is the one here.
    Here,
    /// It may run, and stays a member.
    Sound {
        /// The last entry that its log has.
        last: Option<LogId>,
    },
    /// It must never run again, and is no member any more.
    Lost {
        /// Why.
        why: &'static str,
        /// The last entry that its log still has.
        last: Option<LogId>,
        /// Up to which index damage took the end of its log, where that is known.
        lost_to: Option<u64>,
    },
}

/// What becomes of a replica on another node.
pub(super) async fn ask(
    network: &Network,
    shard: ShardId,
    replica: ReplicaId,
    gone: &BTreeSet<NodeId>,
) -> Result<Fate, RecoveryError> {
    let node = replica.node;
    let hello = network.hello(node).await;
    match hello {
        Err(_) if gone.contains(&node) => {
            return Ok(Fate::Lost { why: "its node is gone", last: None, lost_to: None });
        }
        Err(error) => return Err(RecoveryError::Unasked { node, why: error.to_string() }),
        Ok(_) if gone.contains(&node) => return Err(RecoveryError::NotGone(node)),
        Ok(answer) if answer.empty => {
            return Ok(Fate::Lost { why: "its disk is lost", last: None, lost_to: None });
        }
        Ok(_) => {}
    }
    let key = ReplicaKey { shard, incarnation: replica.incarnation };
    let question = Question { replica: Some(key), ..Question::default() };
    let told = network.survey(node, &question, Instant::now() + ANSWER_TIME).await;
    let told = told.map_err(|error| RecoveryError::Unasked { node, why: error.to_string() })?;
    let why = "it has not looked at that replica yet, or its version does not tell";
    let fate = told.fate.ok_or_else(|| RecoveryError::Unasked { node, why: why.to_owned() })?;
    Ok(fate_of(fate))
}

fn fate_of(ReplicaFate { replaced, doubtful, last, lost_to }: ReplicaFate) -> Fate {
    if replaced {
        let why = "its disk is lost, or it was replaced";
        return Fate::Lost { why, last: None, lost_to: None };
    }
    if doubtful {
        return Fate::Lost { why: "its vote or the end of its log is in doubt", last, lost_to };
    }
    Fate::Sound { last }
}
