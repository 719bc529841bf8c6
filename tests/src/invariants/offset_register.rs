//! G4d: the committed offset of a group and partition is one register (S14): whoever asks is told the latest commit, by an
//! order that fits the times of all calls. A commit whose outcome nobody knows may count later, or never.

use std::collections::BTreeMap;

use super::linearizable::{Operation, Step, unexplained};
use crate::calls::{Call, Outcome, Span, spans};
use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let mut registers: BTreeMap<(u32, u32), Vec<(Operation, Span)>> = BTreeMap::new();
    for span in spans(events) {
        let (register, step) = match span.what {
            Call::Commit { group, partition, offset } => ((group, partition), Step::Set(offset)),
            Call::Committed { group, partition } => {
                let Some(offset) = span.offset() else { continue };
                ((group, partition), Step::Read(Some(offset)))
            }
            _ => continue,
        };
        let to = match span.outcome {
            Outcome::Ok(_) => Some(span.to),
            Outcome::Unknown => None,
            Outcome::Failed => continue,
        };
        let operation = Operation { step, from: span.from, to };
        registers.entry(register).or_default().push((operation, span));
    }
    let mut evidence = Vec::new();
    for ((group, partition), calls) in registers {
        let operations: Vec<Operation> = calls.iter().map(|(operation, _)| *operation).collect();
        if let Some(call) = unexplained(Some(0), &operations) {
            let (from, step) = (calls[call].1.from, calls[call].0.step);
            let latest = calls.iter().filter(|(it, _)| it.to.is_some_and(|to| to < from));
            let latest = latest.filter(|(it, _)| matches!(it.step, Step::Set(_)));
            let latest = latest.max_by_key(|(it, _)| it.to).map(|(it, _)| it.step);
            evidence.push(format!(
                "group {group} partition {partition}: no order of the calls explains {step:?}; the latest commit before it was {latest:?}"
            ));
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Answer;

    fn commits(call: u64, offset: u64, outcome: Option<Outcome>) -> Vec<Event> {
        let what = Call::Commit { group: 3, partition: 0, offset };
        let ended = outcome.map(|outcome| Event::Ended { call, outcome });
        [Event::Invoked { call, client: 1, what }].into_iter().chain(ended).collect()
    }

    fn sees(call: u64, offset: u64) -> Vec<Event> {
        let what = Call::Committed { group: 3, partition: 0 };
        let outcome = Outcome::Ok(Answer::Offset(offset));
        vec![Event::Invoked { call, client: 2, what }, Event::Ended { call, outcome }]
    }

    const DONE: Option<Outcome> = Some(Outcome::Ok(Answer::Done));

    #[test]
    fn the_latest_commit_is_seen_and_nothing_before_the_first() {
        let history = [sees(1, 0), commits(2, 5, DONE), sees(3, 5)].concat();
        assert_eq!(check(&history).len(), 0);
    }

    #[test]
    fn an_earlier_commit_that_is_seen_is_found() {
        let history = [commits(1, 5, DONE), commits(2, 9, DONE), sees(3, 5)].concat();
        assert_eq!(check(&history).len(), 1);
    }

    #[test]
    fn a_commit_that_was_refused_and_is_seen_is_found() {
        let history = |outcome| [commits(1, 5, outcome), sees(2, 5)].concat();
        assert_eq!(check(&history(Some(Outcome::Unknown))).len(), 0);
        assert_eq!(check(&history(None)).len(), 0, "it never ended");
        assert_eq!(check(&history(Some(Outcome::Failed))).len(), 1);
    }
}
