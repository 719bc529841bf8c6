//! Owns the consumer's settings.

use std::time::Duration;

use super::key::{ConfigError, Key, ValueType};
use super::{ClientConfig, apply_all, apply_from, names_of};

const I32: i64 = i32::MAX as i64;

/// Where to begin without a committed offset, and after an offset that the log no longer (or not yet) has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record the log still has.
    Earliest,
    /// After the last record; what is there already is skipped.
    #[default]
    Latest,
    /// Nowhere: the application gets [`crate::Error::NoOffset`] and decides.
    None,
}

/// When offsets are committed without the application doing it. What is committed is always what it has finished: what it was
/// given before its latest call for more. At-least-once, if it processes records before it asks for the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AutoCommit {
    /// Never.
    Disabled,
    /// Every [`ConsumerConfig::auto_commit_interval`].
    #[default]
    Interval,
    /// As records are finished, without waiting for the commit.
    After(CommitAfter),
}

impl From<bool> for AutoCommit {
    fn from(on: bool) -> Self {
        if on { Self::Interval } else { Self::Disabled }
    }
}

/// How much must be finished for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitAfter {
    /// Whatever was handed out, each time the application comes back for more.
    Each,
    /// At least so many records since the commit before.
    EveryN(u32),
    /// All that a node sent of a partition in one piece.
    Batch,
}

/// How partitions are shared out among the members of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Neighbouring partitions of each topic go to one member.
    Range,
    /// One by one in turn.
    RoundRobin,
    /// Evenly, moving as few as possible.
    Sticky,
}

impl Assignor {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
        }
    }

    /// By its own name, or by the class of Kafka's that does the same.
    fn named(name: &str) -> Self {
        match name.strip_prefix(KAFKA_CLASSES).unwrap_or(name) {
            "range" | "RangeAssignor" => Self::Range,
            "roundrobin" | "RoundRobinAssignor" => Self::RoundRobin,
            _ => Self::Sticky,
        }
    }
}

const KAFKA_CLASSES: &str = "org.apache.kafka.clients.consumer.";

/// Settings of a [`crate::Consumer`].
///
/// ```
/// use waymark_client::{ConsumerConfig, OffsetReset};
/// let config = ConsumerConfig::default().group_id("billing").auto_offset_reset(OffsetReset::Earliest);
/// assert_eq!(config.group_id.as_deref(), Some("billing"));
/// ```
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// `group.id`: whose offsets are committed and started from. `None`: offsets are not kept.
    pub group_id: Option<String>,
    /// `auto.offset.reset`.
    pub auto_offset_reset: OffsetReset,
    /// `enable.auto.commit`: by time, or not; the builder knows more. Needs a group.
    pub auto_commit: AutoCommit,
    /// `auto.commit.interval.ms`.
    pub auto_commit_interval: Duration,
    /// `fetch.max.bytes`: bytes fetched ahead of the application, over all partitions; one batch more may come.
    pub fetch_bytes: usize,
    /// `max.partition.fetch.bytes`: bytes of one partition in one answer.
    pub partition_fetch_bytes: usize,
    /// `fetch.min.bytes`: how much a node gathers before it answers.
    pub fetch_min_bytes: usize,
    /// `fetch.max.wait.ms`: how long it gathers at most.
    pub fetch_max_wait: Duration,
    /// `max.poll.records`: the most that one [`crate::Consumer::poll`] returns.
    pub max_poll_records: usize,
    /// `check.crcs`: check every batch's checksum before its records are handed out.
    pub check_crcs: bool,
    /// `isolation.level`: `true` for `read_uncommitted`.
    pub read_uncommitted: bool,
    /// `group.instance.id`: the seat in the group that a restarted process takes again without a rebalance.
    pub instance_id: Option<String>,
    /// `session.timeout.ms`: after so long without a word, the group goes on without this member.
    pub session_timeout: Duration,
    /// `max.poll.interval.ms`: how long the application may work on the records of one call before the group goes on without
    /// this member.
    pub max_poll_interval: Duration,
    /// `drain.timeout.ms`: how long the application may take to finish what it has in hand of a partition that moves away.
    pub drain_timeout: Duration,
    /// `partition.assignment.strategy`. `None`: the group's.
    pub assignor: Option<Assignor>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group_id: None,
            auto_offset_reset: OffsetReset::Latest,
            auto_commit: AutoCommit::Interval,
            auto_commit_interval: Duration::from_secs(5),
            fetch_bytes: 50 << 20,
            partition_fetch_bytes: 1 << 20,
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            max_poll_records: 500,
            check_crcs: true,
            read_uncommitted: false,
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            max_poll_interval: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(30),
            assignor: None,
        }
    }
}

