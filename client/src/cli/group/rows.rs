//! Owns the rows of partitions that `describe`, `lag` and `watch` print: zero and not known are told apart.

use serde::Serialize;

use super::super::output::{or_dash, rendered, table};
use crate::admin::words::{millis, span};
use crate::admin::{GroupLag, PartitionLag};

/// One partition of a group.
#[derive(Debug, Serialize)]
pub(super) struct PartitionRow {
    pub(super) topic: String,
    pub(super) partition: i32,
    member: Option<String>,
    client_id: Option<String>,
    /// Absent: nothing committed.
    committed: Option<i64>,
    log_start: Option<i64>,
    log_end: Option<i64>,
    /// Absent: not known, as in all that follows.
    lag: Option<i64>,
    lag_ms: Option<i64>,
    catching_up_per_second: Option<f64>,
    loss_in_ms: Option<i64>,
    lost_records: i64,
    held: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn row(lag: &PartitionLag) -> PartitionRow {
    PartitionRow {
        topic: lag.at.topic.to_string(),
        partition: lag.at.partition,
        member: lag.member_id.clone(),
        client_id: lag.client_id.clone(),
        committed: lag.committed,
        log_start: lag.log_start,
        log_end: lag.high_watermark,
        lag: lag.records,
        lag_ms: lag.behind.map(millis),
        catching_up_per_second: lag.catching_up_per_second,
        loss_in_ms: lag.loss_in.map(millis),
        lost_records: lag.lost_records,
        held: lag.held,
        error: lag.error.as_ref().map(ToString::to_string),
    }
}

/// How far a group is behind as a whole.
#[derive(Debug, Serialize)]
pub(super) struct Totals {
    /// Over the partitions that are known.
    pub(super) lag: i64,
    pub(super) lag_ms: i64,
    pub(super) catching_up_per_second: Option<f64>,
    pub(super) loss_in_ms: Option<i64>,
    pub(super) lost_records: i64,
    pub(super) unknown_partitions: usize,
    pub(super) measured_time_ms: i64,
}

pub(super) fn totals(lag: &GroupLag) -> Totals {
    Totals {
        lag: lag.records,
        lag_ms: millis(lag.behind),
        catching_up_per_second: lag.catching_up_per_second(),
        loss_in_ms: lag.loss_in().map(millis),
        lost_records: lag.lost_records(),
        unknown_partitions: lag.unknown(),
        measured_time_ms: lag.measured_time_ms,
    }
}

impl Totals {
    /// For the head of a table of partitions.
    pub(super) fn text(&self) -> String {
        let unknown = match self.unknown_partitions {
            0 => String::new(),
            some => format!("  not known: {some} partitions"),
        };
        format!("lag {}  {} behind{unknown}", self.lag, span(self.lag_ms))
    }

    /// For a line of a table of groups.
    pub(super) fn cells(&self) -> [String; 5] {
        [
            self.lag.to_string(),
            span(self.lag_ms),
            speed(self.catching_up_per_second),
            loss(self.loss_in_ms, self.lost_records),
            self.unknown_partitions.to_string(),
        ]
    }
}

pub(super) fn text(rows: &[PartitionRow]) -> String {
    let mut lines = table([
        "topic",
        "partition",
        "member",
        "committed",
        "start",
        "end",
        "lag",
        "lag time",
        "catching up/s",
        "time to loss",
        "note",
    ]);
    for row in rows {
        lines.add_row([
            row.topic.clone(),
            row.partition.to_string(),
            or_dash(row.member.as_ref()),
            or_dash(row.committed),
            or_dash(row.log_start),
            or_dash(row.log_end),
            or_dash(row.lag),
            or_dash(row.lag_ms.map(span)),
            speed(row.catching_up_per_second),
            loss(row.loss_in_ms, row.lost_records),
            note(row),
        ]);
    }
    rendered(&lines)
}

fn speed(speed: Option<f64>) -> String {
    or_dash(speed.map(|speed| format!("{speed:+.1}")))
}

fn loss(left_ms: Option<i64>, lost: i64) -> String {
    if lost > 0 { format!("LOST {lost}") } else { or_dash(left_ms.map(span)) }
}

fn note(row: &PartitionRow) -> String {
    if let Some(error) = &row.error {
        return error.clone();
    }
    if row.held { "retention waits".to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_not_known_do_not_look_alike() {
        assert_eq!((speed(Some(0.0)).as_str(), speed(None).as_str()), ("+0.0", "-"));
        assert_eq!((loss(Some(0), 0).as_str(), loss(None, 0).as_str()), ("0 s", "-"));
        assert_eq!(loss(Some(0), 7), "LOST 7");
    }
}
