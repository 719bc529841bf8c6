//! Families of consumer groups, told by each group's coordinator alone, as it last measured them: every few seconds, so that a
//! scrape asks nobody. What is not known has no series: a lag of 0 is a measured 0.

use std::fmt;

use super::family::{Family, Page, gauge, whole, wide};
use super::scrape::Scrape;
use crate::broker::groups::seam::{GroupLag, Groups as _, PartitionLag, Phase};

/// Partitions of groups on one page; of more, those that come last by the group's name are left out, and counted.
const MOST_SERIES: usize = 20_000;

static COORDINATED: Family =
    gauge("groups_coordinated", "Consumer groups that this node coordinates.");
static UNWATCHED: Family = gauge(
    "group_partitions_unwatched",
    "Partitions of groups that are left out of the page because there are too many.",
);
static MEMBERS: Family = gauge(
    "group_members",
    "Members of a group; the state is empty, stable, or moving while partitions change hands.",
);
static GENERATION: Family = gauge(
    "group_generation",
    "Rises with each change of a group's members, partitions or positions; how often it rises is how often it rebalances.",
);
static COMMITTED: Family = gauge("group_committed_offset", "The next offset that a group reads.");
static LAG: Family = gauge("group_lag_records", "Records that a group has not committed as read.");
static BEHIND: Family = gauge(
    "group_lag",
    "Age of the oldest record that a group has not committed as read; 0 when there is none.",
)
.seconds();
static CATCHING_UP: Family = gauge(
    "group_catching_up",
    "Records a second by which a group's lag shrinks; negative while it grows.",
);
static UNTIL_LOSS: Family = gauge(
    "group_until_loss",
    "Time until retention removes the oldest unread record; no series where it will not.",
)
.seconds();
static LOST: Family =
    gauge("group_lost_records", "Records that retention removed before a group read them.");
static HELD: Family =
    gauge("group_held_partitions", "Partitions in which retention waits for a group.");

/// What is told of each group.
type OfGroup = (&'static Family, fn(&GroupLag) -> u64);

const OF_GROUP: [OfGroup; 2] = [
    (&GENERATION, |group| whole(group.generation)),
    (&HELD, |group| wide(group.partitions.iter().filter(|it| it.held).count())),
];

/// What is told of each partition; `None`: it is not known.
type OfPartition = (&'static Family, fn(&PartitionLag) -> Option<f64>);

const OF_PARTITION: [OfPartition; 6] = [
    (&COMMITTED, |it| it.committed.map(number)),
    (&LAG, |it| it.records.map(number)),
    (&BEHIND, |it| it.behind_ms.map(seconds)),
    (&CATCHING_UP, |it| it.catching_up),
    (&UNTIL_LOSS, |it| it.loss_in_ms.map(seconds)),
    (&LOST, |it| it.records.map(|_| number(it.lost_records))),
];

#[allow(clippy::cast_precision_loss, reason = "a sample is a float, exact up to 2^53")]
fn number(value: i64) -> f64 {
    value as f64
}

fn seconds(ms: i64) -> f64 {
    number(ms) / 1000.0
}

fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Empty => "empty",
        Phase::Stable => "stable",
        Phase::Moving => "moving",
    }
}

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let groups = scrape.sources.broker.last_lags();
    page.gauge(&COORDINATED, wide(groups.len()))?;
    let (shown, left_out) = bounded(&groups);
    page.gauge(&UNWATCHED, wide(left_out))?;
    let mut series = page.family(&MEMBERS)?;
    for group in shown {
        let labels = [("group", group.group.as_str()), ("state", state(group.phase))];
        series.gauge(&labels, wide(group.members))?;
    }
    for (family, of) in OF_GROUP {
        let mut series = page.family(family)?;
        for group in shown {
            series.gauge(&[("group", group.group.as_str())], of(group))?;
        }
    }
    for (family, of) in OF_PARTITION {
        let mut series = page.family(family)?;
        for (group, lag) in shown.iter().flat_map(|it| it.partitions.iter().map(move |p| (it, p))) {
            let Some(value) = of(lag) else { continue };
            let topic = scrape.sources.broker.name_of(lag.at.topic).unwrap_or_default();
            let partition = lag.at.partition.0.to_string();
            let labels =
                [("group", group.group.as_str()), ("topic", &topic), ("partition", &partition)];
            series.measured(&labels, value)?;
        }
    }
    Ok(())
}

/// The groups whose partitions fit on the page, and how many partitions do not.
fn bounded(groups: &[GroupLag]) -> (&[GroupLag], usize) {
    let mut room = MOST_SERIES;
    let fits = groups.iter().take_while(|group| {
        let fits = group.partitions.len() <= room;
        room = room.saturating_sub(group.partitions.len());
        fits
    });
    let shown = fits.count();
    let (shown, rest) = groups.split_at(shown);
    (shown, rest.iter().map(|group| group.partitions.len()).sum())
}
