//! Owns the handle to a cluster: finds it by any address, calls any node or a partition's leader, and keeps metadata
//! fresh. Producer, consumer and admin are made from it and share its channels. Never holds a lock across an await but the
//! one that coalesces refreshes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::admin::Admin;
use crate::answers;
use crate::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use crate::connections::{Carries, Connections, Link};
use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::metadata::{Metadata, TopicView};
use crate::producer::Producer;
use crate::refusal::from_failure;
use crate::retry::{Repeat, Retry};

/// A cluster, to talk to. Cheap to clone; all clones share connections and metadata.
///
/// ```no_run
/// use waymark_client::{Client, ClientConfig, ProducerConfig, ProducerRecord};
/// # async fn example() -> waymark_client::Result<()> {
/// let client = Client::connect(ClientConfig::new(["127.0.0.1:9092"])).await?;
/// let producer = client.producer(ProducerConfig::default()).await?;
/// let receipt = producer.send_and_wait(ProducerRecord::new("orders").key("k").value("v")).await?;
/// println!("{} at offset {:?}", receipt.at, receipt.offset);
/// producer.close(std::time::Duration::from_secs(10)).await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ClientConfig,
    bootstrap: Vec<Arc<str>>,
    connections: Connections,
    metadata: Metadata,
    /// What nodes allow, read when connecting.
    limits: Limits,
    /// Which address answered last: the first to try next time. Any task sets it.
    favourite: AtomicUsize,
    /// Held by the one task that reads metadata; others wait for it and use its answer.
    refreshing: tokio::sync::Mutex<()>,
}

/// How a call on any node is tried.
#[derive(Debug, Clone, Copy)]
struct Operation {
    what: &'static str,
    /// For all attempts.
    allowed: Duration,
    repeat: Repeat,
    /// For one attempt, while other nodes have not been tried.
    patience: Duration,
}

impl Operation {
    /// What any node answers at once or not at all: a node that is cut off must not cost more than this.
    fn quick(what: &'static str, allowed: Duration) -> Self {
        let patience = Duration::from_secs(1);
        Self { what, allowed, repeat: Repeat::Harmless, patience }
    }
}

/// Limits that nodes tell and clients obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Batches of one producer and partition on the way at once.
    pub(crate) window: usize,
    /// Bytes of one produce request.
    pub(crate) request_bytes: usize,
    /// Batches of one produce request.
    pub(crate) request_batches: usize,
}

impl Default for Limits {
    /// What CONTRACT names; a node's answer replaces it.
    fn default() -> Self {
        Self { window: 5, request_bytes: 32 << 20, request_batches: 4096 }
    }
}

impl Client {
    /// Connects to the first address that answers, and learns the cluster's limits.
    ///
    /// # Errors
    /// For a configuration that cannot be used, and when no address answers within `default.api.timeout.ms`.
    pub async fn connect(config: ClientConfig) -> Result<Self> {
        config.validate()?;
        let bootstrap: Vec<Arc<str>> = config.bootstrap.iter().map(|a| a.as_str().into()).collect();
        let mut shared = Shared {
            connections: Connections::new(&config),
            favourite: AtomicUsize::new(start_at(&config, bootstrap.len())),
            bootstrap,
            config,
            metadata: Metadata::default(),
            limits: Limits::default(),
            refreshing: tokio::sync::Mutex::new(()),
        };
        let timeout = shared.config.api_timeout;
        shared.limits = shared
            .any_node(Operation::quick("connecting", timeout), |link, timeout| async move {
                answers::limits(&link, timeout).await
            })
            .await?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A producer on this cluster.
    ///
    /// # Errors
    /// For a configuration that cannot be used, and when no producer id is given out within `max.block.ms`.
    pub async fn producer(&self, config: ProducerConfig) -> Result<Producer> {
        Producer::start(self.clone(), config).await
    }

    /// A consumer on this cluster; it reads nothing until partitions are assigned. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// For a configuration that cannot be used.
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer> {
        Consumer::start(self.clone(), config)
    }

    /// Administration of this cluster.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    pub(crate) fn limits(&self) -> Limits {
        self.shared.limits
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.shared.metadata
    }

    /// A link to a node for bulk streams, if its address is known.
    pub(crate) fn bulk(&self, node: i32) -> Option<Result<Link>> {
        let address = self.shared.metadata.address(node)?;
        Some(self.shared.connections.link(&address, Carries::Bulk))
    }

    /// A node is silent: its next bulk streams get a new connection.
    pub(crate) fn abandon_bulk(&self, node: i32) {
        if let Some(address) = self.shared.metadata.address(node) {
            self.shared.connections.abandon(&address, Carries::Bulk);
        }
    }

    /// A link for a group session.
    pub(crate) fn session(&self, address: &Arc<str>) -> Result<Link> {
        self.shared.connections.link(address, Carries::Session)
    }

    /// A coordinator is silent: its next session gets a new connection.
    pub(crate) fn abandon_session(&self, address: &Arc<str>) {
        self.shared.connections.abandon(address, Carries::Session);
    }

