//! Tests of the catalog: what goes in comes back, and nothing that is damaged or refused leaves a trace.

use waymark_proto::ids::{NodeId, PartitionId, ReplicaId, TopicId};

use super::*;
use crate::mutants;
use crate::state::command::Command;
use crate::state::tests::arbitrary::{found, pool, topic};

fn founded() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.apply(found(3)).unwrap();
    catalog.apply(pool(3, 3)).unwrap();
    catalog
}

fn create(id: TopicId, name: &str, partitions: i32) -> CatalogCommand {
    CatalogCommand::CreateTopic {
        topic: id,
        name: name.to_owned(),
        partitions,
        replication: 3,
        configs: Vec::new(),
        time_ms: 1,
    }
}

fn done(catalog: &mut Catalog, id: TopicId) {
    let topic = catalog.topic(id).unwrap().clone();
    let step = catalog.pending_step(&topic).unwrap().done();
    let Command::Catalog(step) = step else { panic!("a step ends in the catalog") };
    catalog.apply(step).unwrap();
}

fn placed(catalog: &Catalog, id: TopicId) -> Vec<u32> {
    catalog.topic(id).unwrap().partition_shards.iter().map(|shard| shard.0).collect()
}

#[test]
fn nothing_is_done_before_the_cluster_is_founded() {
    let early = Catalog::default().apply(pool(3, 3));
    assert_eq!(early, Err(Refusal::Misplaced("the cluster is not founded")));
}

#[test]
fn the_first_pool_gets_the_slots_and_a_second_call_changes_nothing() {
    let mut catalog = founded();
    let before = catalog.clone();
    let ids = vec![ShardId(1), ShardId(2), ShardId(3)];
    assert_eq!(catalog.apply(pool(3, 9)), Ok(Reply::Pool(ids)));
    assert_eq!(catalog, before);
    catalog.apply(pool(1, 2)).unwrap();
    assert_eq!(catalog.pool(1).unwrap().shards, [ShardId(4), ShardId(5)]);
    assert_eq!(catalog.slot_shard(0), Some(ShardId(1)));
    assert_eq!(catalog.slot_shard(4), Some(ShardId(2)));
}

#[test]
fn a_pool_on_unknown_or_repeated_nodes_is_refused() {
    assert!(founded().apply(pool(4, 1)).is_err(), "there are three nodes");
    let CatalogCommand::CreatePool { mut shards, .. } = pool(2, 1) else { panic!("a pool") };
    shards[0].0[1].node = NodeId(1);
    assert!(founded().apply(CatalogCommand::CreatePool { replication: 2, shards }).is_err());
}

#[test]
fn topics_go_on_where_the_last_one_ended() {
    let mut catalog = founded();
    catalog.apply(create(topic(1), "a", 2)).unwrap();
    catalog.apply(create(topic(2), "b", 2)).unwrap();
    assert_eq!(placed(&catalog, topic(1)), [1, 2]);
    assert_eq!(placed(&catalog, topic(2)), [3, 1]);
    catalog.apply(CatalogCommand::AddPartitions { topic: topic(1), total: 4 }).unwrap();
    assert_eq!(placed(&catalog, topic(1)), [1, 2, 2, 3]);
    assert_eq!(catalog.topic(topic(1)).unwrap().shard_of(PartitionId(4)), None);
}

#[test]
fn creating_the_same_topic_again_is_fine_and_its_name_is_its_own() {
    let mut catalog = founded();
    let first = catalog.apply(create(topic(1), "a", 2));
    let version = catalog.metadata_version();
    assert_eq!(catalog.apply(create(topic(1), "a", 2)), first);
    assert_eq!(catalog.metadata_version(), version);
    let exists = Err(Refusal::TopicExists("a".to_owned()));
    assert_eq!(catalog.apply(create(topic(2), "a", 2)), exists);
    assert_eq!(catalog.apply(create(topic(1), "a", 3)), exists, "same id, another spec");
}

