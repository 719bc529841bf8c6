//! Topics: new topics, settings and pages from the wire, and topics back.

use std::time::Duration;

use bytes::Bytes;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicId;
use waymark_proto::v1;

use super::fields::{count, known, or_default, topic_id, topic_name};
use crate::api::admin::{NewTopic, PartitionPlace, Stand, Topic};
use crate::api::refusal::{invalid, missing, refuse};
use crate::state::topic_config::{TOPIC_KEYS, TopicKey, ValueKind};

/// The longest an administrative call waits.
pub(in crate::api) const MAX_TIMEOUT: Duration = Duration::from_secs(300);
const PAGE: usize = 1_000;
const MAX_PAGE: usize = 10_000;
/// Tokens name the last key; the prefix is their version.
const TOKEN: &str = "1:";

/// A topic to create.
pub(in crate::api) fn new_topic(given: v1::NewTopic) -> Result<NewTopic, Failure> {
    topic_name(&given.name)?;
    let id = match given.topic_id.is_empty() {
        true => None,
        false => Some(topic_id("topic_id", &given.topic_id)?),
    };
    let configs = given.configs.into_iter().map(|config| match config.value {
        Some(value) => Ok((config.key, value)),
        None => Err(missing(&format!("configs: the value of {}", config.key))),
    });
    Ok(NewTopic {
        name: given.name,
        id,
        partitions: at_least_1("partitions", given.partitions, FailureCode::InvalidPartitions)?,
        replication: at_least_1(
            "replication_factor",
            given.replication_factor,
            FailureCode::InvalidReplication,
        )?,
        configs: configs.collect::<Result<_, _>>()?,
    })
}

fn at_least_1(field: &str, value: Option<i32>, code: FailureCode) -> Result<Option<i32>, Failure> {
    match value {
        Some(value) if value < 1 => Err(refuse(code, format!("{field} must be at least 1"))),
        other => Ok(other),
    }
}

/// The new total of partitions.
pub(in crate::api) fn total(value: Option<i32>) -> Result<i32, Failure> {
    let total = at_least_1("total", Some(count("total", value)?), FailureCode::InvalidPartitions)?;
    total.ok_or_else(|| missing("total"))
}

/// What a change of settings makes of what is set now. Lists keep their order.
pub(in crate::api) fn config_op(
    change: &v1::ConfigChange,
    topic: &Topic,
) -> Result<(String, Option<String>), Failure> {
    let bad = |message: String| refuse(FailureCode::InvalidConfig, message);
    let key = TOPIC_KEYS.iter().find(|key| key.name == change.key);
    let now = || {
        let default = key.map_or("", |key| key.default);
        let set = topic.configs.get(&change.key).map_or(default, String::as_str);
        set.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned)
    };
    let list = |words: Vec<String>| match key.map(|key| key.kind) {
        Some(ValueKind::List) => Ok(Some(words.join(","))),
        _ => Err(bad(format!("topic config {} is not a list", change.key))),
    };
    let value = match known("changes.op", change.op)? {
        v1::ConfigOp::Set => Some(change.value.clone()),
        v1::ConfigOp::Delete => None,
        v1::ConfigOp::Append => {
            let mut words: Vec<String> = now().collect();
            if !words.contains(&change.value) {
                words.push(change.value.clone());
            }
            list(words)?
        }
        v1::ConfigOp::Subtract => list(now().filter(|word| *word != change.value).collect())?,
        v1::ConfigOp::Unspecified => return Err(missing("changes.op")),
    };
    Ok((change.key.clone(), value))
}

/// A topic's settings: all, or those asked for.
pub(in crate::api) fn config_entries(
    topic: &Topic,
    keys: &[String],
) -> Result<Vec<v1::ConfigEntry>, Failure> {
    let known = |name: &String| TOPIC_KEYS.iter().any(|key| key.name == name);
    if let Some(unknown) = keys.iter().find(|name| !known(name)) {
        return Err(refuse(
            FailureCode::InvalidConfig,
            format!("there is no topic config {unknown:?}"),
        ));
    }
    let asked = |key: &&TopicKey| keys.is_empty() || keys.iter().any(|name| name == key.name);
    Ok(TOPIC_KEYS.iter().filter(asked).map(|key| config_entry(topic, key)).collect())
}

fn config_entry(topic: &Topic, key: &TopicKey) -> v1::ConfigEntry {
    let set = topic.configs.get(key.name);
    let source = if set.is_some() { v1::ConfigSource::Topic } else { v1::ConfigSource::Default };
    let kind = match key.kind {
        ValueKind::Int => "int",
        ValueKind::Long => "long",
        ValueKind::String => "string",
        ValueKind::List => "list",
    };
    v1::ConfigEntry {
        key: key.name.to_owned(),
        value: Some(set.map_or(key.default, String::as_str).to_owned()),
        source: source.into(),
        default_value: key.default.to_owned(),
        value_type: kind.to_owned(),
        range: key.range.to_owned(),
        doc: key.doc.to_owned(),
        unit: key.unit.to_owned(),
        ..v1::ConfigEntry::default()
    }
}

/// How many items a page holds.
pub(in crate::api) fn page_size(asked: i32) -> Result<usize, Failure> {
    match or_default("page_size", asked, PAGE)? {
        size if size <= MAX_PAGE => Ok(size),
        _ => Err(invalid("page_size", "at most 10000")),
    }
}

/// The key after which a page begins.
pub(in crate::api) fn page_after(token: &str) -> Result<&str, Failure> {
    if token.is_empty() {
        return Ok("");
    }
    token.strip_prefix(TOKEN).ok_or_else(|| invalid("page_token", "what an earlier answer gave"))
}

