//! Owns what a change would make of a topic, without making it: the checks at the door and the answers of dry runs. The
//! catalog decides again, because others may change the topic meanwhile.

use waymark_proto::failure::{Failure, FailureCode};

use super::about;
use super::create::check_configs;
use crate::broker::admin::{NewConfigs, Topic};
use crate::state::catalog::MAX_PARTITIONS;

/// The topic with this total of partitions.
pub(super) fn grown(topic: Topic, total: i32) -> Result<Topic, Failure> {
    let refuse = |message: String| about(&topic.name, FailureCode::InvalidPartitions, message);
    if total > MAX_PARTITIONS {
        return Err(refuse(format!("a topic has at most {MAX_PARTITIONS} partitions")));
    }
    if total < topic.partitions {
        let present = topic.partitions;
        return Err(refuse(format!(
            "the topic has {present} partitions, which only grow, not {total}"
        )));
    }
    let changed = i64::from(total > topic.partitions);
    Ok(Topic { partitions: total, version: topic.version.saturating_add(changed), ..topic })
}

/// The topic with these settings. A version that does not match is told only by a dry run: what this node sees may be
/// old, and the catalog knows.
pub(super) fn resettled(
    mut topic: Topic,
    configs: &NewConfigs,
    dry_run: bool,
) -> Result<Topic, Failure> {
    let subject = topic.name.clone();
    let refuse = |code, message: String| about(subject, code, message);
    if dry_run && configs.expected_version.is_some_and(|expected| expected != topic.version) {
        let message = format!("the topic is at version {}", topic.version);
        let mut failure = refuse(FailureCode::ConditionFailed, message);
        failure.actual = Some(topic.version);
        return Err(failure);
    }
    let before = topic.configs.clone();
    for (key, value) in &configs.ops {
        match value {
            Some(value) => topic.configs.insert(key.clone(), value.clone()),
            None => topic.configs.remove(key),
        };
    }
    let replication = u32::try_from(topic.replication).unwrap_or(0);
    check_configs(&topic.configs, replication)
        .map_err(|message| refuse(FailureCode::InvalidConfig, message))?;
    topic.version = topic.version.saturating_add(i64::from(topic.configs != before));
    Ok(topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::catalog::topic_id;
    use std::collections::BTreeMap;

    fn topic() -> Topic {
        let configs = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        let name = "a".to_owned();
        Topic { id: topic_id(1), name, partitions: 3, replication: 3, version: 7, configs }
    }

    fn set(key: &str, value: Option<&str>) -> NewConfigs {
        let ops = vec![(key.to_owned(), value.map(str::to_owned))];
        NewConfigs { topic: topic_id(1), ops, expected_version: None }
    }

    #[test]
    fn partitions_only_grow() {
        assert_eq!(grown(topic(), 5).unwrap().partitions, 5);
        assert_eq!(grown(topic(), 3).unwrap().version, 7, "nothing changes");
        for total in [0, 2, MAX_PARTITIONS + 1] {
            let failure = grown(topic(), total).unwrap_err();
            assert_eq!(failure.code, FailureCode::InvalidPartitions);
        }
    }

    #[test]
    fn a_setting_is_set_and_goes_back_to_its_default() {
        let with = resettled(topic(), &set("retention.bytes", Some("9")), true).unwrap();
        assert_eq!((with.configs.len(), with.version), (2, 8));
        let without = resettled(topic(), &set("retention.ms", None), true).unwrap();
        assert!(without.configs.is_empty());
    }

    #[test]
    fn a_bad_setting_and_an_unknown_key_are_refused_before_the_catalog_is_asked() {
        for (key, value) in [("retention.ms", "soon"), ("flush.ms", "1"), ("nonsense", "1")] {
            let failure = resettled(topic(), &set(key, Some(value)), false).unwrap_err();
            assert_eq!(failure.code, FailureCode::InvalidConfig);
        }
    }

    #[test]
    fn a_dry_run_says_that_the_version_moved_on() {
        let stale = NewConfigs { expected_version: Some(6), ..set("retention.ms", Some("1")) };
        let failure = resettled(topic(), &stale, true).unwrap_err();
        assert_eq!((failure.code, failure.actual), (FailureCode::ConditionFailed, Some(7)));
        assert!(resettled(topic(), &stale, false).is_ok(), "the catalog decides");
    }
}
