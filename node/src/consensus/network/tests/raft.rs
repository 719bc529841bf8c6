//! The network under real replicas of openraft, with a log and a state machine in memory: it elects, replicates, keeps an
//! idle leader's lease, survives broken connections, and brings a late replica up by a manifest.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::RangeBounds;

use futures::{Stream, StreamExt, future};
use openraft::async_runtime::WatchReceiver;
use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesResponse;
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftStateMachine,
};
use openraft::{Config, OptionalSend, RaftSnapshotBuilder, SnapshotPolicy};
use tokio::time::sleep;

use super::super::door::ReplicaStopped;
use super::*;
use crate::consensus::types::{Manifest, Membership};

type Raft = openraft::Raft<C, Machine>;
type Snapshot = super::super::Snapshot;
type Meta = openraft::alias::SnapshotMetaOf<C>;

#[derive(Default)]
struct LogParts {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    purged: Option<LogId>,
}

/// A log in memory that is durable at once.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<LogParts>>);

impl RaftLogReader<C> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.0.lock().unwrap().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.lock().unwrap().vote)
    }
}

impl RaftLogStorage<C> for Log {
    type LogReader = Self;
    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }
    async fn get_log_state(&mut self) -> Result<LogState<C>, io::Error> {
        let log = self.0.lock().unwrap();
        let last = log.entries.values().next_back().map(RaftEntry::log_id);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last.max(log.purged) })
    }
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.lock().unwrap().vote = Some(*vote);
        Ok(())
    }
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry));
        self.0.lock().unwrap().entries.extend(entries);
        callback.io_completed(Ok(()));
        Ok(())
    }
    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let first = last.map_or(0, |id| id.index + 1);
        self.0.lock().unwrap().entries.split_off(&first);
        Ok(())
    }
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let mut log = self.0.lock().unwrap();
        log.entries = log.entries.split_off(&(upto.index + 1));
        log.purged = Some(upto);
        Ok(())
    }
}

/// Counts bytes; its checkpoints name the files of its node.
#[derive(Clone, Default)]
struct Machine {
    applied: Arc<Mutex<(Option<LogId>, Membership)>>,
    checkpoint: Arc<Mutex<Option<(Meta, Manifest)>>>,
    manifest: Manifest,
}

impl Machine {
    fn meta(&self) -> Meta {
        let (last_log_id, last_membership) = self.applied.lock().unwrap().clone();
        Meta { last_log_id, last_membership }
    }
}

impl RaftStateMachine<C> for Machine {
    type SnapshotData = Manifest;
    type SnapshotBuilder = Self;
    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok(self.applied.lock().unwrap().clone())
    }
    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<C>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            {
                let mut applied = self.applied.lock().unwrap();
                applied.0 = Some(entry.log_id);
                if let EntryPayload::Membership(membership) = entry.payload {
                    applied.1 = Membership::new(Some(entry.log_id), membership);
                }
            }
            if let Some(responder) = responder {
                responder.send(Reply::Done);
            }
        }
        Ok(())
    }
    async fn try_create_snapshot_builder(&mut self, _: bool) -> Option<Self> {
        Some(self.clone())
    }
    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }
    async fn install_snapshot(&mut self, meta: &Meta, manifest: Bytes) -> Result<(), io::Error> {
        *self.applied.lock().unwrap() = (meta.last_log_id, meta.last_membership.clone());
        *self.checkpoint.lock().unwrap() = Some((meta.clone(), manifest));
        Ok(())
    }
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let checkpoint = self.checkpoint.lock().unwrap().clone();
        Ok(checkpoint.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

impl RaftSnapshotBuilder<C> for Machine {
    type SnapshotData = Manifest;
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let snapshot = Snapshot { meta: self.meta(), snapshot: self.manifest.clone() };
        *self.checkpoint.lock().unwrap() = Some((snapshot.meta.clone(), self.manifest.clone()));
        Ok(snapshot)
    }
}

fn config() -> Arc<Config> {
    let config = Config {
        heartbeat_interval: 300,
        election_timeout_min: 700,
        election_timeout_max: 1200,
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        backoff: "20ms 40ms 80ms 160ms".into(),
        ..Config::default()
    };
    Arc::new(config.validate().unwrap())
}

async fn start(node: &TestNode, manifest: Manifest) -> Raft {
    let id = replica(node.host.node);
    let factory = node.network.factory(ShardId(0), id);
    let machine = Machine { manifest, ..Machine::default() };
    let raft = Raft::new(RaftNode(id), config(), factory, Log::default(), machine).await.unwrap();
    let door: Arc<dyn ReplicaDoor> = Arc::new(raft.clone());
    node.host.rafts.lock().unwrap().insert(0, door);
    raft
}

async fn write(raft: &Raft, bytes: usize) -> Result<(), String> {
    let payload = Payload(Bytes::from(vec![5; bytes]));
    raft.client_write(payload).await.map(|_| ()).map_err(|error| error.to_string())
}

fn members(nodes: impl IntoIterator<Item = u32>) -> BTreeSet<RaftNode> {
    nodes.into_iter().map(|node| RaftNode(replica(node))).collect()
}

