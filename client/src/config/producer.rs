//! Owns the producer's settings.

use std::time::Duration;

use super::key::{ConfigError, Key, ValueType};
use super::{ClientConfig, apply_all, apply_from, names_of};
use crate::partitioner::Partitioner;

const I32: i64 = i32::MAX as i64;

/// How safe a record must be before it is acknowledged. A topic's floor raises what is below it; the receipt says what
/// was achieved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Acks {
    /// `all`, `-1`: what the topic asks for; by default fsynced on a quorum.
    #[default]
    All,
    /// `1`: the leader has it. The cluster may raise this to what the topic asks for.
    Leader,
    /// At least: in the memory of a quorum.
    QuorumMemory,
    /// At least: fsynced on a quorum.
    QuorumFsync,
}

/// The codec of a batch's records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in the framing of Java's library.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Settings of a [`crate::Producer`].
///
/// ```
/// use std::time::Duration;
/// use waymark_client::{Compression, ProducerConfig};
/// let config = ProducerConfig::default().linger(Duration::ZERO).compression(Compression::Lz4);
/// assert!(config.idempotence);
/// ```
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// `acks`.
    pub acks: Acks,
    /// `linger.ms`: how long a batch may wait for more records; zero sends at once.
    pub linger: Duration,
    /// `batch.size`: bytes of records at which a batch is full.
    pub batch_bytes: usize,
    /// `buffer.memory`: bytes of records that may wait for their acknowledgement; then sending waits.
    pub buffer_bytes: usize,
    /// `max.block.ms`: how long sending may wait for metadata and for buffer memory.
    pub max_block: Duration,
    /// `max.request.size`: the largest record, bytes.
    pub max_record_bytes: usize,
    /// `compression.type`.
    pub compression: Compression,
    /// `enable.idempotence`: retries never duplicate or reorder.
    pub idempotence: bool,
    /// `max.in.flight.requests.per.connection`: batches of one partition on the way at once; the cluster may allow fewer.
    /// Without idempotence it is 1, so that retries keep the order.
    pub max_in_flight: usize,
    /// `delivery.timeout.ms`: from `send` to the verdict, retries included.
    pub delivery_timeout: Duration,
    /// `partitioner.class`.
    pub partitioner: Partitioner,
    /// `partitioner.ignore.keys`: records with a key are spread like those without.
    pub ignore_keys: bool,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            linger: Duration::from_millis(5),
            batch_bytes: 256 << 10,
            buffer_bytes: 32 << 20,
            max_block: Duration::from_secs(60),
            max_record_bytes: 1 << 20,
            compression: Compression::None,
            idempotence: true,
            max_in_flight: 5,
            delivery_timeout: Duration::from_secs(120),
            partitioner: Partitioner::Keyed,
            ignore_keys: false,
        }
    }
}

impl ProducerConfig {
    /// Sets `acks`.
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Sets `linger.ms`.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets `batch.size`.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Sets `buffer.memory`.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Sets `max.block.ms`.
    #[must_use]
    pub fn max_block(mut self, longest: Duration) -> Self {
        self.max_block = longest;
        self
    }

    /// Sets `compression.type`.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets `enable.idempotence`.
    #[must_use]
    pub fn idempotence(mut self, on: bool) -> Self {
        self.idempotence = on;
        self
    }

    /// Sets `max.in.flight.requests.per.connection`, per partition.
    #[must_use]
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.max_in_flight = batches;
        self
    }

    /// Sets `delivery.timeout.ms`.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Sets how records without an explicit partition find theirs.
    #[must_use]
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// Reads Kafka's key names: those of the producer, and those every client shares.
    ///
    /// # Errors
    /// For a key that is unknown or not supported, an illegal value, values that contradict each other, or a missing
    /// `bootstrap.servers`.
    pub fn from_map<K, V>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(ClientConfig, Self), ConfigError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let (mut client, mut config) = (ClientConfig::new(Vec::<String>::new()), Self::default());
        let names = || names_of(super::CLIENT_KEYS).chain(names_of(PRODUCER_KEYS)).collect();
        apply_all(pairs, names, &mut |key, text| {
            Ok(client.apply(key, text)? || apply_from(PRODUCER_KEYS, &mut config, key, text)?)
        })?;
        client.validate()?;
        config.validate(client.request_timeout)?;
        Ok((client, config))
    }

    pub(crate) fn validate(&self, attempt: Duration) -> Result<(), ConfigError> {
        let conflict = |key, rule: String| Err(ConfigError::Conflict { key, rule });
        if self.delivery_timeout < self.linger + attempt {
            let least = (self.linger + attempt).as_millis();
            return conflict(
                "delivery.timeout.ms",
                format!("must be at least linger.ms + request.timeout.ms = {least}"),
            );
        }
        if self.max_record_bytes > self.buffer_bytes {
            return conflict("buffer.memory", "must be at least max.request.size".to_owned());
        }
        Ok(())
    }
}

