//! Owns configuration: typed builders, and the same settings by Kafka's key names with one documented row per key. A key
//! that Kafka knows and we do not support is an error with a reason, never ignored. Never reads files or the environment.

mod client;
mod consumer;
mod key;
mod producer;
mod unsupported;

pub use client::{CLIENT_KEYS, ClientConfig};
pub use consumer::{Assignor, AutoCommit, CONSUMER_KEYS, CommitAfter, ConsumerConfig, OffsetReset};
pub use key::{ConfigError, Key, Value, ValueType};
pub use producer::{Acks, Compression, PRODUCER_KEYS, ProducerConfig};

/// One table's worth of keys, put into a configuration one by one; `false`: not in this table.
type Apply<'a> = &'a mut dyn FnMut(&str, &str) -> Result<bool, ConfigError>;

fn apply_from<C>(
    keys: &[Key<C>],
    config: &mut C,
    key: &str,
    text: &str,
) -> Result<bool, ConfigError> {
    let Some(found) = keys.iter().find(|candidate| candidate.name == key) else {
        return Ok(false);
    };
    found.apply(config, text).map(|()| true)
}

/// Applies every pair, or says what is wrong with the first that cannot be.
fn apply_all<K, V>(
    pairs: impl IntoIterator<Item = (K, V)>,
    names: impl Fn() -> Vec<&'static str>,
    apply: Apply<'_>,
) -> Result<(), ConfigError>
where
    K: AsRef<str>,
    V: AsRef<str>,
{
    for (key, value) in pairs {
        let (key, value) = (key.as_ref(), value.as_ref());
        if apply(key, value)? {
            continue;
        }
        return Err(match unsupported::find(key) {
            Some(entry) => ConfigError::Unsupported {
                key: key.to_owned(),
                why: entry.why,
                instead: entry.instead,
            },
            None => ConfigError::UnknownKey {
                key: key.to_owned(),
                nearest: key::nearest(key, names().into_iter()),
            },
        });
    }
    Ok(())
}

