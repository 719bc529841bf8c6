//! Owns the search for an order: whether calls on one thing could have taken effect one at a time, each at some moment
//! between its beginning and its end, so that every answer is right. A call whose outcome nobody knows takes effect at any
//! moment after its beginning, or never. Knows nothing of offsets and topics: a thing holds a number, or is not there.
//!
//! It walks through beginnings and ends in order and keeps every state that the thing may be in, with those calls under way
//! that have had their effect by then (Wing and Gong's search, taken just in time as Lowe does). Two rules keep it small: a
//! read takes effect as soon as it is right, because it changes nothing; and a write of unknown outcome takes effect only
//! right before a read that shows it, because an earlier moment would show to nobody.

use std::collections::BTreeSet;

/// States kept at a time. A history that needs more of them is of clients that no run has.
const MOST_STATES: usize = 50_000;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes, whatever was there.
    Set(u64),
    /// Makes what was not there.
    Create(u64),
    /// Raises what is there.
    Grow(u64),
    /// Removes what is there.
    Delete,
    /// Shows what is there.
    Read(Option<u64>),
}

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) step: Step,
    /// Where it began.
    pub(super) from: usize,
    /// Where it was told to be done; `None`: nobody knows whether it ever is.
    pub(super) to: Option<usize>,
}

/// What the thing holds, and which calls under way have had their effect.
type State = (Option<u64>, BTreeSet<usize>);

/// The first call, by its place in the list, that no order explains.
pub(super) fn unexplained(initial: Option<u64>, operations: &[Operation]) -> Option<usize> {
    let mut search =
        Search { operations, open: BTreeSet::new(), states: [(initial, BTreeSet::new())].into() };
    let begins = operations.iter().enumerate().map(|(call, it)| (it.from, false, call));
    let ends = operations.iter().enumerate();
    let ends = ends.filter_map(|(call, it)| Some((it.to?, true, call)));
    let mut events: Vec<(usize, bool, usize)> = begins.chain(ends).collect();
    events.sort_unstable();
    for (_, is_end, call) in events {
        if is_end {
            search.end(call);
            if search.states.is_empty() {
                return Some(call);
            }
        } else {
            search.begin(call);
        }
    }
    None
}

struct Search<'a> {
    operations: &'a [Operation],
    /// Calls that have begun and not ended.
    open: BTreeSet<usize>,
    states: BTreeSet<State>,
}

impl Search<'_> {
    fn begin(&mut self, call: usize) {
        // A read without an answer says nothing.
        let silent = matches!(self.operations[call].step, Step::Read(_));
        if silent && self.operations[call].to.is_none() {
            return;
        }
        self.open.insert(call);
        let states = std::mem::take(&mut self.states);
        self.states = states.into_iter().map(|state| self.shown(state)).collect();
    }

    /// Keeps the states in which the call has had its effect.
    fn end(&mut self, call: usize) {
        let mut left: Vec<State> = std::mem::take(&mut self.states).into_iter().collect();
        let mut seen: BTreeSet<State> = left.iter().cloned().collect();
        let mut kept = BTreeSet::new();
        while let Some(state) = left.pop() {
            if state.1.contains(&call) {
                kept.insert(state);
                continue;
            }
            for next in self.after(&state) {
                if seen.insert(next.clone()) {
                    left.push(next);
                }
            }
            assert!(seen.len() < MOST_STATES, "too many calls of one thing at the same time");
        }
        self.open.remove(&call);
        self.states = kept
            .into_iter()
            .map(|(value, mut taken)| {
                taken.remove(&call);
                (value, taken)
            })
            .collect();
    }

    /// Every state that one more call leads to.
    fn after(&self, state: &State) -> Vec<State> {
        let (value, taken) = state;
        let free = self.open.iter().filter(|call| !taken.contains(call));
        let next = free.filter_map(|call| {
            let operation = &self.operations[*call];
            let value = effect(operation.step, *value)?;
            let idle = operation.to.is_none() && matches!(operation.step, Step::Set(_));
            if idle && !self.is_awaited(value, taken) {
                return None;
            }
            let mut taken = taken.clone();
            taken.insert(*call);
            Some(self.shown((value, taken)))
        });
        next.collect()
    }

    /// Some read under way shows this.
    fn is_awaited(&self, value: Option<u64>, taken: &BTreeSet<usize>) -> bool {
        let mut free = self.open.iter().filter(|call| !taken.contains(call));
        free.any(|call| self.operations[*call].step == Step::Read(value))
    }

    /// The reads under way that are right now have their effect.
    fn shown(&self, (value, mut taken): State) -> State {
        let right =
            self.open.iter().filter(|call| self.operations[**call].step == Step::Read(value));
        taken.extend(right.copied());
        (value, taken)
    }
}