impl ConsumerConfig {
    /// Sets `group.id`.
    #[must_use]
    pub fn group_id(mut self, group: impl Into<String>) -> Self {
        self.group_id = Some(group.into());
        self
    }

    /// Sets `auto.offset.reset`.
    #[must_use]
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.auto_offset_reset = reset;
        self
    }

    /// Sets when offsets are committed by themselves; `true` and `false` are those of `enable.auto.commit`.
    #[must_use]
    pub fn auto_commit(mut self, when: impl Into<AutoCommit>) -> Self {
        self.auto_commit = when.into();
        self
    }

    /// Sets `group.instance.id`.
    #[must_use]
    pub fn instance_id(mut self, instance: impl Into<String>) -> Self {
        self.instance_id = Some(instance.into());
        self
    }

    /// Sets `session.timeout.ms`.
    #[must_use]
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// Sets `max.poll.interval.ms`.
    #[must_use]
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.max_poll_interval = interval;
        self
    }

    /// Sets `drain.timeout.ms`.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Sets `partition.assignment.strategy`.
    #[must_use]
    pub fn assignor(mut self, assignor: Assignor) -> Self {
        self.assignor = Some(assignor);
        self
    }

    /// Sets `auto.commit.interval.ms`.
    #[must_use]
    pub fn auto_commit_interval(mut self, interval: Duration) -> Self {
        self.auto_commit_interval = interval;
        self
    }

    /// Sets `fetch.max.bytes`.
    #[must_use]
    pub fn fetch_bytes(mut self, bytes: usize) -> Self {
        self.fetch_bytes = bytes;
        self
    }

    /// Sets `max.poll.records`.
    #[must_use]
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.max_poll_records = records;
        self
    }

    /// Reads Kafka's key names: those of the consumer, and those every client shares.
    ///
    /// # Errors
    /// For a key that is unknown or not supported, an illegal value, or a missing `bootstrap.servers`.
    pub fn from_map<K, V>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(ClientConfig, Self), ConfigError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let (mut client, mut config) = (ClientConfig::new(Vec::<String>::new()), Self::default());
        let names = || names_of(super::CLIENT_KEYS).chain(names_of(CONSUMER_KEYS)).collect();
        apply_all(pairs, names, &mut |key, text| {
            Ok(client.apply(key, text)? || apply_from(CONSUMER_KEYS, &mut config, key, text)?)
        })?;
        client.validate()?;
        config.validate()?;
        Ok((client, config))
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.auto_commit == AutoCommit::Interval && self.auto_commit_interval.is_zero() {
            let rule =
                "must be more than nothing: to commit by hand, set enable.auto.commit to false";
            let rule = rule.to_owned();
            return Err(ConfigError::Conflict { key: "auto.commit.interval.ms", rule });
        }
        Ok(())
    }
}

