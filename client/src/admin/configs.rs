//! Owns topics' settings, by Kafka's key names; which keys and values are legal is the cluster's to say.

use waymark_proto::v1 as wire;

use super::model::{ConfigChange, ConfigEntry, TopicConfig};
use super::topics::service;
use super::{Admin, only};
use crate::answers::topic_ref;
use crate::error::Result;
use crate::refusal::check;

impl Admin {
    /// All settings of a topic, with their legal values.
    ///
    /// # Errors
    /// When the topic does not exist or no node answers in time.
    pub async fn describe_configs(&self, topic: &str) -> Result<TopicConfig> {
        let outcome = self
            .each("describing settings", vec![topic], |link, timeout, topics| async move {
                let request = wire::DescribeConfigsRequest {
                    topics: topics.into_iter().map(topic_ref).collect(),
                    ..Default::default()
                };
                let call = link.call(request, timeout);
                let answer = service(&link).describe_configs(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref())?;
                Ok(answer.topics.into_iter().map(configs).collect())
            })
            .await?;
        only(outcome)
    }

    /// Changes settings of a topic, all or none. With `expected_version`, only if nobody has changed them since they were
    /// read.
    ///
    /// # Errors
    /// For a key or value that is not legal, another version, a missing topic, or when no node answers in time.
    pub async fn alter_configs(
        &self,
        topic: &str,
        changes: impl IntoIterator<Item = ConfigChange>,
        expected_version: Option<i64>,
    ) -> Result<()> {
        let changes: Vec<_> = changes.into_iter().map(to_wire).collect();
        let altered =
            wire::AlterTopicConfigs { topic: Some(topic_ref(topic)), changes, expected_version };
        let outcome = self
            .each("changing settings", vec![altered], |link, timeout, topics| async move {
                let request = wire::AlterConfigsRequest { topics, ..Default::default() };
                let call = link.call(request, timeout);
                let answer = service(&link).alter_configs(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref())?;
                Ok(answer.results.iter().map(|result| check(result.failure.as_ref())).collect())
            })
            .await?;
        only(outcome)
    }
}

fn to_wire(change: ConfigChange) -> wire::ConfigChange {
    let (op, key, value) = match change {
        ConfigChange::Set(key, value) => (wire::ConfigOp::Set, key, value),
        ConfigChange::Delete(key) => (wire::ConfigOp::Delete, key, String::new()),
        ConfigChange::Append(key, value) => (wire::ConfigOp::Append, key, value),
        ConfigChange::Subtract(key, value) => (wire::ConfigOp::Subtract, key, value),
    };
    wire::ConfigChange { key, op: op.into(), value }
}

fn configs(told: wire::TopicConfigs) -> Result<TopicConfig> {
    check(told.failure.as_ref())?;
    let entry = |entry: wire::ConfigEntry| ConfigEntry {
        source: source_name(entry.source()),
        key: entry.key,
        value: entry.value,
        read_only: entry.read_only,
        legal: format!("{} {}", entry.range, entry.unit).trim().to_owned(),
    };
    Ok(TopicConfig {
        topic: told.topic.unwrap_or_default().name,
        version: told.version,
        entries: told.entries.into_iter().map(entry).collect(),
    })
}

fn source_name(source: wire::ConfigSource) -> String {
    let name = source.as_str_name();
    name.strip_prefix("CONFIG_SOURCE_").unwrap_or(name).to_owned()
}
