//! G1b: where a partition ends is told as of the moment of the question (S14): behind everything that was acknowledged, read
//! or told as the end before the question was asked, and never behind more records than were sent by the time of the answer.

use std::collections::BTreeMap;

use super::settled;
use crate::calls::{Call, Span, spans};
use crate::history::Event;

/// What is known of a partition at a place in the history.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// It ends here or further on.
    end: u64,
    /// Records sent so far that were not refused.
    sent: u64,
}

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let questions: Vec<(u32, Span)> = spans(events).into_iter().filter_map(asked).collect();
    let mut known = Walk::over(events);
    let settled = settled(events);
    // The walk goes forward alone: beginnings and ends in the order of their places.
    let mut places: Vec<(usize, bool, usize)> = Vec::new();
    for (number, (_, span)) in questions.iter().enumerate() {
        places.extend([(span.from, false, number), (span.to, true, number)]);
    }
    places.sort_unstable();
    let (mut floors, mut evidence) = (BTreeMap::new(), Vec::new());
    for (place, is_answer, number) in places {
        let (partition, span) = &questions[number];
        let now = known.at(place, *partition);
        if !is_answer {
            floors.insert(number, now.end);
            continue;
        }
        let told = span.offset().unwrap_or(0);
        let floor = floors.remove(&number).unwrap_or(0);
        if told < floor {
            evidence.push(format!(
                "partition {partition} was told to end at {told}, known was {floor}"
            ));
        }
        if told > now.sent {
            evidence.push(format!(
                "partition {partition} was told to end at {told}, when {} records had been sent",
                now.sent
            ));
        }
        let end =
            settled.get(partition).and_then(|all| all.last_key_value()).map(|(last, _)| last + 1);
        if end.is_some_and(|end| told > end) {
            evidence.push(format!(
                "partition {partition} was told to end at {told}, and ends at {end:?} after all"
            ));
        }
        known.raise(*partition, told);
    }
    evidence
}

fn asked(span: Span) -> Option<(u32, Span)> {
    let Call::EndOffset { partition } = span.what else { return None };
    span.offset().map(|_| (partition, span))
}

/// What is known, as the history goes on.
struct Walk<'a> {
    events: &'a [Event],
    next: usize,
    refused: std::collections::BTreeSet<(u32, u64)>,
    known: BTreeMap<u32, Known>,
}

impl<'a> Walk<'a> {
    fn over(events: &'a [Event]) -> Self {
        let refused = events.iter().filter_map(|event| match event {
            Event::AppendFailed { partition, value } => Some((*partition, *value)),
            _ => None,
        });
        Self { events, next: 0, refused: refused.collect(), known: BTreeMap::new() }
    }

    /// Up to a place, itself excluded.
    fn at(&mut self, place: usize, partition: u32) -> Known {
        while self.next < place.min(self.events.len()) {
            match &self.events[self.next] {
                Event::AppendInvoked { partition, value, .. }
                    if !self.refused.contains(&(*partition, *value)) =>
                {
                    self.known.entry(*partition).or_default().sent += 1;
                }
                Event::AppendOk { partition, offset, .. }
                | Event::Read { partition, offset, .. } => self.raise(*partition, offset + 1),
                _ => {}
            }
            self.next += 1;
        }
        self.known.get(&partition).copied().unwrap_or_default()
    }

    fn raise(&mut self, partition: u32, end: u64) {
        let known = self.known.entry(partition).or_default();
        known.end = known.end.max(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{Answer, Outcome};

    fn sent(value: u64) -> Event {
        Event::AppendInvoked { partition: 0, producer: 1, value }
    }

    fn ok(offset: u64) -> Event {
        Event::AppendOk { partition: 0, offset, value: 70 + offset }
    }

    fn asks(call: u64) -> Event {
        Event::Invoked { call, client: 1, what: Call::EndOffset { partition: 0 } }
    }

    fn told(call: u64, end: u64) -> Event {
        Event::Ended { call, outcome: Outcome::Ok(Answer::Offset(end)) }
    }

    #[test]
    fn an_append_under_way_may_show_or_not() {
        for end in [0, 1] {
            assert_eq!(check(&[sent(70), asks(1), ok(0), told(1, end)]).len(), 0);
        }
    }

    #[test]
    fn an_end_before_what_was_acknowledged_is_found() {
        assert_eq!(check(&[sent(70), ok(0), asks(1), told(1, 0)]).len(), 1);
        let read = Event::Read { reader: Some(1), partition: 0, offset: 0, value: 70 };
        assert_eq!(check(&[sent(70), read, asks(1), told(1, 0)]).len(), 1);
    }

    #[test]
    fn an_end_before_what_another_was_told_is_found() {
        let history = |second| [sent(70), asks(1), told(1, 1), asks(2), told(2, second)];
        assert_eq!(check(&history(1)).len(), 0);
        assert_eq!(check(&history(0)).len(), 1);
    }

    #[test]
    fn an_end_behind_what_was_not_sent_yet_is_found() {
        assert_eq!(check(&[asks(1), told(1, 1), sent(70)]).len(), 1);
        let refused = Event::AppendFailed { partition: 0, value: 70 };
        assert_eq!(check(&[sent(70), asks(1), told(1, 1), refused]).len(), 1);
    }

    #[test]
    fn an_end_that_is_undone_is_found() {
        let end = Event::Settled { partition: 0, records: vec![(0, 70)] };
        let history = [sent(70), sent(71), asks(1), told(1, 2), end];
        assert_eq!(check(&history).len(), 1);
    }
}
