//! Disks that a node must not take: another node's, a newer version's, one that lost its journal or its identity, one that
//! cannot be written. Whole nodes on the simulated disk; each refusal says what to do and leaves every byte as it was.

use std::collections::BTreeMap;
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use prost::Message;
use tokio::time::{sleep, timeout};
use waymark_node::config::Config;
use waymark_node::env::{Env, Random, SystemClock};
use waymark_node::mutants;
use waymark_node::node::{Doors, NodeError, Running};
use waymark_node::storage::disk::{Disk, OpenMode};
use waymark_node::storage::tables::MemoryTables;
use waymark_proto::ids::ShardId;
use waymark_proto::stored::StoredIdentity;
use waymark_proto::transport::{Connecting, Dial};
use waymark_tests::disk::{Faults, SimDisk};

use crate::model::simulated;

const PATIENCE: Duration = Duration::from_secs(30);

/// Nobody is there.
#[derive(Debug)]
struct Nobody;

impl Dial for Nobody {
    fn connect(&self, _: &str) -> Connecting {
        Box::pin(ready(Err(io::ErrorKind::ConnectionRefused.into())))
    }
}

/// A node that is a cluster of its own.
fn settings(node: u32) -> Config {
    let text = format!(
        "[node]\nid = {node}\n[journal]\nfile_bytes = \"1 MiB\"\nflush_bytes = \"64 KiB\"\n[broker]\nentry_bytes = \"16 KiB\"\n\
         [cluster]\nshards_per_node = 1\n\
         [[cluster.nodes]]\nid = {node}\nclient = \"here:7001\"\npeer = \"here:7101\"\n"
    );
    Config::parse(&text, []).unwrap()
}

async fn start(disk: &SimDisk, node: u32) -> Result<Running, NodeError> {
    let env = Env {
        clock: Arc::new(SystemClock),
        random: Arc::new(Random::seeded(node.into())),
        disk: Arc::new(disk.attach()),
        tables: Arc::new(MemoryTables::default()),
        dial: Arc::new(Nobody),
    };
    let nobody = || stream::pending().boxed();
    let doors = Doors { client: nobody(), peer: nobody(), metrics: None };
    Running::start(&settings(node), env, doors).await
}

/// Runs a node until it serves, and stops it.
async fn live(disk: &SimDisk, node: u32) {
    let running = start(disk, node).await.unwrap();
    let serving = async {
        while !running.consensus().shard(ShardId(1)).is_some_and(|it| it.leadership().ready) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, serving).await.unwrap();
    running.run_until(ready(())).await.unwrap();
}

/// The disk of a node that ran once.
async fn born(node: u32) -> SimDisk {
    let disk = SimDisk::new(node.into());
    live(&disk, node).await;
    disk
}

async fn read(disk: &SimDisk, path: &str) -> Bytes {
    let file = disk.attach().open(path, OpenMode::Read).await.unwrap();
    let len = usize::try_from(file.len().await.unwrap()).unwrap();
    file.read_at(0, len).await.unwrap()
}

async fn write(disk: &SimDisk, path: &str, bytes: Bytes) {
    let file = disk.attach().open(path, OpenMode::Write).await.unwrap();
    file.set_len(0).await.unwrap();
    file.write_at(0, vec![bytes]).await.unwrap();
}

async fn all_bytes(disk: &SimDisk) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    for (path, _) in disk.files() {
        let bytes = read(disk, &path).await;
        all.insert(path, bytes);
    }
    all
}

/// Why a node does not start; it must have left the disk as it was.
async fn refusal(disk: &SimDisk, node: u32) -> String {
    let before = all_bytes(disk).await;
    let Err(error) = start(disk, node).await else { panic!("the disk was taken") };
    assert!(all_bytes(disk).await == before, "{error}, yet something was written");
    error.to_string()
}

