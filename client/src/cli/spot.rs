//! Owns how a place in a log is written on the command line: `beginning`, `end`, `committed`, an offset, a time. Never asks
//! the cluster.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use crate::admin::OffsetSpec;
use crate::consumer::StartAt;

/// What help says of it.
pub(super) const SPOTS: &str = "beginning, end, committed, N or offset:N, time:T where T is RFC 3339, Unix ms, or a duration ago such as 90m";

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    Beginning,
    End,
    Committed,
    Offset(i64),
    Time(Moment),
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Unix ms.
    At(i64),
    Ago(Duration),
}

impl Moment {
    /// Unix ms; `now_ms` is the clock's.
    pub(super) fn unix_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ago) => now_ms.saturating_sub(millis(ago)),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ms) = text.parse::<i64>() {
            return if ms < 0 { Err(format!("{text} is before 1970")) } else { Ok(Self::At(ms)) };
        }
        if let Ok(at) = humantime::parse_rfc3339_weak(text) {
            let since = at.duration_since(UNIX_EPOCH).map_err(|_| "before 1970".to_owned())?;
            return Ok(Self::At(millis(since)));
        }
        humantime::parse_duration(text).map(Self::Ago).map_err(|_| {
            format!("{text:?} is no time: write 2026-01-31T12:00:00Z, Unix ms, or 90m for 90 minutes ago")
        })
    }
}

impl FromStr for Spot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let offset = |text: &str| match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
            _ => Err(format!("{text:?} is no place in a log: write {SPOTS}")),
        };
        match text {
            "beginning" | "start" | "earliest" => Ok(Self::Beginning),
            "end" | "latest" => Ok(Self::End),
            "committed" => Ok(Self::Committed),
            _ => match text.split_once(':') {
                Some(("offset", number)) => offset(number),
                Some(("time", moment)) => moment.parse().map(Self::Time),
                _ => offset(text),
            },
        }
    }
}

impl Spot {
    /// Where a consumer begins.
    pub(super) fn start(self, now_ms: i64) -> StartAt {
        match self {
            Self::Beginning => StartAt::Beginning,
            Self::End => StartAt::End,
            Self::Committed => StartAt::Committed,
            Self::Offset(offset) => StartAt::Offset(offset),
            Self::Time(moment) => StartAt::Time(moment.unix_ms(now_ms)),
        }
    }

    /// What to ask the cluster for to find the offset: an offset is known already, a committed one is not in the log.
    pub(super) fn lookup(self, now_ms: i64) -> Option<OffsetSpec> {
        match self {
            Self::Beginning => Some(OffsetSpec::Earliest),
            Self::End => Some(OffsetSpec::Latest),
            Self::Time(moment) => Some(OffsetSpec::AtTime(moment.unix_ms(now_ms))),
            Self::Committed | Self::Offset(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_place_is_understood() {
        let spot = |text: &str| text.parse::<Spot>();
        assert_eq!(spot("beginning"), Ok(Spot::Beginning));
        assert_eq!(spot("end"), Ok(Spot::End));
        assert_eq!(spot("committed"), Ok(Spot::Committed));
        assert_eq!(spot("17"), Ok(Spot::Offset(17)));
        assert_eq!(spot("offset:17"), Ok(Spot::Offset(17)));
        assert_eq!(spot("time:5"), Ok(Spot::Time(Moment::At(5))));
        assert_eq!(spot("time:1970-01-01T00:00:01Z"), Ok(Spot::Time(Moment::At(1000))));
        assert_eq!(spot("time:2m"), Ok(Spot::Time(Moment::Ago(Duration::from_secs(120)))));
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_is() {
        for text in ["", "-1", "offset:x", "offset:-3", "time:never", "somewhere"] {
            let error = text.parse::<Spot>().unwrap_err();
            assert!(error.contains("write") || error.contains("before"), "{text}: {error}");
        }
    }

    #[test]
    fn a_duration_counts_back_from_now_and_stops_at_the_least_number() {
        assert_eq!(Moment::Ago(Duration::from_millis(5)).unix_ms(100), 95);
        assert_eq!(Moment::Ago(Duration::MAX).unix_ms(i64::MIN), i64::MIN);
    }
}