fn names_of<C>(keys: &[Key<C>]) -> impl Iterator<Item = &'static str> + '_ {
    keys.iter().map(|key| key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KAFKA: &str = include_str!("../../tests/data/kafka_configs.tsv");

    fn kafka_keys(kind: &str) -> Vec<&'static str> {
        let rows = KAFKA.lines().filter(|line| !line.starts_with('#'));
        rows.filter_map(|row| {
            let mut columns = row.split('\t');
            (columns.next() == Some(kind)).then(|| columns.next()).flatten()
        })
        .collect()
    }

    fn every_key_is_known(kind: &str, supported: &[&str]) {
        let keys = kafka_keys(kind);
        assert!(keys.len() > 50, "the table of {kind} was read");
        for key in keys {
            let known = supported.contains(&key) || unsupported::find(key).is_some();
            assert!(known, "{kind} key {key} is neither supported nor refused with a reason");
        }
    }

    #[test]
    fn every_producer_key_of_kafka_is_known() {
        let names: Vec<_> = names_of(CLIENT_KEYS).chain(names_of(PRODUCER_KEYS)).collect();
        every_key_is_known("producer", &names);
    }

    #[test]
    fn every_consumer_key_of_kafka_is_known() {
        let names: Vec<_> = names_of(CLIENT_KEYS).chain(names_of(CONSUMER_KEYS)).collect();
        every_key_is_known("consumer", &names);
    }

    #[test]
    fn every_admin_key_of_kafka_is_known() {
        let names: Vec<_> = names_of(CLIENT_KEYS).collect();
        every_key_is_known("admin", &names);
    }

    #[test]
    fn no_key_is_both_supported_and_refused() {
        let all =
            names_of(CLIENT_KEYS).chain(names_of(PRODUCER_KEYS)).chain(names_of(CONSUMER_KEYS));
        for name in all {
            assert!(unsupported::find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn every_documented_default_is_what_the_builder_starts_with() {
        let client = ClientConfig::new(["seed:1"]);
        let mut given = client.clone();
        for key in CLIENT_KEYS.iter().filter(|key| !key.default.is_empty()) {
            key.apply(&mut given, key.default).unwrap();
        }
        assert_eq!(format!("{given:?}"), format!("{client:?}"));
        let mut producer = ProducerConfig::default();
        for key in PRODUCER_KEYS.iter().filter(|key| !key.default.is_empty()) {
            key.apply(&mut producer, key.default).unwrap();
        }
        assert_eq!(format!("{producer:?}"), format!("{:?}", ProducerConfig::default()));
        let mut consumer = ConsumerConfig::default();
        for key in CONSUMER_KEYS.iter().filter(|key| !key.default.is_empty()) {
            key.apply(&mut consumer, key.default).unwrap();
        }
        assert_eq!(format!("{consumer:?}"), format!("{:?}", ConsumerConfig::default()));
    }

    #[test]
    fn a_map_with_kafkas_names_configures_a_producer() {
        let map = [("bootstrap.servers", "a:1, b:2"), ("linger.ms", "0"), ("acks", "all")];
        let (client, producer) = ProducerConfig::from_map(map).unwrap();
        assert_eq!(client.bootstrap, ["a:1", "b:2"]);
        assert!(producer.linger.is_zero());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_nearest_legal_ones() {
        let error = ProducerConfig::from_map([("linger", "5")]).unwrap_err();
        let ConfigError::UnknownKey { key, nearest } = &error else { panic!("{error}") };
        assert_eq!((key.as_str(), nearest[0]), ("linger", "linger.ms"));
    }

    #[test]
    fn a_key_of_kafka_that_is_not_supported_says_why_and_what_to_do() {
        let text =
            ConsumerConfig::from_map([("heartbeat.interval.ms", "3000")]).unwrap_err().to_string();
        assert!(text.contains("coordinator") && text.contains("session.timeout.ms"), "{text}");
    }

    #[test]
    fn kafkas_assignor_classes_mean_ours_and_the_first_counts() {
        let class = |name: &str| format!("org.apache.kafka.clients.consumer.{name}");
        let both = format!("{},{}", class("RangeAssignor"), class("CooperativeStickyAssignor"));
        let cases = [
            (both, Assignor::Range),
            (class("CooperativeStickyAssignor"), Assignor::Sticky),
            (class("RoundRobinAssignor"), Assignor::RoundRobin),
            ("roundrobin".to_owned(), Assignor::RoundRobin),
        ];
        for (text, expected) in cases {
            let key = "partition.assignment.strategy";
            let map = [("bootstrap.servers", "a:1"), (key, text.as_str())];
            assert_eq!(ConsumerConfig::from_map(map).unwrap().1.assignor, Some(expected));
        }
    }

    #[test]
    fn a_members_limits_are_those_of_the_contract() {
        let with =
            |key, value| ConsumerConfig::from_map([("bootstrap.servers", "a:1"), (key, value)]);
        assert!(with("session.timeout.ms", "5999").is_err());
        let (_, config) = with("session.timeout.ms", "6000").unwrap();
        assert_eq!(config.session_timeout, std::time::Duration::from_secs(6));
        assert!(with("group.protocol", "classic").is_err());
        let (_, config) = with("group.instance.id", "seat-1").unwrap();
        assert_eq!(config.instance_id.as_deref(), Some("seat-1"));
    }

    #[test]
    fn an_illegal_value_says_what_is_legal() {
        let map = [("bootstrap.servers", "a:1"), ("compression.type", "brotli")];
        let text = ProducerConfig::from_map(map).unwrap_err().to_string();
        assert!(text.contains("brotli") && text.contains("zstd"), "{text}");
    }

    #[test]
    fn bootstrap_servers_are_required() {
        let error = ClientConfig::from_map([("client.id", "me")]).unwrap_err();
        assert!(matches!(error, ConfigError::Missing { key: "bootstrap.servers", .. }), "{error}");
    }

    #[test]
    fn a_consumer_that_would_commit_without_a_pause_is_refused() {
        let config = ConsumerConfig::default().auto_commit_interval(std::time::Duration::ZERO);
        let error = config.validate().unwrap_err();
        assert!(
            matches!(error, ConfigError::Conflict { key: "auto.commit.interval.ms", .. }),
            "{error}"
        );
        assert_eq!(ConsumerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn a_delivery_timeout_shorter_than_one_attempt_is_refused() {
        let map = [("bootstrap.servers", "a:1"), ("delivery.timeout.ms", "1000")];
        let error = ProducerConfig::from_map(map).unwrap_err();
        assert!(
            matches!(error, ConfigError::Conflict { key: "delivery.timeout.ms", .. }),
            "{error}"
        );
    }
}
