//! The way of a node back to the others, interrupted three times at points of its way. Owns when and how; the way is what
//! lies on its disk of what it lacked when it came back.

use std::fmt;
use std::io;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar};
use tokio::time::{Instant, sleep};

use super::super::course::{ask, who_ended};
use super::super::site::Site;
use super::gauge::{Gauge, Moved, held};

const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Who gives most is asked over so long.
const RECENTLY: Duration = Duration::from_secs(1);
/// No byte more on its disk for so long, and not level: the node has stopped short.
const PATIENCE: Duration = Duration::from_secs(180);

/// A node that is in sync has at least so much of what the others have: each writes its segments in its own time.
const LEVEL: f64 = 0.95;

/// What is done, at which part of the way, and for how long.
const INTERRUPTIONS: [(f64, Act, Duration); 3] = [
    (0.20, Act::Kill, Duration::from_secs(1)),
    (0.45, Act::KillSource, Duration::from_secs(3)),
    // Longer than an election.
    (0.70, Act::FreezeSource, Duration::from_secs(6)),
];

#[derive(Debug, Clone, Copy)]
enum Act {
    /// SIGKILL of the node that catches up.
    Kill,
    /// SIGKILL of the node that gives it most.
    KillSource,
    /// SIGSTOP of another one.
    FreezeSource,
}

/// How it went.
#[derive(Debug)]
pub(super) struct CaughtUp {
    /// Bytes of segments that were not on the node's disk.
    pub(super) lacked: u64,
    /// Bytes that it received from others.
    pub(super) pulled: u64,
    pub(super) took: Duration,
    pub(super) interruptions: Vec<Interruption>,
}

impl CaughtUp {
    /// What was pulled for each byte that was lacking.
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(super) fn share(&self) -> f64 {
        self.pulled as f64 / self.lacked.max(1) as f64
    }
}

/// What was done, and when.
#[derive(Debug)]
pub(super) struct Interruption {
    way: f64,
    after: Duration,
    what: String,
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, seconds) = (100.0 * self.way, self.after.as_secs_f64());
        write!(f, "at {percent:.0} %, after {seconds:.1} s: {}", self.what)
    }
}

/// Watches a node on its way.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    site: &'a mut Site,
    node: u32,
    bar: ProgressBar,
    gauge: Gauge,
    begun: Instant,
    /// Bytes of segments on its disk at the beginning, and at the last look.
    first: u64,
    now: u64,
    /// When there was one more.
    moved: Instant,
    /// The one that was killed: another one is to stand still.
    killed: Option<u32>,
}

impl<'a> Watch<'a> {
    /// The node comes back.
    pub(super) fn begin(site: &'a mut Site, node: u32, bar: ProgressBar) -> io::Result<Self> {
        let (first, _) = held(&site.machine(node).data())?;
        site.start(node)?;
        let begun = Instant::now();
        let gauge = Gauge::default();
        Ok(Self { site, node, bar, gauge, begun, first, now: first, moved: begun, killed: None })
    }

    pub(super) async fn run(mut self) -> io::Result<CaughtUp> {
        let mut interruptions = Vec::new();
        for (at, act, lasts) in INTERRUPTIONS {
            while self.way()? < at {
                self.look().await?;
            }
            let (way, after) = (self.way()?, self.begun.elapsed());
            let what = self.interrupt(act, lasts).await?;
            let interruption = Interruption { way, after, what };
            self.bar.suspend(|| println!("{interruption}"));
            interruptions.push(interruption);
        }
        while !self.is_level().await? {
            self.look().await?;
        }
        let took = self.begun.elapsed();
        self.look().await?;
        let lacked = self.full()?.saturating_sub(self.first);
        Ok(CaughtUp { lacked, pulled: self.gauge.moved(self.node).pulled, took, interruptions })
    }

    /// Interrupts, and undoes it after so long.
    async fn interrupt(&mut self, act: Act, lasts: Duration) -> io::Result<String> {
        let seconds = lasts.as_secs();
        match act {
            Act::Kill => {
                self.kill(self.node, lasts).await?;
                Ok(format!("node {} killed, back after {seconds} s", self.node))
            }
            Act::KillSource => {
                let (source, gave) = self.source().await?;
                self.kill(source, lasts).await?;
                self.killed = Some(source);
                Ok(format!("node {source}, which gave {gave}, killed, back after {seconds} s"))
            }
            Act::FreezeSource => {
                let (source, gave) = self.source().await?;
                self.site.machine(source).freeze()?;
                self.look_for(lasts).await?;
                self.site.machine(source).thaw()?;
                Ok(format!("node {source}, which gave {gave}, stood still for {seconds} s"))
            }
        }
    }

    async fn kill(&mut self, node: u32, lasts: Duration) -> io::Result<()> {
        self.gauge.look(self.site).await;
        self.site.machine(node).kill()?;
        self.gauge.died(node);
        self.look_for(lasts).await?;
        self.site.start(node)
    }

    /// Who of those that were not killed yet gives most, and how much of late.
    async fn source(&mut self) -> io::Result<(u32, String)> {
        let before: Vec<(u32, Moved)> =
            self.others().map(|it| (it, self.gauge.moved(it))).collect();
        self.look_for(RECENTLY).await?;
        let given = before.into_iter().map(|(node, before)| {
            (self.gauge.moved(node).given.saturating_sub(before.given), node)
        });
        let most = given.filter(|(_, node)| Some(*node) != self.killed).max();
        let (given, node) = most.unwrap_or((0, 1));
        Ok((node, format!("{}/s", HumanBytes(given))))
    }

    fn others(&self) -> impl Iterator<Item = u32> + use<> {
        let away = self.node;
        self.site.nodes().filter(move |node| *node != away)
    }

    async fn look_for(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.look().await?;
        }
        Ok(())
    }

    async fn look(&mut self) -> io::Result<()> {
        sleep(LOOK_AGAIN).await;
        self.gauge.look(self.site).await;
        who_ended(self.site)?;
        let (now, _) = held(&self.site.machine(self.node).data())?;
        if now > self.now {
            (self.now, self.moved) = (now, Instant::now());
        }
        self.bar.set_position(now.saturating_sub(self.first));
        if self.moved.elapsed() < PATIENCE {
            return Ok(());
        }
        let (has, full) = (HumanBytes(now), HumanBytes(self.full()?));
        let why =
            format!("node {} has {has} of {full}, and none more since {PATIENCE:?}", self.node);
        Err(io::Error::other(why))
    }

    /// Bytes of segments that the fullest of the others has.
    fn full(&mut self) -> io::Result<u64> {
        let folders: Vec<_> = self.others().map(|it| self.site.machine(it).data()).collect();
        let held: io::Result<Vec<u64>> = folders.iter().map(|it| Ok(held(it)?.0)).collect();
        Ok(held?.into_iter().max().unwrap_or(0))
    }

    /// From 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "a share of very many")]
    fn way(&mut self) -> io::Result<f64> {
        let lacked = self.full()?.saturating_sub(self.first).max(1);
        Ok(self.now.saturating_sub(self.first) as f64 / lacked as f64)
    }

    /// Whether it has what the others have, and the cluster itself finds nothing wrong any more.
    async fn is_level(&mut self) -> io::Result<bool> {
        Ok(self.way()? >= LEVEL && ask(self.site, &["cluster", "health"]).await?.is_ok())
    }
}
