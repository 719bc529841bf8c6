//! The composition root: builds the layers from the disk upwards, opens the doors, and takes everything down in the other
//! order. Owns the life of a node; it decides nothing else. What the world supplies is a parameter, so the same function
//! runs on a real machine and under simulation.

mod door;
mod health;
mod metrics;
mod options;
mod running;
mod stopped;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use waymark_proto::transport::BoxedIo;

use crate::config::Config;
use crate::consensus::StartError;
use crate::env::Env;
use crate::storage::journal::JournalError;
use crate::storage::shard_store::StoreError;

pub use metrics::ProcessUsage;
pub use running::Running;
pub use stopped::Stopped;

/// Calls of clients that are on the way when a node stops get this long to end.
const GOODBYE: Duration = Duration::from_secs(2);
/// Handing over leaderships and the last checkpoints get this long; a node that is killed instead only starts slower.
const HAND_OVER: Duration = Duration::from_secs(20);

/// Connections that arrive at one listener.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<BoxedIo>> + Send>>;

/// Where a node listens. The connections of a door are first asked for when the node is able to answer.
pub struct Doors {
    /// For clients.
    pub client: Incoming,
    /// For the other nodes.
    pub peer: Incoming,
    /// For those who watch it, if anybody may.
    pub metrics: Option<MetricsDoor>,
}

/// Where a node shows its metrics.
pub struct MetricsDoor {
    /// Over HTTP.
    pub incoming: Incoming,
    /// What the process uses, as the system tells it; `None` where it does not.
    pub usage: fn() -> Option<ProcessUsage>,
}

impl fmt::Debug for MetricsDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsDoor")
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doors")
    }
}

/// Why a node did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node may not join its cluster.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A listener failed.
    #[error("the {door} listener failed: {why}")]
    Door {
        /// Which.
        door: &'static str,
        /// What happened.
        why: String,
    },
    /// The node cannot go on (S4).
    #[error("this node has to stop: {0}")]
    Fatal(String),
}

/// Runs a node until `stop` resolves or it cannot go on.
///
/// # Errors
/// When it does not start, and when it had to stop; see [`NodeError`].
pub async fn run(
    config: &Config,
    env: Env,
    doors: Doors,
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let running = Running::start(config, env, doors).await?;
    tracing::info!(node = config.node.id, version = env!("CARGO_PKG_VERSION"), "node started");
    let ended = running.run_until(stop).await;
    tracing::info!(node = config.node.id, "node stopped");
    ended
}
