//! G5d: a group throws out only those who died or were cut off, and says so; what happens to its coordinator costs no member
//! and no rebalance. Where the cluster may be away for longer than a session, members may lose it for that.

use std::collections::{BTreeMap, BTreeSet};

use super::of_group;
use crate::group_history::{ExpelledFor, GroupEvent};
use crate::history::Event;

pub(in crate::invariants) fn check(events: &[Event]) -> Vec<String> {
    let mut named: BTreeMap<&str, u32> = BTreeMap::new();
    let mut struck: BTreeSet<u32> = BTreeSet::new();
    let mut before: Option<(u32, &[String])> = None;
    let mut evidence = Vec::new();
    for (_, event) in of_group(events) {
        match event {
            GroupEvent::Outages => return Vec::new(),
            GroupEvent::Named { member, id } => drop(named.insert(id, *member)),
            GroupEvent::Crashed { member } | GroupEvent::CutOff { member } => {
                struck.insert(*member);
                before = None;
            }
            GroupEvent::Started { .. }
            | GroupEvent::Leaving { .. }
            | GroupEvent::Healed { .. }
            | GroupEvent::ResetAsked { .. } => before = None,
            GroupEvent::Described { generation, members } => {
                let now = (*generation, members.as_slice());
                if let Some(before) = before.filter(|before| *before != now) {
                    evidence.push(format!("nobody came or went, but {before:?} became {now:?}"));
                }
                before = Some(now);
            }
            GroupEvent::Expelled { id, cause } => {
                let member = named.get(id.as_str());
                if !member.is_some_and(|member| struck.contains(member)) {
                    evidence.push(format!("member {member:?} ({id}) was expelled for {cause:?}"));
                } else if *cause != ExpelledFor::Crash {
                    evidence.push(format!("member {member:?} ({id}): {cause:?} is not why"));
                }
            }
            _ => {}
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Event {
        GroupEvent::Named { member: 1, id: "a".to_owned() }.into()
    }

    fn expelled(cause: ExpelledFor) -> Event {
        GroupEvent::Expelled { id: "a".to_owned(), cause }.into()
    }

    fn described(generation: u32) -> Event {
        GroupEvent::Described { generation, members: vec!["a".to_owned()] }.into()
    }

    #[test]
    fn a_member_that_lives_and_was_expelled_is_found() {
        let fault = GroupEvent::NodeFault.into();
        assert_eq!(check(&[named(), fault, expelled(ExpelledFor::Silence)]).len(), 1);
    }

    #[test]
    fn a_dead_member_may_be_expelled_for_that_alone() {
        let died = || GroupEvent::Crashed { member: 1 }.into();
        assert_eq!(check(&[named(), died(), expelled(ExpelledFor::Crash)]).len(), 0);
        assert_eq!(check(&[named(), died(), expelled(ExpelledFor::Other)]).len(), 1);
    }

    #[test]
    fn a_rebalance_for_nothing_is_found() {
        assert_eq!(check(&[described(3), GroupEvent::NodeFault.into(), described(3)]).len(), 0);
        assert_eq!(check(&[described(3), GroupEvent::NodeFault.into(), described(4)]).len(), 1);
        let came = GroupEvent::Started { member: 2 }.into();
        assert_eq!(check(&[described(3), came, described(4)]).len(), 0);
    }
}