    /// A node answers, and knows less than others may: the next call that any node can answer goes to another one.
    pub(crate) fn ask_another(&self) {
        self.shared.favourite.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls any node, elsewhere after each failure, until the deadline of the operation.
    pub(crate) async fn call<T, F>(
        &self,
        what: &'static str,
        repeat: Repeat,
        attempt: impl Fn(Link, Duration) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let (allowed, patience) =
            (self.shared.config.api_timeout, self.shared.config.request_timeout);
        let operation = Operation { what, allowed, repeat, patience };
        self.shared.any_node(operation, attempt).await
    }

    /// As [`Self::call`], for what any node answers at once or not at all, within a deadline of its own.
    pub(crate) async fn quick_call<T, F>(
        &self,
        (what, allowed): (&'static str, Duration),
        attempt: impl Fn(Link, Duration) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.shared.any_node(Operation::quick(what, allowed), attempt).await
    }

    /// The topic from the cache, or from the cluster within `allowed`.
    pub(crate) async fn topic(&self, name: &Arc<str>, allowed: Duration) -> Result<TopicView> {
        if let Some(topic) = self.shared.metadata.topic(name) {
            return Ok(topic);
        }
        self.shared.metadata.want(name);
        let operation = Operation::quick("looking up a topic", allowed);
        let shared = &self.shared;
        shared
            .any_node(operation, |link, timeout| async move {
                let seen = shared.metadata.answers();
                shared.refresh_once(&link, timeout, seen, Some(name)).await?;
                shared.metadata.topic(name).ok_or_else(|| answers::stale_metadata(name))
            })
            .await
    }

    /// Reads metadata of every topic in use; concurrent calls share one answer.
    pub(crate) async fn refresh(&self) -> Result<()> {
        let seen = self.shared.metadata.answers();
        let shared = &self.shared;
        let operation = Operation::quick("reading metadata", shared.config.request_timeout);
        shared
            .any_node(operation, |link, timeout| async move {
                shared.refresh_once(&link, timeout, seen, None).await
            })
            .await
    }

    /// Whether metadata is older than `metadata.max.age.ms`.
    pub(crate) fn metadata_aged(&self) -> bool {
        let age = self.shared.config.metadata_max_age;
        self.shared.metadata.read_at().is_none_or(|at| Instant::now() > at + age)
    }
}

impl Shared {
    async fn any_node<T, F>(
        &self,
        operation: Operation,
        attempt: impl Fn(Link, Duration) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let Operation { what, allowed, repeat, patience } = operation;
        let mut retry = Retry::new(what, &self.config, allowed, repeat);
        // Every address gets one try before the first pause: a dead bootstrap address costs no back-off.
        let mut untried = self.addresses().len();
        loop {
            let link = self.favourite()?;
            // While other addresses are left, a silent one may not take the whole deadline.
            let longest = if untried > 1 { patience } else { self.config.request_timeout };
            let timeout = retry.attempt_timeout(longest);
            let outcome = tokio::time::timeout(timeout, attempt(link, timeout)).await;
            let error = match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => retry.timeout(None, true),
            };
            let connection = matches!(error, Error::Transport { .. } | Error::Timeout { .. });
            let never_sent = matches!(error, Error::Transport { sent: false, .. });
            if connection {
                self.favourite.fetch_add(1, Ordering::Relaxed);
            }
            untried = untried.saturating_sub(1);
            if never_sent && untried > 0 && Instant::now() < retry.deadline() {
                continue;
            }
            if retry.again(error, &self.config.random).await? && !connection {
                self.favourite.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn addresses(&self) -> Vec<Arc<str>> {
        let mut all = self.metadata.addresses();
        for address in &self.bootstrap {
            if !all.contains(address) {
                all.push(Arc::clone(address));
            }
        }
        all
    }

    fn favourite(&self) -> Result<Link> {
        let addresses = self.addresses();
        let index = self.favourite.load(Ordering::Relaxed) % addresses.len().max(1);
        let address = addresses.get(index).ok_or(Error::Closed("a client without addresses"))?;
        self.connections.link(address, Carries::Calls)
    }

    async fn refresh_once(
        &self,
        link: &Link,
        timeout: Duration,
        seen: u64,
        needed: Option<&Arc<str>>,
    ) -> Result<()> {
        let _turn = self.refreshing.lock().await;
        let served = needed.is_none_or(|name| self.metadata.topic(name).is_some());
        if self.metadata.answers() > seen && served {
            return Ok(());
        }
        let snapshot = answers::metadata(link, self.metadata.wanted(), timeout).await?;
        // Without a topic in mind all are: of which one nothing is told, another node may tell.
        let mut failed = snapshot.missing.iter().filter(|(name, _)| Some(name) == needed);
        let untold =
            || snapshot.untold.iter().find(|(name, _)| needed.is_none_or(|needed| needed == name));
        let failure = failed.next().or_else(untold).map(|(_, failure)| from_failure(failure));
        if !self.metadata.merge(snapshot) {
            return Err(answers::stale_metadata(needed.map_or("", |name| name)));
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Clients begin at different addresses, so that the first of the list does not carry them all.
fn start_at(config: &ClientConfig, addresses: usize) -> usize {
    usize::try_from(config.random.below(addresses as u64)).unwrap_or(0)
}
