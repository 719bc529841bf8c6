//! Owns the processes of one cluster: their settings, starts, deaths and logs. A failed test prints the end of each log.

use std::fmt::Write;
use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use waymark_client::{Client, ClientConfig, NewTopic, PartitionDescription};
use waymark_proto::transport::{Purpose, TcpDial, channel};

use crate::sharing::{Turn, free_ports};

pub(crate) const NODES: u32 = 3;
pub(crate) const TOPIC: &str = "orders";
/// A debug build on a busy machine; a healthy cluster needs a fraction of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LAST_LINES: usize = 25;

pub(crate) struct Cluster {
    folder: TempDir,
    ports: Vec<(u16, u16)>,
    metrics_ports: Vec<u16>,
    children: Vec<Option<Child>>,
    settings: &'static str,
    _turn: Turn,
}

impl Cluster {
    /// Starts three nodes with these settings besides their own, and waits until they serve.
    pub(crate) async fn start(settings: &'static str) -> Self {
        let turn = Turn::wait();
        let ports = (0..NODES).map(|_| free_ports()).map(|[client, peer]| (client, peer)).collect();
        let metrics_ports = (0..NODES).flat_map(|_| free_ports::<1>()).collect();
        let mut cluster = Self {
            folder: TempDir::new().unwrap(),
            ports,
            metrics_ports,
            children: (0..NODES).map(|_| None).collect(),
            settings,
            _turn: turn,
        };
        for node in cluster.nodes() {
            cluster.boot(node);
        }
        cluster.ready().await;
        cluster
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = u32> + use<> {
        1..=NODES
    }

    fn at(&self, node: u32) -> usize {
        usize::try_from(node).unwrap() - 1
    }

    /// Where a node serves clients.
    pub(crate) fn address(&self, node: u32) -> String {
        format!("127.0.0.1:{}", self.ports[self.at(node)].0)
    }

    /// Where a node shows its metrics.
    pub(crate) fn metrics_address(&self, node: u32) -> String {
        format!("127.0.0.1:{}", self.metrics_ports[self.at(node)])
    }

    fn path(&self, name: String) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, node: u32) -> String {
        let (client, peer) = self.ports[self.at(node)];
        let data = self.path(format!("node-{node}"));
        let mut text = format!(
            "[node]\nid = {node}\ndata = {data:?}\n[listen]\nclient = \"127.0.0.1:{client}\"\npeer = \"127.0.0.1:{peer}\"\n\
             [metrics]\naddress = {:?}\n",
            self.metrics_address(node)
        );
        for (id, (client, peer)) in (1..).zip(&self.ports) {
            write!(
                text,
                "[[cluster.nodes]]\nid = {id}\nclient = \"127.0.0.1:{client}\"\npeer = \"127.0.0.1:{peer}\"\n"
            )
            .unwrap();
        }
        text + self.settings
    }

    /// Starts a node that is down.
    pub(crate) fn boot(&mut self, node: u32) {
        let config = self.path(format!("node-{node}.toml"));
        fs::write(&config, self.config(node)).unwrap();
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(format!("node-{node}.log")))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_waymark"))
            .args(["node", "--until-stdin-closes", "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let at = self.at(node);
        self.children[at] = Some(child);
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub(crate) fn kill(&mut self, node: u32) {
        let at = self.at(node);
        let mut child = self.children[at].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What an operator does to a node that is down, with its configuration.
    pub(crate) fn operate(&self, node: u32, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
        let config = self.path(format!("node-{node}.toml"));
        command.args(arguments).arg("--config").arg(config).stdin(Stdio::null()).output().unwrap()
    }

    /// The data directory of a node that is down is gone.
    pub(crate) fn lose_disk(&self, node: u32) {
        fs::remove_dir_all(self.path(format!("node-{node}"))).unwrap();
    }

    /// Closes standard input, the lifeline, and waits for a clean end.
    pub(crate) async fn stop(&mut self, node: u32) {
        let at = self.at(node);
        let mut child = self.children[at].take().unwrap();
        drop(child.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "node {node} did not stop");
            sleep(LOOK_AGAIN).await;
        };
        assert!(status.success(), "node {node} ended with {status}");
    }

    /// Returns once every node that runs says that it serves.
    pub(crate) async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        for node in self.nodes() {
            let at = self.at(node);
            while let Some(child) = &mut self.children[at] {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "node {node} ended by itself: {ended:?}");
                if serves(&format!("127.0.0.1:{}", self.ports[at].0)).await {
                    break;
                }
                assert!(Instant::now() < deadline, "node {node} is not ready");
                sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Files in a node's data directory whose name ends so, with their lengths, the longest last.
    pub(crate) fn files(&self, node: u32, ending: &str) -> Vec<(PathBuf, u64)> {
        let mut folders = vec![self.path(format!("node-{node}"))];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let (path, about) = (entry.path(), entry.metadata().unwrap());
                if about.is_dir() {
                    folders.push(path);
                } else if path.to_string_lossy().ends_with(ending) {
                    found.push((path, about.len()));
                }
            }
        }
        found.sort_by_key(|(path, len)| (*len, path.clone()));
        found
    }

    /// A client that knows all nodes.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(ClientConfig::new(self.addresses())).await.unwrap()
    }

    /// Where the nodes serve clients, in order.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect()
    }

    pub(crate) async fn with_topic(self, partitions: i32) -> (Self, Client) {
        let client = self.client().await;
        let topic = NewTopic::new(TOPIC).partitions(partitions).replication_factor(3);
        client.admin().create_topic(topic).await.unwrap();
        described(&client, |partition| partition.leader.is_some()).await;
        (self, client)
    }
}

/// The topic's partitions, once all of them are as wanted.
pub(crate) async fn described(
    client: &Client,
    wanted: impl Fn(&PartitionDescription) -> bool,
) -> Vec<PartitionDescription> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let partitions = match client.admin().describe_topic(TOPIC).await {
            Ok(topic) => topic.partitions,
            Err(error) => panic!("{error}"),
        };
        if !partitions.is_empty() && partitions.iter().all(&wanted) {
            return partitions;
        }
        assert!(Instant::now() < deadline, "the topic is not as it should be: {partitions:?}");
        sleep(LOOK_AGAIN).await;
    }
}

/// Every replica is in sync, and all of them have the same bytes.
pub(crate) async fn assert_replicas_identical(client: &Client) {
    let all = usize::try_from(NODES).unwrap();
    described(client, |partition| partition.in_sync.len() == all).await;
    let verdicts = client.admin().verify_replicas([TOPIC]).await.unwrap();
    assert!(!verdicts.is_empty());
    for verdict in verdicts {
        assert!(verdict.identical && verdict.replicas.len() == all, "{verdict:?}");
    }
}

/// Whether a node says that it serves.
pub(crate) async fn serves(address: &str) -> bool {
    let channel = channel(Arc::new(TcpDial), address, Purpose::Client).unwrap();
    let mut client = HealthClient::new(channel);
    let asked = client.check(HealthCheckRequest { service: String::new() });
    matches!(
        timeout(Duration::from_secs(1), asked).await,
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving
    )
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // It may have ended by itself, which the test has judged.
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() {
            return;
        }
        for node in self.nodes() {
            let log = fs::read_to_string(self.path(format!("node-{node}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("--- node {node}, end of its log\n{}", end.join("\n"));
        }
    }
}
