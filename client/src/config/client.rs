//! Owns what every client needs: where the cluster is, deadlines, back-off, and the seams to the world.

use std::sync::Arc;
use std::time::Duration;

use waymark_proto::transport::{Dial, TcpDial};

use super::key::{ConfigError, Key, ValueType};
use super::{apply_all, apply_from, names_of};
use crate::environment::{Clock, Random, SystemClock};

const I32: i64 = i32::MAX as i64;
const DAY_MS: i64 = 86_400_000;

/// How to reach a cluster, and how patient to be.
///
/// ```
/// use waymark_client::ClientConfig;
/// let config = ClientConfig::new(["127.0.0.1:9092", "127.0.0.1:9093"]).client_id("orders");
/// assert_eq!(config.client_id, "orders");
/// ```
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `bootstrap.servers`: addresses `host:port` to find the cluster by; any one that answers is enough.
    pub bootstrap: Vec<String>,
    /// `client.id`: a name for logs and audit, told to the node with every call.
    pub client_id: String,
    /// `client.rack`: where this client runs; told with fetches.
    pub rack: Option<String>,
    /// `request.timeout.ms`: the most that one attempt of one call may take.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: the deadline of a whole operation, retries included.
    pub api_timeout: Duration,
    /// `retry.backoff.ms`: the pause before the first retry; doubles, with jitter.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`: the longest pause.
    pub retry_backoff_max: Duration,
    /// `metadata.max.age.ms`: the age at which metadata is read again even though nothing failed.
    pub metadata_max_age: Duration,
    /// How addresses are dialled: TCP, or a simulated network.
    pub dial: Arc<dyn Dial>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness of back-off, partition choice and ids.
    pub random: Arc<Random>,
}

impl ClientConfig {
    /// The defaults, for a cluster at these addresses.
    pub fn new<I, S>(bootstrap: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            client_id: "waymark-client".to_owned(),
            rack: None,
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            dial: Arc::new(TcpDial),
            clock: Arc::new(SystemClock),
            random: Arc::new(Random::from_os()),
        }
    }

    /// Sets `client.id`.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = id.into();
        self
    }

    /// Sets `client.rack`.
    #[must_use]
    pub fn rack(mut self, rack: impl Into<String>) -> Self {
        self.rack = Some(rack.into());
        self
    }

    /// Sets `request.timeout.ms`.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets `default.api.timeout.ms`.
    #[must_use]
    pub fn api_timeout(mut self, timeout: Duration) -> Self {
        self.api_timeout = timeout;
        self
    }

    /// Sets `retry.backoff.ms` and `retry.backoff.max.ms`.
    #[must_use]
    pub fn retry_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.retry_backoff = first;
        self.retry_backoff_max = longest;
        self
    }

    /// Dials by other means than TCP.
    #[must_use]
    pub fn dial(mut self, dial: Arc<dyn Dial>) -> Self {
        self.dial = dial;
        self
    }

    /// Reads the wall clock elsewhere.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes every random choice a function of this seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = Arc::new(Random::seeded(seed));
        self
    }

    /// Reads Kafka's key names; these are the keys of an admin client.
    ///
    /// # Errors
    /// For a key that is unknown or not supported, an illegal value, or a missing `bootstrap.servers`.
    pub fn from_map<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, ConfigError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut config = Self::new(Vec::<String>::new());
        let names = || names_of(CLIENT_KEYS).collect();
        apply_all(pairs, names, &mut |key, text| config.apply(key, text))?;
        config.validate()?;
        Ok(config)
    }

    pub(super) fn apply(&mut self, key: &str, text: &str) -> Result<bool, ConfigError> {
        apply_from(CLIENT_KEYS, self, key, text)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.bootstrap.is_empty() {
            let key = &CLIENT_KEYS[0];
            return Err(ConfigError::Missing { key: key.name, doc: key.doc });
        }
        if self.retry_backoff > self.retry_backoff_max {
            return Err(ConfigError::Conflict {
                key: "retry.backoff.ms",
                rule: "must not exceed retry.backoff.max.ms".to_owned(),
            });
        }
        Ok(())
    }
}

/// Keys that producers, consumers and admin clients share.
pub const CLIENT_KEYS: &[Key<ClientConfig>] = &[
    Key {
        name: "bootstrap.servers",
        value_type: ValueType::List,
        default: "",
        doc: "addresses host:port to find the cluster by; any one that answers is enough",
        set: |config, value| config.bootstrap = value.list(),
    },
    Key {
        name: "client.id",
        value_type: ValueType::Text,
        default: "waymark-client",
        doc: "a name for logs and audit",
        set: |config, value| config.client_id = value.text(),
    },
    Key {
        name: "client.rack",
        value_type: ValueType::Text,
        default: "",
        doc: "where this client runs; told with fetches",
        set: |config, value| config.rack = Some(value.text()),
    },
    Key {
        name: "request.timeout.ms",
        value_type: ValueType::Number(1, 300_000, "ms"),
        default: "30000",
        doc: "the most that one attempt of one call may take",
        set: |config, value| config.request_timeout = value.millis(),
    },
    Key {
        name: "default.api.timeout.ms",
        value_type: ValueType::Number(1, I32, "ms"),
        default: "60000",
        doc: "the deadline of a whole operation, retries included",
        set: |config, value| config.api_timeout = value.millis(),
    },
    Key {
        name: "retry.backoff.ms",
        value_type: ValueType::Number(1, DAY_MS, "ms"),
        default: "100",
        doc: "the pause before the first retry; doubles, with jitter",
        set: |config, value| config.retry_backoff = value.millis(),
    },
    Key {
        name: "retry.backoff.max.ms",
        value_type: ValueType::Number(1, DAY_MS, "ms"),
        default: "1000",
        doc: "the longest pause between retries",
        set: |config, value| config.retry_backoff_max = value.millis(),
    },
    Key {
        name: "metadata.max.age.ms",
        value_type: ValueType::Number(1, DAY_MS, "ms"),
        default: "300000",
        doc: "the age at which metadata is read again even though nothing failed",
        set: |config, value| config.metadata_max_age = value.millis(),
    },
    Key {
        name: "security.protocol",
        value_type: ValueType::Word(&["PLAINTEXT"]),
        default: "PLAINTEXT",
        doc: "how connections are secured; TLS and authentication are not built yet",
        set: |_, _| {},
    },
];
