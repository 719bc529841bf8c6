//! Range and round robin against answers that Kafka's own assignors gave (`node/tests/data/kafka-assignments.jsonl`), and
//! against the order that Kafka documents for static members.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::state::tests::arbitrary::without_bugs;

const CASES: &str = include_str!("../../../../../tests/data/kafka-assignments.jsonl");

const NONE: [usize; 0] = [];

/// Members or topics by name; partitions as `topic-number`.
type Named = BTreeMap<String, BTreeSet<String>>;

#[derive(Deserialize)]
struct Case {
    partitions: BTreeMap<String, i32>,
    members: Named,
    range: Named,
    roundrobin: Named,
}

impl Case {
    /// The case as a group. Ids run against names, because names decide.
    fn group(&self) -> Group {
        let ids: BTreeMap<&String, TopicId> =
            self.partitions.keys().rev().zip((0..).map(topic)).collect();
        let mut group = Group::default();
        for (name, partitions) in &self.partitions {
            let facts = TopicFacts { name: name.clone(), partitions: *partitions };
            group.topics.insert(ids[name], facts);
        }
        for (member, topics) in &self.members {
            let topics = topics.iter().map(|name| ids[name]).collect();
            group.members.insert(member.as_str().into(), Candidate { instance: None, topics });
        }
        group
    }
}

fn named(group: &Group, assignment: &Assignment) -> Named {
    let mut named: Named =
        group.members.keys().map(|id| (id.to_string(), BTreeSet::new())).collect();
    for (at, owner) in assignment {
        let name = format!("{}-{}", group.topics[&at.topic].name, at.partition.0);
        named.get_mut(&**owner).expect("only members own").insert(name);
    }
    named
}

/// The numbers of the cases in which we answer otherwise than Kafka.
fn differing(assignor: Assignor, theirs: impl Fn(&Case) -> &Named) -> Vec<usize> {
    let cases: Vec<Case> =
        CASES.lines().map(|line| serde_json::from_str(line).expect("a case")).collect();
    assert_eq!(cases.len(), 60);
    let differs = |case: &Case| {
        let group = case.group();
        let mut expected = theirs(case).clone();
        for id in case.members.keys() {
            expected.entry(id.clone()).or_default();
        }
        named(&group, &group.by(assignor)) != expected
    };
    cases.iter().enumerate().filter(|(_, case)| differs(case)).map(|(number, _)| number).collect()
}

#[test]
fn range_answers_as_kafkas_does() {
    let _alone = without_bugs();
    assert_eq!(differing(Assignor::Range, |case| &case.range), NONE);
}

#[test]
fn round_robin_answers_as_kafkas_does() {
    let _alone = without_bugs();
    assert_eq!(differing(Assignor::RoundRobin, |case| &case.roundrobin), NONE);
}

#[test]
fn static_members_come_first_in_the_order_of_their_instances() {
    let _alone = without_bugs();
    let mut group = Group::of_topics(&[4]).with_all(4, 0..1);
    let ids: Vec<MemberId> = group.members.keys().cloned().collect();
    for (id, instance) in [(&ids[3], "a"), (&ids[1], "b")] {
        group.members.get_mut(id).expect("a member").instance = Some(instance.to_owned());
    }
    let in_order = [&ids[3], &ids[1], &ids[0], &ids[2]];
    for assignor in [Assignor::Range, Assignor::RoundRobin] {
        let assignment = group.by(assignor);
        assert!(assignment.values().eq(in_order), "{}: {assignment:?}", assignor.name());
    }
}

#[test]
fn members_are_compared_as_java_compares_strings() {
    let _alone = without_bugs();
    let group = Group::of_topics(&[1]).with("\u{ff61}", [0]).with("\u{1f600}", [0]);
    assert_eq!(&*group.by(Assignor::Range)[&at(0, 0)], "\u{1f600}");
}

#[test]
fn a_range_that_drops_the_rest_is_caught() {
    let _bug = crate::mutants::plant("range-drops-the-rest");
    assert!(!differing(Assignor::Range, |case| &case.range).is_empty());
}
