//! Owns `topic create|list|describe|alter|delete`. Which names and settings are legal is the cluster's to say.

use clap::{Args, Subcommand};
use regex::Regex;
use serde::Serialize;

use super::Context;
use super::exit::{EXIT_CODES, Exit, Failure};
use super::global::key_value;
use super::output::{listed, or_dash, rendered, table};
use crate::admin::{Admin, ConfigChange, NewTopic, TopicConfig, TopicDescription};
use crate::error::FailureCode;

/// The commands about topics.
#[derive(Debug, Clone, Subcommand)]
pub enum TopicCommand {
    /// Create topics; returns when they can be written
    Create(CreateArguments),
    /// List topics with their partitions and replicas
    List(ListArguments),
    /// Show the partitions of topics, their leaders and settings
    Describe(DescribeArguments),
    /// Add partitions, change settings
    Alter(AlterArguments),
    /// Delete topics with all their records
    Delete(DeleteArguments),
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct CreateArguments {
    /// Names: 1 to 249 of letters, digits, dot, underscore, hyphen
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// How many partitions; without it, the cluster's default
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas; without it, the cluster's default
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    replication_factor: Option<i32>,
    /// A setting by Kafka's name, for example retention.ms=3600000
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
    /// A topic that exists is fine, whatever it looks like
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ListArguments {
    /// Only names that match this regular expression
    #[arg(long, value_name = "REGEX")]
    pattern: Option<Regex>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct DescribeArguments {
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// All settings, not only those that the topic has changed
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct AlterArguments {
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// The new total of partitions; keys may then go to other partitions than before
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Give a setting a value
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Put a setting back to its default
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct DeleteArguments {
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// A topic that does not exist is fine
    #[arg(long)]
    if_exists: bool,
}

pub(super) async fn run(command: TopicCommand, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if let TopicCommand::Alter(arguments) = &command
        && arguments.changes_nothing()
    {
        let advice = "nothing to alter: give --partitions, --set or --unset";
        return Err(Failure::unusable(advice));
    }
    let admin = context.global.connect().await?.admin();
    match command {
        TopicCommand::Create(arguments) => create(&admin, arguments, context).await,
        TopicCommand::List(arguments) => list(&admin, &arguments, context).await,
        TopicCommand::Describe(arguments) => describe(&admin, arguments, context).await,
        TopicCommand::Alter(arguments) => alter(&admin, arguments, context).await,
        TopicCommand::Delete(arguments) => delete(&admin, arguments, context).await,
    }
}

/// What became of one topic.
#[derive(Debug, Serialize)]
struct Outcome {
    topic: String,
    /// For delete: it was there. For create: it was not. For alter: always.
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_id: Option<String>,
}

async fn create(
    admin: &Admin,
    arguments: CreateArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let new = |name: &String| {
        let mut topic = NewTopic::new(name);
        topic.partitions = arguments.partitions;
        topic.replication = arguments.replication_factor;
        topic.configs = arguments.config.iter().cloned().collect();
        topic
    };
    let outcomes = admin.create_topics(arguments.topics.iter().map(new)).await?;
    let mut first_failure = None;
    for (topic, outcome) in arguments.topics.into_iter().zip(outcomes) {
        let told = match outcome {
            Ok(id) => Outcome { topic, changed: true, topic_id: Some(id.to_string()) },
            Err(error) if arguments.if_not_exists && error.is(FailureCode::TopicExists) => {
                Outcome { topic, changed: false, topic_id: None }
            }
            Err(error) => {
                first_failure.get_or_insert_with(|| Failure::about_topic(&topic, &error));
                continue;
            }
        };
        context.out.either(&told, |told| match told.changed {
            true => format!("created topic {}", told.topic),
            false => format!("topic {} exists already", told.topic),
        })?;
    }
    finished(first_failure, context)
}

/// Several topics are several outcomes: those that went well have been printed, the first that did not is the error.
fn finished(failure: Option<Failure>, context: &mut Context<'_>) -> Result<Exit, Failure> {
    context.out.flush()?;
    failure.map_or(Ok(Exit::Done), Err)
}

#[derive(Debug, Serialize)]
struct Listed {
    topic: String,
    topic_id: String,
    partitions: i32,
    replication_factor: i32,
}

#[derive(Debug, Serialize)]
struct ListedTopics {
    topics: Vec<Listed>,
}

async fn list(
    admin: &Admin,
    arguments: &ListArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let matches = |name: &str| arguments.pattern.as_ref().is_none_or(|p| p.is_match(name));
    let all = admin.list_topics().await?;
    let topics = all.into_iter().filter(|topic| matches(&topic.name)).map(|topic| Listed {
        topic_id: topic.id.to_string(),
        topic: topic.name,
        partitions: topic.partitions,
        replication_factor: topic.replication,
    });
    let told = ListedTopics { topics: topics.collect() };
    context.out.either(&told, |told| {
        if told.topics.is_empty() {
            return "no topics; create one with: waymark topic create NAME".to_owned();
        }
        let mut lines = table(["topic", "partitions", "replicas", "id"]);
        for topic in &told.topics {
            lines.add_row([
                topic.topic.clone(),
                topic.partitions.to_string(),
                topic.replication_factor.to_string(),
                topic.topic_id.clone(),
            ]);
        }
        rendered(&lines)
    })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Described {
    topic: String,
    topic_id: String,
    partitions: Vec<DescribedPartition>,
    configs: Vec<DescribedConfig>,
}

#[derive(Debug, Serialize)]
struct DescribedPartition {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
    offline: Vec<i32>,
}

#[derive(Debug, Serialize)]
struct DescribedConfig {
    key: String,
    value: Option<String>,
    source: String,
    legal: String,
}

async fn describe(
    admin: &Admin,
    arguments: DescribeArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let outcomes = admin.describe_topics(arguments.topics.iter().cloned()).await?;
    let mut first_failure = None;
    for (name, outcome) in arguments.topics.iter().zip(outcomes) {
        let described = match outcome {
            Ok(topic) => match admin.describe_configs(name).await {
                Ok(configs) => Ok(described(&topic, configs, arguments.all)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match described {
            Ok(told) => context.out.either(&told, described_text)?,
            Err(error) => {
                first_failure.get_or_insert_with(|| Failure::about_topic(name, &error));
            }
        }
    }
    finished(first_failure, context)
}

fn described(topic: &TopicDescription, configs: TopicConfig, all: bool) -> Described {
    let partition = |p: &crate::PartitionDescription| DescribedPartition {
        partition: p.partition,
        leader: p.leader,
        leader_epoch: p.leader_epoch,
        replicas: p.voters.clone(),
        in_sync: p.in_sync.clone(),
        offline: p.offline.clone(),
    };
    let changed = |entry: &crate::ConfigEntry| all || !entry.source.ends_with("DEFAULT");
    let configs = configs.entries.into_iter().filter(changed).map(|entry| DescribedConfig {
        key: entry.key,
        value: entry.value,
        source: entry.source,
        legal: entry.legal,
    });
    Described {
        topic: topic.name.to_string(),
        topic_id: topic.id.to_string(),
        partitions: topic.partitions.iter().map(partition).collect(),
        configs: configs.collect(),
    }
}

fn described_text(topic: &Described) -> String {
    let mut lines = table(["partition", "leader", "epoch", "replicas", "in sync", "offline"]);
    for partition in &topic.partitions {
        lines.add_row([
            partition.partition.to_string(),
            or_dash(partition.leader),
            partition.leader_epoch.to_string(),
            listed(&partition.replicas),
            listed(&partition.in_sync),
            listed(&partition.offline),
        ]);
    }
    let mut text = format!("topic {}  id {}\n{}", topic.topic, topic.topic_id, rendered(&lines));
    if !topic.configs.is_empty() {
        let mut settings = table(["setting", "value", "source", "legal"]);
        for entry in &topic.configs {
            let value = or_dash(entry.value.as_ref());
            settings.add_row([&entry.key, &value, &entry.source, &entry.legal]);
        }
        text = format!("{text}\n{}", rendered(&settings));
    }
    text
}

impl AlterArguments {
    fn changes_nothing(&self) -> bool {
        self.partitions.is_none() && self.set.is_empty() && self.unset.is_empty()
    }
}

async fn alter(
    admin: &Admin,
    arguments: AlterArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let AlterArguments { topic, partitions, set, unset } = arguments;
    let about = |error: crate::Error| Failure::about_topic(&topic, &error);
    let set = set.into_iter().map(|(key, value)| ConfigChange::Set(key, value));
    let changes: Vec<_> = set.chain(unset.into_iter().map(ConfigChange::Delete)).collect();
    if !changes.is_empty() {
        admin.alter_configs(&topic, changes, None).await.map_err(about)?;
    }
    if let Some(total) = partitions {
        admin.add_partitions(&topic, total).await.map_err(about)?;
    }
    let told = Outcome { topic: topic.clone(), changed: true, topic_id: None };
    context.out.either(&told, |told| format!("altered topic {}", told.topic))?;
    Ok(Exit::Done)
}

async fn delete(
    admin: &Admin,
    arguments: DeleteArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let outcomes = admin.delete_topics(arguments.topics.iter().cloned()).await?;
    let mut first_failure = None;
    for (topic, outcome) in arguments.topics.into_iter().zip(outcomes) {
        let changed = match outcome {
            Ok(()) => true,
            Err(error) if arguments.if_exists && error.is(FailureCode::TopicNotFound) => false,
            Err(error) => {
                first_failure.get_or_insert_with(|| Failure::about_topic(&topic, &error));
                continue;
            }
        };
        let told = Outcome { topic, changed, topic_id: None };
        context.out.either(&told, |told| match told.changed {
            true => format!("deleted topic {}", told.topic),
            false => format!("topic {} does not exist", told.topic),
        })?;
    }
    finished(first_failure, context)
}
