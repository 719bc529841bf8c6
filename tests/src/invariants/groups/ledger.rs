//! G4b: the ledger tells of every move of an offset: each fact begins where the one before it ended, and none but those that
//! were asked for goes back. Members of the histories that it judges never seek.

use super::of_group;
use crate::group_history::{Fact, GroupEvent};
use crate::history::Event;

pub(in crate::invariants) fn check(events: &[Event]) -> Vec<String> {
    let mut evidence = Vec::new();
    for (_, event) in of_group(events) {
        let GroupEvent::Ledger { partition, facts, whole } = event else { continue };
        let first = facts.first().and_then(|first| first.before).filter(|_| *whole);
        let first = first.map(|before| format!("nothing tells how it came to {before}"));
        let all = broken(facts).chain(first);
        evidence.extend(all.map(|what| format!("partition {partition}: {what}")));
    }
    evidence
}

fn broken(facts: &[Fact]) -> impl Iterator<Item = String> + '_ {
    let torn = facts.windows(2).filter_map(|pair| {
        let [one, next] = pair else { return None };
        let torn = one.after != next.before;
        torn.then(|| format!("a move from {:?} to {:?} is not told of", one.after, next.before))
    });
    let back = facts.iter().filter(|fact| !fact.asked && fact.after < fact.before);
    let back = back.map(|it| format!("a commit went back from {:?} to {:?}", it.before, it.after));
    torn.chain(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_facts(facts: &[(Option<u64>, u64, bool)]) -> usize {
        let fact =
            |&(before, after, asked)| Fact { before, after: Some(after), asked, time_ms: (0, 0) };
        let facts = facts.iter().map(fact).collect();
        check(&[GroupEvent::Ledger { partition: 0, facts, whole: true }.into()]).len()
    }

    #[test]
    fn a_commit_that_went_back_is_found_and_a_reset_may() {
        assert_eq!(check_facts(&[(None, 5, false), (Some(5), 2, true)]), 0);
        assert_eq!(check_facts(&[(None, 5, false), (Some(5), 2, false)]), 1);
    }

    #[test]
    fn a_fact_that_is_missing_is_found() {
        assert_eq!(check_facts(&[(None, 5, false), (Some(7), 9, false)]), 1);
        assert_eq!(check_facts(&[(Some(5), 7, false)]), 1);
        let fact = Fact { before: Some(5), after: Some(7), asked: false, time_ms: (0, 0) };
        let cut = GroupEvent::Ledger { partition: 0, facts: vec![fact], whole: false };
        assert_eq!(check(&[cut.into()]).len(), 0, "what was before it is not known any more");
    }
}