#[test]
fn a_refused_topic_leaves_no_trace() {
    let mut catalog = founded();
    let before = catalog.clone();
    assert!(catalog.apply(create(topic(1), "a", 0)).is_err());
    assert!(catalog.apply(create(topic(0), "a", 1)).is_err(), "a reserved id");
    let mut unsupported = create(topic(1), "a", 1);
    if let CatalogCommand::CreateTopic { configs, .. } = &mut unsupported {
        configs.push(("flush.ms".to_owned(), "1".to_owned()));
    }
    assert!(catalog.apply(unsupported).is_err());
    assert_eq!(catalog, before);
}

#[test]
fn a_deleted_topic_frees_its_name_at_once_and_goes_when_its_step_is_done() {
    let mut catalog = founded();
    catalog.apply(create(topic(1), "a", 2)).unwrap();
    catalog.apply(CatalogCommand::DeleteTopic { topic: topic(1) }).unwrap();
    catalog.apply(create(topic(2), "a", 1)).unwrap();
    assert_eq!(catalog.topic_named("a").unwrap().id, topic(2));
    let deleting = catalog.pending_step(&catalog.topics[&topic(1)]).unwrap();
    let closed =
        deleting.commands.iter().filter(|(_, it)| matches!(it, Command::ClosePartitions { .. }));
    assert_eq!(closed.count(), 2, "each of its shards");
    assert_eq!(deleting.commands.len(), 2 + 3, "and each shard of groups forgets it");
    done(&mut catalog, topic(1));
    assert_eq!(catalog.topic(topic(1)), None);
    let gone = catalog.apply(CatalogCommand::DeleteTopic { topic: topic(1) });
    assert_eq!(gone, Err(Refusal::NoTopic(topic(1))));
}

#[test]
fn the_end_of_an_older_step_does_not_hide_a_newer_change() {
    let mut catalog = founded();
    catalog.apply(create(topic(1), "a", 1)).unwrap();
    let ops = vec![("retention.ms".to_owned(), Some("1000".to_owned()))];
    let alter = CatalogCommand::AlterTopic { topic: topic(1), ops, expected_version: Some(1) };
    catalog.apply(alter.clone()).unwrap();
    catalog.apply(CatalogCommand::TopicStep { topic: topic(1), version: 1 }).unwrap();
    assert_eq!(catalog.topic(topic(1)).unwrap().phase, TopicPhase::Creating);
    assert_eq!(catalog.unfinished_steps().count(), 1);
    done(&mut catalog, topic(1));
    assert_eq!(catalog.topic(topic(1)).unwrap().phase, TopicPhase::Ready);
    assert_eq!(catalog.topic(topic(1)).unwrap().config.retention_ms, Some(1_000));
    assert_eq!(catalog.apply(alter), Err(Refusal::VersionMismatch { actual: 2 }));
    assert_eq!(catalog.unfinished_steps().count(), 0);
}

#[test]
fn producer_ids_are_salted_and_never_given_twice() {
    let mut catalog = founded();
    let run = CatalogCommand::AllocateProducerIds { node: NodeId(1), count: 1_000 };
    let first = 5 << 40;
    assert_eq!(catalog.apply(run.clone()), Ok(Reply::ProducerIds { first, count: 1_000 }));
    let second = catalog.apply(run.clone());
    assert_eq!(second, Ok(Reply::ProducerIds { first: first + 1_000, count: 1_000 }));
    catalog.next_producer = (1 << 40) - 999;
    assert!(catalog.apply(run).is_err(), "a run is whole or refused");
}

