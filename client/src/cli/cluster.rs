//! Owns `cluster describe|health|verify|info|transfer`. Never judges: health and verdicts are the cluster's.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::time::Instant;

use super::Context;
use super::exit::{EXIT_CODES, Exit, Failure};
use super::output::{or_dash, rendered, table};
use crate::admin::{Admin, Health, LeaderMove, PartitionVerdict};
use crate::record::TopicPartition;

/// How often health is asked for while waiting.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The commands about the cluster.
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterCommand {
    /// The cluster's nodes: where they are, whether they live, what they carry
    #[command(after_help = EXIT_CODES)]
    Describe,
    /// Whether every node answers and every partition has a leader and all its replicas
    Health(HealthArguments),
    /// Compare the bytes of all replicas of every partition
    Verify(VerifyArguments),
    /// The node that answers: its number, its version, its cluster
    #[command(after_help = EXIT_CODES)]
    Info,
    /// Move the leadership of partitions
    Transfer(TransferArguments),
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct HealthArguments {
    /// Wait up to this long for the cluster to become healthy
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct VerifyArguments {
    /// Only these topics
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct TransferArguments {
    /// Partitions; those that share a replica set move together
    #[arg(required = true, value_name = "TOPIC/PARTITION")]
    partitions: Vec<Place>,
    /// The node to lead; without it, the cluster chooses
    #[arg(long, value_name = "NODE")]
    to: Option<i32>,
}

/// A partition on the command line.
#[derive(Debug, Clone)]
struct Place(TopicPartition);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no partition: write TOPIC/PARTITION, such as orders/0");
        let (topic, partition) = text.rsplit_once('/').ok_or_else(wrong)?;
        let partition = partition.parse::<i32>().ok().filter(|number| *number >= 0);
        let partition = partition.filter(|_| !topic.is_empty()).ok_or_else(wrong)?;
        Ok(Self(TopicPartition::new(topic, partition)))
    }
}

pub(super) async fn run(
    command: ClusterCommand,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let admin = context.global.connect().await?.admin();
    match command {
        ClusterCommand::Describe => describe(&admin, context).await,
        ClusterCommand::Health(arguments) => health(&admin, &arguments, context).await,
        ClusterCommand::Verify(arguments) => verify(&admin, &arguments, context).await,
        ClusterCommand::Info => info(&admin, context).await,
        ClusterCommand::Transfer(arguments) => transfer(&admin, arguments, context).await,
    }
}

#[derive(Debug, Serialize)]
struct Described {
    cluster_id: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Node {
    node_id: i32,
    address: Option<String>,
    rack: String,
    alive: bool,
    leaders: i32,
    replicas: i32,
    version: String,
}

async fn describe(admin: &Admin, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let cluster = admin.describe_cluster().await?;
    let nodes = cluster.nodes.into_iter().map(|node| Node {
        node_id: node.node_id,
        address: node.address,
        rack: node.rack,
        alive: node.alive,
        leaders: node.leaders,
        replicas: node.replicas,
        version: node.version,
    });
    let cluster_id = cluster.cluster_id.map(|id| id.to_string());
    let told = Described { cluster_id, nodes: nodes.collect() };
    context.out.either(&told, |told| {
        let mut lines = table(["node", "address", "state", "leads", "replicas", "rack", "version"]);
        for node in &told.nodes {
            let rack = Some(&node.rack).filter(|rack| !rack.is_empty());
            lines.add_row([
                node.node_id.to_string(),
                or_dash(node.address.as_ref()),
                if node.alive { "alive" } else { "DOWN" }.to_owned(),
                node.leaders.to_string(),
                node.replicas.to_string(),
                or_dash(rack),
                node.version.clone(),
            ]);
        }
        format!("cluster {}\n{}", or_dash(told.cluster_id.as_ref()), rendered(&lines))
    })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct ToldHealth {
    healthy: bool,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    subject: String,
    message: String,
}

async fn health(
    admin: &Admin,
    arguments: &HealthArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let deadline = arguments.wait.map(|wait| Instant::now() + wait);
    let health: Health = loop {
        let health = admin.health().await?;
        let may_wait = deadline.is_some_and(|deadline| Instant::now() < deadline);
        if health.healthy || !may_wait {
            break health;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    };
    let problem = |(subject, message)| Problem { subject, message };
    let told = ToldHealth {
        healthy: health.healthy,
        problems: health.problems.into_iter().map(problem).collect(),
    };
    context.out.either(&told, |told| {
        let mut text = if told.healthy { "healthy" } else { "NOT healthy" }.to_owned();
        for problem in &told.problems {
            text.push_str(&format!("\n{}: {}", problem.subject, problem.message));
        }
        text
    })?;
    Ok(if told.healthy { Exit::Done } else { Exit::Different })
}

#[derive(Debug, Serialize)]
struct Verified {
    identical: bool,
    partitions: Vec<Verdict>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    topic: String,
    partition: i32,
    identical: bool,
    /// The offsets compared: from this one to before `to_offset`.
    from_offset: i64,
    to_offset: i64,
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
struct Replica {
    node_id: i32,
    /// Absent where the replica could not answer.
    digest: Option<String>,
}

impl From<PartitionVerdict> for Verdict {
    fn from(verdict: PartitionVerdict) -> Self {
        let replica = |replica: crate::ReplicaDigest| Replica {
            node_id: replica.node_id,
            digest: Some(replica.digest).filter(|digest| !digest.is_empty()),
        };
        Self {
            topic: verdict.at.topic.to_string(),
            partition: verdict.at.partition,
            identical: verdict.identical,
            from_offset: verdict.range.0,
            to_offset: verdict.range.1,
            replicas: verdict.replicas.into_iter().map(replica).collect(),
        }
    }
}

async fn verify(
    admin: &Admin,
    arguments: &VerifyArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let verdicts = admin.verify_replicas(&arguments.topics).await?;
    let partitions: Vec<Verdict> = verdicts.into_iter().map(Into::into).collect();
    let identical = partitions.iter().all(|verdict| verdict.identical);
    let told = Verified { identical, partitions };
    context.out.either(&told, verified)?;
    Ok(if identical { Exit::Done } else { Exit::Different })
}

fn verified(told: &Verified) -> String {
    let mut lines = table(["topic", "partition", "offsets", "verdict", "replicas"]);
    for verdict in &told.partitions {
        let replica = |replica: &Replica| {
            let digest = replica.digest.as_deref().unwrap_or("no answer");
            // Enough of a digest to compare by eye; JSON has all of it.
            format!("{}:{}", replica.node_id, digest.get(..16).unwrap_or(digest))
        };
        lines.add_row([
            verdict.topic.clone(),
            verdict.partition.to_string(),
            format!("{}..{}", verdict.from_offset, verdict.to_offset),
            if verdict.identical { "identical" } else { "DIFFERENT" }.to_owned(),
            verdict.replicas.iter().map(replica).collect::<Vec<_>>().join(" "),
        ]);
    }
    let count = told.partitions.len();
    let different = told.partitions.iter().filter(|verdict| !verdict.identical).count();
    let verdict = match different {
        0 => format!("{count} partitions: all replicas are identical"),
        _ => format!("{different} of {count} partitions have replicas that DIFFER or are silent"),
    };
    format!("{}\n{verdict}", rendered(&lines))
}

#[derive(Debug, Serialize)]
struct Info {
    cluster_id: Option<String>,
    node_id: i32,
    version: String,
}

async fn info(admin: &Admin, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let info = admin.server_info().await?;
    let cluster_id = info.cluster_id.map(|id| id.to_string());
    let told = Info { cluster_id, node_id: info.node_id, version: info.version };
    context.out.either(&told, |told| {
        let cluster = or_dash(told.cluster_id.as_ref());
        format!("node {}  version {}  cluster {cluster}", told.node_id, told.version)
    })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Moved {
    topic: String,
    partition: i32,
    to: Option<i32>,
}

async fn transfer(
    admin: &Admin,
    arguments: TransferArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let to = arguments.to;
    let places: Vec<_> = arguments.partitions.into_iter().map(|place| place.0).collect();
    let moves = places.iter().map(|at| LeaderMove { at: at.clone(), to_node: to });
    let outcomes = admin.transfer_leaders(moves).await?;
    let mut first_failure = None;
    for (at, outcome) in places.into_iter().zip(outcomes) {
        if let Err(error) = outcome {
            first_failure.get_or_insert_with(|| Failure::about_topic(&at.topic, &error));
            continue;
        }
        let told = Moved { topic: at.topic.to_string(), partition: at.partition, to };
        context.out.either(&told, |told| match told.to {
            Some(node) => format!("{}/{} moves to node {node}", told.topic, told.partition),
            None => format!("{}/{} moves", told.topic, told.partition),
        })?;
    }
    first_failure.map_or(Ok(Exit::Done), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_written_as_topic_slash_number() {
        let place = "a/b/3".parse::<Place>().unwrap().0;
        assert_eq!((&*place.topic, place.partition), ("a/b", 3));
        for wrong in ["", "a", "/1", "a/", "a/-1", "a/x"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_silent_replica_is_told_from_an_identical_one() {
        let verdict = PartitionVerdict {
            at: ("t", 0).into(),
            identical: false,
            range: (0, 5),
            replicas: vec![crate::ReplicaDigest { node_id: 2, digest: String::new() }],
        };
        let told = Verified { identical: false, partitions: vec![verdict.into()] };
        assert!(verified(&told).contains("2:no answer"), "{}", verified(&told));
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(json["partitions"][0]["replicas"][0]["digest"], serde_json::Value::Null);
    }
}
