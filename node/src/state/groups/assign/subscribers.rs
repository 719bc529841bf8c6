//! Owns who subscribes what, with members and topics in the order in which Kafka's assignors go through them. Never
//! assigns anything.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use waymark_proto::ids::TopicId;

use super::{Candidate, Input, MemberId};

/// A topic that somebody subscribes.
pub(super) struct SubscribedTopic {
    pub(super) id: TopicId,
    pub(super) partitions: i32,
    /// Places in the order of members, ascending; never empty.
    pub(super) subscribers: Vec<usize>,
}

/// Members in the order of Kafka's `MemberInfo`: static members first, by their instance ids, then the others by their
/// member ids.
pub(super) fn members_in_order<'a>(input: &Input<'a>) -> Vec<(&'a MemberId, &'a Candidate)> {
    let mut members: Vec<_> = input.members.iter().collect();
    members.sort_by(|(a_id, a), (b_id, b)| match (&a.instance, &b.instance) {
        (Some(a), Some(b)) => as_java(a, b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => as_java(a_id, b_id),
    });
    members
}

/// Java compares strings by UTF-16 units, which differs from the order of bytes above U+FFFF.
fn as_java(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// The subscribed topics in the order of their names.
pub(super) fn topics_in_order(
    input: &Input<'_>,
    members: &[(&MemberId, &Candidate)],
) -> Vec<SubscribedTopic> {
    let ids: Vec<TopicId> = input.topics.keys().copied().collect();
    let mut subscribers = vec![Vec::new(); ids.len()];
    for (place, (_, member)) in members.iter().enumerate() {
        for topic in places_of(&member.topics, &ids) {
            subscribers[topic].push(place);
        }
    }
    let mut topics: Vec<_> = input.topics.iter().zip(subscribers).collect();
    topics.retain(|(_, subscribers)| !subscribers.is_empty());
    topics.sort_by(|((_, a), _), ((_, b), _)| as_java(&a.name, &b.name));
    topics
        .into_iter()
        .map(|((id, facts), subscribers)| SubscribedTopic {
            id: *id,
            partitions: facts.partitions,
            subscribers,
        })
        .collect()
}

/// Where the wanted topics stand in a sorted list; those that are not in it are left out. Both are walked side by side:
/// members that subscribe a pattern want thousands.
pub(super) fn places_of(wanted: &BTreeSet<TopicId>, topics: &[TopicId]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut at = 0;
    for id in wanted {
        while topics.get(at).is_some_and(|it| it < id) {
            at += 1;
        }
        if topics.get(at) == Some(id) {
            places.push(at);
        }
    }
    places
}
