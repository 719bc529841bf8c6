//! Owns the configuration of topics: Kafka's keys and two of our own (`retention.hold.…`, which no Kafka client knows),
//! their defaults and ranges, and what a partition needs of them. A key
//! that is not supported is an error that says so, never ignored: a setting that does nothing is worse than none.

use std::collections::BTreeSet;

use thiserror::Error;

use super::command::PartitionSettings;

/// A supported key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicKey {
    /// Kafka's name, or our own where Kafka has none.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: ValueKind,
    /// Its unit; empty when it has none.
    pub unit: &'static str,
    /// The value when none is set.
    pub default: &'static str,
    /// What is legal, in words.
    pub range: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// What kind of value a key takes, in Kafka's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A 32-bit number.
    Int,
    /// A 64-bit number.
    Long,
    /// A word.
    String,
    /// Words with commas between.
    List,
}

/// Why a configuration is not legal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Kafka knows the key, this cluster does not act on it.
    #[error("topic config {key} is not supported; supported keys are {}", supported())]
    Unsupported {
        /// The key.
        key: String,
    },
    /// Nobody knows the key.
    #[error("topic config {key:?} does not exist; the keys are {}", supported())]
    Unknown {
        /// The key.
        key: String,
    },
    /// The value is outside of the key's range.
    #[error("topic config {key} must be {legal}, got {value:?}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What is legal.
        legal: String,
        /// What was given.
        value: String,
    },
}

/// Each one is asked at every look of retention.
const MAX_HOLD_GROUPS: usize = 32;
/// The longest id that a group may have.
const MAX_GROUP_ID: usize = 1024;
const MIB: i64 = 1 << 20;
/// Small enough to watch retention at work, large enough that files do not swarm.
const MIN_SEGMENT_BYTES: i64 = 64 << 10;
/// Kafka's largest segment: its offsets in a file are 31 bits.
const MAX_SEGMENT_BYTES: i64 = i32::MAX as i64;
/// The ceiling of one batch: an entry must stay below every message limit (S17).
const MAX_BATCH_BYTES: i32 = 16 << 20;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Every supported key, in the order of names.
pub const TOPIC_KEYS: [TopicKey; 12] = [
    TopicKey {
        name: "cleanup.policy",
        kind: ValueKind::List,
        unit: "",
        default: "delete",
        range: "delete (compaction is not supported)",
        doc: "What happens to old records: they are deleted by age and size.",
    },
    TopicKey {
        name: "compression.type",
        kind: ValueKind::String,
        unit: "",
        default: "producer",
        range: "producer (nodes never encode a batch anew)",
        doc: "Which compression is stored: the one that the producer chose.",
    },
    TopicKey {
        name: "max.message.bytes",
        kind: ValueKind::Int,
        unit: "bytes",
        default: "1048588",
        range: "1 to 16777216",
        doc: "The largest record batch, as sent, header included.",
    },
    TopicKey {
        name: "message.timestamp.after.max.ms",
        kind: ValueKind::Long,
        unit: "ms",
        default: "3600000",
        range: "at least 0",
        doc: "How far a batch's largest timestamp may lie ahead of the leader's clock.",
    },
    TopicKey {
        name: "message.timestamp.type",
        kind: ValueKind::String,
        unit: "",
        default: "CreateTime",
        range: "CreateTime or LogAppendTime",
        doc: "Whose time records carry: the producer's, or the leader's at the append.",
    },
    TopicKey {
        name: "min.insync.replicas",
        kind: ValueKind::Int,
        unit: "replicas",
        default: "1",
        range: "1 to the majority of the topic's replicas",
        doc: "How many replicas have a record before it is acknowledged: always a majority, so a smaller number changes nothing.",
    },
    TopicKey {
        name: "retention.bytes",
        kind: ValueKind::Long,
        unit: "bytes",
        default: "-1",
        range: "at least -1 (-1: no limit)",
        doc: "Oldest segments of a partition are deleted while it holds more.",
    },
    TopicKey {
        name: "retention.hold.groups",
        kind: ValueKind::List,
        unit: "",
        default: "",
        range: "at most 32 group ids of at most 1024 bytes, with commas between",
        doc: "Retention leaves records alone that one of these groups has not committed as read. Not a key of Kafka.",
    },
    TopicKey {
        name: "retention.hold.max.bytes",
        kind: ValueKind::Long,
        unit: "bytes",
        default: "10737418240",
        range: "at least -1 (-1: no limit)",
        doc: "A partition holds at most this much for groups beyond what retention would keep; then the oldest goes, read or not. Not a key of Kafka.",
    },
    TopicKey {
        name: "retention.ms",
        kind: ValueKind::Long,
        unit: "ms",
        default: "604800000",
        range: "at least -1 (-1: for ever)",
        doc: "Segments are deleted when their newest record is older.",
    },
    TopicKey {
        name: "segment.bytes",
        kind: ValueKind::Int,
        unit: "bytes",
        default: "134217728",
        range: "65536 to 2147483647",
        doc: "A segment ends before it would exceed this; space is given back by whole segments.",
    },
    TopicKey {
        name: "segment.ms",
        kind: ValueKind::Long,
        unit: "ms",
        default: "604800000",
        range: "at least 1",
        doc: "A segment ends at the first append this long after its first.",
    },
];

