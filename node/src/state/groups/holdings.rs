//! Owns who holds which partition of a group, found from both sides: by partition, and by owner, because each heartbeat asks
//! for the partitions of one member among those of all. The second is made of the first and is never stored. Owners change
//! through here alone, so the two cannot differ. Never decides who gets what: `handoff` does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waymark_proto::ids::TopicPartition;

use super::assign::MemberId;
use super::group::{Holding, Revoke};

/// Partitions with an owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    by_place: BTreeMap<TopicPartition, Holding>,
    /// Only owners of something.
    by_owner: BTreeMap<MemberId, BTreeSet<TopicPartition>>,
}

/// A holding whose revoke may change, and whose owner may not.
#[derive(Debug)]
pub(super) struct HoldingMut<'a> {
    pub(super) owner: &'a MemberId,
    pub(super) revoke: &'a mut Option<Revoke>,
}

impl Holdings {
    /// Who holds a partition.
    #[must_use]
    pub fn get(&self, at: &TopicPartition) -> Option<&Holding> {
        self.by_place.get(at)
    }

    /// Whether anybody holds a partition.
    #[must_use]
    pub fn contains_key(&self, at: &TopicPartition) -> bool {
        self.by_place.contains_key(at)
    }

    /// In the order of partitions.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Holding)> {
        self.by_place.iter()
    }

    /// Partitions that somebody holds.
    pub fn keys(&self) -> impl Iterator<Item = &TopicPartition> {
        self.by_place.keys()
    }

    /// Who holds them, in the order of partitions.
    pub fn values(&self) -> impl Iterator<Item = &Holding> {
        self.by_place.values()
    }

    /// What one member holds, in the order of partitions. Costs what it holds, whatever others do.
    pub fn of(&self, owner: &str) -> impl Iterator<Item = (TopicPartition, &Holding)> {
        let own = self.by_owner.get(owner).into_iter().flatten();
        own.filter_map(|at| Some((*at, self.by_place.get(at)?)))
    }

    /// Gives a partition to the owner that the holding names, whoever had it before.
    pub(in crate::state) fn insert(&mut self, at: TopicPartition, holding: Holding) {
        let owner = Arc::clone(&holding.owner);
        if let Some(old) = self.by_place.insert(at, holding) {
            unlist(&mut self.by_owner, &old.owner, at);
        }
        self.by_owner.entry(owner).or_default().insert(at);
    }

    pub(super) fn get_mut(&mut self, at: &TopicPartition) -> Option<HoldingMut<'_>> {
        let Holding { owner, revoke, .. } = self.by_place.get_mut(at)?;
        Some(HoldingMut { owner, revoke })
    }

    pub(super) fn remove(&mut self, at: &TopicPartition) -> Option<Holding> {
        let holding = self.by_place.remove(at)?;
        unlist(&mut self.by_owner, &holding.owner, *at);
        Some(holding)
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&TopicPartition, &Holding) -> bool) {
        let by_owner = &mut self.by_owner;
        self.by_place.retain(|at, holding| {
            let stays = stays(at, holding);
            if !stays {
                unlist(by_owner, &holding.owner, *at);
            }
            stays
        });
    }

    /// One member takes another's place: in what it holds, from this generation on, and in what it waits for.
    pub(super) fn pass_on(&mut self, from: &str, to: &MemberId, since: i32) {
        let own = self.by_owner.remove(from).unwrap_or_default();
        for at in &own {
            if let Some(holding) = self.by_place.get_mut(at) {
                holding.owner = Arc::clone(to);
                holding.since = since;
            }
        }
        if !own.is_empty() {
            self.by_owner.entry(Arc::clone(to)).or_default().extend(own);
        }
        let next = self.by_place.values_mut().filter_map(|it| it.revoke.as_mut()?.to.as_mut());
        for next in next.filter(|it| ***it == *from) {
            *next = Arc::clone(to);
        }
    }
}

impl<'a> IntoIterator for &'a Holdings {
    type Item = (&'a TopicPartition, &'a Holding);
    type IntoIter = std::collections::btree_map::Iter<'a, TopicPartition, Holding>;

    fn into_iter(self) -> Self::IntoIter {
        self.by_place.iter()
    }
}

fn unlist(
    by_owner: &mut BTreeMap<MemberId, BTreeSet<TopicPartition>>,
    owner: &str,
    at: TopicPartition,
) {
    let Some(own) = by_owner.get_mut(owner) else { return };
    own.remove(&at);
    if own.is_empty() {
        by_owner.remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waymark_proto::ids::{PartitionId, TopicId};

    use super::*;
    use crate::state::groups::Reason;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Insert { at: i32, owner: usize },
        Remove { at: i32 },
        RetainBelow { at: i32 },
        RetainOthers { owner: usize },
        PassOn { from: usize, to: usize },
        Ask { at: i32, to: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        let (at, who) = (0..12_i32, 0..5_usize);
        prop_oneof![
            8 => (at.clone(), who.clone()).prop_map(|(at, owner)| Step::Insert { at, owner }),
            2 => at.clone().prop_map(|at| Step::Remove { at }),
            1 => (6..12_i32).prop_map(|at| Step::RetainBelow { at }),
            1 => who.clone().prop_map(|owner| Step::RetainOthers { owner }),
            2 => (who.clone(), who.clone()).prop_map(|(from, to)| Step::PassOn { from, to }),
            2 => (at, who).prop_map(|(at, to)| Step::Ask { at, to }),
        ]
    }

    fn member(number: usize) -> MemberId {
        format!("m{number}").into()
    }

    fn place(number: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(number) }
    }

    fn take(holdings: &mut Holdings, step: Step) {
        match step {
            Step::Insert { at, owner } => {
                let holding = Holding { owner: member(owner), since: at, revoke: None };
                holdings.insert(place(at), holding);
            }
            Step::Remove { at } => drop(holdings.remove(&place(at))),
            Step::RetainBelow { at: end } => holdings.retain(|at, _| at.partition.0 < end),
            Step::RetainOthers { owner } => {
                let gone = member(owner);
                holdings.retain(|_, it| it.owner != gone);
            }
            Step::PassOn { from, to } => {
                let (from, to) = (member(from), member(to));
                holdings.pass_on(&from, &to, 99);
                let waits = |it: &Holding| {
                    it.revoke.as_ref().is_some_and(|it| it.to.as_deref() == Some(&*from))
                };
                assert!(from == to || !holdings.values().any(|it| it.owner == from || waits(it)));
            }
            Step::Ask { at, to } => {
                if let Some(holding) = holdings.get_mut(&place(at)) {
                    let revoke =
                        Revoke { to: Some(member(to)), asked_ms: 1, reason: Reason::Joined };
                    *holding.revoke = Some(revoke);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_a_member_holds_is_what_a_look_at_all_holdings_finds(
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let mut holdings = Holdings::default();
            for step in steps {
                take(&mut holdings, step);
                for owner in (0..5).map(member) {
                    let found: Vec<_> = holdings.of(&owner).collect();
                    let all = holdings.iter().filter(|(_, it)| it.owner == owner);
                    prop_assert_eq!(found, all.map(|(at, it)| (*at, it)).collect::<Vec<_>>());
                }
                // As it is read back from its row: nothing is left over of owners that are gone.
                let mut loaded = Holdings::default();
                holdings.iter().for_each(|(at, it)| loaded.insert(*at, it.clone()));
                prop_assert_eq!(&holdings, &loaded);
            }
        }
    }
}
