//! Topics: found, made, changed, removed. Owns the wait until a change can be used from this node.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{NodeId, ShardId, TopicId};

use super::Core;
use super::admin::{Change, NamedTopic, NewConfigs, NewTopic, Topic};
use super::refusal::{failure, unexpected};
use crate::consensus::spread_pool;
use crate::state::catalog::{TopicEntry, TopicPhase};
use crate::state::topic_config::TopicConfig;
use crate::state::{CatalogCommand, Command, Reply};

const BARRIER_TIME: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

fn told(entry: &TopicEntry) -> Topic {
    Topic {
        id: entry.id,
        name: entry.name.clone(),
        partitions: i32::try_from(entry.partition_shards.len()).unwrap_or(i32::MAX),
        replication: i32::try_from(entry.replication).unwrap_or(i32::MAX),
        version: i64::try_from(entry.version).unwrap_or(i64::MAX),
        configs: entry.configs.clone(),
    }
}

impl Core {
    fn known_topic(&self, named: &NamedTopic) -> Result<Option<Topic>, Failure> {
        self.catalog(|catalog| {
            let by_id = named.id.and_then(|id| catalog.topic(id));
            let by_name = named.name.as_deref().and_then(|name| catalog.topic_named(name));
            let found = if named.id.is_some() { by_id } else { by_name };
            let found = found.filter(|it| it.phase != TopicPhase::Deleting);
            let other = named.id.is_some() && named.name.is_some();
            let differs = other && found.is_some_and(|it| Some(&it.name) != named.name.as_ref());
            if differs || (other && found.is_none() && by_name.is_some()) {
                return Err(failure(FailureCode::TopicIdMismatch, "name and id differ"));
            }
            Ok(found.map(told))
        })?
    }

    pub(super) async fn topic(&self, named: &NamedTopic) -> Result<Topic, Failure> {
        if let Some(topic) = self.known_topic(named)? {
            return Ok(topic);
        }
        self.catch_up(Instant::now() + BARRIER_TIME).await?;
        let missing = || failure(FailureCode::TopicNotFound, "the topic does not exist");
        self.known_topic(named)?.ok_or_else(missing)
    }