#[test]
fn only_a_replica_of_a_born_shard_becomes_its_preferred_leader() {
    let mut catalog = founded();
    let prefer =
        |shard, node| CatalogCommand::PreferLeader { shard: ShardId(shard), node: NodeId(node) };
    assert!(
        catalog.apply(prefer(1, 2)).is_err(),
        "while it is unborn one node alone may initialize it"
    );
    catalog.apply(CatalogCommand::ShardBorn { shard: ShardId(1) }).unwrap();
    let before = catalog.metadata_version();
    assert_eq!(catalog.apply(prefer(1, 2)), Ok(Reply::Done));
    assert_eq!(catalog.shard(ShardId(1)).unwrap().initializer, NodeId(2));
    assert_eq!(catalog.metadata_version(), before);
    assert!(catalog.apply(prefer(1, 9)).is_err());
    assert!(catalog.apply(prefer(77, 1)).is_err());
}

fn on(node: u32, incarnation: u32) -> ReplicaId {
    ReplicaId { node: NodeId(node), incarnation }
}

fn admit(node: u32, journal: u64) -> CatalogCommand {
    CatalogCommand::AdmitDisk { node: NodeId(node), journal }
}

fn replaced(shard: u32, replica: ReplicaId) -> CatalogCommand {
    CatalogCommand::ReplicaReplaced { shard: ShardId(shard), replica }
}

#[test]
fn an_empty_disk_gets_an_incarnation_that_no_replica_of_its_node_ever_had() {
    let mut catalog = founded();
    // The pool's replicas are of incarnation 1.
    assert_eq!(catalog.apply(admit(2, 77)), Ok(Reply::Incarnation(2)));
    assert_eq!(catalog.apply(admit(2, 77)), Ok(Reply::Incarnation(2)), "the same disk again");
    assert_eq!(catalog.disk_of(NodeId(2)), 2);
    for shard in 0..=3 {
        assert_eq!(catalog.replica_on(ShardId(shard), NodeId(2)), Some(on(2, 2)));
        assert_eq!(
            catalog.replica_on(ShardId(shard), NodeId(1)).map(|it| it.node),
            Some(NodeId(1))
        );
    }
    assert_eq!(catalog.swap(ShardId(0), NodeId(2)), Some(Swap { old: 0, new: 2 }));
    assert_eq!(catalog.swap(ShardId(3), NodeId(2)), Some(Swap { old: 1, new: 2 }));
    assert_eq!(catalog.apply(admit(2, 78)), Ok(Reply::Incarnation(3)), "the next disk");
    assert_eq!(catalog.swap(ShardId(3), NodeId(2)), Some(Swap { old: 1, new: 3 }));
    assert!(catalog.apply(admit(9, 1)).is_err(), "not of this cluster");
}

#[test]
fn a_swap_is_over_when_the_shard_says_so_and_only_then() {
    let mut catalog = founded();
    catalog.apply(admit(2, 77)).unwrap();
    catalog.apply(replaced(3, on(2, 1))).unwrap();
    assert_eq!(catalog.swaps().count(), 4, "news of another incarnation");
    let entry = |catalog: &Catalog| catalog.shard(ShardId(3)).unwrap().replicas.clone();
    assert!(entry(&catalog).contains(&on(2, 1)));
    catalog.apply(replaced(3, on(2, 2))).unwrap();
    catalog.apply(replaced(3, on(2, 2))).unwrap();
    assert!(entry(&catalog).contains(&on(2, 2)) && !entry(&catalog).contains(&on(2, 1)));
    catalog.apply(replaced(0, on(2, 2))).unwrap();
    assert_eq!(catalog.replica_on(ShardId(0), NodeId(2)), Some(on(2, 2)));
    assert_eq!(catalog.swaps().count(), 2);
}