fn names(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

/// The journal's files.
fn journal(disk: &SimDisk) -> Vec<String> {
    let files = disk.files().into_iter().map(|it| it.0);
    files.filter(|path| path.starts_with("journal/")).collect()
}

async fn identity(disk: &SimDisk) -> StoredIdentity {
    StoredIdentity::decode(&read(disk, "identity").await[4..]).unwrap()
}

async fn set_identity(disk: &SimDisk, identity: &StoredIdentity) {
    let body = identity.encode_to_vec();
    let crc = crc32c::crc32c(&body).to_le_bytes();
    write(disk, "identity", [&crc[..], &body].concat().into()).await;
}

#[test]
fn a_disk_of_another_node_is_refused_before_anything_is_written() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = born(1).await;
        names(&refusal(&disk, 2).await, &["belongs to node 1", "node.data", "node.id"]);
        live(&disk, 1).await;
    });
}

#[test]
fn an_identity_of_a_newer_version_is_refused_by_version() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = born(1).await;
        let ours = identity(&disk).await;
        set_identity(&disk, &StoredIdentity { format_version: 4, ..ours.clone() }).await;
        names(
            &refusal(&disk, 1).await,
            &["identity has format 4", "up to 3", "start that version"],
        );
        set_identity(&disk, &ours).await;
        live(&disk, 1).await;
    });
}

#[test]
fn an_identity_of_format_one_is_named_its_journal_by_the_next_start() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = born(1).await;
        let ours = identity(&disk).await;
        let old = StoredIdentity { format_version: 1, journal: 0, ..ours.clone() };
        set_identity(&disk, &old).await;
        live(&disk, 1).await;
        assert_eq!(identity(&disk).await, ours);
        set_identity(&disk, &old).await;
        for path in journal(&disk) {
            disk.attach().remove(&path).await.unwrap();
        }
        names(&refusal(&disk, 1).await, &["journal of this node is lost"]);
    });
}

/// Empties a node's journal and starts the node. What does it say, and did it leave everything else as it was?
fn without_journal() -> (String, bool) {
    simulated(async {
        let disk = born(1).await;
        for path in journal(&disk) {
            disk.attach().remove(&path).await.unwrap();
        }
        let before = all_bytes(&disk).await;
        let said = start(&disk, 1).await.map_or_else(|error| error.to_string(), |_| String::new());
        (said, all_bytes(&disk).await == before)
    })
}

#[test]
fn a_node_whose_journal_was_emptied_does_not_run_on_under_its_old_replica_ids() {
    let _sound = mutants::seclude();
    let (text, unchanged) = without_journal();
    names(&text, &["\"journal\"", "voted and acknowledged", "never an older copy", "replaced"]);
    assert!(unchanged);
}

#[test]
fn a_node_that_bears_a_lost_journal_again_is_caught() {
    let _bug = mutants::plant("lost-journal-is-born");
    assert_eq!(without_journal(), (String::new(), false), "it runs, and has a new journal");
}

#[test]
fn the_journal_of_another_node_in_its_place_is_refused() {
    let _sound = mutants::seclude();
    simulated(async {
        let (disk, other) = (born(1).await, born(2).await);
        for path in journal(&disk) {
            disk.attach().remove(&path).await.unwrap();
        }
        for path in journal(&other) {
            write(&disk, &path, read(&other, &path).await).await;
        }
        names(&refusal(&disk, 1).await, &["another node", "put this node's own folder back"]);
    });
}

#[test]
fn a_disk_that_lost_its_identity_is_not_taken_for_an_empty_one() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = born(1).await;
        let attached = disk.attach();
        attached.remove("identity").await.unwrap();
        names(&refusal(&disk, 1).await, &["no identity", "\"identity\"", "replaced"]);
        for path in journal(&disk) {
            attached.remove(&path).await.unwrap();
        }
        names(&refusal(&disk, 1).await, &["no identity", "\"journal\"", "replaced"]);
        // Nothing is left to refuse: as one of several nodes it would hear from its peers what it lost.
        attached.remove_dir("shards").await.unwrap();
        live(&disk, 1).await;
    });
}

#[test]
fn a_disk_that_cannot_be_written_is_refused() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = born(1).await;
        disk.set_faults(Faults { read_only: true, ..Faults::default() });
        names(&refusal(&disk, 1).await, &["journal", "Read-only file system"]);
        let empty = SimDisk::new(9);
        empty.set_faults(Faults { read_only: true, ..Faults::default() });
        names(&refusal(&empty, 1).await, &["journal", "Read-only file system"]);
        disk.set_faults(Faults::default());
        live(&disk, 1).await;
    });
}
