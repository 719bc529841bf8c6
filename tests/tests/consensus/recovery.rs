//! Shards that lost most of their replicas (S11): by themselves they wait, and an operator lets them go on with what is left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use waymark_node::consensus::{Fate, Ground, Identity, NetworkOptions, Recovery, RecoveryError};
use waymark_node::mutants;
use waymark_node::storage::journal::{Expected, Journal};
use waymark_node::storage::real_disk::RealDisk;
use waymark_node::storage::shard_store::Store;
use waymark_node::storage::tables::MemoryTables;
use waymark_proto::ids::{NodeId, ShardId};
use waymark_proto::transport::TcpDial;

use crate::cluster::{Cluster, options, store_options};
use crate::journal_damage::put_in_doubt;

const SHARD: ShardId = ShardId(1);
const KEYS: i32 = 40;
const TRIES: usize = 8;

/// What an operator does on a node that is down; with `accept`, all that may be recovered is.
fn recover(
    cluster: &Cluster,
    node: u32,
    gone: &[u32],
    accept: bool,
) -> Vec<Result<Recovery, RecoveryError>> {
    let gone: BTreeSet<NodeId> = gone.iter().map(|node| NodeId(*node)).collect();
    let folder = cluster.folder(node);
    // The journal's flusher is a task of its own.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let disk = Arc::new(RealDisk::open(folder).unwrap());
        let identity = Identity::load(disk.as_ref()).await.unwrap().unwrap();
        let options = waymark_node::storage::journal::JournalOptions {
            expected: Expected::Existing,
            ..cluster.journal.clone()
        };
        let journal = Journal::open(disk.clone(), options).await.unwrap();
        let tables = Arc::new(MemoryTables::default());
        let store = Store::open(disk, tables, store_options()).await.unwrap();
        let ground = Ground {
            identity: &identity,
            journal: &journal,
            store: &store,
            nodes: &cluster.configured,
            dial: Arc::new(TcpDial),
            network: NetworkOptions::default(),
        };
        let shards: BTreeSet<ShardId> = journal.keys().iter().map(|key| key.shard).collect();
        let mut outcomes = Vec::new();
        for shard in shards {
            let looked = Recovery::look(&ground, shard, &gone).await;
            if let (Ok(recovery), true) = (&looked, accept) {
                recovery.go_on().await.unwrap();
            }
            outcomes.push(looked);
        }
        journal.shutdown().await;
        outcomes
    })
}

fn of_shard(looked: &[Result<Recovery, RecoveryError>]) -> &Recovery {
    let of_shard = looked.iter().flatten().find(|it| it.shard == SHARD);
    of_shard.unwrap_or_else(|| panic!("it may not be recovered: {looked:?}"))
}

/// A cluster of which nodes 2 and 3 run again, after damage that leaves their replicas of the shard in doubt. Where the last
/// flush happens to tell how the shard's log ends, damage before it does not; then with another cluster.
fn with_two_in_doubt(before: impl Fn(&mut Cluster)) -> Cluster {
    for _ in 0..TRIES {
        let mut cluster = full();
        before(&mut cluster);
        for node in [2, 3] {
            cluster.kill(node);
            put_in_doubt(&cluster, node);
        }
        for node in [2, 3] {
            cluster.start(node).unwrap();
        }
        let is_doubtful = |node| {
            let doubtful = cluster.nodes[&node].journal.doubtful();
            doubtful.iter().any(|(key, _)| key.shard == SHARD)
        };
        if is_doubtful(2) && is_doubtful(3) {
            return cluster;
        }
    }
    panic!("the last flush has told how the shard's log ends, {TRIES} times");
}

/// A cluster in which every node has every key.
fn full() -> Cluster {
    let cluster = Cluster::running(3, options());
    for key in 0..KEYS {
        cluster.commit(SHARD, key, 1).unwrap();
    }
    cluster.wait("all have everything", |cluster| (1..=3).all(|node| has_all(cluster, node)));
    cluster
}

fn has_all(cluster: &Cluster, node: u32) -> bool {
    (0..KEYS).all(|key| cluster.committed(node, SHARD, key) == Some(1))
}

fn is_back(cluster: &Cluster, node: u32) -> bool {
    let shard = cluster.nodes[&node].consensus.shard(SHARD);
    shard.is_some_and(|it| it.replica().incarnation > 0) && has_all(cluster, node)
}

fn takes_commits(cluster: &Cluster) -> bool {
    cluster.commit_within(SHARD, KEYS, 1, Duration::from_secs(1)).is_ok()
}

