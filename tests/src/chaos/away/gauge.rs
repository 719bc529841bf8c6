//! How far a node is, and what that cost: bytes of segments on its disk, and bytes that nodes pulled from each other. Owns
//! looking from outside, at files and metrics; what a node counted before it was killed is not forgotten.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use futures::future::join_all;

use super::super::metrics::{page, value};
use super::super::rot::{Kind, files};
use super::super::site::Site;

const PULLED: &str = "waymark_segments_pulled_bytes_total";
const GIVEN: &str = "waymark_segments_given_bytes_total";

/// Bytes of segments between a node and others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) pulled: u64,
    pub(super) given: u64,
}

impl Moved {
    fn and(self, more: Self) -> Self {
        Self { pulled: self.pulled + more.pulled, given: self.given + more.given }
    }

    /// As a page of metrics says.
    fn on(page: &str) -> Option<Self> {
        Some(Self { pulled: value(page, PULLED)?, given: value(page, GIVEN)? })
    }
}

/// Of all nodes, over all their lives.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// By node: in lives that ended, and in this one.
    moved: BTreeMap<u32, (Moved, Moved)>,
}

impl Gauge {
    /// Asks every node; one that gives no answer is as it was.
    pub(super) async fn look(&mut self, site: &Site) {
        let ask = |node| async move { (node, page(site.metrics(node)).await) };
        for (node, page) in join_all(site.nodes().map(ask)).await {
            let moved = page.ok().and_then(|page| Moved::on(&page));
            if let Some(moved) = moved {
                self.moved.entry(node).or_default().1 = moved;
            }
        }
    }

    /// A node was killed, and counts from zero when it is back.
    pub(super) fn died(&mut self, node: u32) {
        let (past, now) = self.moved.entry(node).or_default();
        (*past, *now) = (past.and(*now), Moved::default());
    }

    pub(super) fn moved(&self, node: u32) -> Moved {
        self.moved.get(&node).map_or_else(Moved::default, |(past, now)| past.and(*now))
    }
}

/// Bytes and number of the segments on a node's disk.
///
/// # Errors
/// When its folders cannot be read.
pub(super) fn held(data: &Path) -> io::Result<(u64, usize)> {
    let segments = files(data, Kind::Segments)?;
    // One that has just gone counts nothing.
    let bytes = segments.iter().filter_map(|file| fs::metadata(file).ok()).map(|it| it.len());
    Ok((bytes.sum(), segments.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_was_moved() {
        let page =
            format!("HTTP/1.1 200 OK\r\n\r\n# TYPE x counter\n{PULLED} 17\n{GIVEN} 4\n# EOF\n");
        assert_eq!(Moved::on(&page), Some(Moved { pulled: 17, given: 4 }));
        assert_eq!(Moved::on("HTTP/1.1 503 Service Unavailable\r\n\r\n"), None);
    }

    #[test]
    fn what_was_moved_before_a_kill_still_counts() {
        let mut gauge = Gauge::default();
        gauge.moved.insert(3, (Moved::default(), Moved { pulled: 5, given: 1 }));
        gauge.died(3);
        assert_eq!(gauge.moved(3), Moved { pulled: 5, given: 1 });
        gauge.moved.entry(3).or_default().1.pulled = 2;
        assert_eq!(gauge.moved(3).pulled, 7);
        assert_eq!(gauge.moved(1), Moved::default());
    }
}