/// The token of the page after this key.
pub(in crate::api) fn page_token(last: impl std::fmt::Display) -> String {
    format!("{TOKEN}{last}")
}

/// A topic's id as bytes.
pub(in crate::api) fn id_bytes(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(&id.0)
}

/// A topic with both of its names.
pub(in crate::api) fn topic_ref(topic: &Topic) -> v1::TopicRef {
    v1::TopicRef { name: topic.name.clone(), topic_id: id_bytes(topic.id) }
}

/// What became of a change; a refused one is named as its caller named it.
pub(in crate::api) fn topic_result(
    (name, id): (String, Bytes),
    outcome: Result<Topic, Failure>,
) -> v1::TopicResult {
    match outcome {
        Ok(topic) => v1::TopicResult {
            topic_id: id_bytes(topic.id),
            name: topic.name,
            partitions: topic.partitions,
            replication_factor: topic.replication,
            version: topic.version,
            failure: None,
        },
        Err(failure) => v1::TopicResult {
            name,
            topic_id: id,
            failure: Some(failure.into()),
            ..v1::TopicResult::default()
        },
    }
}

/// Where a partition lives and, if its leader told, where it stands.
pub(in crate::api) fn partition_description(
    place: PartitionPlace,
    stand: Option<Stand>,
) -> v1::PartitionDescription {
    let wire = partition_metadata(place);
    let told_epoch = stand.map_or(0, |stand| stand.leader_epoch);
    v1::PartitionDescription {
        partition: wire.partition,
        leader: wire.leader,
        leader_epoch: wire.leader_epoch.max(told_epoch),
        voters: wire.voters,
        in_sync: wire.in_sync,
        offline: wire.offline,
        learners: wire.learners,
        log_start_offset: stand.map(|stand| stand.log_start),
        high_watermark: stand.map(|stand| stand.high_watermark),
        size_bytes: stand.map(|stand| i64::try_from(stand.bytes).unwrap_or(i64::MAX)),
    }
}

/// Where a partition lives.
pub(in crate::api) fn partition_metadata(place: PartitionPlace) -> v1::PartitionMetadata {
    let numbers =
        |nodes: Vec<_>| nodes.into_iter().map(crate::api::convert::cluster::node_number).collect();
    v1::PartitionMetadata {
        partition: place.partition.0,
        leader: place.leader.map(crate::api::convert::cluster::node_number),
        leader_epoch: place.leader_epoch,
        voters: numbers(place.voters),
        in_sync: numbers(place.in_sync),
        offline: numbers(place.offline),
        learners: Vec::new(),
        failure: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn topic(configs: &[(&str, &str)]) -> Topic {
        let configs = configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Topic {
            id: TopicId([7; 16]),
            name: "orders".to_owned(),
            partitions: 3,
            replication: 3,
            version: 4,
            configs: configs.collect::<BTreeMap<_, _>>(),
        }
    }

    fn change(op: v1::ConfigOp, key: &str, value: &str) -> v1::ConfigChange {
        v1::ConfigChange { key: key.to_owned(), op: op.into(), value: value.to_owned() }
    }

    #[test]
    fn a_list_grows_and_shrinks_by_words() {
        let now = topic(&[("cleanup.policy", "delete")]);
        let grown = config_op(&change(v1::ConfigOp::Append, "cleanup.policy", "compact"), &now);
        assert_eq!(grown.expect("a list").1.as_deref(), Some("delete,compact"));
        let same = config_op(&change(v1::ConfigOp::Append, "cleanup.policy", "delete"), &now);
        assert_eq!(same.expect("a list").1.as_deref(), Some("delete"));
        let failure = config_op(&change(v1::ConfigOp::Append, "retention.ms", "1"), &now);
        assert_eq!(failure.expect_err("a number").code, FailureCode::InvalidConfig);
    }

    #[test]
    fn settings_say_where_their_value_comes_from() {
        let entries = config_entries(&topic(&[("retention.ms", "5")]), &[]).expect("all");
        assert_eq!(entries.len(), TOPIC_KEYS.len());
        let set: Vec<_> =
            entries.iter().filter(|e| e.source() == v1::ConfigSource::Topic).collect();
        assert_eq!((set.len(), set[0].value.as_deref()), (1, Some("5")));
        assert_eq!(set[0].default_value, "604800000", "a week");
        let unknown = config_entries(&topic(&[]), &["nonsense".to_owned()]);
        assert_eq!(unknown.expect_err("no such key").code, FailureCode::InvalidConfig);
    }

    #[test]
    fn a_page_token_reads_back_and_another_text_is_refused() {
        assert_eq!(page_after(&page_token("orders")).expect("ours"), "orders");
        assert_eq!(page_after("").expect("the first page"), "");
        assert!(page_after("orders").is_err());
        assert!(page_size(10_001).is_err());
    }

    #[test]
    fn a_topic_with_a_bad_name_or_no_partitions_is_refused_in_its_own_terms() {
        let code = |topic| new_topic(topic).err().map(|failure| failure.code);
        let named = |name: &str| v1::NewTopic { name: name.to_owned(), ..v1::NewTopic::default() };
        assert_eq!(code(named("a/b")), Some(FailureCode::InvalidTopicName));
        assert_eq!(code(named("")), Some(FailureCode::InvalidTopicName));
        let none = v1::NewTopic { partitions: Some(0), ..named("orders") };
        assert_eq!(code(none), Some(FailureCode::InvalidPartitions));
        assert_eq!(code(named("orders")), None);
    }
}
