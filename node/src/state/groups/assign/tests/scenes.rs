//! Sticky in scenes from a group's life: who joins, leaves, crashes, grows; and in groups as large as they come.

use super::*;
use crate::state::tests::arbitrary::without_bugs;

fn spread(group: &Group, assignment: &Assignment) -> usize {
    let loads = group.loads(assignment);
    loads.values().max().unwrap_or(&0) - loads.values().min().unwrap_or(&0)
}

/// The most partitions of one topic that one member has.
fn heaviest(assignment: &Assignment) -> usize {
    let mut counts: BTreeMap<(TopicId, &MemberId), usize> = BTreeMap::new();
    for (at, owner) in assignment {
        *counts.entry((at.topic, owner)).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

#[test]
fn assignors_are_known_by_name() {
    for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky] {
        assert_eq!(Assignor::from_name(assignor.name()), Some(assignor));
    }
    assert_eq!(Assignor::from_name("Range"), None);
    assert_eq!(Assignor::default(), Assignor::Sticky);
}

#[test]
fn an_empty_group_gets_nothing() {
    let _alone = without_bugs();
    let group = Group::of_topics(&[3, 0]);
    assert_eq!(group.sticky(), Assignment::new());
    assert_eq!(group.clone().with("a", []).sticky(), Assignment::new());
    assert_eq!(group.with("a", [1, 7]).sticky(), Assignment::new());
}

#[test]
fn a_settled_group_stays_as_it_is() {
    let _alone = without_bugs();
    let group = Group::of_topics(&[7, 5]).with_all(5, 0..2).settled();
    assert_eq!(group.sticky(), group.owners);
}

#[test]
fn who_joins_gets_a_share_and_nothing_else_moves() {
    let _alone = without_bugs();
    let group = Group::of_topics(&[12, 12]).with_all(3, 0..2).settled().with("new", [0, 1]);
    let assignment = group.sticky();
    assert_eq!(group.loads(&assignment)[&MemberId::from("new")], 6);
    assert_eq!(group.kept(&assignment), 18);
}

#[test]
fn who_leaves_gives_its_share_to_all_and_nothing_else_moves() {
    let _alone = without_bugs();
    let group = Group::of_topics(&[12, 12]).with_all(4, 0..2).settled().without(&member(2));
    let assignment = group.sticky();
    assert_eq!(spread(&group, &assignment), 0);
    assert_eq!(group.kept(&assignment), 18);
}

#[test]
fn a_topic_that_grows_moves_nothing() {
    let _alone = without_bugs();
    let mut group = Group::of_topics(&[6]).with_all(4, 0..1).settled();
    group.topics.get_mut(&topic(0)).expect("there").partitions = 11;
    let assignment = group.sticky();
    assert_eq!(spread(&group, &assignment), 1);
    assert_eq!(group.kept(&assignment), 6);
}

#[test]
fn each_topic_is_spread_when_a_group_starts() {
    let _alone = without_bugs();
    let group = Group::of_topics(&[4, 4, 4, 4]).with_all(4, 0..4);
    assert_eq!(heaviest(&group.sticky()), 1);
}

#[test]
fn each_topic_is_spread_when_one_member_becomes_two() {
    let _alone = without_bugs();
    let group = Group::of_topics(&[10, 2]).with("a", [0, 1]).settled().with("b", [0, 1]);
    let assignment = group.sticky();
    assert_eq!(heaviest(&assignment), 5);
    assert_eq!(group.kept(&assignment), 6);
}

#[test]
fn a_chain_of_moves_relieves_a_member_that_cannot_give_to_the_idle_one() {
    let _alone = without_bugs();
    let mut group = Group::of_topics(&[2, 2]).with("a", [0]).with("b", [0, 1]).with("c", [1]);
    group.owners = [(at(0, 0), "a"), (at(0, 1), "a"), (at(1, 0), "b"), (at(1, 1), "b")]
        .map(|(at, owner)| (at, owner.into()))
        .into();
    let before = group.sticky();
    assert_eq!(spread(&group, &before), 1);
    assert_eq!(group.kept(&before), 3, "one of b's goes to c, a keeps both: {before:?}");
    group.topics.get_mut(&topic(0)).expect("there").partitions = 4;
    assert_eq!(spread(&group, &group.sticky()), 0);
}

#[test]
fn owners_that_left_or_never_were_legal_are_no_owners() {
    let _alone = without_bugs();
    let mut group = Group::of_topics(&[2]).with("a", [0]).with("b", []);
    group.owners = [(at(0, 0), "gone"), (at(0, 1), "b"), (at(0, 2), "a"), (at(5, 0), "a")]
        .map(|(at, owner)| (at, owner.into()))
        .into();
    assert!(group.is_legal(&group.sticky()));
}

#[test]
fn a_thousand_members_share_ten_thousand_partitions() {
    let _alone = without_bugs();
    let group = Group::of_topics(&[100; 100]).with_all(1_000, 0..100);
    let fresh = group.sticky();
    assert_eq!((spread(&group, &fresh), heaviest(&fresh)), (0, 1));
    let group = group.settled().without(&member(500));
    let after = group.sticky();
    assert_eq!(spread(&group, &after), 1);
    assert_eq!(group.kept(&after), 9_990);
}

#[test]
fn a_thousand_members_of_all_kinds_share_ten_thousand_partitions() {
    let _alone = without_bugs();
    let several =
        |number: usize| (0..100).filter(move |topic| (number * 7 + topic * number) % 13 < 6);
    let group = (0..1_000).fold(Group::of_topics(&[100; 100]), |group, number| {
        group.with(&member(number), several(number))
    });
    let group = group.settled();
    assert!(group.is_legal(&group.owners));
    assert_eq!(group.sticky(), group.owners);
    let after = group.clone().without(&member(500)).sticky();
    assert!(group.kept(&after) >= 9_980, "{}", group.kept(&after));
}

#[test]
fn two_members_share_ten_thousand_topics() {
    let _alone = without_bugs();
    let group = Group::of_topics(&[1; 10_000]).with_all(1, 0..10_000).settled();
    let group = group.with(&member(1), 0..10_000);
    let assignment = group.sticky();
    assert_eq!((spread(&group, &assignment), group.kept(&assignment)), (0, 5_000));
}
