//! Owns what the client believes about the cluster: nodes, topics, partitions and their leaders. Takes in answers and
//! hints in any order and keeps the newest; never performs a call and never waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use waymark_proto::v1 as wire;

/// The leader of a partition, as far as known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// `None` during an election.
    pub(crate) node: Option<i32>,
    /// Rises with every change of leader; what is older is ignored.
    pub(crate) epoch: i32,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicView {
    pub(crate) name: Arc<str>,
    pub(crate) id: [u8; 16],
    /// By partition number.
    pub(crate) partitions: Vec<Leadership>,
}

/// One answer, in our terms.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) version: i64,
    pub(crate) cluster_id: Vec<u8>,
    pub(crate) nodes: BTreeMap<i32, Arc<str>>,
    pub(crate) topics: Vec<TopicView>,
    /// Topics that do not exist, in the words of the node.
    pub(crate) missing: Vec<(Arc<str>, wire::Failure)>,
    /// Topics of which the node cannot tell anything now, and why: what is known of them stays.
    pub(crate) untold: Vec<(Arc<str>, wire::Failure)>,
}

#[derive(Debug, Default)]
struct Known {
    version: i64,
    cluster_id: Vec<u8>,
    nodes: BTreeMap<i32, Arc<str>>,
    topics: BTreeMap<Arc<str>, TopicView>,
    names: BTreeMap<[u8; 16], Arc<str>>,
    wanted: BTreeSet<Arc<str>>,
    /// How many answers were taken in, to coalesce refreshes: who asked before the last one need not ask again.
    answers: u64,
    read_at: Option<Instant>,
}

/// The cache. Every method is short and takes the one lock inside.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    known: Mutex<Known>,
}

impl Metadata {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an answer. Returns `false`, and changes nothing, if a newer one is known already.
    pub(crate) fn merge(&self, snapshot: Snapshot) -> bool {
        let mut known = self.lock();
        if snapshot.version < known.version {
            return false;
        }
        known.version = snapshot.version;
        known.cluster_id = snapshot.cluster_id;
        if !snapshot.nodes.is_empty() {
            known.nodes = snapshot.nodes;
        }
        for mut topic in snapshot.topics {
            if let Some(old) = known.topics.get(&topic.name).filter(|old| old.id == topic.id) {
                for (new, old) in topic.partitions.iter_mut().zip(&old.partitions) {
                    if new.epoch < old.epoch {
                        *new = *old;
                    }
                }
            }
            known.names.insert(topic.id, Arc::clone(&topic.name));
            known.topics.insert(Arc::clone(&topic.name), topic);
        }
        for (name, _) in snapshot.missing {
            known.topics.remove(&name);
            known.wanted.remove(&name);
        }
        known.answers += 1;
        known.read_at = Some(Instant::now());
        true
    }

    /// Takes in a hint from a refusal. Older than what is known: ignored.
    pub(crate) fn hint(&self, topic: &[u8], partition: i32, hint: &wire::LeaderHint) {
        let mut known = self.lock();
        let node = hint.node_id;
        if let Some(address) = crate::answers::grpc_address(&hint.endpoints) {
            known.nodes.entry(node).or_insert(address);
        }
        let name = <[u8; 16]>::try_from(topic).ok().and_then(|id| known.names.get(&id).cloned());
        let topic = name.and_then(|name| known.topics.get_mut(&name));
        let slot =
            topic.and_then(|topic| topic.partitions.get_mut(usize::try_from(partition).ok()?));
        if let Some(slot) = slot.filter(|slot| hint.leader_epoch >= slot.epoch) {
            *slot = Leadership { node: Some(node), epoch: hint.leader_epoch };
        }
    }

    /// A node did not answer: partitions that it led are looked up again before it is tried again.
    pub(crate) fn suspect(&self, node: i32) {
        let mut known = self.lock();
        for topic in known.topics.values_mut() {
            for slot in topic.partitions.iter_mut().filter(|slot| slot.node == Some(node)) {
                slot.node = None;
            }
        }
    }

