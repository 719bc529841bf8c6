//! A cluster of real processes on this machine: configuration, start, death and log of each node. Owns the processes; it
//! never speaks to the cluster but to ask whether it is ready.

use std::fmt::Write;
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use waymark_proto::transport::{Purpose, TcpDial, channel};

use super::Failure;

/// Peers listen this far above clients.
const PEER_PORTS: u16 = 100;
/// And metrics are shown this far above.
const METRICS_PORTS: u16 = 200;
const ASK_AGAIN: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// A node that was asked to stop gets this long before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Lines of a dead node's log that are worth a look.
const LAST_LINES: usize = 12;
/// Settings that belong to one node; what the caller's environment says of them is about another one.
const OWN: [&str; 6] = [
    "WAYMARK_NODE_ID",
    "WAYMARK_NODE_DATA",
    "WAYMARK_LISTEN_CLIENT",
    "WAYMARK_LISTEN_PEER",
    "WAYMARK_METRICS_ADDRESS",
    "WAYMARK_CLUSTER_NODES",
];

/// The ports of one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    client: u16,
    peer: u16,
    metrics: u16,
}

/// Ports for `count` nodes from `base` on, all free now.
pub(super) fn ports_from(base: u16, count: u16) -> Result<Vec<Ports>, Failure> {
    let too_high = || Failure(format!("--base-port {base} is too high: ports end at 65535"));
    let mut ports = Vec::new();
    for node in 0..count {
        let client = base.checked_add(node).ok_or_else(too_high)?;
        let peer = client.checked_add(PEER_PORTS).ok_or_else(too_high)?;
        let metrics = client.checked_add(METRICS_PORTS).ok_or_else(too_high)?;
        for port in [client, peer, metrics] {
            TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
                Failure(format!("port {port}: {error}; choose other ports with --base-port"))
            })?;
        }
        ports.push(Ports { client, peer, metrics });
    }
    Ok(ports)
}

/// Ports for `count` nodes that the system says are free.
pub(super) fn free_ports(count: u16) -> Result<Vec<Ports>, Failure> {
    let refused = |error| Failure::because("no free port", error);
    // All are held until the last one is chosen, so that none is given twice.
    let mut held = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..count {
        let mut next = || {
            let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(refused)?;
            let port = listener.local_addr().map_err(refused)?.port();
            held.push(listener);
            Ok::<u16, Failure>(port)
        };
        ports.push(Ports { client: next()?, peer: next()?, metrics: next()? });
    }
    Ok(ports)
}

/// One node: a process, or its files while it is down.
#[derive(Debug)]
pub(super) struct LocalNode {
    pub(super) id: u32,
    /// Where clients reach it.
    pub(super) client: String,
    pub(super) peer: String,
    /// Where it shows its metrics.
    pub(super) metrics: String,
    pub(super) log: PathBuf,
    config: PathBuf,
    child: Option<Child>,
}

impl LocalNode {
    pub(super) fn process_id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }
}

/// Nodes of one cluster. Dropped, it kills what still runs.
#[derive(Debug)]
pub(super) struct LocalCluster {
    pub(super) nodes: Vec<LocalNode>,
    program: PathBuf,
}

impl LocalCluster {
    /// Writes the configuration of every node into `folder`; nothing runs yet.
    pub(super) fn prepare(folder: &Path, ports: &[Ports]) -> Result<Self, Failure> {
        let failed = |error| Failure::because(folder.display(), error);
        fs::create_dir_all(folder).map_err(failed)?;
        let folder = folder.canonicalize().map_err(failed)?;
        let program = std::env::current_exe();
        let program = program.map_err(|error| Failure::because("own program", error))?;
        let mut nodes = Vec::new();
        for (id, ports) in (1..).zip(ports) {
            nodes.push(LocalNode {
                id,
                client: format!("127.0.0.1:{}", ports.client),
                peer: format!("127.0.0.1:{}", ports.peer),
                metrics: format!("127.0.0.1:{}", ports.metrics),
                log: folder.join(format!("node-{id}.log")),
                config: folder.join(format!("node-{id}.toml")),
                child: None,
            });
        }
        for node in &nodes {
            let data = folder.join(format!("node-{}", node.id));
            fs::write(&node.config, settings(node, &nodes, &data)).map_err(failed)?;
        }
        Ok(Self { nodes, program })
    }

