//! G5d: a group throws out those who died, hung or were cut off, nobody else, and says why; what happens to its coordinator
//! costs no member and no rebalance. Of a member that died the connection broke; one that is cut off may look silent, as long
//! as nobody has pinged it in vain; one that hangs may be thrown out under the name that it hung by. Where the cluster may be
//! away for longer than a session, members may lose it for that.

use std::collections::{BTreeMap, BTreeSet};

use super::of_group;
use crate::group_history::{ExpelledFor, GroupEvent};
use crate::history::Event;

/// What was done to members, by the names under which the group knows them.
#[derive(Default)]
struct Fates<'a> {
    named: BTreeMap<&'a str, u32>,
    died: BTreeSet<u32>,
    cut_off: BTreeSet<u32>,
    /// Who hangs now, and under which names anybody ever did.
    stuck: BTreeSet<u32>,
    hung: BTreeSet<&'a str>,
}

impl<'a> Fates<'a> {
    fn note(&mut self, event: &'a GroupEvent) {
        match event {
            GroupEvent::Named { member, id } => {
                self.named.insert(id, *member);
                self.hung.extend(self.stuck.contains(member).then_some(id.as_str()));
            }
            GroupEvent::Crashed { member } => drop(self.died.insert(*member)),
            GroupEvent::CutOff { member } => drop(self.cut_off.insert(*member)),
            GroupEvent::Stuck { member } => {
                self.stuck.insert(*member);
                let own = self.named.iter().filter(|(_, it)| *it == member);
                self.hung.extend(own.map(|(id, _)| *id));
            }
            GroupEvent::WentOn { member } => drop(self.stuck.remove(member)),
            _ => {}
        }
    }

    fn may_be_expelled(&self, id: &str, cause: ExpelledFor) -> bool {
        let is_in = |set: &BTreeSet<u32>| self.named.get(id).is_some_and(|it| set.contains(it));
        match cause {
            ExpelledFor::Crash => is_in(&self.died) || is_in(&self.cut_off),
            ExpelledFor::Silence => is_in(&self.cut_off),
            ExpelledFor::Work => self.hung.contains(id),
            ExpelledFor::Other => false,
        }
    }
}

pub(in crate::invariants) fn check(events: &[Event]) -> Vec<String> {
    let mut fates = Fates::default();
    let mut before: Option<(u32, &[String])> = None;
    let mut evidence = Vec::new();
    for (_, event) in of_group(events) {
        fates.note(event);
        match event {
            GroupEvent::Outages => return Vec::new(),
            GroupEvent::Started { .. }
            | GroupEvent::Leaving { .. }
            | GroupEvent::Crashed { .. }
            | GroupEvent::CutOff { .. }
            | GroupEvent::Stuck { .. }
            | GroupEvent::WentOn { .. }
            | GroupEvent::Healed { .. }
            | GroupEvent::ResetAsked { .. } => before = None,
            GroupEvent::Described { generation, members } => {
                let now = (*generation, members.as_slice());
                if let Some(before) = before.filter(|before| *before != now) {
                    evidence.push(format!("nobody came or went, but {before:?} became {now:?}"));
                }
                before = Some(now);
            }
            GroupEvent::Unsettled { members } => {
                evidence.push(format!("the group never settled with {members} members"));
            }
            GroupEvent::Expelled { id, cause } if !fates.may_be_expelled(id, *cause) => {
                evidence.push(format!("member {id} was expelled for {cause:?}"));
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
        assert_eq!(check(&[named(), died(), expelled(ExpelledFor::Silence)]).len(), 1);
        let cut_off = || GroupEvent::CutOff { member: 1 }.into();
        assert_eq!(check(&[named(), cut_off(), expelled(ExpelledFor::Silence)]).len(), 0);
        assert_eq!(check(&[named(), cut_off(), expelled(ExpelledFor::Other)]).len(), 1);
    }

    #[test]
    fn a_member_that_hangs_may_be_expelled_for_its_work_alone() {
        let hangs = || GroupEvent::Stuck { member: 1 }.into();
        assert_eq!(check(&[named(), hangs(), expelled(ExpelledFor::Work)]).len(), 0);
        assert_eq!(check(&[named(), hangs(), expelled(ExpelledFor::Silence)]).len(), 1);
        assert_eq!(check(&[named(), expelled(ExpelledFor::Work)]).len(), 1);
        let went_on = || GroupEvent::WentOn { member: 1 }.into();
        let told_later = [named(), hangs(), went_on(), expelled(ExpelledFor::Work)];
        assert_eq!(check(&told_later).len(), 0);
        let new_name = GroupEvent::Named { member: 1, id: "b".to_owned() }.into();
        let again = GroupEvent::Expelled { id: "b".to_owned(), cause: ExpelledFor::Work }.into();
        assert_eq!(check(&[named(), hangs(), went_on(), new_name, again]).len(), 1);
    }

    #[test]
    fn a_rebalance_for_nothing_is_found() {
        assert_eq!(check(&[described(3), GroupEvent::NodeFault.into(), described(3)]).len(), 0);
        assert_eq!(check(&[described(3), GroupEvent::NodeFault.into(), described(4)]).len(), 1);
        let came = GroupEvent::Started { member: 2 }.into();
        assert_eq!(check(&[described(3), came, described(4)]).len(), 0);
    }
}
