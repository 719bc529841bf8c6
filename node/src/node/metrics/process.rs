//! Families of the node as a whole: what runs, since when, whether it serves, what its process uses, how full its disk is.

use std::fmt;
use std::time::Duration;

use super::family::{Family, Page, counter, gauge, info};
use super::scrape::Scrape;
use crate::consensus::{DiskRoom, Level};

/// What a process uses, as the system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Processor time of all threads, in user and system mode.
    pub cpu: Duration,
    /// Memory that is in use.
    pub resident_bytes: u64,
    /// Memory that is mapped.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Files and sockets that are open.
    pub open_files: u64,
    /// How many may be; `None`: no limit.
    pub most_files: Option<u64>,
}

static BUILD: Family = info("build", "What runs here: version, node id, cluster id.");
static READY: Family = gauge(
    "node_ready",
    "1 while the node serves: every replica placed on it runs and knows its leader. The same as GET /health.",
);
static UPTIME: Family = gauge("node_uptime", "Time since the node was started.").seconds();
static CPU: Family = counter("process_cpu", "Processor time in user and system mode.").seconds();
static RESIDENT: Family = gauge("process_resident_memory", "Memory in use.").bytes();
static VIRTUAL: Family = gauge("process_virtual_memory", "Memory mapped.").bytes();
static THREADS: Family = gauge("process_threads", "Threads.");
static FILES: Family = gauge("process_open_fds", "Open files and sockets.");
static MOST_FILES: Family = gauge("process_max_fds", "Open files and sockets allowed.");
static DISK_SIZE: Family = gauge("disk_size", "Size of the data directory's file system.").bytes();
static DISK_FREE: Family =
    gauge("disk_free", "Bytes of the data directory's file system that the node may still use.")
        .bytes();

static DISK_ROOM: Family = gauge(
    "disk_room",
    "1 while more than a mark is free. Below reserve the node has no room for records, below last_reserve none for entries \
     of other nodes.",
);
static DISK_MARK: Family =
    gauge("disk_mark", "Free bytes at which the room on the disk ends, by mark.").bytes();

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let sources = &scrape.sources;
    let cluster = *sources.consensus.cluster_id().borrow();
    let cluster = cluster.map(|id| id.to_string()).unwrap_or_default();
    let (version, node) = (env!("CARGO_PKG_VERSION"), sources.node.to_string());
    let labels = [("version", version), ("node", &node), ("cluster", &cluster)];
    page.family(&BUILD)?.info(&labels)?;
    page.gauge(&READY, u64::from(scrape.ready))?;
    page.family(&UPTIME)?.fraction(sources.started.elapsed().as_secs_f64())?;
    write_usage((sources.usage)(), page)?;
    let mut size = page.family(&DISK_SIZE)?;
    scrape.space.iter().try_for_each(|space| size.gauge(&[], space.total))?;
    let mut free = page.family(&DISK_FREE)?;
    scrape.space.iter().try_for_each(|space| free.gauge(&[], space.free))?;
    write_room(sources.consensus.disk_room().as_deref(), page)
}

fn write_room(disk: Option<&DiskRoom>, page: &mut Page<'_>) -> fmt::Result {
    const MARKS: [&str; 2] = ["reserve", "last_reserve"];
    let level = disk.map(|disk| disk.level);
    let above = level.map(|it| [it == Level::Records, it != Level::Nothing]);
    let marks = disk.map(|disk| [disk.reserve_bytes, disk.last_reserve_bytes]);
    let mut room = page.family(&DISK_ROOM)?;
    for (mark, above) in MARKS.iter().zip(above.into_iter().flatten()) {
        room.gauge(&[("mark", mark)], u64::from(above))?;
    }
    let mut bytes = page.family(&DISK_MARK)?;
    for (mark, at) in MARKS.iter().zip(marks.into_iter().flatten()) {
        bytes.gauge(&[("mark", mark)], at)?;
    }
    Ok(())
}

fn write_usage(usage: Option<ProcessUsage>, page: &mut Page<'_>) -> fmt::Result {
    let mut cpu = page.family(&CPU)?;
    usage.iter().try_for_each(|usage| cpu.risen(usage.cpu.as_secs_f64()))?;
    let most_files = usage.and_then(|usage| usage.most_files);
    let gauges = [
        (&RESIDENT, usage.map(|usage| usage.resident_bytes)),
        (&VIRTUAL, usage.map(|usage| usage.virtual_bytes)),
        (&THREADS, usage.map(|usage| usage.threads)),
        (&FILES, usage.map(|usage| usage.open_files)),
        (&MOST_FILES, most_files),
    ];
    for (family, value) in gauges {
        let mut series = page.family(family)?;
        value.into_iter().try_for_each(|value| series.gauge(&[], value))?;
    }
    Ok(())
}
