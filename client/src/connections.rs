//! Owns the channels: one per node for calls, another for bulk streams and a third for group sessions, so that neither a
//! short call nor a heartbeat queues behind megabytes. Connected when first used, again after a break. Never chooses a node.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use waymark_proto::transport::{self, Dial, Purpose};

use crate::config::ClientConfig;
use crate::environment::Random;
use crate::error::{Error, Refusal, Result};
use crate::refusal;

/// What a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Carries {
    /// Unary calls.
    Calls,
    /// Produce and fetch streams.
    Bulk,
    /// A member's session with its group's coordinator.
    Session,
}

/// All channels of one client.
#[derive(Debug)]
pub(crate) struct Connections {
    dial: Arc<dyn Dial>,
    random: Arc<Random>,
    client_id: String,
    /// Any task; held only to look up or insert. Bounded by the nodes of the cluster and the bootstrap list.
    channels: Mutex<HashMap<(Arc<str>, Carries), Channel>>,
}

/// A way to one node.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) address: Arc<str>,
    pub(crate) channel: Channel,
    headers: MetadataMap,
}

impl Connections {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            dial: Arc::clone(&config.dial),
            random: Arc::clone(&config.random),
            client_id: config.client_id.clone(),
            channels: Mutex::default(),
        }
    }

    pub(crate) fn link(&self, address: &Arc<str>, carries: Carries) -> Result<Link> {
        let key = (Arc::clone(address), carries);
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let dial = Arc::clone(&self.dial);
                let channel =
                    transport::channel(dial, address, Purpose::Client).map_err(|error| {
                        Error::Transport {
                            address: Arc::clone(address),
                            message: error.to_string().into(),
                            sent: false,
                        }
                    })?;
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(Link { address: Arc::clone(address), channel, headers: self.headers() })
    }

    /// The next link of this kind is a connection of its own: this one is silent, and may be half open for as long as nobody
    /// pings. Who still uses it goes on with it.
    pub(crate) fn abandon(&self, address: &Arc<str>, carries: Carries) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.remove(&(Arc::clone(address), carries));
    }

    fn headers(&self) -> MetadataMap {
        let mut headers = MetadataMap::new();
        let request_id = format!("{:016x}", self.random.next_u64());
        let values = [
            ("waymark-client-id", self.client_id.as_str()),
            ("waymark-client-version", env!("CARGO_PKG_VERSION")),
            ("waymark-request-id", request_id.as_str()),
        ];
        for (name, value) in values {
            if let Ok(value) = MetadataValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

impl Link {
    /// A call that ends after `timeout` at the latest, at both ends.
    pub(crate) fn call<M>(&self, message: M, timeout: Duration) -> Request<M> {
        let mut request = self.stream(message);
        request.set_timeout(timeout);
        request
    }

    /// A stream: without a deadline, its messages carry their own.
    pub(crate) fn stream<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request
    }

    /// What a failed call means.
    pub(crate) fn failure(&self, status: &Status) -> Error {
        if let Some(refusal) = refusal::from_status(status) {
            return Error::Refused(Arc::new(refusal));
        }
        if status.code() == Code::Unimplemented {
            return Error::Refused(Arc::new(Refusal::unsupported(status.message())));
        }
        Error::Transport {
            address: Arc::clone(&self.address),
            message: format!("{:?}: {}", status.code(), status.message()).into(),
            sent: !never_sent(status),
        }
    }
}

/// True only where the connection itself could not be made.
fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
