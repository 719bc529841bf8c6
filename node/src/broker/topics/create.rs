//! Owns creating topics: what a topic may be, its pool, and the answer once every partition can be used. A call that is
//! repeated with the same id and spec finds its topic (CONTRACT §2).

use std::collections::BTreeMap;

use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{NodeId, TopicId};
use waymark_proto::names::check_topic_name;

use super::about;
use crate::broker::Core;
use crate::broker::admin::{Change, NewTopic, Topic};
use crate::consensus::spread_pool;
use crate::state::CatalogCommand;
use crate::state::catalog::{Catalog, MAX_PARTITIONS, TopicPhase};
use crate::state::topic_config::TopicConfig;

/// A topic that may be created, with nothing left open but its id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spec {
    name: String,
    partitions: i32,
    replication: u32,
    configs: BTreeMap<String, String>,
}

/// What stands for what a caller left out.
#[derive(Debug, Clone, Copy)]
struct Defaults {
    partitions: i32,
    replication: u32,
    nodes: u32,
}

impl Core {
    pub(in crate::broker) async fn create_topic(
        &self,
        topic: NewTopic,
        change: Change,
    ) -> Result<Topic, Failure> {
        let id = topic.id.unwrap_or_else(|| self.new_topic_id());
        let spec = spec(topic, self.defaults())?;
        if change.validate_only {
            self.catalog_barrier(change.deadline).await?;
            return self.catalog(|catalog| prospective(catalog, id, spec))?;
        }
        self.have_pool(spec.replication, change).await?;
        let command = CatalogCommand::CreateTopic {
            topic: id,
            name: spec.name,
            partitions: spec.partitions,
            replication: spec.replication,
            configs: spec.configs.into_iter().collect(),
            time_ms: self.env.clock.now_ms(),
        };
        self.change_topic(id, command, FailureCode::InvalidArgument, change).await
    }

    fn defaults(&self) -> Defaults {
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let replication = self.options.default_replication.min(nodes).max(1);
        Defaults { partitions: self.options.default_partitions, replication, nodes }
    }

    fn new_topic_id(&self) -> TopicId {
        loop {
            let id = TopicId(self.env.random.next_id());
            if !id.is_reserved() {
                return id;
            }
        }
    }

    /// The shards of a replication factor are made when the first topic needs them.
    async fn have_pool(&self, replication: u32, change: Change) -> Result<(), Failure> {
        if self.catalog(|catalog| catalog.pool(replication).is_some())? {
            return Ok(());
        }
        let nodes: Vec<NodeId> = self.nodes.iter().map(|it| it.node).collect();
        let shards = spread_pool(&nodes, replication, self.options.shards_per_node);
        let command = CatalogCommand::CreatePool { replication, shards };
        let made = self.change_catalog(command, FailureCode::InvalidReplication, change.deadline);
        made.await.map(drop)
    }
}

fn spec(topic: NewTopic, defaults: Defaults) -> Result<Spec, Failure> {
    let wrong = |code, message: String| about(&topic.name, code, message);
    check_topic_name(&topic.name)
        .map_err(|error| wrong(FailureCode::InvalidTopicName, error.to_string()))?;
    if topic.id.is_some_and(TopicId::is_reserved) {
        let message = "the topic ids zero and one are reserved".to_owned();
        return Err(wrong(FailureCode::InvalidArgument, message));
    }
    let partitions = topic.partitions.unwrap_or(defaults.partitions);
    if !(1..=MAX_PARTITIONS).contains(&partitions) {
        let message = format!("a topic has 1 to {MAX_PARTITIONS} partitions, not {partitions}");
        return Err(wrong(FailureCode::InvalidPartitions, message));
    }
    let asked = topic.replication.map_or(Some(defaults.replication), |it| u32::try_from(it).ok());
    let replication = asked.filter(|it| (1..=defaults.nodes).contains(it)).ok_or_else(|| {
        let (nodes, asked) = (defaults.nodes, topic.replication.unwrap_or_default());
        let message = format!("the cluster can hold 1 to {nodes} replicas of a topic, not {asked}");
        wrong(FailureCode::InvalidReplication, message)
    })?;
    let bad_config = |message| wrong(FailureCode::InvalidConfig, message);
    let mut configs = BTreeMap::new();
    for (key, value) in &topic.configs {
        if configs.insert(key.clone(), value.clone()).is_some() {
            return Err(bad_config(format!("topic config {key} is given twice")));
        }
    }
    check_configs(&configs, replication).map_err(bad_config)?;
    Ok(Spec { name: topic.name, partitions, replication, configs })
}

