//! Owns how partitions and the places that offsets go to are written on the command line. Never asks where a place is.

use std::str::FromStr;

use super::super::consume::partition_count;
use super::super::spot::Moment;
use super::Failure;
use crate::admin::{ResetScope, ResetTo};
use crate::client::Client;
use crate::record::TopicPartition;

/// What help says of a place.
pub(super) const PLACES: &str = "earliest, latest, an offset from 0, or a time: RFC 3339, a duration ago such as 90m, or time:T with T in Unix ms";

/// A topic, or some partitions of it: `orders`, `orders:0,2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    topic: String,
    partitions: Vec<i32>,
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, numbers) = text.split_once(':').map_or((text, None), |(t, n)| (t, Some(n)));
        let wrong = || format!("{text:?} names no partitions: write TOPIC or TOPIC:0,2");
        let number = |text: &str| text.parse::<i32>().ok().filter(|n| *n >= 0).ok_or_else(wrong);
        let partitions = numbers.iter().flat_map(|numbers| numbers.split(',')).map(number);
        let partitions = partitions.collect::<Result<Vec<_>, _>>()?;
        if topic.is_empty() {
            Err(wrong())
        } else {
            Ok(Self { topic: topic.to_owned(), partitions })
        }
    }
}

impl Selection {
    pub(super) fn topic(topic: &str) -> Self {
        Self { topic: topic.to_owned(), partitions: Vec::new() }
    }

    fn places(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.partitions.iter().map(|number| TopicPartition::new(self.topic.as_str(), *number))
    }
}

/// What a reset of these covers; of nothing named, everything.
pub(super) fn scopes(selections: &[Selection]) -> Vec<ResetScope> {
    if selections.is_empty() {
        return vec![ResetScope::Everything];
    }
    let of = |selection: &Selection| match selection.partitions[..] {
        [] => vec![ResetScope::Topic(selection.topic.clone())],
        _ => selection.places().map(ResetScope::Partition).collect(),
    };
    selections.iter().flat_map(of).collect()
}

/// Each partition by name, for calls that know no whole topics; of nothing named, none.
pub(super) async fn partitions_of(
    client: &Client,
    selections: &[Selection],
) -> Result<Vec<TopicPartition>, Failure> {
    let mut all = Vec::new();
    for selection in selections {
        if selection.partitions.is_empty() {
            let topic = selection.topic.as_str();
            let count = partition_count(client, topic).await?;
            all.extend((0..count).map(|number| TopicPartition::new(topic, number)));
        } else {
            all.extend(selection.places());
        }
    }
    Ok(all)
}

/// Where offsets go, as `reset` takes it: a bare number is an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Earliest,
    Latest,
    Offset(i64),
    Time(Moment),
}

impl Place {
    pub(super) fn target(self, now_ms: i64) -> ResetTo {
        match self {
            Self::Earliest => ResetTo::Earliest,
            Self::Latest => ResetTo::Latest,
            Self::Offset(offset) => ResetTo::Offset(offset),
            Self::Time(moment) => ResetTo::Time(moment.unix_ms(now_ms)),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no place: write {PLACES}");
        match text {
            "earliest" | "beginning" | "start" => return Ok(Self::Earliest),
            "latest" | "end" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(time) = text.strip_prefix("time:") {
            return time.parse().map(Self::Time);
        }
        match text.strip_prefix("offset:").unwrap_or(text).parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
            Ok(_) => Err(wrong()),
            Err(_) => text.parse().map(Self::Time).map_err(|_: String| wrong()),
        }
    }
}

/// Where offsets go, as rpk takes it: a bare number is a time, in seconds, milliseconds or nanoseconds by its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeekPlace(pub(super) Place);

impl FromStr for SeekPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Ok(number) = text.parse::<i64>() else {
            return text.parse().map(Self);
        };
        let ms = match text.len() {
            10 => number.checked_mul(1000),
            13 => Some(number),
            19 => Some(number / 1_000_000),
            _ => None,
        };
        let ms = ms.filter(|ms| *ms >= 0).ok_or_else(|| {
            format!("{text:?} is no Unix time: 10 digits are seconds, 13 milliseconds, 19 nanoseconds; for an offset write offset:{text}")
        })?;
        Ok(Self(Place::Time(Moment::At(ms))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_number_is_an_offset_for_reset_and_a_time_for_seek() {
        assert_eq!("1700000000".parse(), Ok(Place::Offset(1_700_000_000)));
        let at = |text: &str| text.parse::<SeekPlace>().unwrap().0;
        let expected = Place::Time(Moment::At(1_700_000_000_000));
        assert_eq!(at("1700000000"), expected);
        assert_eq!(at("1700000000000"), expected);
        assert_eq!(at("1700000000000000000"), expected);
        assert_eq!(at("start"), Place::Earliest);
        assert!("17".parse::<SeekPlace>().unwrap_err().contains("offset:17"));
    }

    #[test]
    fn times_are_written_as_everywhere() {
        assert_eq!("90m".parse(), Ok(Place::Time(Moment::Ago(Duration::from_secs(5400)))));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Place::Time(Moment::At(1000))));
        assert_eq!("time:5".parse(), Ok(Place::Time(Moment::At(5))));
        for wrong in ["-1", "somewhere", "offset:-1", ""] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_topic_is_one_target_and_partitions_are_one_each() {
        let all = ["a".parse().unwrap(), "b:0,2".parse().unwrap()];
        let partition = |number| ResetScope::Partition(TopicPartition::new("b", number));
        let expected = [ResetScope::Topic("a".to_owned()), partition(0), partition(2)];
        assert_eq!(scopes(&all), expected);
        assert_eq!(scopes(&[]), [ResetScope::Everything]);
        for wrong in ["", ":1", "a:", "a:-1", "a:x"] {
            assert!(wrong.parse::<Selection>().is_err(), "{wrong}");
        }
    }
}