async fn three(nodes: &Nodes) -> Vec<Raft> {
    let starting = nodes.nodes.iter().map(|node| start(node, Manifest::new()));
    let rafts = future::join_all(starting).await;
    rafts[0].initialize(members(1..=3)).await.unwrap();
    let wait = rafts[0].wait(Some(Duration::from_secs(10)));
    wait.current_leader(RaftNode(replica(1)), "elected").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    rafts
}

async fn applied_everywhere(rafts: &[Raft]) {
    let last = rafts[0].metrics().borrow_watched().last_log_index;
    for raft in rafts {
        let wait = raft.wait(Some(Duration::from_secs(10)));
        wait.applied_index_at_least(last, "applied").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn three_replicas_replicate_and_an_idle_leader_keeps_its_lease() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let rafts = three(&nodes).await;
    let written = future::join_all((0..500).map(|_| write(&rafts[0], 10_000))).await;
    assert_eq!(written, vec![Ok(()); 500]);
    applied_everywhere(&rafts).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(write(&rafts[0], 10).await, Ok(()));
    assert_eq!(rafts[2].metrics().borrow_watched().current_term, 1);
}

#[tokio::test(start_paused = true)]
async fn broken_connections_cost_neither_the_leader_nor_an_entry() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let rafts = three(&nodes).await;
    for _ in 0..20 {
        let writes = future::join_all((0..50).map(|_| write(&rafts[0], 1000)));
        let cut = async {
            sleep(Duration::from_millis(1)).await;
            nodes.wires.cut();
        };
        let both = future::join(writes, cut);
        let Ok((written, ())) = tokio::time::timeout(Duration::from_secs(30), both).await else {
            for raft in &rafts {
                eprintln!("{}", *raft.metrics().borrow_watched());
            }
            panic!("stuck");
        };
        assert_eq!(written, vec![Ok(()); 50]);
    }
    applied_everywhere(&rafts).await;
    assert_eq!(rafts[2].metrics().borrow_watched().current_term, 1);
}

#[tokio::test(start_paused = true)]
async fn leadership_moves_by_a_transfer() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let rafts = three(&nodes).await;
    rafts[0].trigger().transfer_leader(RaftNode(replica(2))).await.unwrap();
    let wait = rafts[0].wait(Some(Duration::from_millis(500)));
    wait.current_leader(RaftNode(replica(2)), "moved at once").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_late_replica_pulls_a_manifest_and_goes_on_from_there() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let files = Arc::new(FakeFiles::holding(&[(0, 600_000)]));
    *nodes.node(1).host.files.lock().unwrap() = Some(Arc::clone(&files));
    let pulled = Arc::new(FakeFiles::default());
    *nodes.node(2).host.files.lock().unwrap() = Some(Arc::clone(&pulled));
    let leader = start(nodes.node(1), files.manifest()).await;
    leader.initialize(members([1])).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    for _ in 0..20 {
        write(&leader, 10).await.unwrap();
    }
    leader.trigger().snapshot().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let checkpoint = leader.metrics().borrow_watched().snapshot.unwrap().index;
    leader.trigger().purge_log(checkpoint).await.unwrap();
    let late = start(nodes.node(2), Manifest::new()).await;
    leader.add_learner(RaftNode(replica(2)), EmptyNode {}, false).await.unwrap();
    write(&leader, 10).await.unwrap();
    applied_everywhere(&[leader, late.clone()]).await;
    assert_eq!(*pulled.segments.lock().unwrap(), *files.segments.lock().unwrap());
    assert_eq!(late.metrics().borrow_watched().snapshot.unwrap().index, checkpoint);
}

#[tokio::test(start_paused = true)]
async fn an_idle_leader_without_heartbeats_that_end_loses_its_lease() {
    let _planted = crate::mutants::plant("heartbeat-stream-never-ends");
    let nodes = Nodes::start(&NetworkOptions::default());
    let rafts = three(&nodes).await;
    sleep(Duration::from_secs(60)).await;
    assert!(write(&rafts[0], 10).await.is_err());
}

/// What a follower answers to a manifest that ends within its log, and to the entry that follows the log afterwards. It knows of
/// no commit.
async fn offered_what_its_log_has() -> Result<(), String> {
    let nodes = Nodes::start(&NetworkOptions::default());
    let follower = start(nodes.node(2), Manifest::new()).await;
    let door: &dyn ReplicaDoor = &follower;
    let told = |error: ReplicaStopped| error.to_string();
    for index in 0..=5 {
        let answer = door.append_entries(append(index, 10)).await.map_err(told)?;
        assert!(matches!(answer, AppendEntriesResponse::Success), "{index}: {answer:?}");
    }
    let meta = Meta { last_log_id: Some(log_id(3)), ..Meta::default() };
    let snapshot = Snapshot { meta, snapshot: Manifest::new() };
    let answer = door.install(leader_vote(1), snapshot).await.map_err(told)?;
    assert_eq!(answer.vote, leader_vote(1));
    let answer = door.append_entries(append(6, 10)).await.map_err(told)?;
    assert!(matches!(answer, AppendEntriesResponse::Success), "{answer:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_manifest_of_which_the_log_has_come_to_hold_all_is_not_installed() {
    let _sound = sound();
    assert_eq!(offered_what_its_log_has().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_is_installed_below_the_end_of_the_log_is_caught() {
    let _planted = crate::mutants::plant("installs-what-the-log-has");
    assert!(offered_what_its_log_has().await.is_err());
}