#[test]
fn one_replica_is_replaced_alone_and_asking_again_changes_nothing() {
    let mut catalog = founded();
    let replace = |shard, old| {
        let shard = ShardId(shard);
        CatalogCommand::ReplaceReplica { shard, old, votes: false }
    };
    assert_eq!(catalog.apply(replace(2, on(3, 1))), Ok(Reply::Incarnation(2)));
    let before = catalog.clone();
    assert_eq!(catalog.apply(replace(2, on(3, 1))), Ok(Reply::Incarnation(2)));
    assert_eq!(catalog, before);
    assert_eq!(catalog.apply(replace(2, on(3, 2))), Ok(Reply::Incarnation(3)), "the learner too");
    assert_eq!(catalog.swap(ShardId(2), NodeId(3)), Some(Swap { old: 1, new: 3 }));
    assert_eq!(catalog.disk_of(NodeId(3)), 0, "its disk is the same");
    assert!(catalog.apply(replace(2, on(3, 9))).is_err(), "never given");
    assert!(catalog.apply(replace(77, on(3, 1))).is_err(), "no such shard");
    assert_eq!(catalog.apply(replace(0, on(3, 0))), Ok(Reply::Incarnation(4)));
}

/// Whether a voter of shard 2, and one of shard 0, is replaced while another one is being replaced.
fn a_second_voter_is_replaced() -> [bool; 2] {
    let mut catalog = founded();
    let replace = |shard, old| {
        let shard = ShardId(shard);
        CatalogCommand::ReplaceReplica { shard, old, votes: true }
    };
    [(2, 1), (0, 0)].map(|(shard, incarnation)| {
        let (one, other) = (on(3, incarnation), on(2, incarnation));
        catalog.apply(replace(shard, one)).unwrap();
        let verdict = catalog.apply(replace(shard, other));
        // What was given is told again, also where another one is gone by then.
        assert!(matches!(catalog.apply(replace(shard, one)), Ok(Reply::Incarnation(_))));
        verdict != Err(Refusal::NoMajorityWithout)
    })
}

#[test]
fn a_voter_is_replaced_only_while_its_shard_has_a_majority_without_it() {
    let _sound = mutants::seclude();
    assert_eq!(a_second_voter_is_replaced(), [false; 2]);
    let mut catalog = founded();
    let asked = |old, votes| CatalogCommand::ReplaceReplica { shard: ShardId(2), old, votes };
    catalog.apply(asked(on(3, 1), true)).unwrap();
    assert!(catalog.apply(asked(on(2, 1), true)).is_err());
    assert!(catalog.apply(asked(on(2, 1), false)).is_ok(), "one that does not vote is no loss");
    let mut catalog = founded();
    catalog.apply(asked(on(3, 1), true)).unwrap();
    let done = ReplicaId { node: NodeId(3), incarnation: 2 };
    catalog.apply(CatalogCommand::ReplicaReplaced { shard: ShardId(2), replica: done }).unwrap();
    assert!(catalog.apply(asked(on(2, 1), true)).is_ok(), "the other one is whole again");
}

#[test]
fn a_majority_that_does_not_run_spares_nobody() {
    let _sound = mutants::seclude();
    let catalog = founded();
    for shard in [ShardId(0), ShardId(2)] {
        assert!(catalog.can_spare(shard, NodeId(3), |_| true));
        assert!(catalog.can_spare(shard, NodeId(3), |node| node != NodeId(3)), "it may be down");
        assert!(!catalog.can_spare(shard, NodeId(3), |node| node != NodeId(1)));
    }
}

#[test]
fn a_catalog_that_replaces_the_majority_of_a_shard_is_caught() {
    let _bug = mutants::plant("replaces-the-majority");
    assert_eq!(a_second_voter_is_replaced(), [true; 2]);
}

#[test]
fn shards_made_later_are_on_the_disks_that_there_are_then() {
    let mut catalog = founded();
    catalog.apply(admit(1, 5)).unwrap();
    catalog.apply(admit(1, 6)).unwrap();
    let Ok(Reply::Pool(made)) = catalog.apply(pool(1, 1)) else { panic!("no pool") };
    assert_eq!(catalog.shard(made[0]).unwrap().replicas, [on(1, 3)]);
    assert_eq!(catalog.swap(made[0], NodeId(1)), None);
}