#[test]
fn a_shard_whose_other_replicas_are_both_in_doubt_goes_on_with_the_sound_one_once_somebody_says_so()
{
    let _sound = mutants::seclude();
    let mut cluster = with_two_in_doubt(|_| ());
    cluster.block_on(async { tokio::time::sleep(Duration::from_secs(2)).await });
    assert!(!takes_commits(&cluster), "a shard without a majority takes commits");
    cluster.kill(1);
    let looked = recover(&cluster, 1, &[], false);
    let of_shard = of_shard(&looked);
    let lost = of_shard.voters.values().filter(|fate| matches!(fate, Fate::Lost { .. }));
    assert_eq!(lost.count(), 2, "{:?}", of_shard.voters);
    assert_eq!(of_shard.lost_up_to(), None);
    recover(&cluster, 1, &[], true);
    cluster.start(1).unwrap();
    cluster.wait("it takes commits with what node 1 has", takes_commits);
    assert!(has_all(&cluster, 1));
    cluster.wait("the others are back under new ids", |cluster| {
        is_back(cluster, 2) && is_back(cluster, 3)
    });
    cluster.wait("a majority without node 1", |cluster| {
        let shard0 = cluster.nodes[&1].consensus.shard(ShardId::CATALOG).unwrap();
        shard0.read(|state| state.catalog().unwrap().swaps().next().is_none())
    });
    cluster.kill(1);
    cluster.wait("it takes commits without node 1", takes_commits);
}

#[test]
fn nodes_that_are_gone_are_left_behind_when_somebody_says_so_and_come_back_empty() {
    let _sound = mutants::seclude();
    let mut cluster = full();
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.wipe(2);
    cluster.wipe(3);
    let unasked =
        |it: &Result<Recovery, RecoveryError>| matches!(it, Err(RecoveryError::Unasked { .. }));
    assert!(recover(&cluster, 1, &[], true).iter().all(unasked));
    assert!(recover(&cluster, 1, &[2, 3], true).iter().all(Result::is_ok));
    cluster.start(1).unwrap();
    cluster.wait("it takes commits with what node 1 has", takes_commits);
    assert!(has_all(&cluster, 1));
    for node in [2, 3] {
        cluster.start(node).unwrap();
    }
    cluster.wait("the others are back under new ids", |cluster| {
        is_back(cluster, 2) && is_back(cluster, 3)
    });
}

#[test]
fn what_only_the_lost_replicas_had_is_told_before_it_is_given_up() {
    let _sound = mutants::seclude();
    let cluster = with_two_in_doubt(|cluster| {
        cluster.kill(1);
        for key in KEYS..2 * KEYS {
            cluster.commit(SHARD, key, 1).unwrap();
        }
    });
    let answers = |it: &Result<Recovery, RecoveryError>| matches!(it, Err(RecoveryError::NotGone(node)) if *node == NodeId(3));
    assert!(recover(&cluster, 1, &[3], true).iter().all(answers), "a node that answers is gone");
    let looked = recover(&cluster, 1, &[], false);
    let of_shard = of_shard(&looked);
    let lost_up_to = of_shard.lost_up_to().expect("node 1 has less than the others");
    assert!(lost_up_to > of_shard.last.index + 10, "{lost_up_to}, {:?}", of_shard.last);
}

#[test]
fn a_shard_is_recovered_where_the_newest_of_its_sound_replicas_is() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::running(5, options());
    cluster.kill(1);
    // Every node has a replica of the catalog.
    cluster.wait("node 2 has an entry that node 1 lacks", |cluster| {
        let time = Duration::from_secs(1);
        let committed = cluster.commit_within(ShardId::CATALOG, 0, 1, time);
        let applied = cluster.nodes[&2].consensus.shard(ShardId::CATALOG);
        let applied = applied.and_then(|shard| shard.applied_index());
        committed.is_ok_and(|committed| applied >= Some(committed.at.index))
    });
    for node in 2..=5 {
        cluster.kill(node);
    }
    for node in 3..=5 {
        cluster.wipe(node);
    }
    cluster.start(2).unwrap();
    let of_catalog = &recover(&cluster, 1, &[3, 4, 5], true)[0];
    let other = |it: &RecoveryError| matches!(it, RecoveryError::OtherHasMore { node, .. } if *node == NodeId(2));
    assert!(of_catalog.as_ref().is_err_and(other), "{of_catalog:?}");
    cluster.start(1).unwrap();
    cluster.kill(2);
    let of_catalog = &recover(&cluster, 2, &[3, 4, 5], true)[0];
    let of_catalog = of_catalog.as_ref().expect("it is recovered where more is");
    let sound = of_catalog.voters.values().filter(|it| matches!(it, Fate::Sound { .. }));
    assert_eq!(sound.count(), 1, "{:?}", of_catalog.voters);
    cluster.start(2).unwrap();
    cluster.wait("both go on", |cluster| {
        cluster.commit_within(ShardId::CATALOG, 1, 1, Duration::from_secs(1)).is_ok()
    });
}

/// Whether shards that have a majority of sound replicas could be recovered all the same.
fn well_shards_are_recovered() -> bool {
    let mut cluster = full();
    cluster.kill(1);
    recover(&cluster, 1, &[], false).iter().any(Result::is_ok)
}

#[test]
fn a_shard_that_can_elect_a_leader_is_never_recovered() {
    let _sound = mutants::seclude();
    assert!(!well_shards_are_recovered());
}

#[test]
fn a_recovery_of_what_is_well_is_caught() {
    let _planted = mutants::plant("recovers-what-is-well");
    assert!(well_shards_are_recovered());
}