/// What the thing holds afterwards; `None`: the call cannot be done there.
#[allow(clippy::option_option, reason = "the inner one is what a thing that is not there holds")]
fn effect(step: Step, value: Option<u64>) -> Option<Option<u64>> {
    match (step, value) {
        (Step::Set(new), _) | (Step::Create(new), None) => Some(Some(new)),
        (Step::Grow(new), Some(old)) if new > old => Some(Some(new)),
        (Step::Delete, Some(_)) => Some(None),
        (Step::Read(shown), value) if shown == value => Some(value),
        (Step::Create(_) | Step::Grow(_) | Step::Delete | Step::Read(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Told to be done.
    fn done(step: Step, from: usize, to: usize) -> Operation {
        Operation { step, from, to: Some(to) }
    }

    fn unknown(step: Step, from: usize) -> Operation {
        Operation { step, from, to: None }
    }

    fn read(shown: u64, from: usize, to: usize) -> Operation {
        done(Step::Read(Some(shown)), from, to)
    }

    fn holds(operations: &[Operation]) -> bool {
        unexplained(Some(0), operations).is_none()
    }

    #[test]
    fn reads_between_two_writes_that_overlap_may_show_either() {
        let writes = [done(Step::Set(1), 0, 10), done(Step::Set(2), 1, 9)];
        for (first, second) in [(0, 1), (1, 2), (2, 1), (0, 2), (2, 2)] {
            let reads = [read(first, 2, 3), read(second, 4, 5)];
            assert!(holds(&[writes[0], writes[1], reads[0], reads[1]]), "{first} then {second}");
        }
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(holds(&[done(Step::Set(1), 0, 1), read(1, 2, 3)]));
        assert!(!holds(&[done(Step::Set(1), 0, 1), read(0, 2, 3)]));
    }

    #[test]
    fn a_value_that_was_seen_and_is_not_seen_any_more_is_found() {
        let write = done(Step::Set(1), 0, 10);
        assert!(!holds(&[write, read(1, 1, 2), read(0, 3, 4)]));
    }

    #[test]
    fn a_lost_update_is_found() {
        let writes = [done(Step::Set(1), 0, 1), done(Step::Set(2), 2, 3)];
        assert!(!holds(&[writes[0], writes[1], read(1, 4, 5)]));
    }

    #[test]
    fn a_read_from_the_future_is_found() {
        assert!(!holds(&[read(1, 0, 1), done(Step::Set(1), 2, 3)]));
        assert!(!holds(&[read(7, 0, 1)]), "what nobody wrote");
    }

    #[test]
    fn an_unknown_write_may_count_late_or_never_but_only_once() {
        let lost = unknown(Step::Set(1), 0);
        assert!(holds(&[lost, read(0, 1, 2), read(0, 3, 4)]), "never");
        assert!(holds(&[lost, read(0, 1, 2), read(1, 3, 4)]), "late");
        assert!(holds(&[lost, done(Step::Set(2), 1, 2), read(1, 3, 4)]), "after a later one");
        assert!(!holds(&[lost, read(1, 1, 2), read(0, 3, 4)]), "and then not any more");
        let other = done(Step::Set(2), 3, 4);
        assert!(!holds(&[lost, read(1, 1, 2), other, read(2, 5, 6), read(1, 7, 8)]), "twice");
    }

    #[test]
    fn many_unknown_writes_are_quickly_judged() {
        let mut calls: Vec<Operation> = (1..200).map(|it| unknown(Step::Set(it), 0)).collect();
        calls.extend((1..200).zip(1..).map(|(it, at)| read(it, 2 * at, 2 * at + 1)));
        assert!(holds(&calls));
        calls.push(read(5, 1_000, 1_001));
        assert!(!holds(&calls));
    }

    #[test]
    fn a_thing_is_made_raised_and_removed_in_this_order() {
        let life =
            [done(Step::Create(1), 0, 1), done(Step::Grow(3), 4, 5), done(Step::Delete, 8, 9)];
        let with = |read: Operation| unexplained(None, &[life[0], life[1], life[2], read]);
        let shows = |shown, from, to| with(done(Step::Read(shown), from, to));
        assert_eq!(shows(Some(3), 6, 7), None);
        assert_eq!(shows(None, 10, 11), None);
        assert_eq!(shows(Some(1), 6, 7), Some(3), "not raised yet, when it was");
        assert_eq!(shows(Some(3), 10, 11), Some(3), "still there, when it was removed");
        assert_eq!(shows(None, 2, 3), Some(3), "not there yet, when it was made");
        assert_eq!(unexplained(None, &[life[1]]), Some(0), "raised before it was made");
    }

    #[test]
    fn an_unknown_creation_may_be_what_a_deletion_found() {
        let calls = [unknown(Step::Create(1), 0), done(Step::Delete, 1, 2)];
        assert_eq!(unexplained(None, &calls), None);
        let back = done(Step::Read(Some(1)), 3, 4);
        assert_eq!(unexplained(None, &[calls[0], calls[1], back]), Some(2));
    }
}
