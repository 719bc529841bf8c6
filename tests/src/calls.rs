//! Calls that clients make beside appends and reads: when each began, when it ended, and as what. Owns these words and the
//! pairing of beginnings and ends; nothing is judged here.

use std::collections::BTreeMap;

use crate::history::Event;

/// What was asked of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "a field's name means the same in every variant")]
pub enum Call {
    /// The offset after the last record.
    EndOffset { partition: u32 },
    /// To commit an offset of a group.
    Commit { group: u32, partition: u32, offset: u64 },
    /// The committed offset of a group.
    Committed { group: u32, partition: u32 },
    /// To make a topic.
    CreateTopic { topic: u32, partitions: u32 },
    /// To give a topic more partitions: so many in all.
    GrowTopic { topic: u32, partitions: u32 },
    /// To delete a topic.
    DeleteTopic { topic: u32 },
    /// How many partitions a topic has, as of now.
    LookUpTopic { topic: u32 },
}

/// What a call was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// An offset; 0 stands for no committed offset.
    Offset(u64),
    /// So many partitions; `None`: there is no such topic.
    Partitions(Option<u32>),
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Ok(Answer),
    /// It certainly changed nothing, now and later.
    Failed,
    /// Nobody knows: it may have its effect, now or later.
    Unknown,
}

/// A call with its beginning and its end, as places in the history. A call that never ended is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Who called.
    pub client: u32,
    /// For what.
    pub what: Call,
    /// Where it began.
    pub from: usize,
    /// Where it ended, and as what.
    pub to: usize,
    /// See `to`.
    pub outcome: Outcome,
}

impl Span {
    /// The answer, if there was one.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        match self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }

    /// The offset that it was told.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self.answer()? {
            Answer::Offset(offset) => Some(offset),
            Answer::Done | Answer::Partitions(_) => None,
        }
    }
}

/// Every call of a history, in the order in which they began.
#[must_use]
pub fn spans(events: &[Event]) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, event) in events.iter().enumerate() {
        match event {
            Event::Invoked { call, client, what } => {
                open.insert(*call, spans.len());
                let (client, what, outcome) = (*client, what.clone(), Outcome::Unknown);
                spans.push(Span { client, what, from: place, to: usize::MAX, outcome });
            }
            Event::Ended { call, outcome } => {
                let span = open.remove(call).and_then(|at| spans.get_mut(at));
                if let Some(span) = span {
                    (span.to, span.outcome) = (place, *outcome);
                }
            }
            _ => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_never_ends_is_unknown() {
        let what = Call::EndOffset { partition: 0 };
        let invoked = |call| Event::Invoked { call, client: 1, what: what.clone() };
        let ended = Event::Ended { call: 1, outcome: Outcome::Ok(Answer::Offset(4)) };
        let spans = spans(&[invoked(1), invoked(2), ended]);
        assert_eq!((spans[0].from, spans[0].to, spans[0].offset()), (0, 2, Some(4)));
        assert_eq!((spans[1].from, spans[1].outcome), (1, Outcome::Unknown));
    }
}