/// Keys of a producer besides [`super::CLIENT_KEYS`].
pub const PRODUCER_KEYS: &[Key<ProducerConfig>] = &[
    Key {
        name: "acks",
        value_type: ValueType::Word(&["all", "-1", "1", "0"]),
        default: "all",
        doc: "how safe a record is when it is acknowledged; 0 is served as 1: every record is acknowledged",
        set: |config, value| {
            let leader = matches!(value.text().as_str(), "0" | "1");
            config.acks = if leader { Acks::Leader } else { Acks::All };
        },
    },
    Key {
        name: "linger.ms",
        value_type: ValueType::Number(0, 60_000, "ms"),
        default: "5",
        doc: "how long a batch may wait for more records; 0 sends at once",
        set: |config, value| config.linger = value.millis(),
    },
    Key {
        name: "batch.size",
        value_type: ValueType::Number(0, 16 << 20, "bytes"),
        default: "262144",
        doc: "bytes of records at which a batch is full; 0: one record each",
        set: |config, value| config.batch_bytes = value.size(),
    },
    Key {
        name: "buffer.memory",
        value_type: ValueType::Number(1 << 20, 1 << 40, "bytes"),
        default: "33554432",
        doc: "bytes of records that may wait for their acknowledgement; then sending waits",
        set: |config, value| config.buffer_bytes = value.size(),
    },
    Key {
        name: "max.block.ms",
        value_type: ValueType::Number(0, I32, "ms"),
        default: "60000",
        doc: "how long sending may wait for metadata and for buffer memory",
        set: |config, value| config.max_block = value.millis(),
    },
    Key {
        name: "max.request.size",
        value_type: ValueType::Number(1, 16 << 20, "bytes"),
        default: "1048576",
        doc: "the largest record; the topic's max.message.bytes holds as well",
        set: |config, value| config.max_record_bytes = value.size(),
    },
    Key {
        name: "compression.type",
        value_type: ValueType::Word(&["none", "gzip", "snappy", "lz4", "zstd"]),
        default: "none",
        doc: "the codec of a batch's records",
        set: |config, value| {
            config.compression = match value.text().as_str() {
                "gzip" => Compression::Gzip,
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd,
                _ => Compression::None,
            }
        },
    },
    Key {
        name: "enable.idempotence",
        value_type: ValueType::Bool,
        default: "true",
        doc: "retries never duplicate or reorder",
        set: |config, value| config.idempotence = value.flag(),
    },
    Key {
        name: "max.in.flight.requests.per.connection",
        value_type: ValueType::Number(1, 5, "batches per partition"),
        default: "5",
        doc: "batches of one partition on the way at once; the cluster may allow fewer",
        set: |config, value| config.max_in_flight = value.size(),
    },
    Key {
        name: "delivery.timeout.ms",
        value_type: ValueType::Number(1, I32, "ms"),
        default: "120000",
        doc: "from send to the verdict, retries included; at least linger.ms + request.timeout.ms",
        set: |config, value| config.delivery_timeout = value.millis(),
    },
    Key {
        name: "partitioner.class",
        value_type: ValueType::Word(&[
            "default",
            "round_robin",
            "org.apache.kafka.clients.producer.RoundRobinPartitioner",
        ]),
        default: "default",
        doc: "how records find their partition: murmur2 of the key as Kafka and sticky without one, or in turn",
        set: |config, value| {
            let keyed = value.text() == "default";
            config.partitioner = if keyed { Partitioner::Keyed } else { Partitioner::RoundRobin };
        },
    },
    Key {
        name: "partitioner.ignore.keys",
        value_type: ValueType::Bool,
        default: "false",
        doc: "records with a key are spread like those without",
        set: |config, value| config.ignore_keys = value.flag(),
    },
];
