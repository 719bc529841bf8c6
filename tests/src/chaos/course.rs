//! The course of a chaos run: a cluster is born, clients work, harm comes and goes, and at the end everything is read back
//! and judged like a simulated run. Owns the order of things; what was promised is the oracle's business.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::Ended;
use super::harm::{Done, Harm};
use super::site::{Make, Site};
use super::toll::{Before, Toll};
use crate::context::around;
use crate::full_disks::{commits, judge_full};
use crate::history::History;
use crate::oracle::judge;
use crate::reading_back::read_back;
use crate::subject::{Clients, Hosts};
use crate::waymark::real::RealClients;
use crate::workload::{Load, Pace, Trouble, prepare};

/// Between two harms, milliseconds; sometimes the next one comes before the last one is over in its effects.
const CALM_MS: (u64, u64) = (200, 5_000);
/// A cluster on a busy machine, with a debug build, is born and heals in a fraction of it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Whether the clients have come to their end is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// And whether everything is whole again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
const LAST_WORDS: usize = 12;
/// Comparing all replicas is tried so often at least, before it is given up.
const TRIES: u32 = 3;
/// A node looks at its disk every second, and tells its leaders with heartbeats.
const NOTICED: Duration = Duration::from_secs(3);
/// No record is taken for so long while a majority of disks is full.
const REFUSED: Duration = Duration::from_secs(3);
/// The largest legal `request.timeout.ms`.
const LONGEST_CALL: Duration = Duration::from_secs(300);

/// Small files, much scrubbing and many checkpoints, so that minutes show what days would; and little room to keep free, so
/// that a small disk is enough.
const SETTINGS: &str = r#"[journal]
file_bytes = "16 MiB"
[store]
reserve_bytes = "192 MiB"
last_reserve_bytes = "96 MiB"
segment_write_after = "50 ms"
scrub_bytes_per_second = "64 MiB"
scrub_interval = "1 s"
[consensus]
checkpoint_interval = "1 s"
"#;

/// What nodes of such a run are like.
pub(super) fn make() -> Make {
    Make { small_disks: 2, settings: SETTINGS.to_owned() }
}

/// Clients are tasks of this one thread.
struct Tasks(SmallRng);

impl Hosts for Tasks {
    fn host(&mut self, life: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(life);
    }

    fn draw(&mut self, from: u64, below: u64) -> u64 {
        self.0.random_range(from..below)
    }
}

/// Runs on one thread: the clients of the workload are made for it.
pub(super) async fn run(
    site: &mut Site,
    seed: u64,
    (only, time): (&[Harm], Duration),
) -> io::Result<Ended> {
    let possible = possible(site, only)?;
    let mut random = SmallRng::seed_from_u64(seed);
    let clients: Arc<dyn Clients> = Arc::new(RealClients { bootstrap: site.bootstrap() });
    site.nodes().try_for_each(|node| site.start(node))?;
    let mut operator = clients.client(random.random());
    in_time("the cluster is not born", prepare(&mut operator, &Trouble::default())).await?;
    let history = History::real();
    let mut tasks = Tasks(SmallRng::seed_from_u64(random.random()));
    let load = Load::start(&mut tasks, &clients, &history, Pace::BUSY);
    let (harms, toll) = harm_for(site, (time, &possible, &history), &mut random).await?;
    println!("all harm is over");
    sleep(Duration::from_secs(2)).await;
    load.end();
    in_time("a client still waits, without a deadline", async {
        while !load.has_ended() {
            sleep(LOOK_AGAIN).await;
        }
    })
    .await?;
    let each = (clients.partitions(), clients.replicas());
    let progress = (Arc::default(), Trouble::default());
    let reading = read_back(clients.client(random.random()), each, history.clone(), progress);
    in_time("not every partition can be read on all replicas", reading).await?;
    who_ended(site)?;
    Ok(ended(&history, &harms, &toll))
}

fn ended(history: &History, harms: &BTreeMap<&'static str, u32>, toll: &Toll) -> Ended {
    let (violations, events) = (judge(&history.snapshot()), history.stamped());
    let harms: Vec<String> = harms.iter().map(|(harm, times)| format!("{harm} {times}")).collect();
    let (acknowledged, unseen) = (history.acknowledged(), toll.unseen_damage());
    let broken = violations.len() + usize::from(unseen.is_some());
    let mut summary = vec![
        format!("done: {}", harms.join(", ")),
        toll.to_string(),
        format!("{acknowledged} records acknowledged, {broken} promises broken"),
    ];
    summary.extend(violations.iter().map(|it| format!("violated {it}")));
    summary.extend(unseen.iter().map(|it| format!("violated G6: {it}")));
    summary.extend(violations.first().into_iter().flat_map(|it| around(&events, &it.evidence)));
    Ended { summary, is_broken: !violations.is_empty() || unseen.is_some(), events }
}

