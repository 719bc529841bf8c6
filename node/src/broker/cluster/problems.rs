//! Owns saying what is wrong, by name: nodes that are silent, full or have another time, and partitions without a leader or
//! with replicas that do not keep up. Never repairs anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use waymark_proto::failure::Failure;
use waymark_proto::ids::{NodeId, ShardId};

use super::places::ShardPlace;
use crate::broker::Core;
use crate::broker::admin::Problem;
use crate::consensus::{Catching, DiskRoom, Level, Trouble};
use crate::state::catalog::Catalog;

/// Retention by age and timestamps go wrong by as much as clocks differ; what a peer told may have been on the way for long.
const LARGEST_SKEW_MS: u64 = 2_000;

/// What a node told of itself, as seen now.
#[derive(Debug, Clone)]
struct Health {
    /// Its clock's lead over this node's, ms.
    skew_ms: i64,
    /// Nothing before it has looked.
    disk: Option<Arc<DiskRoom>>,
}

impl Core {
    /// What is wrong just now.
    pub(in crate::broker) fn problems(&self) -> Result<Vec<Problem>, Failure> {
        let places = self.shard_places();
        let nodes = self.nodes.iter().map(|it| it.node);
        let silent: Vec<NodeId> = nodes.filter(|node| !self.is_alive(*node)).collect();
        let mut problems = of_nodes(&silent, &self.heard_health());
        let troubles = self.troubles();
        problems.extend(of_replicas(&troubles));
        problems.extend(of_majorities(&troubles, &places));
        if places.get(&ShardId::CATALOG).is_none_or(|place| place.leader.is_none()) {
            let message = "it has no leader: topics cannot be created or changed".to_owned();
            problems.push(Problem { subject: "catalog".to_owned(), message });
        }
        let swaps = self.catalog(|catalog| {
            catalog.swaps().map(|(shard, node, _)| (shard, node)).collect::<Vec<_>>()
        })?;
        problems.extend(of_swaps(&swaps, &self.catching()));
        problems.extend(self.catalog(|catalog| of_topics(catalog, &places))?);
        Ok(problems)
    }

    /// What is wrong with replicas of this node and, as they told last, of the others.
    fn troubles(&self) -> Vec<(NodeId, Trouble)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let others = told.iter().map(|(node, told)| (*node, told.troubles.clone()));
        let all = others.chain([(self.node, self.consensus.troubles())]);
        all.flat_map(|(node, troubles)| troubles.into_iter().map(move |it| (node, it))).collect()
    }

    /// How far replicas are that come instead of others, as the leaders of their shards told lately.
    fn catching(&self) -> Vec<Catching> {
        let told = self.told_lately().into_values().flat_map(|it| it.catching);
        self.consensus.catching().into_iter().chain(told).collect()
    }

    fn heard_health(&self) -> Vec<(NodeId, Health)> {
        let own_ms = self.env.clock.now_ms();
        let own = (self.node, Health { skew_ms: 0, disk: self.consensus.disk_room() });
        let heard = self.consensus.peers_heard().into_iter();
        let others = heard.map(|(node, heard)| {
            let age_ms = i64::try_from(heard.at.elapsed().as_millis()).unwrap_or(i64::MAX);
            let now_there = heard.vitals.clock_ms.saturating_add(age_ms);
            let skew_ms = now_there.saturating_sub(own_ms);
            (node, Health { skew_ms, disk: heard.vitals.disk })
        });
        std::iter::once(own).chain(others).collect()
    }
}

fn of_nodes(silent: &[NodeId], heard: &[(NodeId, Health)]) -> Vec<Problem> {
    let about =
        |node: &NodeId, message: String| Problem { subject: format!("node {node}"), message };
    let mut problems: Vec<Problem> =
        silent.iter().map(|node| about(node, "it does not answer".to_owned())).collect();
    for (node, health) in heard.iter().filter(|(node, _)| !silent.contains(node)) {
        if let Some(disk) = health.disk.as_ref().filter(|disk| disk.level != Level::Records) {
            problems.push(about(node, format!("its disk is full: {disk}")));
        }
        if health.skew_ms.unsigned_abs() > LARGEST_SKEW_MS {
            let skew = health.skew_ms;
            let message = format!("its clock differs by {skew} ms from that of this node");
            problems.push(about(node, message));
        }
    }
    problems
}