    /// The client addresses, for a client to begin with.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client.clone()).collect()
    }

    pub(super) fn start_all(&mut self) -> Result<(), Failure> {
        self.nodes.iter_mut().try_for_each(|node| start(&self.program, node))
    }

    pub(super) fn start(&mut self, id: u32) -> Result<(), Failure> {
        let node = self.nodes.iter_mut().find(|node| node.id == id);
        let node = node.ok_or_else(|| Failure(format!("there is no node {id}")))?;
        start(&self.program, node)
    }

    /// Kills a node with SIGKILL and waits until it is gone; says which process it was.
    pub(super) async fn kill(&mut self, id: u32) -> Result<u32, Failure> {
        let child = self.nodes.iter_mut().find(|node| node.id == id);
        let child = child.and_then(|node| node.child.take());
        let mut child = child.ok_or_else(|| Failure(format!("node {id} does not run")))?;
        let process = child.id().unwrap_or_default();
        child.kill().await.map_err(|error| Failure::because(format!("node {id}"), error))?;
        Ok(process)
    }

    /// Nodes that ended although nobody asked them to, once each.
    pub(super) fn fallen(&mut self) -> Vec<(u32, ExitStatus)> {
        let mut fallen = Vec::new();
        for node in &mut self.nodes {
            let status = node.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = status {
                node.child = None;
                fallen.push((node.id, status));
            }
        }
        fallen
    }

    /// Returns once every running node serves.
    pub(super) async fn ready(&mut self, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        let running = self.nodes.iter().filter(|node| node.child.is_some());
        let mut waiting: Vec<String> = running.map(|node| node.client.clone()).collect();
        while !waiting.is_empty() {
            if let Some((id, status)) = self.fallen().first() {
                return Err(self.obituary(*id, *status));
            }
            let mut left = Vec::new();
            for address in waiting {
                if !serves(&address).await {
                    left.push(address);
                }
            }
            waiting = left;
            if !waiting.is_empty() && Instant::now() > deadline {
                let logs = self.nodes.first().map(|node| node.log.display().to_string());
                return Err(Failure(format!(
                    "{} did not get ready within {} s; the logs beside {} say why",
                    waiting.join(", "),
                    patience.as_secs(),
                    logs.unwrap_or_default(),
                )));
            }
            sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    /// What there is to say of a node that ended by itself.
    pub(super) fn obituary(&self, id: u32, status: ExitStatus) -> Failure {
        let mut text = format!("node {id} stopped by itself ({status})");
        if let Some(node) = self.nodes.iter().find(|node| node.id == id) {
            let lines = fs::read_to_string(&node.log).unwrap_or_default();
            let lines: Vec<&str> = lines.lines().collect();
            // Writing to a String cannot fail.
            let _ = write!(text, "; the end of {}:", node.log.display());
            for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
                let _ = write!(text, "\n    {line}");
            }
        }
        Failure(text)
    }

    /// Asks all nodes to stop, waits, and kills those that do not.
    pub(super) async fn stop(&mut self) {
        for node in &self.nodes {
            let process = node.process_id().and_then(|id| i32::try_from(id).ok());
            if let Some(process) = process.and_then(Pid::from_raw) {
                // It may have ended in this moment.
                let _ = kill_process(process, Signal::TERM);
            }
        }
        let deadline = Instant::now() + STOP_WITHIN;
        for node in &mut self.nodes {
            let Some(mut child) = node.child.take() else { continue };
            let left = deadline.saturating_duration_since(Instant::now());
            if timeout(left, child.wait()).await.is_err() {
                tracing::warn!(node = node.id, "the node did not stop in time and is killed");
                // Nothing is left to be done if even that fails.
                let _ = child.kill().await;
            }
        }
    }
}

fn settings(node: &LocalNode, nodes: &[LocalNode], data: &Path) -> String {
    let mut text = format!(
        "# Written at every start of the cluster; change a copy.\n[node]\nid = {}\ndata = {:?}\n\n[listen]\nclient = {:?}\n\
         peer = {:?}\n\n[metrics]\naddress = {:?}\n",
        node.id,
        data.display().to_string(),
        node.client,
        node.peer,
        node.metrics
    );
    for other in nodes {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n[[cluster.nodes]]\nid = {}\nclient = {:?}\npeer = {:?}\n",
            other.id, other.client, other.peer
        );
    }
    text
}

fn start(program: &Path, node: &mut LocalNode) -> Result<(), Failure> {
    let failed = |error| Failure::because(format!("node {}", node.id), error);
    let log: File = OpenOptions::new().create(true).append(true).open(&node.log).map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("node").arg("--config").arg(&node.config).arg("--until-stdin-closes");
    for variable in OWN {
        command.env_remove(variable);
    }
    // A group of its own: Ctrl-C at the terminal is for the parent, which stops the nodes in order.
    command.process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    node.child = Some(command.spawn().map_err(failed)?);
    Ok(())
}

/// Whether the node at an address says that it can do its work.
async fn serves(address: &str) -> bool {
    let Ok(channel) = channel(Arc::new(TcpDial), address, Purpose::Client) else { return false };
    let mut client = HealthClient::new(channel);
    let asked = client.check(HealthCheckRequest { service: String::new() });
    match timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => answer.into_inner().status() == ServingStatus::Serving,
        _ => false,
    }
}
