//! One scrape: a look at everything that several families need, and the page. Owns that a scrape holds up nobody: what may
//! wait for a disk has a time limit, and the page is written on a thread where waiting is allowed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use tokio::time::timeout;

use super::family::{PREFIX, Page};
use super::{GROUPS, Sources};
use crate::broker::Census;
use crate::node::health;
use crate::storage::disk::Space;

/// A disk that does not say how full it is by then is not waited for.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// What was seen.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) sources: Arc<Sources>,
    pub(super) census: Census,
    pub(super) ready: bool,
    /// Of the data directory's file system.
    pub(super) space: Option<Space>,
}

impl Sources {
    /// Whether the node can do its work.
    pub(super) fn is_ready(&self) -> bool {
        !self.draining.is_cancelled() && health::is_ready(self.node, &self.consensus)
    }
}

/// The page, as of now.
///
/// # Errors
/// When it cannot be written, which would be a fault of a family.
pub(super) async fn page(sources: Arc<Sources>) -> Result<String, String> {
    let space = timeout(DISK_PATIENCE, sources.disk.space()).await;
    let space = space.ok().and_then(Result::ok);
    #[allow(
        clippy::disallowed_methods,
        reason = "a page of thousands of series is work for a thread of its own, and waits for no disk"
    )]
    let writing = tokio::task::spawn_blocking(move || {
        let (census, ready) = (sources.broker.census(), sources.is_ready());
        write(Scrape { sources, census, ready, space })
    });
    match writing.await {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(ended) => Err(ended.to_string()),
    }
}

fn write(scrape: Scrape) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(scrape));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        GROUPS.iter().try_for_each(|write| write(self, &mut page))
    }
}
