//! `waymark dev`: a cluster of real processes to develop against, until Ctrl-C. Owns what the person reads; the processes
//! belong to `local`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_node::config::Config;

use super::local::{LocalCluster, ports_from};
use super::{Failure, process, runtime};

const DEFAULT_PORT: u16 = 7001;
const DEFAULT_NODES: u16 = 3;
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// Run a cluster of node processes on this machine, until Ctrl-C; started again, it goes on with the same data.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of data, configurations and logs; created when missing, and kept.
    #[arg(long, value_name = "FOLDER", default_value = "waymark-data")]
    data: PathBuf,
    /// First port for clients; node 2 has the next one. Peers talk 100 ports above, metrics are 200 above [default: 7001].
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
    /// How many nodes [default: 3].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    runtime(0)?.block_on(develop(arguments))
}

async fn develop(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { data, base_port, nodes } = arguments;
    let (base_port, nodes) = with_earlier(&data, base_port, nodes)?;
    let asked_to_stop = process::asked_to_stop()?;
    let mut cluster = LocalCluster::prepare(&data, &ports_from(base_port, nodes)?)?;
    println!("A cluster of {nodes} nodes, data in {}\n", data.display());
    for node in &cluster.nodes {
        println!(
            "  node {}   clients {}   peers {}   metrics http://{}/metrics   log {}",
            node.id,
            node.client,
            node.peer,
            node.metrics,
            node.log.display()
        );
    }
    tokio::pin!(asked_to_stop);
    let served = tokio::select! {
        () = &mut asked_to_stop => Ok(()),
        served = serve(&mut cluster) => served,
    };
    println!("\nStopping the nodes …");
    cluster.stop().await;
    println!("Stopped. The data stays in {}; `waymark dev` goes on with it.", data.display());
    served
}

/// Starts the nodes and watches them; ends only when one falls.
async fn serve(cluster: &mut LocalCluster) -> Result<(), Failure> {
    let started = Instant::now();
    cluster.start_all()?;
    cluster.ready(READY_WITHIN).await?;
    let bootstrap = cluster.addresses().join(",");
    println!("\nReady after {:.1} s. In another terminal:\n", started.elapsed().as_secs_f64());
    for line in [
        "topic create greetings --partitions 3",
        "produce greetings",
        "consume greetings --from beginning",
        "cluster describe",
    ] {
        println!("  waymark {line} --bootstrap {bootstrap}");
    }
    println!("\nCtrl-C stops all nodes.");
    loop {
        sleep(LOOK_AFTER).await;
        if let Some((id, status)) = cluster.fallen().first() {
            return Err(cluster.obituary(*id, *status));
        }
    }
}

/// The addresses of a cluster are part of it, so data that exists decides them.
fn with_earlier(
    data: &Path,
    base_port: Option<u16>,
    nodes: Option<u16>,
) -> Result<(u16, u16), Failure> {
    let Some((earlier_port, earlier_nodes)) = earlier(data) else {
        return Ok((base_port.unwrap_or(DEFAULT_PORT), nodes.unwrap_or(DEFAULT_NODES)));
    };
    let same = base_port.is_none_or(|port| port == earlier_port)
        && nodes.is_none_or(|nodes| nodes == earlier_nodes);
    if same {
        return Ok((earlier_port, earlier_nodes));
    }
    Err(Failure(format!(
        "the data in {} belongs to a cluster of {earlier_nodes} nodes from port {earlier_port} on: leave --base-port and \
         --nodes out, or choose another folder with --data",
        data.display()
    )))
}

/// Port and size of the cluster whose data lies in a folder.
fn earlier(data: &Path) -> Option<(u16, u16)> {
    let text = std::fs::read_to_string(data.join("node-1.toml")).ok()?;
    let config = Config::parse(&text, []).ok()?;
    let (_, port) = config.listen.client.rsplit_once(':')?;
    Some((port.parse().ok()?, u16::try_from(config.nodes.len()).ok()?))
}