/// Keys of a consumer besides [`super::CLIENT_KEYS`].
pub const CONSUMER_KEYS: &[Key<ConsumerConfig>] = &[
    Key {
        name: "group.id",
        value_type: ValueType::Text,
        default: "",
        doc: "whose offsets are committed and started from",
        set: |config, value| config.group_id = Some(value.text()),
    },
    Key {
        name: "auto.offset.reset",
        value_type: ValueType::Word(&["earliest", "latest", "none"]),
        default: "latest",
        doc: "where to begin without a committed offset, and after one that the log does not have",
        set: |config, value| {
            config.auto_offset_reset = match value.text().as_str() {
                "earliest" => OffsetReset::Earliest,
                "none" => OffsetReset::None,
                _ => OffsetReset::Latest,
            }
        },
    },
    Key {
        name: "enable.auto.commit",
        value_type: ValueType::Bool,
        default: "true",
        doc: "commit by time what was handed out before the latest call for more: at-least-once; needs group.id",
        set: |config, value| config.auto_commit = value.flag().into(),
    },
    Key {
        name: "auto.commit.interval.ms",
        value_type: ValueType::Number(1, I32, "ms"),
        default: "5000",
        doc: "how often offsets are committed by themselves",
        set: |config, value| config.auto_commit_interval = value.millis(),
    },
    Key {
        name: "fetch.max.bytes",
        value_type: ValueType::Number(1 << 16, 1 << 40, "bytes"),
        default: "52428800",
        doc: "bytes fetched ahead of the application, over all partitions; one batch more may come",
        set: |config, value| config.fetch_bytes = value.size(),
    },
    Key {
        name: "max.partition.fetch.bytes",
        value_type: ValueType::Number(1, 32 << 20, "bytes"),
        default: "1048576",
        doc: "bytes of one partition in one answer; the first batch comes whole",
        set: |config, value| config.partition_fetch_bytes = value.size(),
    },
    Key {
        name: "fetch.min.bytes",
        value_type: ValueType::Number(0, 32 << 20, "bytes"),
        default: "1",
        doc: "how much a node gathers before it answers",
        set: |config, value| config.fetch_min_bytes = value.size(),
    },
    Key {
        name: "fetch.max.wait.ms",
        value_type: ValueType::Number(0, 60_000, "ms"),
        default: "500",
        doc: "how long a node gathers at most",
        set: |config, value| config.fetch_max_wait = value.millis(),
    },
    Key {
        name: "max.poll.records",
        value_type: ValueType::Number(1, I32, "records"),
        default: "500",
        doc: "the most that one poll returns",
        set: |config, value| config.max_poll_records = value.size(),
    },
    Key {
        name: "check.crcs",
        value_type: ValueType::Bool,
        default: "true",
        doc: "check every batch's checksum before its records are handed out",
        set: |config, value| config.check_crcs = value.flag(),
    },
    Key {
        name: "isolation.level",
        value_type: ValueType::Word(&["read_committed", "read_uncommitted"]),
        default: "read_committed",
        doc: "whether records of open transactions are seen; without transactions both see the same",
        set: |config, value| config.read_uncommitted = value.text() == "read_uncommitted",
    },
    Key {
        name: "group.instance.id",
        value_type: ValueType::Text,
        default: "",
        doc: "the seat in the group that a restarted process takes again without a rebalance",
        set: |config, value| config.instance_id = Some(value.text()),
    },
    Key {
        name: "group.protocol",
        value_type: ValueType::Word(&["consumer"]),
        default: "consumer",
        doc: "the coordinator assigns partitions; there is no other protocol",
        set: |_, _| {},
    },
    Key {
        name: "session.timeout.ms",
        value_type: ValueType::Number(6_000, 1_800_000, "ms"),
        default: "45000",
        doc: "after so long without a word, the group goes on without this member",
        set: |config, value| config.session_timeout = value.millis(),
    },
    Key {
        name: "max.poll.interval.ms",
        value_type: ValueType::Number(1, 86_400_000, "ms"),
        default: "300000",
        doc: "how long the application may work on the records of one call before the group goes on without this member",
        set: |config, value| config.max_poll_interval = value.millis(),
    },
    Key {
        name: "drain.timeout.ms",
        value_type: ValueType::Number(1, 3_600_000, "ms"),
        default: "30000",
        doc: "how long the application may take to finish what it has in hand of a partition that moves away",
        set: |config, value| config.drain_timeout = value.millis(),
    },
    Key {
        name: "partition.assignment.strategy",
        value_type: ValueType::Words(&[
            "range",
            "roundrobin",
            "sticky",
            "org.apache.kafka.clients.consumer.RangeAssignor",
            "org.apache.kafka.clients.consumer.RoundRobinAssignor",
            "org.apache.kafka.clients.consumer.StickyAssignor",
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
        ]),
        default: "",
        doc: "how partitions are shared out; of several the first counts; without it the group's, sticky for a new group",
        set: |config, value| {
            config.assignor = value.list().first().map(|name| Assignor::named(name));
        },
    },
];
