//! Owns how spans, times and lists of partitions are written for people.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use crate::record::TopicPartition;

/// A span of time with its two greatest units: `850 ms`, `12.3 s`, `4 min 10 s`, `2 d 5 h`.
pub(crate) fn span(ms: i64) -> String {
    let ms = ms.max(0);
    let (seconds, minutes, hours) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match ms {
        0 => "0 s".to_owned(),
        1..=999 => format!("{ms} ms"),
        1000..=59_999 if ms % 1000 < 100 => format!("{seconds} s"),
        1000..=59_999 => format!("{seconds}.{} s", ms % 1000 / 100),
        60_000..=3_599_999 => two((minutes, "min"), (seconds % 60, "s")),
        3_600_000..=86_399_999 => two((hours, "h"), (minutes % 60, "min")),
        _ => two((hours / 24, "d"), (hours % 24, "h")),
    }
}

fn two((much, unit): (i64, &str), (more, smaller): (i64, &str)) -> String {
    if more == 0 { format!("{much} {unit}") } else { format!("{much} {unit} {more} {smaller}") }
}

pub(crate) fn duration(duration: Duration) -> String {
    span(millis(duration))
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Unix ms as RFC 3339, or as the number where it is no time after 1970.
pub(crate) fn when(unix_ms: i64) -> String {
    match u64::try_from(unix_ms) {
        // Beyond the year 9999 there is no RFC 3339.
        Ok(ms) if ms < 253_402_300_800_000 => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
        }
        _ => unix_ms.to_string(),
    }
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: impl Into<i128>, noun: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Partitions of the same topic together: `orders/0,1,2 and trades/4`. Of many only how many.
pub(crate) fn partitions(all: &[TopicPartition]) -> String {
    const TOLD: usize = 8;
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for at in all {
        topics.entry(&at.topic).or_default().push(at.partition);
    }
    let told = topics.into_iter().map(|(topic, mut numbers)| {
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() > TOLD {
            return format!("{} of {topic}", count(numbers.len() as i128, "partition"));
        }
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        format!("{topic}/{}", numbers.join(","))
    });
    listed(&told.collect::<Vec<_>>())
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn listed(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_as_exact_as_a_person_wants_them() {
        let told: Vec<_> =
            [0, 1, 999, 1000, 6234, 60_000, 61_000, 3_660_000, 90_000_000, -5].map(span).to_vec();
        let expected = [
            "0 s",
            "1 ms",
            "999 ms",
            "1 s",
            "6.2 s",
            "1 min",
            "1 min 1 s",
            "1 h 1 min",
            "1 d 1 h",
            "0 s",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn partitions_of_a_topic_stand_together_and_many_are_counted() {
        let at = |topic: &str, partition| TopicPartition::new(topic, partition);
        let few = [at("b", 1), at("a", 2), at("a", 0)];
        assert_eq!(partitions(&few), "a/0,2 and b/1");
        let many: Vec<_> = (0..9).map(|number| at("a", number)).collect();
        assert_eq!(partitions(&many), "9 partitions of a");
    }
}