fn of_replicas(troubles: &[(NodeId, Trouble)]) -> Vec<Problem> {
    let problem = |(node, Trouble { shard, what, .. }): &(NodeId, Trouble)| Problem {
        subject: format!("node {node}"),
        message: format!("its replica of shard {shard}: {what}"),
    };
    troubles.iter().map(problem).collect()
}

/// Shards that nothing but an operator helps: too few of their replicas will ever run again.
fn of_majorities(
    troubles: &[(NodeId, Trouble)],
    places: &BTreeMap<ShardId, ShardPlace>,
) -> Vec<Problem> {
    let mut lost: BTreeMap<ShardId, BTreeSet<NodeId>> = BTreeMap::new();
    for (node, trouble) in troubles {
        if trouble.never_runs {
            lost.entry(trouble.shard).or_default().insert(*node);
        }
    }
    let problem = |(shard, nodes): (ShardId, BTreeSet<NodeId>)| {
        let place = places.get(&shard).filter(|place| place.leader.is_none())?;
        let (lost, voters) = (nodes.len(), place.voters.len());
        let message = format!(
            "{lost} of its {voters} replicas never run again, so it elects no leader: `waymark recover`, on a node with a sound \
             one, shows what that has kept"
        );
        let subject = format!("shard {shard}");
        (2 * lost >= voters).then_some(Problem { subject, message })
    };
    lost.into_iter().filter_map(problem).collect()
}

/// Replicas that are being replaced; nobody tells how far they are while their shard has no leader.
fn of_swaps(swaps: &[(ShardId, NodeId)], catching: &[Catching]) -> Vec<Problem> {
    let problem = |(shard, node): &(ShardId, NodeId)| {
        let told = catching.iter().find(|it| it.shard == *shard && it.node == *node);
        let how_far = told.map_or_else(
            || "its shard's leader has not told how far it is".to_owned(),
            |it| format!("learner, {} of {} entries", it.matched, it.last),
        );
        let subject = format!("shard {shard} on node {node}");
        Problem { subject, message: format!("its replica is being replaced: {how_far}") }
    };
    swaps.iter().map(problem).collect()
}

