//! Sticky on random groups: on small ones against the best of all assignments, on larger ones against a proof that no
//! chain of moves makes it better.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use super::*;
use crate::state::tests::arbitrary::without_bugs;

/// How good an assignment is, less being better: loads from the highest down, then partitions that move.
type Grade = (Vec<usize>, usize);

fn grade(group: &Group, assignment: &Assignment) -> Grade {
    let mut loads: Vec<usize> = group.loads(assignment).into_values().collect();
    loads.sort_unstable_by(|a, b| b.cmp(a));
    (loads, assignment.len() - group.kept(assignment))
}

/// The best grade of all legal assignments, by trying each.
fn best_grade(group: &Group) -> Grade {
    let wanted: Vec<TopicPartition> = group.wanted().into_iter().collect();
    let mut best: Option<Grade> = None;
    try_all(group, &wanted, &mut Assignment::new(), &mut |assignment| {
        let grade = grade(group, assignment);
        best = Some(best.take().map_or(grade.clone(), |best| best.min(grade)));
    });
    best.expect("there is at least one")
}

fn try_all(
    group: &Group,
    wanted: &[TopicPartition],
    assignment: &mut Assignment,
    judge: &mut impl FnMut(&Assignment),
) {
    let Some((at, rest)) = wanted.split_first() else { return judge(assignment) };
    for member in group.members.keys().filter(|id| group.subscribes(id, *at)) {
        assignment.insert(*at, member.clone());
        try_all(group, rest, assignment, judge);
    }
}

fn nothing_is_better(group: &Group) -> TestCaseResult {
    let assignment = group.sticky();
    prop_assert!(group.is_legal(&assignment), "{:?}", assignment);
    prop_assert_eq!(grade(group, &assignment), best_grade(group));
    prop_assert_eq!(assignment, group.sticky());
    Ok(())
}

/// Costs of the cheapest chains of moves between members, in partitions that leave their owners less those that come
/// back to them: by Floyd and Warshall, over all single moves. A chain from a member to itself changes no load.
fn cheapest_chains(group: &Group, assignment: &Assignment) -> BTreeMap<(MemberId, MemberId), i64> {
    let mut chains: BTreeMap<(MemberId, MemberId), i64> = BTreeMap::new();
    let offer = |chains: &mut BTreeMap<_, i64>, from: &MemberId, to: &MemberId, cost: i64| {
        let cheapest = chains.entry((from.clone(), to.clone())).or_insert(cost);
        *cheapest = cost.min(*cheapest);
    };
    for (at, from) in assignment {
        let owner = group.owners.get(at);
        for to in group.members.keys().filter(|to| *to != from && group.subscribes(to, *at)) {
            let cost = i64::from(owner == Some(from)) - i64::from(owner == Some(to));
            offer(&mut chains, from, to, cost);
        }
    }
    for over in group.members.keys() {
        for from in group.members.keys() {
            for to in group.members.keys() {
                let first = chains.get(&(from.clone(), over.clone()));
                let then = chains.get(&(over.clone(), to.clone()));
                if let (Some(first), Some(then)) = (first, then) {
                    let cost = first + then;
                    offer(&mut chains, from, to, cost);
                }
            }
        }
    }
    chains
}

fn no_chain_of_moves_is_better(group: &Group) -> TestCaseResult {
    let assignment = group.sticky();
    prop_assert!(group.is_legal(&assignment), "{:?}", assignment);
    let loads = group.loads(&assignment);
    for ((from, to), cost) in cheapest_chains(group, &assignment) {
        let evens_out = loads[&from] >= loads[&to] + 2;
        prop_assert!(!evens_out, "{} has too much, {} could have it", from, to);
        let changes_nothing = from == to || loads[&from] == loads[&to] + 1;
        prop_assert!(!changes_nothing || cost >= 0, "{} to {} saves moves", from, to);
    }
    Ok(())
}

/// Groups of at most so many members, topics and partitions of a topic. Owners may have left or may not subscribe.
fn group(members: usize, topics: usize, partitions: i32) -> impl Strategy<Value = Group> {
    let subscriptions =
        prop::collection::vec(prop::collection::btree_set(0..=topics, 0..=topics), 1..=members);
    let sizes = prop::collection::vec(0..=partitions, topics);
    (subscriptions, sizes).prop_flat_map(move |(subscriptions, sizes)| {
        let places: Vec<TopicPartition> = sizes
            .iter()
            .enumerate()
            .flat_map(|(number, size)| (0..=*size).map(move |partition| at(number, partition)))
            .collect();
        let owner = prop::option::weighted(0.8, 0..=members);
        prop::collection::vec(owner, places.len()).prop_map(move |owners| {
            let mut group = Group::of_topics(&sizes);
            for (number, topics) in subscriptions.iter().enumerate() {
                group = group.with(&member(number), topics.iter().copied());
            }
            let owned = places.iter().zip(owners);
            group.owners = owned
                .filter_map(|(at, owner)| owner.map(|owner| (*at, member(owner).into())))
                .collect();
            group
        })
    })
}

fn small() -> impl Strategy<Value = Group> {
    group(4, 4, 3).prop_filter("as many as can all be tried", |group| group.wanted().len() <= 6)
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn no_assignment_is_more_balanced_or_moves_less() {
    let _alone = without_bugs();
    runner(1_000).run(&small(), |group| nothing_is_better(&group)).unwrap();
}

#[test]
fn in_larger_groups_no_chain_of_moves_balances_more_or_saves_a_move() {
    let _alone = without_bugs();
    runner(300).run(&group(9, 8, 9), |group| no_chain_of_moves_is_better(&group)).unwrap();
}

#[test]
fn kafkas_assignors_give_every_subscribed_partition_to_a_subscriber() {
    let _alone = without_bugs();
    let legal = |group: Group| {
        prop_assert!(group.is_legal(&group.by(Assignor::Range)));
        prop_assert!(group.is_legal(&group.by(Assignor::RoundRobin)));
        Ok(())
    };
    runner(200).run(&group(9, 8, 9), legal).unwrap();
}

#[test]
fn forgetting_who_owns_what_is_caught() {
    let _bug = crate::mutants::plant("sticky-forgets-owners");
    assert!(runner(1_000).run(&small(), |group| nothing_is_better(&group)).is_err());
}