/// Whether a topic of this replication factor may have these settings; if not, why.
pub(super) fn check_configs(
    configs: &BTreeMap<String, String>,
    replication: u32,
) -> Result<(), String> {
    let pairs = configs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let config = TopicConfig::parse(pairs).map_err(|error| error.to_string())?;
    config.check_replication(replication).map_err(|error| error.to_string())
}

/// What creating it would answer.
fn prospective(catalog: &Catalog, id: TopicId, spec: Spec) -> Result<Topic, Failure> {
    let asked = Topic {
        id,
        name: spec.name,
        partitions: spec.partitions,
        replication: i32::try_from(spec.replication).unwrap_or(i32::MAX),
        version: 1,
        configs: spec.configs,
    };
    let present = catalog.topic(id).or_else(|| catalog.topic_named(&asked.name));
    let Some(present) = present else { return Ok(asked) };
    let found = Topic::from(present);
    let same = present.phase != TopicPhase::Deleting
        && Topic { version: asked.version, ..found.clone() } == asked;
    if same {
        return Ok(found);
    }
    let message = format!("topic {:?} exists", asked.name);
    Err(about(asked.name, FailureCode::TopicExists, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::catalog::{catalog_with, topic_id};

    const DEFAULTS: Defaults = Defaults { partitions: 4, replication: 3, nodes: 3 };

    fn wanted(name: &str) -> NewTopic {
        let configs = Vec::new();
        NewTopic { name: name.to_owned(), id: None, partitions: None, replication: None, configs }
    }

    fn code(topic: NewTopic) -> Option<FailureCode> {
        spec(topic, DEFAULTS).err().map(|failure| failure.code)
    }

    #[test]
    fn what_is_left_out_is_the_cluster_s_default() {
        let spec = spec(wanted("a"), DEFAULTS).unwrap();
        assert_eq!((spec.partitions, spec.replication), (4, 3));
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_own_failure() {
        assert_eq!(code(wanted("a/b")), Some(FailureCode::InvalidTopicName));
        let none = NewTopic { partitions: Some(0), ..wanted("a") };
        assert_eq!(code(none), Some(FailureCode::InvalidPartitions));
        let many = NewTopic { partitions: Some(MAX_PARTITIONS + 1), ..wanted("a") };
        assert_eq!(code(many), Some(FailureCode::InvalidPartitions));
        for replication in [-1, 0, 4] {
            let wide = NewTopic { replication: Some(replication), ..wanted("a") };
            assert_eq!(code(wide), Some(FailureCode::InvalidReplication));
        }
        let reserved = NewTopic { id: Some(TopicId::default()), ..wanted("a") };
        assert_eq!(code(reserved), Some(FailureCode::InvalidArgument));
    }

    #[test]
    fn a_setting_that_is_unknown_doubled_or_above_the_majority_is_refused() {
        let set = |pairs: &[(&str, &str)]| NewTopic {
            configs: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..wanted("a")
        };
        assert_eq!(code(set(&[("retention.ms", "1000")])), None);
        for bad in [
            &[("retention", "1")][..],
            &[("retention.ms", "1"), ("retention.ms", "2")],
            &[("min.insync.replicas", "3")],
        ] {
            assert_eq!(code(set(bad)), Some(FailureCode::InvalidConfig), "{bad:?}");
        }
    }

    #[test]
    fn a_dry_run_says_what_the_real_one_would() {
        let catalog = catalog_with(&["a"]);
        let like_a =
            Spec { name: "a".to_owned(), partitions: 3, replication: 1, configs: BTreeMap::new() };
        assert!(prospective(&catalog, topic_id(1), like_a.clone()).is_ok(), "a repeat");
        let other = prospective(&catalog, topic_id(9), like_a.clone()).unwrap_err();
        assert_eq!(other.code, FailureCode::TopicExists);
        let wider = Spec { partitions: 5, ..like_a.clone() };
        let changed = prospective(&catalog, topic_id(1), wider).unwrap_err();
        assert_eq!(changed.code, FailureCode::TopicExists);
        let new = Spec { name: "b".to_owned(), ..like_a };
        assert!(prospective(&catalog, topic_id(9), new).is_ok());
    }
}