/// Kafka's other topic keys (version 4): known, so that the error can say that they are not supported.
const KAFKA_ONLY: [&str; 23] = [
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "message.timestamp.before.max.ms",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "segment.index.bytes",
    "segment.jitter.ms",
    "unclean.leader.election.enable",
];

/// A topic's whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// `max.message.bytes`.
    pub max_message_bytes: i32,
    /// `message.timestamp.after.max.ms`: checked at the door, by the header's largest timestamp.
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `retention.bytes`; `None`: no limit.
    pub retention_bytes: Option<i64>,
    /// `retention.hold.groups`, sorted.
    pub hold_groups: Vec<String>,
    /// `retention.hold.max.bytes`; `None`: no limit.
    pub hold_max_bytes: Option<i64>,
    /// `retention.ms`; `None`: for ever.
    pub retention_ms: Option<i64>,
    /// `segment.bytes`.
    pub segment_bytes: i64,
    /// `segment.ms`.
    pub segment_ms: i64,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            max_message_bytes: 1_048_588,
            timestamp_after_max_ms: 60 * 60 * 1000,
            log_append_time: false,
            min_insync_replicas: 1,
            retention_bytes: None,
            hold_groups: Vec::new(),
            hold_max_bytes: Some(10 << 30),
            retention_ms: Some(7 * DAY_MS),
            segment_bytes: 128 * MIB,
            segment_ms: 7 * DAY_MS,
        }
    }
}

impl TopicConfig {
    /// The configuration that results from these keys over the defaults.
    ///
    /// # Errors
    /// On the first key that is not supported, or value that is not legal.
    pub fn parse<'a>(
        configs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (key, value) in configs {
            config.set(find(key)?, value)?;
        }
        Ok(config)
    }

    fn set(&mut self, key: &'static TopicKey, value: &str) -> Result<(), ConfigError> {
        match key.name {
            "cleanup.policy" => word(key, value, &["delete"]).map(drop)?,
            "compression.type" => word(key, value, &["producer"]).map(drop)?,
            "max.message.bytes" => self.max_message_bytes = int(key, value, 1..=MAX_BATCH_BYTES)?,
            "message.timestamp.after.max.ms" => {
                self.timestamp_after_max_ms = long(key, value, 0..=i64::MAX)?;
            }
            "message.timestamp.type" => {
                self.log_append_time = word(key, value, &["CreateTime", "LogAppendTime"])? == 1;
            }
            "min.insync.replicas" => self.min_insync_replicas = int(key, value, 1..=i32::MAX)?,
            "retention.bytes" => self.retention_bytes = limit(key, value)?,
            "retention.hold.groups" => self.hold_groups = groups(key, value)?,
            "retention.hold.max.bytes" => self.hold_max_bytes = limit(key, value)?,
            "retention.ms" => self.retention_ms = limit(key, value)?,
            "segment.bytes" => {
                self.segment_bytes = long(key, value, MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES)?;
            }
            "segment.ms" => self.segment_ms = long(key, value, 1..=i64::MAX)?,
            other => return Err(ConfigError::Unsupported { key: other.to_owned() }),
        }
        Ok(())
    }

    /// Whether a topic of this replication factor can keep the configuration. An acknowledged record is on a majority
    /// of the replicas, so a smaller `min.insync.replicas` always holds, and a larger one would be a promise not kept.
    ///
    /// # Errors
    /// When `min.insync.replicas` is above the majority.
    pub fn check_replication(&self, replication: u32) -> Result<(), ConfigError> {
        let majority = i64::from(replication / 2 + 1);
        if i64::from(self.min_insync_replicas) <= majority {
            return Ok(());
        }
        Err(ConfigError::BadValue {
            key: "min.insync.replicas",
            legal: format!("1 to {majority}, the majority of {replication} replicas"),
            value: self.min_insync_replicas.to_string(),
        })
    }

    /// What the partitions of the topic need, at this version of the topic.
    #[must_use]
    pub fn settings(&self, version: u64) -> PartitionSettings {
        PartitionSettings {
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_ms,
            retention_bytes: self.retention_bytes,
            retention_ms: self.retention_ms,
            max_message_bytes: self.max_message_bytes,
            log_append_time: self.log_append_time,
            hold_groups: self.hold_groups.clone(),
            hold_max_bytes: self.hold_max_bytes,
            version,
        }
    }
}

