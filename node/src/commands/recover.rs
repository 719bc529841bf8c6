//! `waymark recover`: lets shards that lost most of their replicas go on with what is left. Owns what the operator is shown
//! and asked; what may be done is decided by `consensus`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};
use waymark_node::consensus::{Fate, Recovery, RecoveryError};
use waymark_node::node::Stopped;
use waymark_node::storage::raft_record::LogId;
use waymark_proto::ids::{NodeId, ShardId, TopicId};

use super::{Failure, node, runtime};

/// Let shards that lost most of their replicas go on with the replicas of this node, which must not run.
///
/// A shard needs a majority of its replicas. One whose disk is lost, or whose journal is so damaged that it cannot know what it
/// promised, never runs again. As long as a majority is left, the others replace it by themselves; when none is left, only
/// this command helps, and what the lost ones alone had is lost. It asks the nodes of the other replicas, shows what is
/// kept and what is lost, and leaves the shards as they are without --accept-loss. Use it on the node with the most: compare what it
/// shows on each. Exit code 0: done, or nothing to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Configuration file (TOML) of the node.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Shards to recover; without it every one here that has lost its majority.
    #[arg(long, value_name = "SHARD")]
    shard: Vec<u32>,
    /// A node that does not answer and whose disk never comes back: its replicas count as lost.
    #[arg(long, value_name = "NODE")]
    gone: Vec<u32>,
    /// Do it.
    #[arg(long)]
    accept_loss: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = node::read(arguments.config.as_deref())?;
    runtime(1)?.block_on(async {
        let env = node::environment(&config)?;
        let stopped = Stopped::open(&config, env).await;
        let stopped = stopped.map_err(|error| Failure(error.to_string()))?;
        let done = recover(&stopped, arguments).await;
        stopped.close().await;
        done
    })
}

async fn recover(stopped: &Stopped, arguments: &Arguments) -> Result<(), Failure> {
    let gone: BTreeSet<NodeId> = arguments.gone.iter().map(|node| NodeId(*node)).collect();
    let named: Vec<ShardId> = arguments.shard.iter().map(|shard| ShardId(*shard)).collect();
    let shards = if named.is_empty() { stopped.shards() } else { named.clone() };
    let (mut all, mut passed_over) = (Vec::new(), Vec::new());
    for shard in shards {
        match stopped.look(shard, &gone).await {
            Ok(recovery) => all.push(recovery),
            // Only of those that were named is it a mistake.
            Err(RecoveryError::HasMajority { .. }) if named.is_empty() => {}
            Err(error) if named.is_empty() && is_of_this_shard_alone(&error) => {
                passed_over.push(error.to_string());
            }
            Err(error) => return Err(Failure(error.to_string())),
        }
    }
    if arguments.accept_loss {
        for recovery in &all {
            let done = recovery.go_on().await;
            done.map_err(|error| {
                let shard = recovery.shard;
                let what =
                    format!("shard {shard} (those before it are done, those behind it are not)");
                Failure::because(what, error)
            })?;
        }
    }
    let names = stopped.topic_names().await;
    if arguments.json {
        let shards: Vec<Value> = all.iter().map(|it| as_json(it, &names)).collect();
        let (done, not) = (arguments.accept_loss, passed_over);
        println!("{}", json!({ "recovered": done, "shards": shards, "not_recoverable_here": not }));
    } else {
        all.iter().for_each(|it| show(it, &names));
        passed_over.iter().for_each(|why| println!("Not here: {why}."));
        println!("{}", verdict(all.len(), arguments.accept_loss));
    }
    Ok(())
}

/// The others may be recovered all the same.
fn is_of_this_shard_alone(error: &RecoveryError) -> bool {
    matches!(
        error,
        RecoveryError::NotHere(_)
            | RecoveryError::NotSound { .. }
            | RecoveryError::OtherHasMore { .. }
            | RecoveryError::Unreadable { .. }
    )
}

fn verdict(shards: usize, done: bool) -> String {
    match (shards, done) {
        (0, _) => "Nothing to do: no shard has lost its majority and can be recovered here.".to_owned(),
        (_, true) => "Done. Start this node: its shards elect leaders among what is left, and lost replicas are replaced once \
                      their nodes run."
            .to_owned(),
        (_, false) => "No shard was changed. What only the lost replicas had will be gone for good: look at the other nodes \
                       first, then repeat the command with --accept-loss on the one that has the most."
            .to_owned(),
    }
}

fn show(recovery: &Recovery, names: &BTreeMap<TopicId, String>) {
    println!("shard {}: kept up to {}", recovery.shard, entry(&recovery.last));
    for (replica, fate) in &recovery.voters {
        println!("  replica {replica:<8} {}", told(fate));
    }
    for kept in &recovery.kept {
        let topic = names.get(&kept.at.topic).cloned();
        let topic = topic.unwrap_or_else(|| kept.at.topic.to_string());
        println!("  {topic}/{} is kept up to offset {}, exclusive", kept.at.partition, kept.end);
    }
    match recovery.lost_up_to() {
        Some(last) => println!(
            "  LOST: what a lost replica had up to entry {last}, with what was acknowledged in it"
        ),
        None => println!(
            "  lost: nothing that is known of; a disk that is gone, or a log in doubt, may have had more"
        ),
    }
}

fn entry(LogId { term, index, .. }: &LogId) -> String {
    format!("entry {index} of term {term}")
}

fn told(fate: &Fate) -> String {
    match fate {
        Fate::Here => "here, goes on".to_owned(),
        Fate::Sound { last: None } => "sound, stays; its log is empty".to_owned(),
        Fate::Sound { last: Some(last) } => {
            format!("sound, stays; its log reaches {}", entry(last))
        }
        Fate::Lost { why, last, lost_to } => {
            let last =
                last.map(|last| format!("; what is left of its log reaches {}", entry(&last)));
            let lost = lost_to.map(|index| format!("; it had entries up to {index}"));
            format!("lost: {why}{}{}", last.unwrap_or_default(), lost.unwrap_or_default())
        }
    }
}

fn as_json(recovery: &Recovery, names: &BTreeMap<TopicId, String>) -> Value {
    let replica = |(id, fate): (&waymark_proto::ids::ReplicaId, &Fate)| {
        let (fate, why, last, lost_to) = match fate {
            Fate::Here => ("here", None, Some(recovery.last), None),
            Fate::Sound { last } => ("sound", None, *last, None),
            Fate::Lost { why, last, lost_to } => ("lost", Some(*why), *last, *lost_to),
        };
        json!({
            "replica": id.to_string(), "node": id.node.0, "fate": fate, "why": why,
            "last_entry": last.map(|it| it.index), "last_term": last.map(|it| it.term), "had_entries_to": lost_to,
        })
    };
    let partition = |kept: &waymark_node::consensus::Kept| {
        json!({
            "topic": names.get(&kept.at.topic), "topic_id": kept.at.topic.to_string(), "partition": kept.at.partition.0,
            "end_offset": kept.end,
        })
    };
    json!({
        "shard": recovery.shard.0,
        "kept_to_entry": recovery.last.index,
        "lost_to_entry": recovery.lost_up_to(),
        "replicas": recovery.voters.iter().map(replica).collect::<Vec<_>>(),
        "partitions": recovery.kept.iter().map(partition).collect::<Vec<_>>(),
    })
}
