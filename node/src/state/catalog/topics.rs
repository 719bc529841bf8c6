//! Owns how topics come, change and go. A change takes effect here at once and reaches the shards by the topic's step;
//! until that is done the topic is not ready. Never checks how a name is spelled: the door does, here names are unique.

use std::collections::BTreeMap;

use waymark_proto::ids::TopicId;

use super::{Catalog, TopicEntry, TopicPhase};
use crate::state::reply::{Refusal, Reply};
use crate::state::topic_config::TopicConfig;

/// Partitions that one topic may have: twice the goal for a cluster, and an entry that opens them stays small.
pub const MAX_PARTITIONS: i32 = 200_000;

/// What a topic is asked to be.
pub(super) struct TopicSpec {
    pub(super) name: String,
    pub(super) partitions: i32,
    pub(super) replication: u32,
    pub(super) configs: Vec<(String, String)>,
    pub(super) time_ms: i64,
}

impl Catalog {
    pub(super) fn create_topic(&mut self, id: TopicId, spec: TopicSpec) -> Result<Reply, Refusal> {
        let configs: BTreeMap<String, String> = spec.configs.into_iter().collect();
        if let Some(present) = self.topics.get(&id) {
            let same = present.phase != TopicPhase::Deleting
                && present.name == spec.name
                && present.configs == configs
                && present.replication == spec.replication
                && i32::try_from(present.partition_shards.len()) == Ok(spec.partitions);
            return if same { Ok(reply(present)) } else { Err(Refusal::TopicExists(spec.name)) };
        }
        if id.is_reserved() {
            return Err(Refusal::Invalid("the topic ids zero and one are reserved".to_owned()));
        }
        if self.names.contains_key(&spec.name) {
            return Err(Refusal::TopicExists(spec.name));
        }
        let count = check_partitions(spec.partitions)?;
        let config = check_config(&configs, spec.replication)?;
        let pool = self.pools.get_mut(&spec.replication);
        let partition_shards = pool.ok_or(Refusal::NoPool(spec.replication))?.place(count);
        let entry = TopicEntry {
            id,
            name: spec.name.clone(),
            replication: spec.replication,
            configs,
            config,
            partition_shards,
            phase: TopicPhase::Creating,
            version: 1,
            created_ms: spec.time_ms,
        };
        let created = reply(&entry);
        self.names.insert(spec.name, id);
        self.topics.insert(id, entry);
        self.note_topic(id);
        Ok(created)
    }

    /// A step of another version than the topic's changes nothing: a newer change is still to be spread.
    pub(super) fn step_done(&mut self, id: TopicId, version: u64) -> Reply {
        let Some(topic) = self.topics.get_mut(&id) else { return Reply::Done };
        if topic.version != version || topic.phase == TopicPhase::Ready {
            return reply(topic);
        }
        if topic.phase == TopicPhase::Deleting {
            self.topics.remove(&id);
            self.note_topic(id);
            return Reply::Done;
        }
        topic.phase = TopicPhase::Ready;
        let ready = reply(topic);
        self.note_topic(id);
        ready
    }

    pub(super) fn alter_topic(
        &mut self,
        id: TopicId,
        ops: Vec<(String, Option<String>)>,
        expected_version: Option<u64>,
    ) -> Result<Reply, Refusal> {
        let topic = self.living(id)?;
        if expected_version.is_some_and(|expected| expected != topic.version) {
            return Err(Refusal::VersionMismatch { actual: topic.version });
        }
        let mut configs = topic.configs.clone();
        for (key, value) in ops {
            match value {
                Some(value) => configs.insert(key, value),
                None => configs.remove(&key),
            };
        }
        let config = check_config(&configs, topic.replication)?;
        if configs == topic.configs {
            return Ok(reply(topic));
        }
        topic.configs = configs;
        topic.config = config;
        Ok(self.changed(id))
    }

    pub(super) fn add_partitions(&mut self, id: TopicId, total: i32) -> Result<Reply, Refusal> {
        let count = check_partitions(total)?;
        let topic = self.living(id)?;
        let (present, replication) = (topic.partition_shards.len(), topic.replication);
        let Some(more) = count.checked_sub(present) else {
            let why = format!("the topic has {present} partitions, which only grow, not {total}");
            return Err(Refusal::Invalid(why));
        };
        if more == 0 {
            return Ok(reply(topic));
        }
        let pool = self.pools.get_mut(&replication).ok_or(Refusal::NoPool(replication))?;
        let placed = pool.place(more);
        self.living(id)?.partition_shards.extend(placed);
        Ok(self.changed(id))
    }

    /// The name is free at once: everything of the topic is keyed by its id.
    pub(super) fn delete_topic(&mut self, id: TopicId) -> Result<Reply, Refusal> {
        let topic = self.topics.get_mut(&id).ok_or(Refusal::NoTopic(id))?;
        if topic.phase == TopicPhase::Deleting {
            return Ok(reply(topic));
        }
        topic.phase = TopicPhase::Deleting;
        topic.version += 1;
        let deleting = reply(topic);
        self.names.remove(&topic.name);
        self.note_topic(id);
        Ok(deleting)
    }

    fn living(&mut self, id: TopicId) -> Result<&mut TopicEntry, Refusal> {
        let topic = self.topics.get_mut(&id);
        topic.filter(|topic| topic.phase != TopicPhase::Deleting).ok_or(Refusal::NoTopic(id))
    }

    /// A topic that is still being created stays so: its step carries whatever changed since.
    fn changed(&mut self, id: TopicId) -> Reply {
        self.note_topic(id);
        let Some(topic) = self.topics.get_mut(&id) else { return Reply::Done };
        topic.version += 1;
        if topic.phase == TopicPhase::Ready {
            topic.phase = TopicPhase::Altering;
        }
        reply(topic)
    }

    fn note_topic(&mut self, id: TopicId) {
        self.dirty.topics.insert(id);
        self.note_change();
    }
}

fn reply(topic: &TopicEntry) -> Reply {
    Reply::Topic { topic: topic.id, version: topic.version }
}

fn check_partitions(partitions: i32) -> Result<usize, Refusal> {
    let wrong = || {
        let legal = format!("a topic must have 1 to {MAX_PARTITIONS} partitions, got {partitions}");
        Refusal::Invalid(legal)
    };
    let legal = (1..=MAX_PARTITIONS).contains(&partitions);
    usize::try_from(partitions).ok().filter(|_| legal).ok_or_else(wrong)
}

fn check_config(
    configs: &BTreeMap<String, String>,
    replication: u32,
) -> Result<TopicConfig, Refusal> {
    let pairs = configs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let config = TopicConfig::parse(pairs).map_err(|error| Refusal::Invalid(error.to_string()))?;
    let fits = config.check_replication(replication);
    fits.map(|()| config).map_err(|error| Refusal::Invalid(error.to_string()))
}
