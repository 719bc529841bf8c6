//! Chaos: real node processes on real disks and links, killed, stopped, cut off and filled up while real clients work, and
//! judged like a simulation. What a simulation cannot show is here: sockets, file systems and schedulers as they are. A run
//! does not repeat, its order of harm does.
//!
//! | file | owns |
//! |---|---|
//! | `ground` | what this machine lets a run do |
//! | `network`, `machine`, `site` | links, processes and disks of the cluster |
//! | `harm`, `rot` | what is done to them |
//! | `toll`, `metrics` | whether nodes noticed that they were hurt |
//! | `course` | the order of things |
//! | `away` | another story: a node that was away catches up, through interruptions |

mod away;
mod course;
mod ground;
mod harm;
mod machine;
mod metrics;
mod network;
mod rot;
mod site;
mod toll;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::LocalSet;

use self::ground::Ground;
pub use self::harm::Harm;
use self::site::Site;
use crate::history::Event;
use crate::plan::Plan;
use crate::profile::Profile;

/// Nodes of the cluster.
const NODES: u32 = 3;

/// What happens to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Story {
    /// One harm after the other.
    Harm {
        /// These alone; any, when there are none.
        only: Vec<Harm>,
        /// For so long.
        time: Duration,
    },
    /// A node is away while so many bytes arrive, and catches up.
    Away(u64),
}

/// What a run came to.
#[derive(Debug)]
struct Ended {
    /// For people, line by line.
    summary: Vec<String>,
    /// A promise was.
    is_broken: bool,
    /// Everything that clients were told, and when.
    events: Vec<(Duration, Event)>,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// The program of a node; made from this source when there is none.
    pub program: Option<PathBuf>,
    /// Decides the order of harm.
    pub seed: u64,
    /// What happens.
    pub story: Story,
    /// Among everybody's processes, though namespaces could be made.
    pub shared: bool,
}

impl Chaos {
    /// Runs it, and says what it came to: 0, every promise held; 1, one was broken; 3, a node fell over or nothing was
    /// served any more.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        match self.try_run() {
            Ok(code) => code,
            Err(error) => {
                println!("broken: {error}");
                ExitCode::from(3)
            }
        }
    }

    fn try_run(&self) -> io::Result<ExitCode> {
        let ground =
            if self.shared { Ground::Shared("as asked for".to_owned()) } else { ground::enter()? };
        let is_own = match ground {
            Ground::Ran(status) => {
                return Ok(ExitCode::from(
                    status.code().and_then(|it| u8::try_from(it).ok()).unwrap_or(3),
                ));
            }
            Ground::Own => true,
            Ground::Shared(reason) => {
                if let Story::Harm { .. } = self.story {
                    println!(
                        "no namespaces of its own ({reason}): no link is cut or slowed, no disk filled; the rest is done"
                    );
                    println!(
                        "full disks are simulated, by a quota: {}",
                        Plan::new(Profile::DiskFull, self.seed)
                    );
                }
                false
            }
        };
        let folder = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let make = match self.story {
            Story::Harm { .. } => course::make(),
            Story::Away(bytes) => {
                runtime.block_on(away::has_room(folder.path(), bytes))?;
                away::make(bytes)
            }
        };
        let program = match &self.program {
            Some(program) => program.clone(),
            None => build()?,
        };
        let mut site = Site::build((&program, folder.path()), (NODES, &make), is_own)?;
        let ended = LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                ended = self.tell_story(&mut site) => ended,
                _ = tokio::signal::ctrl_c() => Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
            }
        });
        match ended {
            Ok(ended) => {
                ended.summary.iter().for_each(|line| println!("{line}"));
                if ended.is_broken {
                    keep(folder, &ended.events)?;
                }
                Ok(ExitCode::from(u8::from(ended.is_broken)))
            }
            // Nothing is worth a look.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                keep(folder, &[])?;
                Err(error)
            }
        }
    }

    async fn tell_story(&self, site: &mut Site) -> io::Result<Ended> {
        match &self.story {
            Story::Harm { only, time } => course::run(site, self.seed, (only, *time)).await,
            Story::Away(bytes) => away::run(site, self.seed, *bytes).await,
        }
    }
}

/// Logs and data of a run that broke are worth a look, and everything that its clients were told.
fn keep(folder: TempDir, events: &[(Duration, Event)]) -> io::Result<()> {
    let folder = folder.keep();
    let mut file = BufWriter::new(File::create(folder.join("history"))?);
    for (at, event) in events {
        writeln!(file, "{:>9.3} s  {event:?}", at.as_secs_f64())?;
    }
    println!("logs, data and history: {}", folder.display());
    file.flush()
}

/// The program as it is shipped.
fn build() -> io::Result<PathBuf> {
    println!("building the node as it is shipped: `cargo build --release`");
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked"])
        .current_dir(&root)
        .status()?;
    let built = root.join("target/release/waymark");
    if status.success() { Ok(built) } else { Err(io::Error::other("the node cannot be built")) }
}
