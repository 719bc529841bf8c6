//! Damage to the journal of one node of three (S11): what is certain is mended from peers before a replica runs or a read
//! returns, what is not keeps the replica from running, and everything else serves.

use std::path::PathBuf;
use std::time::Duration;

use waymark_node::mutants;
use waymark_proto::ids::ShardId;

use crate::cluster::{Cluster, options};

const SHARD: ShardId = ShardId(1);
const BLOCK: usize = 4096;
const KEYS: i32 = 60;

/// The newest file of a node's journal that holds anything.
fn journal_file(cluster: &Cluster, node: u32) -> PathBuf {
    let folder = cluster.folder(node).join("journal");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let holds = |path: &PathBuf| flushes(&std::fs::read(path).unwrap()).len();
    files.max_by_key(holds).unwrap()
}

/// Where flushes begin.
fn flushes(bytes: &[u8]) -> Vec<usize> {
    let blocks = (0..bytes.len()).step_by(BLOCK);
    blocks.filter(|at| bytes[*at..].starts_with(b"WAYMARKJ")).collect()
}

/// A cluster with records in flushes of their own, and node 3 down.
fn with_a_node_down() -> Cluster {
    let mut cluster = Cluster::running(3, options());
    for key in 0..KEYS {
        cluster.commit(SHARD, key, 1).unwrap();
    }
    cluster.wait("node 3 has everything", |cluster| has_all(cluster, 3));
    cluster.kill(3);
    cluster
}

fn has_all(cluster: &Cluster, node: u32) -> bool {
    (0..KEYS).all(|key| cluster.committed(node, SHARD, key) == Some(1))
}

/// Flips a bit of a payload in every third flush that has one, but the newest ones.
fn rot_payloads(cluster: &Cluster) -> usize {
    let path = journal_file(cluster, 3);
    let mut bytes = std::fs::read(&path).unwrap();
    let starts = flushes(&bytes);
    let payload = |start: &usize| {
        let body = &bytes[*start..(*start + BLOCK).min(bytes.len())];
        body.windows(64).position(|it| it == [b'x'; 64]).map(|at| start + at)
    };
    let payloads: Vec<usize> = starts.iter().filter_map(payload).collect();
    let hurt: Vec<usize> = payloads.iter().rev().skip(6).step_by(3).copied().collect();
    hurt.iter().for_each(|at| bytes[at + 30] ^= 4);
    std::fs::write(&path, bytes).unwrap();
    hurt.len()
}

#[test]
fn entries_that_damage_took_are_fetched_before_the_replica_runs() {
    let _sound = mutants::seclude();
    let mut cluster = with_a_node_down();
    let hurt = rot_payloads(&cluster);
    assert!(hurt > 5, "{hurt} flushes hurt");
    cluster.start(3).unwrap();
    cluster.wait("node 3 has everything again", |cluster| has_all(cluster, 3));
    let journal = cluster.nodes[&3].journal.clone();
    assert_eq!(journal.damage().len(), hurt);
    assert!(journal.numbers().mended.get() >= hurt as u64, "{:?}", journal.numbers());
    assert_eq!(cluster.nodes[&3].consensus.troubles(), []);
    // It votes and leads as ever.
    cluster.kill(1);
    cluster.wait("a leader without node 1", |cluster| cluster.leader(SHARD).is_some());
    cluster.commit(SHARD, KEYS, 1).unwrap();
    cluster.kill(3);
    cluster.start(3).unwrap();
    cluster.wait("what was mended stays", |cluster| has_all(cluster, 3));
    assert_eq!(cluster.nodes[&3].journal.numbers().mended.get(), 0);
}

#[test]
fn a_replica_waits_for_a_peer_that_has_what_it_lacks() {
    let _sound = mutants::seclude();
    let mut cluster = with_a_node_down();
    rot_payloads(&cluster);
    cluster.kill(1);
    cluster.kill(2);
    cluster.start(3).unwrap();
    let waits = |cluster: &Cluster| {
        let troubles = cluster.nodes[&3].consensus.troubles();
        troubles.iter().any(|it| it.shard == SHARD && it.what.contains("waits for peers"))
    };
    cluster.wait("node 3 says what it waits for", waits);
    assert!(cluster.nodes[&3].consensus.shard(SHARD).is_none(), "it runs with holes");
    cluster.start(1).unwrap();
    cluster.wait("node 3 has everything again", |cluster| has_all(cluster, 3));
}

