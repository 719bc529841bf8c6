//! Owns the measure `gap`: a steady trickle to one partition, its leader killed after a third, and the longest time between
//! two acknowledgements. Kills a process only where it was told which.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::{Load, LoadArguments, Measured, measured};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::record::ProducerRecord;

/// Records a second.
const RATE: u64 = 1000;
/// After the last record, how long acknowledgements are still counted.
const LAST_ACKS: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Args)]
pub struct GapArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// Seconds of records
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(3..))]
    secs: u32,
    /// The processes of the nodes: the one that leads partition 0 gets SIGKILL after a third of the time
    #[arg(long, value_name = "NODE=PID,…", value_delimiter = ',', value_parser = node_and_process)]
    kill: Vec<(i32, u32)>,
}

fn node_and_process(text: &str) -> Result<(i32, u32), String> {
    let wrong = || format!("{text:?}: write NODE=PID, such as 1=4711");
    let (node, process) = text.split_once('=').ok_or_else(wrong)?;
    let process = process.parse().ok().filter(|pid| *pid > 1);
    Ok((node.parse().map_err(|_| wrong())?, process.ok_or_else(wrong)?))
}

/// Acknowledgements as they came. Filled in the producer's task.
#[derive(Debug)]
struct Acks {
    last: Instant,
    longest: Duration,
    ok: u64,
    bad: u64,
}

pub(super) async fn run(
    arguments: GapArguments,
    context: &Context<'_>,
) -> Result<Measured, Failure> {
    let (load, producer) = Load::with_producer(&arguments.load, Duration::ZERO, context).await?;
    let start = Instant::now();
    let acks = Arc::new(Mutex::new(Acks { last: start, longest: Duration::ZERO, ok: 0, bad: 0 }));
    let records = u64::from(arguments.secs) * RATE;
    let mut result = Measured::new();
    for turn in 0..records {
        if !arguments.kill.is_empty() && turn == records / 3 {
            let leader = kill_leader(&load, &arguments.kill).await?;
            result.insert("killed".to_owned(), json!(leader.to_string()));
        }
        tokio::time::sleep_until(start + Duration::from_millis(turn)).await;
        let record = ProducerRecord::new(Arc::clone(&load.topic));
        let record = record.partition(0).key("k").value(load.value(turn));
        let told = Arc::clone(&acks);
        let callback = move |verdict: Result<_, crate::Error>| note(&told, verdict.is_ok());
        if producer.send_with_callback(record, callback).await.is_err() {
            note(&acks, false);
        }
    }
    tokio::time::sleep(LAST_ACKS).await;
    let acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
    let longest = u64::try_from(acks.longest.as_millis()).unwrap_or(u64::MAX);
    result.extend(measured([
        ("longest_gap_ms", json!(longest)),
        ("ok", json!(acks.ok)),
        ("bad", json!(acks.bad)),
    ]));
    Ok(result)
}

fn note(acks: &Mutex<Acks>, ok: bool) {
    let mut acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
    if !ok {
        acks.bad += 1;
        return;
    }
    let now = Instant::now();
    acks.ok += 1;
    acks.longest = acks.longest.max(now.saturating_duration_since(acks.last));
    acks.last = now;
}

/// The node that led partition 0.
async fn kill_leader(load: &Load, processes: &[(i32, u32)]) -> Result<i32, Failure> {
    let topic = load.client.admin().describe_topic(&*load.topic).await?;
    let leader = topic.partitions.iter().find(|p| p.partition == 0).and_then(|p| p.leader);
    let leader = leader.ok_or_else(|| Failure::unusable("partition 0 has no leader to kill"))?;
    let process = processes.iter().find(|(node, _)| *node == leader).map(|(_, process)| process);
    let process = process.ok_or_else(|| {
        Failure::unusable(format!("node {leader} leads partition 0; --kill does not name it"))
    })?;
    let mut kill = tokio::process::Command::new("kill");
    let killed = kill.arg("-KILL").arg(process.to_string()).status().await;
    match killed {
        Ok(status) if status.success() => Ok(leader),
        Ok(_) => Err(Failure::unusable(format!("process {process} cannot be killed"))),
        Err(error) => Err(Failure::unusable(format!("kill cannot be run: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_its_process_are_joined_by_an_equals_sign() {
        assert_eq!(node_and_process("1=4711"), Ok((1, 4711)));
        for wrong in ["1", "1=", "=5", "1=0", "1=1", "1=-4", "a=5"] {
            assert!(node_and_process(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_longest_time_between_acknowledgements_counts_and_failures_do_not_end_it() {
        let last = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        let acks = Mutex::new(Acks { last, longest: Duration::ZERO, ok: 0, bad: 0 });
        note(&acks, false);
        note(&acks, true);
        note(&acks, true);
        let acks = acks.lock().unwrap();
        assert_eq!((acks.ok, acks.bad), (2, 1));
        assert!(acks.longest >= Duration::from_secs(5), "{:?}", acks.longest);
    }
}
