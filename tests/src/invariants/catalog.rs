//! S14: a look at the catalog that asks for it is as of now: whether a topic exists and how many partitions it has fits the
//! times of all calls that made, raised, deleted and looked at it. Each name is used for one topic.

use std::collections::BTreeMap;

use super::linearizable::{Operation, Step, unexplained};
use crate::calls::{Answer, Call, Outcome, Span, spans};
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let mut topics: BTreeMap<u32, Vec<(Operation, Span)>> = BTreeMap::new();
    for span in spans(events) {
        let Some((topic, step)) = step(&span) else { continue };
        let to = match span.outcome {
            Outcome::Ok(_) => Some(span.to),
            Outcome::Unknown => None,
            Outcome::Failed => continue,
        };
        let operation = Operation { step, from: span.from, to };
        topics.entry(topic).or_default().push((operation, span));
    }
    let mut evidence = Vec::new();
    for (topic, calls) in topics {
        let operations: Vec<Operation> = calls.iter().map(|(operation, _)| *operation).collect();
        if let Some(call) = unexplained(None, &operations) {
            let changes = calls.iter().filter(|(it, _)| !matches!(it.step, Step::Read(_)));
            let changes: Vec<String> = changes.map(|(it, span)| told(it, span)).collect();
            let (one, span) = &calls[call];
            evidence.push(format!(
                "topic {topic}: no order of the calls explains {}; what changed it was {}",
                told(one, span),
                changes.join(", ")
            ));
        }
    }
    evidence
}

fn step(span: &Span) -> Option<(u32, Step)> {
    match span.what {
        Call::CreateTopic { topic, partitions } => Some((topic, Step::Create(partitions.into()))),
        Call::GrowTopic { topic, partitions } => Some((topic, Step::Grow(partitions.into()))),
        Call::DeleteTopic { topic } => Some((topic, Step::Delete)),
        Call::LookUpTopic { topic } => match span.answer()? {
            Answer::Partitions(partitions) => Some((topic, Step::Read(partitions.map(u64::from)))),
            Answer::Done | Answer::Offset(_) => None,
        },
        Call::EndOffset { .. } | Call::Commit { .. } | Call::Committed { .. } => None,
    }
}

fn told(operation: &Operation, span: &Span) -> String {
    let to = operation.to.map_or_else(|| "?".to_owned(), |to| to.to_string());
    format!("{:?} by {} from {} to {to}", operation.step, span.client, span.from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64, what: Call, outcome: Outcome) -> Vec<Event> {
        let invoked = Event::Invoked { call: number, client: 1, what };
        vec![invoked, Event::Ended { call: number, outcome }]
    }

    fn made(outcome: Outcome) -> Vec<Event> {
        call(1, Call::CreateTopic { topic: 4, partitions: 1 }, outcome)
    }

    fn seen(number: u64, partitions: Option<u32>) -> Vec<Event> {
        call(number, Call::LookUpTopic { topic: 4 }, Outcome::Ok(Answer::Partitions(partitions)))
    }

    const DONE: Outcome = Outcome::Ok(Answer::Done);

    #[test]
    fn a_topic_that_was_made_is_there_and_one_that_was_deleted_is_not() {
        let grown = call(2, Call::GrowTopic { topic: 4, partitions: 3 }, DONE);
        let gone = call(3, Call::DeleteTopic { topic: 4 }, DONE);
        let history =
            |last| [made(DONE), seen(9, Some(1)), grown.clone(), gone.clone(), seen(10, last)];
        assert_eq!(check(&history(None).concat()).len(), 0);
        assert_eq!(check(&history(Some(3)).concat()).len(), 1);
        assert_eq!(check(&[made(DONE), grown.clone(), seen(9, Some(1))].concat()).len(), 1);
    }

    #[test]
    fn a_topic_whose_making_is_unknown_may_come_late_but_does_not_go_by_itself() {
        let history = [made(Outcome::Unknown), seen(9, None), seen(10, Some(1))].concat();
        assert_eq!(check(&history).len(), 0);
        let history = [made(Outcome::Unknown), seen(9, Some(1)), seen(10, None)].concat();
        assert_eq!(check(&history).len(), 1);
        let history = [made(Outcome::Failed), seen(9, Some(1))].concat();
        assert_eq!(check(&history).len(), 1);
    }
}