    pub(crate) fn topic(&self, name: &str) -> Option<TopicView> {
        self.lock().topics.get(name).cloned()
    }

    /// Whether a topic of this name exists, and is still the one with this id.
    pub(crate) fn is_known_as(&self, topic: &str, id: &[u8; 16]) -> bool {
        self.lock().topics.get(topic).is_some_and(|view| view.id == *id)
    }

    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<Leadership> {
        let known = self.lock();
        known.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?).copied()
    }

    pub(crate) fn address(&self, node: i32) -> Option<Arc<str>> {
        self.lock().nodes.get(&node).cloned()
    }

    pub(crate) fn addresses(&self) -> Vec<Arc<str>> {
        self.lock().nodes.values().cloned().collect()
    }

    /// Remembers a topic, so that every refresh asks for it.
    pub(crate) fn want(&self, topic: &Arc<str>) {
        self.lock().wanted.insert(Arc::clone(topic));
    }

    pub(crate) fn wanted(&self) -> Vec<Arc<str>> {
        self.lock().wanted.iter().cloned().collect()
    }

    pub(crate) fn answers(&self) -> u64 {
        self.lock().answers
    }

    pub(crate) fn read_at(&self) -> Option<Instant> {
        self.lock().read_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(version: i64, node: i32, epoch: i32) -> Snapshot {
        Snapshot {
            version,
            nodes: [(node, "a:1".into())].into(),
            topics: vec![TopicView {
                name: "t".into(),
                id: [7; 16],
                partitions: vec![Leadership { node: Some(node), epoch }],
            }],
            ..Snapshot::default()
        }
    }

    fn hint(node_id: i32, leader_epoch: i32) -> wire::LeaderHint {
        wire::LeaderHint { node_id, leader_epoch, ..wire::LeaderHint::default() }
    }

    #[test]
    fn an_answer_older_than_what_is_known_changes_nothing() {
        let metadata = Metadata::default();
        assert!(metadata.merge(snapshot(5, 1, 1)));
        assert!(!metadata.merge(snapshot(4, 2, 2)));
        assert_eq!(metadata.leader("t", 0).unwrap().node, Some(1));
    }

    #[test]
    fn a_leader_of_an_older_epoch_is_ignored_even_in_a_newer_answer() {
        let metadata = Metadata::default();
        metadata.merge(snapshot(1, 1, 9));
        metadata.merge(snapshot(2, 2, 8));
        assert_eq!(metadata.leader("t", 0), Some(Leadership { node: Some(1), epoch: 9 }));
    }

    #[test]
    fn a_hint_moves_a_leader_forward_only() {
        let metadata = Metadata::default();
        metadata.merge(snapshot(1, 1, 5));
        metadata.hint(&[7; 16], 0, &hint(3, 4));
        assert_eq!(metadata.leader("t", 0).unwrap().node, Some(1));
        metadata.hint(&[7; 16], 0, &hint(3, 6));
        assert_eq!(metadata.leader("t", 0).unwrap().node, Some(3));
    }

    #[test]
    fn a_recreated_topic_starts_its_epochs_anew() {
        let metadata = Metadata::default();
        metadata.merge(snapshot(1, 1, 9));
        let mut recreated = snapshot(2, 2, 0);
        recreated.topics[0].id = [8; 16];
        metadata.merge(recreated);
        assert_eq!(metadata.leader("t", 0).unwrap().node, Some(2));
    }

    #[test]
    fn a_suspected_node_leads_nothing_until_it_is_named_again() {
        let metadata = Metadata::default();
        metadata.merge(snapshot(1, 1, 3));
        metadata.suspect(1);
        assert_eq!(metadata.leader("t", 0).unwrap().node, None);
        metadata.merge(snapshot(1, 1, 3));
        assert_eq!(metadata.leader("t", 0).unwrap().node, Some(1));
    }
}