fn find(key: &str) -> Result<&'static TopicKey, ConfigError> {
    if let Some(found) = TOPIC_KEYS.iter().find(|it| it.name == key) {
        return Ok(found);
    }
    let key = key.to_owned();
    let known = KAFKA_ONLY.contains(&key.as_str());
    Err(if known { ConfigError::Unsupported { key } } else { ConfigError::Unknown { key } })
}

fn supported() -> String {
    TOPIC_KEYS.map(|key| key.name).join(", ")
}

fn bad(key: &'static TopicKey, value: &str) -> ConfigError {
    ConfigError::BadValue { key: key.name, legal: key.range.to_owned(), value: value.to_owned() }
}

fn word(key: &'static TopicKey, value: &str, legal: &[&str]) -> Result<usize, ConfigError> {
    legal.iter().position(|it| *it == value.trim()).ok_or_else(|| bad(key, value))
}

fn long(
    key: &'static TopicKey,
    value: &str,
    legal: std::ops::RangeInclusive<i64>,
) -> Result<i64, ConfigError> {
    let number = value.trim().parse().ok().filter(|number| legal.contains(number));
    number.ok_or_else(|| bad(key, value))
}

fn int(
    key: &'static TopicKey,
    value: &str,
    legal: std::ops::RangeInclusive<i32>,
) -> Result<i32, ConfigError> {
    let number = value.trim().parse().ok().filter(|number| legal.contains(number));
    number.ok_or_else(|| bad(key, value))
}

/// A number of which −1 says "no limit".
fn limit(key: &'static TopicKey, value: &str) -> Result<Option<i64>, ConfigError> {
    long(key, value, -1..=i64::MAX).map(|number| (number >= 0).then_some(number))
}

/// Ids of groups, sorted, each once. One with a comma in it cannot be named.
fn groups(key: &'static TopicKey, value: &str) -> Result<Vec<String>, ConfigError> {
    let words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
    let groups: BTreeSet<&str> = words.collect();
    if groups.len() > MAX_HOLD_GROUPS || groups.iter().any(|it| it.len() > MAX_GROUP_ID) {
        return Err(bad(key, value));
    }
    Ok(groups.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_keys_says_the_defaults() {
        let defaults = TOPIC_KEYS.iter().map(|key| (key.name, key.default));
        assert_eq!(TopicConfig::parse(defaults), Ok(TopicConfig::default()));
        assert!(TOPIC_KEYS.is_sorted_by_key(|key| key.name));
    }

    #[test]
    fn a_key_that_only_kafka_has_is_named_as_not_supported() {
        let error = TopicConfig::parse([("flush.ms", "1")]).unwrap_err().to_string();
        assert!(error.contains("flush.ms is not supported"), "{error}");
        let error = TopicConfig::parse([("retention", "1")]).unwrap_err().to_string();
        assert!(error.contains("\"retention\" does not exist"), "{error}");
        assert!(error.contains("retention.ms"), "names the legal keys: {error}");
    }

    #[test]
    fn a_bad_value_is_told_the_legal_range() {
        for (key, value) in [
            ("segment.bytes", "1"),
            ("cleanup.policy", "compact"),
            ("retention.ms", "-2"),
            ("max.message.bytes", "lots"),
            ("message.timestamp.type", "createtime"),
        ] {
            let error = TopicConfig::parse([(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn no_more_in_sync_replicas_can_be_asked_for_than_a_majority() {
        let config = TopicConfig::parse([("min.insync.replicas", "2")]).unwrap();
        assert!(config.check_replication(3).is_ok());
        assert!(config.check_replication(1).is_err());
    }

    #[test]
    fn groups_that_hold_are_named_once_each() {
        let parse = |value: &str| {
            let config = TopicConfig::parse([("retention.hold.groups", value)]);
            config.map(|config| config.hold_groups)
        };
        assert_eq!(parse(" b, a,,b "), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(parse(""), Ok(Vec::new()));
        let many: Vec<String> = (0..33).map(|number| number.to_string()).collect();
        assert!(parse(&many[..32].join(",")).is_ok());
        assert!(parse(&many.join(",")).is_err());
        assert!(parse(&"g".repeat(1025)).is_err());
    }

    #[test]
    fn minus_one_means_no_limit() {
        let config =
            TopicConfig::parse([("retention.ms", "-1"), ("retention.bytes", "5")]).unwrap();
        assert_eq!((config.retention_ms, config.retention_bytes), (None, Some(5)));
    }
}
