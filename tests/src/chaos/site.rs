//! The cluster of a chaos run: machines, their network, and the configuration that all nodes share. Never decides what
//! happens to them, nor what their settings are.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::Machine;
use super::network::Network;

/// Room of a small file system: for a journal, a checkpoint and segments of a run.
const SMALL_DISK_MIB: u32 = 768;

/// Where a node serves clients, peers, and whoever watches it.
#[derive(Debug)]
struct Addresses {
    client: String,
    peer: String,
    metrics: String,
}

/// What the nodes of a run are like.
#[derive(Debug, Clone)]
pub(super) struct Make {
    /// So many nodes have a disk that is small and their own, where that can be made.
    pub(super) small_disks: u32,
    /// Sections of the configuration, the same for all nodes.
    pub(super) settings: String,
}

/// A cluster of real processes.
#[derive(Debug)]
pub(super) struct Site {
    program: PathBuf,
    machines: Vec<Machine>,
    addresses: Vec<Addresses>,
    /// Links of the run's own, where they could be made.
    pub(super) network: Option<Network>,
    /// The nodes whose disks are small and their own: none where those cannot be made.
    pub(super) small_disks: Vec<u32>,
}

impl Site {
    /// # Errors
    /// When a folder, a link or a port cannot be had.
    pub(super) fn build(
        (program, folder): (&Path, &Path),
        (nodes, make): (u32, &Make),
        is_own_ground: bool,
    ) -> io::Result<Self> {
        let network = is_own_ground.then(|| Network::make(nodes)).transpose()?;
        let small = if is_own_ground { make.small_disks } else { 0 };
        let small_disks: Vec<u32> = (1..=nodes).rev().take(small as usize).collect();
        let mut machines = Vec::new();
        for node in 1..=nodes {
            let own_disk = small_disks.contains(&node).then_some(SMALL_DISK_MIB);
            machines.push(Machine::new(folder.join(format!("node-{node}")), own_disk)?);
        }
        let addresses = match &network {
            Some(_) => (1..=nodes).map(on_own_host).collect(),
            None => on_loopback(nodes)?,
        };
        let program = program.to_owned();
        let site = Self { program, machines, addresses, network, small_disks };
        for node in site.nodes() {
            let text = site.configuration(node, &make.settings);
            fs::write(site.machines[node as usize - 1].config(), text)?;
        }
        Ok(site)
    }

    pub(super) fn nodes(&self) -> RangeInclusive<u32> {
        1..=u32::try_from(self.machines.len()).unwrap_or(0)
    }

    pub(super) fn machine(&mut self, node: u32) -> &mut Machine {
        &mut self.machines[node as usize - 1]
    }

    pub(super) fn network(&self) -> io::Result<&Network> {
        self.network.as_ref().ok_or_else(|| io::Error::other("this run has no links of its own"))
    }

    /// Where clients begin.
    pub(super) fn bootstrap(&self) -> Vec<String> {
        self.addresses.iter().map(|it| it.client.clone()).collect()
    }

    /// Where a node shows its metrics.
    pub(super) fn metrics(&self, node: u32) -> &str {
        &self.addresses[node as usize - 1].metrics
    }

    /// Starts a node, unless it runs.
    pub(super) fn start(&mut self, node: u32) -> io::Result<()> {
        let program = match &self.network {
            Some(network) => network.on(node, &self.program.to_string_lossy()),
            None => Command::new(&self.program),
        };
        self.machine(node).start(program)
    }

    /// The shipped program, as an operator would call it.
    pub(super) fn operator(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--bootstrap", &self.bootstrap().join(",")]);
        command
    }

    fn configuration(&self, node: u32, settings: &str) -> String {
        let at = node as usize - 1;
        let Addresses { client, peer, metrics } = &self.addresses[at];
        let data = self.machines[at].data();
        let mut text = format!(
            "[node]\nid = {node}\ndata = {data:?}\n[listen]\nclient = \"{client}\"\npeer = \"{peer}\"\n\
             [metrics]\naddress = \"{metrics}\"\n{settings}"
        );
        for (id, Addresses { client, peer, .. }) in (1..).zip(&self.addresses) {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "[[cluster.nodes]]\nid = {id}\nclient = \"{client}\"\npeer = \"{peer}\"\n"
            );
        }
        text
    }
}

fn on_own_host(node: u32) -> Addresses {
    let host = Network::address(node);
    let [client, peer, metrics] = [7001, 7101, 7201].map(|port| format!("{host}:{port}"));
    Addresses { client, peer, metrics }
}

/// Ports that are free now: taken together, so that they differ.
fn on_loopback(nodes: u32) -> io::Result<Vec<Addresses>> {
    let taken: Vec<TcpListener> =
        (0..3 * nodes).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    let addresses: Vec<String> = taken
        .iter()
        .map(|it| it.local_addr().map(|at| at.to_string()))
        .collect::<Result<_, _>>()?;
    let of_node = |three: &[String]| Addresses {
        client: three[0].clone(),
        peer: three[1].clone(),
        metrics: three[2].clone(),
    };
    Ok(addresses.chunks(3).map(of_node).collect())
}
