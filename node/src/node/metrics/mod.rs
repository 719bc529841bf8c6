//! The exporter: what the layers tell of themselves, as Prometheus reads it. Owns names, units, labels and help texts, and
//! reads everything at the moment of a scrape. No layer knows of it; it never changes what it reads.
//!
//! | file | owns |
//! |---|---|
//! | `endpoint` | HTTP: `GET /metrics`, `GET /health` |
//! | `scrape` | one look at everything, and the page that comes of it |
//! | `family` | how a family of metrics is declared and written |
//! | `process` | the node, its process and its disk |
//! | `partitions` | partitions led and hosted here |
//! | `requests` | produce, fetch, offset commits, admission |
//! | `groups` | consumer groups coordinated here: lag, members |
//! | `storage` | journal, segments, checkpoints |
//! | `raft` | replicas and their followers |
//!
//! A group of families is a file with its families and `write`, and one of [`GROUPS`]. Whatever is new also needs a panel in
//! `deploy/grafana/waymark.json`; a test says so.
//!
//! Series are bounded by what lives here: partitions with a replica on this node, topics, shards, peers, failure codes; those
//! of groups by a number.

mod endpoint;
mod family;
mod groups;
mod partitions;
mod process;
mod raft;
mod requests;
mod scrape;
mod storage;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waymark_proto::ids::NodeId;

use crate::broker::Broker;
use crate::consensus::Consensus;
use crate::storage::disk::Disk;
use crate::storage::journal::Journal;
use crate::storage::shard_store::Store;

pub(super) use endpoint::Endpoint;
use family::Page;
pub use process::ProcessUsage;
use scrape::Scrape;

/// All that is looked at.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) node: NodeId,
    pub(super) broker: Broker,
    pub(super) consensus: Consensus,
    pub(super) journal: Journal,
    pub(super) store: Store,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) usage: fn() -> Option<ProcessUsage>,
    pub(super) started: Instant,
    /// Cancelled when the node begins to stop.
    pub(super) draining: CancellationToken,
}

/// Writes families that belong together.
type Group = fn(&Scrape, &mut Page<'_>) -> fmt::Result;

/// In the order of the page.
const GROUPS: [Group; 6] = [
    process::write,
    partitions::write,
    requests::write,
    groups::write,
    storage::write,
    raft::write,
];
