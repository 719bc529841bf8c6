//! Owns `group watch`: a look at the lag every moment, redrawn on a terminal, one after the other elsewhere. A look that
//! fails is told and tried again: a view must outlive a change of leader.

use std::time::Duration;

use clap::Args;

use super::super::Context;
use super::super::output::time;
use super::lag::{ToldLag, ask, summary, told};
use super::{EXIT_CODES, Exit, Failure, about, rows};
use crate::admin::Admin;

/// Home, and clear to the end: the old picture is written over.
const HOME: &[u8] = b"\x1b[H\x1b[J";
const CLEAR: &[u8] = b"\x1b[2J";
/// Slower is a picture of the past, faster is a load on the cluster.
const SHORTEST: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct WatchArguments {
    /// The partitions of this group [default: all groups, a line each]
    #[arg(value_name = "GROUP")]
    group: Option<String>,
    /// How often to look: 100ms and more
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "2s")]
    interval: Duration,
    /// Stop after this many looks: 1 and more [default: at Ctrl-C]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < SHORTEST { Err("at least 100ms".to_owned()) } else { Ok(interval) }
}

pub(super) async fn run(
    arguments: &WatchArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let client = context.global.connect().await?;
    let admin = client.admin();
    let mut looks = 0_u64;
    loop {
        let shown = look(&admin, arguments.group.as_deref()).await;
        match shown {
            // There was nothing to see yet: a wrong name, no cluster.
            Err(failure) if looks == 0 => return Err(failure),
            shown => show(&shown, looks == 0, client.config().clock.now_ms(), context)?,
        }
        context.out.flush()?;
        looks += 1;
        if arguments.count.is_some_and(|count| looks >= count) {
            return Ok(Exit::Done);
        }
        tokio::select! {
            () = tokio::time::sleep(arguments.interval) => {}
            () = context.interrupt.cancelled() => return Ok(Exit::Done),
        }
    }
}

async fn look(admin: &Admin, group: Option<&str>) -> Result<Vec<ToldLag>, Failure> {
    let one = group.is_some();
    let lags = ask(admin, group.map(str::to_owned).into_iter().collect()).await?;
    let mut all = Vec::new();
    for (name, lag) in lags {
        match lag {
            Ok(lag) => all.push(told(&lag, one)),
            Err(error) if one => return Err(about(&name, &error)),
            // Of many, one that cannot be asked now is missing until it can.
            Err(_) => {}
        }
    }
    Ok(all)
}

fn show(
    shown: &Result<Vec<ToldLag>, Failure>,
    first: bool,
    now_ms: i64,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    if context.out.is_json() {
        let lags = shown.as_deref().unwrap_or_default();
        return lags.iter().try_for_each(|lag| context.out.json(lag));
    }
    if context.out.is_terminal() {
        if first {
            context.out.bytes(CLEAR)?;
        }
        context.out.bytes(HOME)?;
    }
    context.out.line(time(now_ms))?;
    match shown {
        Ok(all) => context.out.line(text(all)),
        Err(failure) => context.out.line(format!("no answer: {failure}; looking again")),
    }
}

fn text(all: &[ToldLag]) -> String {
    match all {
        [one] if !one.partitions.is_empty() => {
            let head = format!("group {}  state {}  {}", one.group, one.state, one.totals.text());
            format!("{head}\n{}", rows::text(&one.partitions))
        }
        _ => summary(all),
    }
}
