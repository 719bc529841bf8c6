//! Real links that can be cut: a host for each node, in a network namespace of its own, on one bridge with the clients. A way
//! is cut by a wrong hardware address for the receiver: what is sent gets lost without a word, as on a broken link, and
//! the other way stays whole. Never decides which.

use std::io;
use std::process::{Child, Command, Stdio};

use super::ground::call;

/// The network of the run; nodes are .1, .2 and so on, clients are the last host.
const PREFIX: &str = "10.77.0";
const CLIENTS: u32 = 254;
/// An address that nobody has.
const NOBODY: &str = "02:00:00:00:00:ee";
const BRIDGE: &str = "hub";

/// Who sends or receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Node(u32),
    Clients,
}

impl Place {
    fn address(self) -> String {
        match self {
            Self::Node(node) => format!("{PREFIX}.{node}"),
            Self::Clients => format!("{PREFIX}.{CLIENTS}"),
        }
    }
}

/// The hosts of a run.
#[derive(Debug)]
pub(super) struct Network {
    /// A process of each node's namespace, which keeps it while the node is down.
    holders: Vec<Child>,
    /// What makes a link slow here.
    slow: &'static str,
}

/// What makes a link slow, best first: late and uneven, or narrow, where the kernel cannot be late.
const SLOW: [&str; 2] = ["netem delay 80ms 60ms", "tbf rate 400kbit burst 4kb latency 2s"];

impl Network {
    /// # Errors
    /// When a link or a namespace cannot be made.
    pub(super) fn make(nodes: u32) -> io::Result<Self> {
        call("ip link set lo up")?;
        call(&format!("ip link add {BRIDGE} type bridge"))?;
        call(&format!("ip address add {}/24 dev {BRIDGE}", Place::Clients.address()))?;
        call(&format!("ip link set {BRIDGE} up"))?;
        let mut network = Self { holders: Vec::new(), slow: SLOW[1] };
        for node in 1..=nodes {
            let holder = Command::new("unshare")
                .args(["--net", "--", "sleep", "infinity"])
                .stdin(Stdio::null())
                .spawn()?;
            let pid = holder.id();
            network.holders.push(holder);
            wait_for_namespace(pid)?;
            call(&format!("ip link add node{node} type veth peer name eth0 netns {pid}"))?;
            call(&format!("ip link set node{node} master {BRIDGE} up"))?;
            let address = Place::Node(node).address();
            for line in [
                "link set lo up",
                &format!("address add {address}/24 dev eth0"),
                "link set eth0 up",
            ] {
                network.within(node, &format!("ip {line}"))?;
            }
        }
        if call(&format!("tc qdisc replace dev node1 root {}", SLOW[0])).is_ok() {
            network.slow = SLOW[0];
            network.restore_speed(1)?;
        }
        Ok(network)
    }

    /// Where a node listens.
    pub(super) fn address(node: u32) -> String {
        Place::Node(node).address()
    }

    /// A program on a node's host.
    pub(super) fn on(&self, node: u32, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.namespace(node)).arg("--").arg(program);
        command
    }

    /// What is sent this way gets lost from now on.
    pub(super) fn cut(&self, from: Place, to: Place) -> io::Result<()> {
        let wrong = format!("lladdr {NOBODY} nud permanent");
        self.neighbour(from, &format!("replace {} {wrong}", to.address()))
    }

    /// It arrives again.
    pub(super) fn mend(&self, from: Place, to: Place) -> io::Result<()> {
        self.neighbour(from, &format!("delete {}", to.address()))
    }

    /// What a node is sent arrives late.
    pub(super) fn slow_down(&self, node: u32) -> io::Result<()> {
        call(&format!("tc qdisc replace dev node{node} root {}", self.slow))
    }

    /// What a node is sent arrives as ever.
    pub(super) fn restore_speed(&self, node: u32) -> io::Result<()> {
        call(&format!("tc qdisc delete dev node{node} root"))
    }

    fn neighbour(&self, from: Place, what: &str) -> io::Result<()> {
        match from {
            Place::Clients => call(&format!("ip neighbour {what} dev {BRIDGE}")),
            Place::Node(node) => self.within(node, &format!("ip neighbour {what} dev eth0")),
        }
    }

    fn within(&self, node: u32, line: &str) -> io::Result<()> {
        call(&format!("nsenter {} -- {line}", self.namespace(node)))
    }

    fn namespace(&self, node: u32) -> String {
        let holder = self.holders.get(node as usize - 1).map_or(0, Child::id);
        format!("--net=/proc/{holder}/ns/net")
    }
}

/// The holder is in its own namespace once its name differs from ours.
fn wait_for_namespace(pid: u32) -> io::Result<()> {
    let own = std::fs::read_link("/proc/self/ns/net")?;
    loop {
        match std::fs::read_link(format!("/proc/{pid}/ns/net")) {
            Ok(theirs) if theirs != own => return Ok(()),
            Ok(_) => call("sleep 0.01")?,
            Err(error) => return Err(error),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            // It goes with the run's namespaces at the latest.
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}