/// What is to be done, of what can be done here.
fn possible(site: &Site, only: &[Harm]) -> io::Result<Vec<Harm>> {
    let wanted = |it: &Harm| only.is_empty() || only.contains(it);
    let all = Harm::ALL.into_iter().filter(|it| wanted(it) && it.can_be_done(site));
    let possible: Vec<Harm> = all.collect();
    match possible.is_empty() {
        true => Err(io::Error::other("none of these harms can be done here")),
        false => Ok(possible),
    }
}

/// Does one harm after the other for so long; each is undone before the next one.
async fn harm_for(
    site: &mut Site,
    (time, possible, history): (Duration, &[Harm], &History),
    random: &mut SmallRng,
) -> io::Result<(BTreeMap<&'static str, u32>, Toll)> {
    let begun = Instant::now();
    let (mut harms, mut toll) = (BTreeMap::new(), Toll::default());
    // Every one of them once, in an order of the seed's, then any.
    let mut first = possible.to_vec();
    while begun.elapsed() < time {
        sleep(Duration::from_millis(random.random_range(CALM_MS.0..CALM_MS.1))).await;
        let harm = match first.len() {
            0 => possible[random.random_range(0..possible.len())],
            left => first.swap_remove(random.random_range(0..left)),
        };
        who_ended(site)?;
        let before = Before::look(site).await;
        let done = harm.strike(site, random).await?;
        *harms.entry(harm.name()).or_default() += 1;
        println!("{:>6.1} s  {done}", begun.elapsed().as_secs_f64());
        if harm == Harm::FullMajority {
            refuses_records(site, history).await?;
            println!("{:>6.1} s  no record is taken, offsets are", begun.elapsed().as_secs_f64());
        }
        sleep(harm.lasts(random)).await;
        done.undo(site)?;
        if harm.takes_a_copy() {
            until_whole(site, PATIENCE).await?;
            println!("{:>6.1} s  everything is whole again", begun.elapsed().as_secs_f64());
        }
        if let Done::Rotten(rotten) = &done {
            toll.take(site, &before, rotten).await;
        }
    }
    Ok((harms, toll))
}

/// While two of three disks have no room for records, none is taken, offsets are committed, and an operator is told which
/// disks they are.
async fn refuses_records(site: &Site, history: &History) -> io::Result<()> {
    sleep(NOTICED).await;
    let before = (history.acknowledged(), commits(history));
    sleep(REFUSED).await;
    judge_full(history, before).map_err(io::Error::other)?;
    match ask(site, &["cluster", "health"]).await? {
        Err(told) if told.contains("disk") => Ok(()),
        told => {
            Err(io::Error::other(format!("two disks are full, and an operator is told {told:?}")))
        }
    }
}

/// Waits until an operator would say that nothing is wrong: every node and replica is there, and no byte differs.
pub(super) async fn until_whole(site: &mut Site, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    let time = (patience / TRIES).min(LONGEST_CALL);
    let whole = format!("{}s", time.as_secs());
    let attempt = format!("request.timeout.ms={}", time.as_millis());
    let verify = ["cluster", "verify", "--timeout", &whole, "-X", &attempt];
    loop {
        let mut answer = ask(site, &["cluster", "health"]).await?;
        if answer.is_ok() {
            answer = ask(site, &verify).await?;
        }
        who_ended(site)?;
        let Err(wrong) = answer else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("not whole after {patience:?}: {wrong}")));
        }
        sleep(ASK_AGAIN).await;
    }
}

/// Asks as an operator would; an answer that something is wrong comes with its words.
pub(super) async fn ask(site: &Site, question: &[&str]) -> io::Result<Result<(), String>> {
    let mut command = site.operator(question);
    // Clients run on this thread, and go on meanwhile.
    #[allow(clippy::disallowed_methods, reason = "a run of real processes does not repeat anyway")]
    let asked = spawn_blocking(move || command.output()).await;
    let output = asked.map_err(io::Error::other)??;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let [said, why] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    Ok(Err(format!("`waymark {}`: {said}{why}", question.join(" "))))
}

/// # Errors
/// When it takes longer than a cluster may take.
pub(super) async fn in_time<T>(otherwise: &str, what: impl Future<Output = T>) -> io::Result<T> {
    let late = || io::Error::other(format!("after {PATIENCE:?}: {otherwise}"));
    timeout(PATIENCE, what).await.map_err(|_| late())
}

/// A node ends when it is killed, and never by itself: also a full disk is no reason.
pub(super) fn who_ended(site: &mut Site) -> io::Result<()> {
    for node in site.nodes() {
        let machine = site.machine(node);
        if let Some(how) = machine.ended()? {
            let words = machine.last_words(LAST_WORDS);
            return Err(io::Error::other(format!("node {node} ended by itself, {how}:\n{words}")));
        }
    }
    Ok(())
}
