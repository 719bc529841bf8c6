//! Owns the classes in which sticky thinks: members with the same subscription (a cohort) are alike, and so are topics
//! with the same subscribers (a pool). A group that subscribes one pattern is one cohort and one pool, whatever its size.
//! Never looks at who has what now.

use std::collections::{BTreeMap, BTreeSet};

use waymark_proto::ids::TopicId;

use super::subscribers::places_of;
use super::{Input, MemberId};

/// Members and topics by number, in classes.
pub(super) struct Classes<'a> {
    /// By member number.
    pub(super) members: Vec<&'a MemberId>,
    /// By topic number: those that have partitions.
    pub(super) topics: Vec<TopicId>,
    /// Partitions, by topic number.
    pub(super) partitions: Vec<i32>,
    /// By cohort number: the numbers of its members.
    pub(super) cohorts: Vec<Vec<usize>>,
    pub(super) pools: Vec<Pool>,
    /// By member number; `None`: it subscribes nothing there is.
    pub(super) cohort_of: Vec<Option<usize>>,
    /// By topic number; `None`: nobody subscribes it.
    pub(super) pool_of: Vec<Option<usize>>,
}

/// Topics with the same subscribers.
pub(super) struct Pool {
    /// Topic numbers.
    pub(super) topics: Vec<usize>,
    /// The numbers of the cohorts that subscribe them, ascending.
    pub(super) cohorts: Vec<usize>,
    /// Of all its topics.
    pub(super) partitions: i64,
}

impl<'a> Classes<'a> {
    pub(super) fn of(input: &Input<'a>) -> Self {
        let (topics, partitions): (Vec<TopicId>, Vec<i32>) = input
            .topics
            .iter()
            .filter(|(_, facts)| facts.partitions > 0)
            .map(|(id, facts)| (*id, facts.partitions))
            .unzip();
        let mut alike: BTreeMap<&BTreeSet<TopicId>, Vec<usize>> = BTreeMap::new();
        for (number, member) in input.members.values().enumerate() {
            alike.entry(&member.topics).or_default().push(number);
        }
        let mut cohorts = Vec::new();
        let mut subscribers = vec![Vec::new(); topics.len()];
        for (subscription, members) in alike {
            let wanted = places_of(subscription, &topics);
            if !wanted.is_empty() {
                wanted.into_iter().for_each(|topic| subscribers[topic].push(cohorts.len()));
                cohorts.push(members);
            }
        }
        let pools = pools(subscribers, &partitions);
        let cohort_of = inverse(input.members.len(), cohorts.iter().map(Vec::as_slice));
        let pool_of = inverse(topics.len(), pools.iter().map(|pool| pool.topics.as_slice()));
        let members = input.members.keys().collect();
        Self { members, topics, partitions, cohorts, pools, cohort_of, pool_of }
    }
}

fn pools(subscribers: Vec<Vec<usize>>, partitions: &[i32]) -> Vec<Pool> {
    let mut alike: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for (topic, cohorts) in subscribers.into_iter().enumerate() {
        if !cohorts.is_empty() {
            alike.entry(cohorts).or_default().push(topic);
        }
    }
    let pool = |(cohorts, topics): (Vec<usize>, Vec<usize>)| {
        let partitions = topics.iter().map(|topic| i64::from(partitions[*topic])).sum();
        Pool { topics, cohorts, partitions }
    };
    alike.into_iter().map(pool).collect()
}

/// By element, the number of the class that has it.
fn inverse<'c>(elements: usize, classes: impl Iterator<Item = &'c [usize]>) -> Vec<Option<usize>> {
    let mut class_of = vec![None; elements];
    for (number, class) in classes.enumerate() {
        class.iter().for_each(|element| class_of[*element] = Some(number));
    }
    class_of
}
