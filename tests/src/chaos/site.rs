//! The cluster of a chaos run: machines, their network, and the configuration that all nodes share. Never decides what
//! happens to them.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::Machine;
use super::network::Network;

/// Room of the small file system: for a journal, a checkpoint and segments of a run.
const SMALL_DISK_MIB: u32 = 768;

/// A cluster of real processes.
#[derive(Debug)]
pub(super) struct Site {
    program: PathBuf,
    machines: Vec<Machine>,
    /// Where each node serves clients and peers.
    addresses: Vec<(String, String)>,
    /// Links of the run's own, where they could be made.
    pub(super) network: Option<Network>,
    /// The node whose disk is small and its own, where that could be made.
    pub(super) small_disk: Option<u32>,
}

impl Site {
    /// # Errors
    /// When a folder, a link or a port cannot be had.
    pub(super) fn build(
        (program, folder): (&Path, &Path),
        nodes: u32,
        is_own_ground: bool,
    ) -> io::Result<Self> {
        let network = is_own_ground.then(|| Network::make(nodes)).transpose()?;
        let small_disk = is_own_ground.then_some(nodes);
        let mut machines = Vec::new();
        for node in 1..=nodes {
            let own_disk = (small_disk == Some(node)).then_some(SMALL_DISK_MIB);
            machines.push(Machine::new(folder.join(format!("node-{node}")), own_disk)?);
        }
        let addresses = match &network {
            Some(_) => (1..=nodes).map(on_own_host).collect(),
            None => on_loopback(nodes)?,
        };
        let program = program.to_owned();
        let site = Self { program, machines, addresses, network, small_disk };
        for node in site.nodes() {
            fs::write(site.machines[node as usize - 1].config(), site.configuration(node))?;
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
        self.addresses.iter().map(|(client, _)| client.clone()).collect()
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

    fn configuration(&self, node: u32) -> String {
        let at = node as usize - 1;
        let (client, peer) = &self.addresses[at];
        let data = self.machines[at].data();
        let mut text = format!(
            "[node]\nid = {node}\ndata = {data:?}\n[listen]\nclient = \"{client}\"\npeer = \"{peer}\"\n\
             [metrics]\naddress = \"off\"\n[journal]\nfile_bytes = \"16 MiB\"\n[store]\nreserve_bytes = \"192 MiB\"\nlast_reserve_bytes = \"96 MiB\"\n\
             segment_write_after = \"50 ms\"\nscrub_bytes_per_second = \"64 MiB\"\nscrub_interval = \"1 s\"\n\
             [consensus]\ncheckpoint_interval = \"1 s\"\n"
        );
        for (id, (client, peer)) in (1..).zip(&self.addresses) {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "[[cluster.nodes]]\nid = {id}\nclient = \"{client}\"\npeer = \"{peer}\"\n"
            );
        }
        text
    }
}

fn on_own_host(node: u32) -> (String, String) {
    let host = Network::address(node);
    (format!("{host}:7001"), format!("{host}:7101"))
}

/// Ports that are free now: taken together, so that they differ.
fn on_loopback(nodes: u32) -> io::Result<Vec<(String, String)>> {
    let taken: Vec<TcpListener> =
        (0..2 * nodes).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    let addresses: Vec<String> = taken
        .iter()
        .map(|it| it.local_addr().map(|at| at.to_string()))
        .collect::<Result<_, _>>()?;
    Ok(addresses.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}