/// Keys of which an offset is committed while node 3 lacks its replicas.
const COMMITTED_LATE: i32 = 5;

/// Takes all flushes of a node that is down after the tenth but the last.
pub(crate) fn put_in_doubt(cluster: &Cluster, node: u32) {
    let path = journal_file(cluster, node);
    let mut bytes = std::fs::read(&path).unwrap();
    let starts = flushes(&bytes);
    bytes[starts[10]..starts[starts.len() - 1]].fill(0);
    std::fs::write(&path, bytes).unwrap();
}

/// Puts node 3 in doubt, and says which of its replicas run under their ids all the same after a start.
fn run_in_doubt() -> (Cluster, Vec<ShardId>) {
    let mut cluster = with_a_node_down();
    put_in_doubt(&cluster, 3);
    cluster.start(3).unwrap();
    let doubtful = cluster.nodes[&3].journal.doubtful();
    assert!(doubtful.len() >= 2, "{doubtful:?}");
    for key in 0..COMMITTED_LATE {
        cluster.commit(SHARD, key, 2).unwrap();
    }
    cluster.block_on(async { tokio::time::sleep(Duration::from_secs(1)).await });
    let running = cluster.nodes[&3].consensus.shards();
    let old = running.iter().filter(|shard| shard.replica().incarnation == 0);
    let old = old.map(|shard| shard.id()).collect();
    (cluster, old)
}

#[test]
fn a_replica_whose_vote_is_in_doubt_comes_back_under_another_id_and_the_others_serve() {
    let _sound = mutants::seclude();
    let (mut cluster, old) = run_in_doubt();
    assert_eq!(old, []);
    let is_back = |cluster: &Cluster| {
        let shard = cluster.nodes[&3].consensus.shard(SHARD);
        let all = (0..KEYS).all(|key| {
            cluster.committed(3, SHARD, key) == Some(if key < COMMITTED_LATE { 2 } else { 1 })
        });
        shard.is_some_and(|it| it.replica().incarnation > 0) && all
    };
    cluster.wait("node 3 has everything again", is_back);
    cluster.kill(3);
    cluster.start(3).unwrap();
    cluster.wait("node 3 has it after another start, too", is_back);
}

#[test]
fn a_doubtful_replica_that_runs_is_found() {
    let _planted = mutants::plant("doubtful-votes");
    assert_ne!(run_in_doubt().1, []);
}

/// Flips a bit of the newest payload in a node's journal while the node runs.
fn rot_the_newest_payload(cluster: &Cluster, node: u32) {
    let path = journal_file(cluster, node);
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(64).rposition(|it| it == [b'x'; 64]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[b'x' ^ 4], at as u64).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_read_that_meets_damage_fetches_the_entry_and_the_leader_leads_on() {
    let _sound = mutants::seclude();
    let mut cluster = Cluster::of(3, options());
    cluster.journal.cache_bytes = 0;
    for node in 1..=3 {
        cluster.start(node).unwrap();
    }
    cluster.wait_until_born();
    cluster.wait("node 1 leads", |cluster| cluster.leader(SHARD) == Some(1));
    let term = cluster.nodes[&1].consensus.shard(SHARD).unwrap().leadership().term;
    let mended = |cluster: &Cluster| cluster.nodes[&1].journal.numbers().mended.get();
    // The stream to the node that is down may hold the entry from before the damage; then nothing reads it.
    for round in 1..=10 {
        cluster.kill(3);
        for key in 0..KEYS {
            cluster.commit(SHARD, key, round).unwrap();
        }
        rot_the_newest_payload(&cluster, 1);
        cluster.start(3).unwrap();
        let has_it = |cluster: &Cluster| cluster.committed(3, SHARD, KEYS - 1) == Some(round);
        cluster.wait("node 3 has everything", has_it);
        if mended(&cluster) > 0 {
            break;
        }
    }
    assert!(mended(&cluster) > 0, "no read met the damage");
    let now = cluster.nodes[&1].consensus.shard(SHARD).unwrap().leadership();
    assert!(now.ready && now.term == term, "{now:?}, was of term {term}");
}
