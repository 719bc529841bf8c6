//! Owns the unfinished steps of topics: which commands the shards still need before a topic is what the catalog says
//! (S16). Each command may be repeated. Never sends one: shard 0's leader does, then proposes the step's end.

use waymark_proto::ids::{ShardId, TopicId};

use super::{Catalog, TopicEntry, TopicPhase};
use crate::state::command::{CatalogCommand, Command};

/// A topic's step: once every command is committed in its shard, `done` is proposed to shard 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingStep {
    /// The topic.
    pub topic: TopicId,
    /// Its version: a step of an older one changes nothing.
    pub version: u64,
    /// What the step is.
    pub phase: TopicPhase,
    /// One or more commands for each shard concerned.
    pub commands: Vec<(ShardId, Command)>,
}

impl PendingStep {
    /// What to propose to shard 0 when all commands are committed.
    #[must_use]
    pub fn done(&self) -> Command {
        let (topic, version) = (self.topic, self.version);
        Command::Catalog(CatalogCommand::TopicStep { topic, version })
    }
}

impl Catalog {
    /// All unfinished steps, in the order of topic ids.
    pub fn unfinished_steps(&self) -> impl Iterator<Item = PendingStep> {
        self.topics.values().filter_map(|topic| self.pending_step(topic))
    }

    /// The unfinished step of one topic.
    #[must_use]
    pub fn pending_step(&self, topic: &TopicEntry) -> Option<PendingStep> {
        let commands = match topic.phase {
            TopicPhase::Ready => return None,
            TopicPhase::Creating | TopicPhase::Altering => open_all(topic),
            TopicPhase::Deleting => self.close_all(topic),
        };
        let (version, phase) = (topic.version, topic.phase);
        Some(PendingStep { topic: topic.id, version, phase, commands })
    }

    fn close_all(&self, topic: &TopicEntry) -> Vec<(ShardId, Command)> {
        let close = |shard| (shard, Command::ClosePartitions { topic: topic.id });
        let forget = |shard: &ShardId| (*shard, Command::ForgetTopic { topic: topic.id });
        topic.by_shard().into_keys().map(close).chain(self.slot_shards.iter().map(forget)).collect()
    }
}

/// Opening carries the settings too, and partitions already open take newer ones: so one command serves a topic that
/// was altered while it was created, or got partitions while it was altered.
fn open_all(topic: &TopicEntry) -> Vec<(ShardId, Command)> {
    let settings = topic.config.settings(topic.version);
    let open = |(shard, partitions)| {
        let settings = settings.clone();
        (shard, Command::OpenPartitions { topic: topic.id, settings, partitions })
    };
    topic.by_shard().into_iter().map(open).collect()
}
