//! `waymark node`: one node, until it is asked to stop. Owns what comes before and after the node itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::OptionFuture;
use waymark_node::config::{Config, commented_defaults};
use waymark_node::env::{Env, Random, SystemClock};
use waymark_node::node::{self, Doors, MetricsDoor};
use waymark_node::storage::real_disk::RealDisk;
use waymark_node::storage::tables::SledTables;
use waymark_proto::transport::TcpDial;

use super::{Failure, address, process, runtime, telemetry, usage};

/// Run a node until it is asked to stop (SIGTERM or Ctrl-C).
///
/// Every setting stands in the configuration file, or in the environment as `WAYMARK_SECTION_KEY`, which wins.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Configuration file (TOML); without one the defaults and the environment count.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print every setting with its meaning, legal range and default, and end.
    #[arg(long)]
    print_defaults: bool,
    /// Stop when standard input closes, so that this node never outlives what started it.
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.print_defaults {
        print!("{}", commented_defaults());
        return Ok(());
    }
    let config = read(arguments.config.as_deref())?;
    telemetry::start(&config.log)?;
    process::raise_open_files();
    runtime(config.node.threads)?.block_on(async {
        let asked = process::asked_to_stop()?;
        let orphaned = arguments.until_stdin_closes.then(process::stdin_closed).transpose()?;
        let orphaned = OptionFuture::from(orphaned);
        let stop = async move {
            tokio::select! {
                () = asked => {}
                Some(()) = orphaned => {}
            }
            tracing::info!("asked to stop");
        };
        serve(&config, stop).await
    })
}

/// The configuration of a node: a file, and the environment over it.
pub(super) fn read(path: Option<&Path>) -> Result<Config, Failure> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::because(format!("cannot read {}", path.display()), error))?,
        None => String::new(),
    };
    let place = path.map_or_else(|| "environment".to_owned(), |path| path.display().to_string());
    // A variable that is not Unicode cannot name a setting.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::parse(&text, environment).map_err(|error| Failure::because(place, error))
}

fn no_disk(config: &Config, error: &io::Error) -> Failure {
    let what = format!("node.data = {:?}", config.node.data);
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Failure(format!(
            "{what}: {error}: a node writes there; let it, or give it another directory"
        )),
        _ => Failure::because(what, error),
    }
}

/// The real world of a node, with its disk for it alone.
pub(super) fn environment(config: &Config) -> Result<Env, Failure> {
    let disk = RealDisk::open(&config.node.data).map_err(|error| no_disk(config, &error))?;
    let tables = SledTables::in_folder(PathBuf::from(&config.node.data).join("tables"));
    Ok(Env {
        clock: Arc::new(SystemClock),
        random: Arc::new(Random::from_os()),
        disk: Arc::new(disk),
        tables: Arc::new(tables),
        dial: Arc::new(TcpDial),
    })
}

async fn serve(config: &Config, stop: impl Future<Output = ()>) -> Result<(), Failure> {
    let metrics = match config.metrics.listens_at() {
        Some(at) => {
            let incoming = address::bind("metrics.address", at).await?;
            Some(MetricsDoor { incoming, usage: usage::now })
        }
        None => None,
    };
    let doors = Doors {
        client: address::bind("listen.client", &config.listen.client).await?,
        peer: address::bind("listen.peer", &config.listen.peer).await?,
        metrics,
    };
    let env = environment(config)?;
    node::run(config, env, doors, stop).await.map_err(|error| Failure(error.to_string()))
}
