//! What the assignors promise: Kafka's answers from Kafka's assignors, and from the default one balance and least movement,
//! against a search of all assignments on small groups and against a proof of optimality on larger ones.

mod kafka;
mod optimum;
mod scenes;

use std::collections::{BTreeMap, BTreeSet};

use waymark_proto::ids::{PartitionId, TopicId, TopicPartition};

use super::{Assignor, Candidate, Input, MemberId, TopicFacts, assign};

type Assignment = BTreeMap<TopicPartition, MemberId>;

/// A group with topics and owners.
#[derive(Debug, Clone, Default)]
struct Group {
    members: BTreeMap<MemberId, Candidate>,
    topics: BTreeMap<TopicId, TopicFacts>,
    owners: Assignment,
}

impl Group {
    /// Topics 0, 1, 2 … of so many partitions.
    fn of_topics(partitions: &[i32]) -> Self {
        let topic = |(number, partitions): (usize, &i32)| {
            let facts = TopicFacts { name: format!("topic-{number}"), partitions: *partitions };
            (topic(number), facts)
        };
        let topics = partitions.iter().enumerate().map(topic).collect();
        Self { topics, ..Self::default() }
    }

    fn with(mut self, member: &str, topics: impl IntoIterator<Item = usize>) -> Self {
        let topics = topics.into_iter().map(topic).collect();
        self.members.insert(member.into(), Candidate { instance: None, topics });
        self
    }

    /// As many members as asked for, all with these topics.
    fn with_all(self, members: usize, topics: std::ops::Range<usize>) -> Self {
        (0..members).fold(self, |group, number| group.with(&member(number), topics.clone()))
    }

    fn without(mut self, member: &str) -> Self {
        self.members.remove(member);
        self
    }

    /// The group after its assignment was carried out.
    fn settled(mut self) -> Self {
        self.owners = self.sticky();
        self
    }

    fn by(&self, assignor: Assignor) -> Assignment {
        let input = Input { members: &self.members, topics: &self.topics, owners: &self.owners };
        assign(assignor, &input)
    }

    fn sticky(&self) -> Assignment {
        self.by(Assignor::Sticky)
    }

    /// Every partition that somebody subscribes.
    fn wanted(&self) -> BTreeSet<TopicPartition> {
        let is_wanted = |id: &&TopicId| self.members.values().any(|it| it.topics.contains(*id));
        let partitions = |id: &TopicId| {
            (0..self.topics[id].partitions).map(|number| (*id, number)).collect::<Vec<_>>()
        };
        let all = self.topics.keys().filter(is_wanted).flat_map(partitions);
        all.map(|(topic, number)| TopicPartition { topic, partition: PartitionId(number) })
            .collect()
    }

    fn subscribes(&self, member: &MemberId, at: TopicPartition) -> bool {
        self.members.get(member).is_some_and(|it| it.topics.contains(&at.topic))
    }

    /// Partitions of each member, members without any included.
    fn loads(&self, assignment: &Assignment) -> BTreeMap<MemberId, usize> {
        let mut loads: BTreeMap<MemberId, usize> =
            self.members.keys().map(|id| (id.clone(), 0)).collect();
        for owner in assignment.values() {
            *loads.get_mut(owner).expect("only members own") += 1;
        }
        loads
    }

    /// Partitions that stay with their owners.
    fn kept(&self, assignment: &Assignment) -> usize {
        assignment.iter().filter(|(at, owner)| self.owners.get(at) == Some(owner)).count()
    }

    fn is_legal(&self, assignment: &Assignment) -> bool {
        assignment.keys().copied().collect::<BTreeSet<_>>() == self.wanted()
            && assignment.iter().all(|(at, owner)| self.subscribes(owner, *at))
    }
}

fn topic(number: usize) -> TopicId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    TopicId(id)
}

fn at(number: usize, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic(number), partition: PartitionId(partition) }
}

fn member(number: usize) -> String {
    format!("member-{number:04}")
}
