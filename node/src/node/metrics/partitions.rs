//! Families of partitions. Where a log begins and ends is told by the leader alone, so that a sum over nodes counts each
//! partition once; its bytes by every node that holds a replica, because each of them pays for it.

use std::fmt;

use super::family::{Family, Page, gauge, whole, wide};
use super::scrape::Scrape;
use crate::broker::{HostedPartition, LedPartition};

static LED: Family = gauge("partitions_led", "Partitions that this node leads.");
static HOSTED: Family = gauge("partitions_hosted", "Partitions with a replica on this node.");
static UNDER_REPLICATED: Family = gauge(
    "partitions_under_replicated",
    "Partitions led here with a replica that does not keep up or is silent. Sum it over the nodes.",
);
static OFFLINE: Family = gauge(
    "partitions_offline",
    "Partitions of the whole cluster without a leader, as this node knows. Take the maximum over the nodes.",
);
static LOG_START: Family =
    gauge("partition_log_start_offset", "First offset that is kept, of a partition led here.");
static HIGH_WATERMARK: Family = gauge(
    "partition_high_watermark",
    "Offset after the last committed record of a partition led here; its rate is records in.",
);
static LEADER_EPOCH: Family =
    gauge("partition_leader_epoch", "Leader changes so far, of a partition led here.");
static REPLICAS: Family = gauge("partition_replicas", "Replicas of a partition led here.");
static IN_SYNC: Family =
    gauge("partition_in_sync_replicas", "Replicas that keep up, of a partition led here.");
static SIZE: Family =
    gauge("partition_size", "Bytes of the segments of a partition with a replica here.").bytes();

/// What is told of each partition that is led here.
type OfLed = (&'static Family, fn(&LedPartition) -> u64);

const OF_LED: [OfLed; 5] = [
    (&LOG_START, |led| whole(led.marks.log_start)),
    (&HIGH_WATERMARK, |led| whole(led.marks.high_watermark)),
    (&LEADER_EPOCH, |led| whole(led.marks.leader_epoch)),
    (&REPLICAS, |led| wide(led.replicas)),
    (&IN_SYNC, |led| wide(led.in_sync)),
];

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let census = &scrape.census;
    page.gauge(&LED, wide(census.led().count()))?;
    page.gauge(&HOSTED, wide(census.hosted.len()))?;
    page.gauge(&UNDER_REPLICATED, wide(census.under_replicated()))?;
    page.gauge(&OFFLINE, wide(census.offline))?;
    for (family, of) in OF_LED {
        let mut series = page.family(family)?;
        for (at, led) in census.led() {
            labelled(at, |labels| series.gauge(labels, of(&led)))?;
        }
    }
    let mut sizes = page.family(&SIZE)?;
    census.hosted.iter().try_for_each(|at| labelled(at, |labels| sizes.gauge(labels, at.bytes)))
}

fn labelled(
    at: &HostedPartition,
    write: impl FnOnce(&[(&str, &str)]) -> fmt::Result,
) -> fmt::Result {
    let partition = at.partition.0.to_string();
    write(&[("topic", &at.topic), ("partition", &partition)])
}