    /// Returns once this node knows of everything that was committed to the catalog before the call. The step that it
    /// proposes for that is of no topic and changes nothing.
    async fn catch_up(&self, deadline: Instant) -> Result<(), Failure> {
        let nothing = CatalogCommand::TopicStep { topic: TopicId([0; 16]), version: 0 };
        let command = Command::Catalog(nothing);
        let done = self.consensus.propose_anywhere(ShardId::CATALOG, command, deadline).await;
        let at = done.map_err(|error| super::refusal::unproposed(&error))?.at;
        let applied = async {
            loop {
                let shard = self.consensus.shard(ShardId::CATALOG);
                if shard.and_then(|it| it.applied_index()).is_some_and(|it| it >= at.index) {
                    return;
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        let late = |_| failure(FailureCode::ReplicaBehind, "this node lags behind the catalog");
        timeout_at(deadline, applied).await.map_err(late)
    }

    pub(super) fn topics_after(&self, after: &str, limit: usize) -> Result<Vec<Topic>, Failure> {
        self.catalog(|catalog| {
            let later = catalog.topics_from(after).filter(|it| it.name != after);
            later.take(limit).map(told).collect()
        })
    }

    pub(super) async fn create_topic(
        &self,
        new: NewTopic,
        change: Change,
    ) -> Result<Topic, Failure> {
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let replication = match new.replication {
            Some(given) => u32::try_from(given).unwrap_or(0),
            None => self.options.default_replication.min(nodes).max(1),
        };
        if replication == 0 || replication > nodes {
            let why = format!("between 1 and {nodes}, the number of nodes");
            return Err(failure(FailureCode::InvalidReplication, why));
        }
        let pairs = new.configs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let invalid = |why: String| failure(FailureCode::InvalidConfig, why);
        let config = TopicConfig::parse(pairs).map_err(|error| invalid(error.to_string()))?;
        config.check_replication(replication).map_err(|error| invalid(error.to_string()))?;
        let id = new.id.unwrap_or_else(|| TopicId(self.env.random.next_id()));
        let partitions = new.partitions.unwrap_or(self.options.default_partitions);
        if change.validate_only {
            let taken = self.catalog(|catalog| catalog.topic_named(&new.name).is_some())?;
            if taken {
                return Err(failure(FailureCode::TopicExists, "a topic of that name exists"));
            }
            let configs = new.configs.into_iter().collect();
            let replication = i32::try_from(replication).unwrap_or(i32::MAX);
            return Ok(Topic { id, name: new.name, partitions, replication, version: 0, configs });
        }
        self.have_pool(replication, change.deadline).await?;
        let command = CatalogCommand::CreateTopic {
            topic: id,
            name: new.name,
            partitions,
            replication,
            configs: new.configs,
            time_ms: self.env.clock.now_ms(),
        };
        self.change_catalog(id, command, change.deadline).await
    }

    /// The shards for a replication factor are made when it is first asked for.
    async fn have_pool(&self, replication: u32, deadline: Instant) -> Result<(), Failure> {
        if self.catalog(|catalog| catalog.pool(replication).is_some())? {
            return Ok(());
        }
        let nodes: Vec<NodeId> = self.nodes.iter().map(|it| it.node).collect();
        let shards = spread_pool(&nodes, replication, self.options.shards_per_node);
        let command = Command::Catalog(CatalogCommand::CreatePool { replication, shards });
        self.propose(ShardId::CATALOG, command, deadline).await.map(|_| ())
    }

    /// Changes the catalog, spreads the change, and returns when this node shows it.
    pub(super) async fn change_catalog(
        &self,
        topic: TopicId,
        command: CatalogCommand,
        deadline: Instant,
    ) -> Result<Topic, Failure> {
        let before = self.known_topic(&NamedTopic { name: None, id: Some(topic) })?;
        let reply = self.propose(ShardId::CATALOG, Command::Catalog(command), deadline).await?;
        let Reply::Topic { version, .. } = reply else { return Err(unexpected()) };
        self.catch_up(deadline).await?;
        let step = self.catalog(|catalog| {
            let entry = catalog.topic(topic)?;
            catalog.pending_step(entry)
        })?;
        if let Some(step) = step {
            self.take_step(&step, deadline).await?;
            self.catch_up(deadline).await?;
        }
        let now = self.known_topic(&NamedTopic { name: None, id: Some(topic) })?;
        let now = now.or(before).ok_or_else(unexpected)?;
        tracing::debug!(topic = %topic, version, "topic changed");
        Ok(now)
    }

    pub(super) async fn delete_topic(
        &self,
        named: &NamedTopic,
        change: Change,
    ) -> Result<Topic, Failure> {
        let topic = self.topic(named).await?;
        if change.validate_only {
            return Ok(topic);
        }
        let command = CatalogCommand::DeleteTopic { topic: topic.id };
        self.change_catalog(topic.id, command, change.deadline).await?;
        Ok(topic)
    }

    pub(super) async fn add_partitions(
        &self,
        named: &NamedTopic,
        total: i32,
        change: Change,
    ) -> Result<Topic, Failure> {
        let topic = self.topic(named).await?;
        if total < topic.partitions {
            let why = format!("the topic has {} partitions already", topic.partitions);
            return Err(failure(FailureCode::InvalidPartitions, why));
        }
        if change.validate_only || total == topic.partitions {
            return Ok(topic);
        }
        let command = CatalogCommand::AddPartitions { topic: topic.id, total };
        self.change_catalog(topic.id, command, change.deadline).await
    }

    pub(super) async fn alter_configs(
        &self,
        configs: NewConfigs,
        change: Change,
    ) -> Result<Topic, Failure> {
        let topic = self.topic(&NamedTopic { name: None, id: Some(configs.topic) }).await?;
        let mut after = topic.configs.clone();
        for (key, value) in &configs.ops {
            match value {
                Some(value) => after.insert(key.clone(), value.clone()),
                None => after.remove(key),
            };
        }
        let pairs = after.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        TopicConfig::parse(pairs)
            .map_err(|error| failure(FailureCode::InvalidConfig, error.to_string()))?;
        if change.validate_only {
            return Ok(Topic { configs: after, ..topic });
        }
        let command = CatalogCommand::AlterTopic {
            topic: configs.topic,
            ops: configs.ops,
            expected_version: configs.expected_version.and_then(|it| u64::try_from(it).ok()),
        };
        self.change_catalog(configs.topic, command, change.deadline).await
    }
}
