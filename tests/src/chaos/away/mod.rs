//! A node that is away while much arrives, and catches up through three interruptions: it is killed, a node that gives it
//! segments is killed, and another one stands still. Owns that story, and the judgement: nothing is lost, and nothing that
//! was pulled is pulled again. Never steps in to help.
//!
//! | file | owns |
//! |---|---|
//! | `post` | what arrives, before and while the node catches up |
//! | `gauge` | how far the node is, and what was moved for it |
//! | `catching_up` | its way back, and the interruptions |
//! | `reading` | everything read back and judged |

mod catching_up;
mod gauge;
mod post;
mod reading;

use std::cell::Cell;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};
use waymark_node::storage::disk::Disk as _;
use waymark_node::storage::real_disk::RealDisk;

use self::catching_up::{CaughtUp, Watch};
use self::gauge::held;
use self::post::{PARTITIONS, Post, Trickle};
use self::reading::Judge;
use super::Ended;
use super::course::{until_whole, who_ended};
use super::site::{Make, Site};

/// Who is away.
const AWAY: u32 = 3;
/// The others have written their checkpoints by then, and let go of the entries below.
const SETTLED: Duration = Duration::from_secs(3);
/// Reading everything on three nodes, and a disk that they share.
const WHOLE_WITHIN: Duration = Duration::from_secs(900);
/// What a pull that starts over passes: three interruptions cost far less.
const MOST_PULLED: f64 = 1.5;
/// Below it the node was given entries instead, and nothing was shown.
const LEAST_PULLED: f64 = 0.5;
/// A node gives as much to those who pull, a second, as it would take 40 seconds to give everything; there is time to
/// interrupt. The limits are the least that is legal, and the default.
const PULL_SECONDS: u64 = 40;
const PULL_RATE: (u64, u64) = (1 << 20, 128 << 20);
/// Entries that a shard keeps for those who lag: less than what each of them misses.
const KEPT_SHARE: u64 = 256;
const LEAST_KEPT: u64 = 64 << 10;
/// Free bytes of the disk beside three copies: for journals, and for what a node keeps free.
const SPARE: u64 = 4 << 30;

/// What nodes of this story are like: many checkpoints, few entries, so that segments have to be pulled.
pub(super) fn make(bytes: u64) -> Make {
    let rate = (bytes / PULL_SECONDS).clamp(PULL_RATE.0, PULL_RATE.1);
    let kept = (bytes / KEPT_SHARE).max(LEAST_KEPT);
    let settings = format!(
        "[consensus]\ncheckpoint_interval = \"1 s\"\nkept_bytes = {kept}\n[network]\npull_rate = {rate}\n"
    );
    Make { small_disks: 0, settings }
}

/// Refuses a disk that the story would fill.
pub(super) async fn has_room(folder: &Path, bytes: u64) -> io::Result<()> {
    let free = RealDisk::open(folder.join("room"))?.space().await?.free;
    let needed = bytes * 15 / 4 + SPARE;
    if free >= needed {
        return Ok(());
    }
    let (free, needed) = (HumanBytes(free), HumanBytes(needed));
    let place = folder.display();
    Err(io::Error::other(format!(
        "{needed} are needed at {place}, and {free} are free: ask for less, or set TMPDIR to another disk"
    )))
}

/// Runs on one thread.
pub(super) async fn run(site: &mut Site, seed: u64, bytes: u64) -> io::Result<Ended> {
    site.nodes().try_for_each(|node| site.start(node))?;
    let mut post = Post::open(site.bootstrap(), seed, bytes).await?;
    site.machine(AWAY).kill()?;
    println!("node {AWAY} is away");
    let mut summary = vec![write(site, &mut post, bytes).await?];
    println!("{}", summary[0]);

    let is_over = Cell::new(false);
    let catching_up = async {
        let caught_up = catch_up(site, bytes).await;
        is_over.set(true);
        caught_up
    };
    let (caught_up, trickle) = tokio::join!(catching_up, post.trickle(&is_over));
    let (caught_up, trickle) = (caught_up?, trickle?);
    summary.extend(told(&caught_up, trickle));
    println!("comparing all replicas");
    until_whole(site, WHOLE_WITHIN).await?;
    summary.push(format!("replicas of {PARTITIONS} partitions are identical"));

    let bar = progress("read", post.given.iter().sum::<u64>() * post::VALUE as u64);
    let verdict = Judge::new(seed, post.given.clone()).read(&post.client, &bar).await?;
    bar.finish_and_clear();
    who_ended(site)?;
    summary.push(verdict.to_string());
    let starts_over = caught_up.share() > MOST_PULLED;
    if starts_over {
        summary.push(format!("broken: more than {MOST_PULLED} times of it: a pull started over"));
    }
    Ok(Ended { summary, is_broken: starts_over || !verdict.is_sound(), events: Vec::new() })
}

async fn write(site: &mut Site, post: &mut Post, bytes: u64) -> io::Result<String> {
    let begun = Instant::now();
    let bar = progress("written", bytes);
    post.write(bytes, &bar).await?;
    bar.finish_and_clear();
    let took = begun.elapsed();
    sleep(SETTLED).await;
    who_ended(site)?;
    let (_, segments) = held(&site.machine(1).data())?;
    Ok(format!(
        "{} written in {:.1} s ({}/s) while node {AWAY} was away: {PARTITIONS} partitions, {segments} segments",
        HumanBytes(bytes),
        took.as_secs_f64(),
        speed(bytes, took),
    ))
}

async fn catch_up(site: &mut Site, bytes: u64) -> io::Result<CaughtUp> {
    let bar = progress("caught up", bytes);
    let caught_up = Watch::begin(site, AWAY, bar.clone())?.run().await?;
    bar.finish_and_clear();
    if caught_up.share() < LEAST_PULLED {
        let pulled = HumanBytes(caught_up.pulled);
        return Err(io::Error::other(format!("only {pulled} were pulled: nothing was shown")));
    }
    Ok(caught_up)
}

fn told(caught_up: &CaughtUp, trickle: Trickle) -> Vec<String> {
    let CaughtUp { lacked, pulled, took, interruptions } = caught_up;
    let mut told = vec![format!(
        "node {AWAY} caught up in {:.1} s ({}/s), interrupted {} times:",
        took.as_secs_f64(),
        speed(*lacked, *took),
        interruptions.len(),
    )];
    told.extend(interruptions.iter().map(|it| format!("  {it}")));
    told.push(format!(
        "it lacked {} and pulled {}: {:.2} times of it",
        HumanBytes(*lacked),
        HumanBytes(*pulled),
        caught_up.share()
    ));
    told.push(format!(
        "meanwhile {} records were acknowledged, the slowest after {:.1} s: without two nodes there is no quorum",
        trickle.records,
        trickle.longest.as_secs_f64()
    ));
    told
}

fn speed(bytes: u64, took: Duration) -> HumanBytes {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    HumanBytes(bytes.saturating_mul(1000) / millis)
}

/// Shown to people only.
fn progress(what: &'static str, bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes).with_message(what);
    let template = "{bar:30} {bytes}/{total_bytes} {msg}, {bytes_per_sec}, {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