/// One problem for each topic and kind: a lost node concerns thousands of partitions.
fn of_topics(catalog: &Catalog, places: &BTreeMap<ShardId, ShardPlace>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for topic in catalog.topics() {
        let placed: Vec<(i32, Option<&ShardPlace>)> = (0..)
            .zip(&topic.partition_shards)
            .map(|(number, shard)| (number, places.get(shard)))
            .collect();
        let numbers = |wrong: &dyn Fn(&ShardPlace) -> bool| -> Vec<i32> {
            let bad = placed.iter().filter(|(_, place)| place.is_none_or(wrong));
            bad.map(|(number, _)| *number).collect()
        };
        let leaderless = numbers(&|place| place.leader.is_none());
        let behind = numbers(&|place| place.in_sync.len() < place.voters.len());
        for (which, what) in [
            (leaderless, "without a leader: they take no records"),
            (behind, "with fewer replicas in sync than they should have"),
        ] {
            if let Some(first) = which.first() {
                let subject = format!("{}/{first}", topic.name);
                let message = format!("{} of {} partitions are {what}", which.len(), placed.len());
                problems.push(Problem { subject, message });
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::catalog::catalog_with;

    fn everywhere(catalog: &Catalog, place: &ShardPlace) -> BTreeMap<ShardId, ShardPlace> {
        catalog.shards().map(|it| (it.shard, place.clone())).collect()
    }

    fn disk(level: Level) -> Option<Arc<DiskRoom>> {
        Some(Arc::new(DiskRoom {
            folder: "/data".to_owned(),
            free_bytes: 5,
            reserve_bytes: 7,
            last_reserve_bytes: 3,
            level,
        }))
    }

    fn well() -> ShardPlace {
        let all = vec![NodeId(1), NodeId(2)];
        let (voters, in_sync) = (all.clone(), all);
        ShardPlace { leader: Some(NodeId(1)), voters, in_sync, offline: Vec::new() }
    }

    #[test]
    fn a_cluster_that_is_well_has_no_problem() {
        let catalog = catalog_with(&["a"]);
        assert_eq!(of_topics(&catalog, &everywhere(&catalog, &well())), vec![]);
        let close = [(NodeId(2), Health { skew_ms: 500, disk: disk(Level::Records) })];
        assert_eq!(of_nodes(&[], &close), vec![]);
    }

    #[test]
    fn partitions_without_a_leader_are_named_once_for_a_topic() {
        let catalog = catalog_with(&["a"]);
        let lost = ShardPlace { leader: None, ..well() };
        let problems = of_topics(&catalog, &everywhere(&catalog, &lost));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].subject, "a/0");
        assert!(problems[0].message.starts_with("3 of 3 partitions"), "{problems:?}");
    }

    #[test]
    fn a_replica_that_does_not_keep_up_is_a_problem() {
        let catalog = catalog_with(&["a"]);
        let behind = ShardPlace { in_sync: vec![NodeId(1)], ..well() };
        assert_eq!(of_topics(&catalog, &everywhere(&catalog, &behind)).len(), 1);
    }

    fn damaged(node: u32, never_runs: bool) -> (NodeId, Trouble) {
        let what = "it does not run".to_owned();
        (NodeId(node), Trouble { shard: ShardId(7), what, never_runs })
    }

    #[test]
    fn a_replica_that_damage_keeps_from_running_is_named() {
        let problems = of_replicas(&[damaged(2, true)]);
        assert_eq!(problems[0].subject, "node 2");
        assert_eq!(problems[0].message, "its replica of shard 7: it does not run");
    }

    #[test]
    fn a_shard_that_lost_its_majority_is_named_with_the_command_that_helps() {
        let voters = vec![NodeId(1), NodeId(2), NodeId(3)];
        let place = ShardPlace { leader: None, voters, in_sync: vec![], offline: vec![] };
        let places = BTreeMap::from([(ShardId(7), place)]);
        assert_eq!(of_majorities(&[damaged(2, true)], &places), []);
        assert_eq!(of_majorities(&[damaged(2, true), damaged(3, false)], &places), []);
        let problems = of_majorities(&[damaged(2, true), damaged(3, true)], &places);
        assert_eq!(problems[0].subject, "shard 7");
        assert!(problems[0].message.contains("waymark recover"), "{problems:?}");
    }

    #[test]
    fn a_replica_that_is_being_replaced_is_named_with_how_far_it_is() {
        let swaps = [(ShardId(3), NodeId(2)), (ShardId(4), NodeId(2))];
        let told = Catching { shard: ShardId(4), node: NodeId(2), matched: 5, last: 9 };
        let problems = of_swaps(&swaps, &[told]);
        assert_eq!(problems[0].subject, "shard 3 on node 2");
        assert!(problems[0].message.contains("has not told"), "{problems:?}");
        assert!(problems[1].message.ends_with("learner, 5 of 9 entries"), "{problems:?}");
    }

    #[test]
    fn a_node_that_is_silent_full_or_of_another_time_is_named() {
        let full = (NodeId(2), Health { skew_ms: 0, disk: disk(Level::Entries) });
        let ahead = (NodeId(3), Health { skew_ms: 50_000, disk: None });
        let problems = of_nodes(&[NodeId(4)], &[full, ahead]);
        let subjects: Vec<&str> = problems.iter().map(|it| it.subject.as_str()).collect();
        assert_eq!(subjects, ["node 4", "node 2", "node 3"]);
        let message = &problems[1].message;
        let named = ["5 bytes", "\"/data\"", "7 bytes (store.reserve_bytes)"];
        assert!(named.iter().all(|it| message.contains(it)), "{message}");
    }
}
