//! Owns `group history`: the ledger, line by line.

use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::super::output::{or_dash, rendered, table, time};
use super::super::spot::Moment;
use super::place::{Selection, partitions_of};
use super::{EXIT_CODES, Exit, Failure, about};
use crate::admin::{OffsetChange, OffsetHistory};

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct HistoryArguments {
    /// The group's name
    #[arg(value_name = "GROUP")]
    group: String,
    /// Only these partitions [default: all]
    #[arg(long, value_name = "TOPIC[:P,P]")]
    topic: Vec<Selection>,
    /// Only since: RFC 3339, Unix ms, or a duration ago such as 90m [default: all that is kept]
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only the last of them: 1 and more [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Debug, Serialize)]
struct ToldHistory {
    group: String,
    exact_since_ms: i64,
    changes: Vec<ToldChange>,
}

#[derive(Debug, Serialize)]
struct ToldChange {
    sequence: i64,
    time_ms: i64,
    topic: String,
    partition: i32,
    before: Option<i64>,
    after: Option<i64>,
    kind: &'static str,
    cause: Option<&'static str>,
    member: Option<String>,
    client_id: Option<String>,
    address: Option<String>,
    generation: i32,
    note: String,
    count: i32,
    first_time_ms: i64,
}

pub(super) async fn run(
    arguments: HistoryArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let client = context.global.connect().await?;
    let since = arguments.since.map(|since| since.unix_ms(client.config().clock.now_ms()));
    let partitions = partitions_of(&client, &arguments.topic).await?;
    let group = arguments.group;
    let history = client.admin().group_offset_history(&group, &partitions, since).await;
    let OffsetHistory { mut changes, exact_since_ms } =
        history.map_err(|error| about(&group, &error))?;
    if let Some(limit) = arguments.limit {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        changes.drain(..changes.len().saturating_sub(limit));
    }
    let changes = changes.into_iter().map(told).collect();
    context.out.either(&ToldHistory { group, exact_since_ms, changes }, text)?;
    Ok(Exit::Done)
}

fn told(change: OffsetChange) -> ToldChange {
    ToldChange {
        sequence: change.sequence,
        time_ms: change.time_ms,
        topic: change.at.topic.to_string(),
        partition: change.at.partition,
        before: change.before,
        after: change.after,
        kind: change.kind.as_str(),
        cause: change.cause,
        member: change.actor.member_id,
        client_id: change.actor.client_id,
        address: change.actor.address,
        generation: change.generation,
        note: change.note,
        count: change.count,
        first_time_ms: change.first_time_ms,
    }
}

fn text(told: &ToldHistory) -> String {
    if told.changes.is_empty() {
        return format!("group {}: nothing has moved its offsets", told.group);
    }
    let mut lines = table([
        "time",
        "topic",
        "partition",
        "before",
        "after",
        "kind",
        "cause",
        "commits",
        "member",
        "client",
        "address",
        "note",
    ]);
    for change in &told.changes {
        lines.add_row([
            time(change.time_ms),
            change.topic.clone(),
            change.partition.to_string(),
            or_dash(change.before),
            or_dash(change.after),
            change.kind.to_owned(),
            or_dash(change.cause),
            change.count.to_string(),
            or_dash(change.member.as_ref()),
            or_dash(change.client_id.as_ref()),
            or_dash(change.address.as_ref()),
            change.note.clone(),
        ]);
    }
    let head = format!("group {}", told.group);
    let exact = match told.exact_since_ms {
        0 => String::new(),
        since => format!("  exact since {}; older commits may be folded", time(since)),
    };
    format!("{head}{exact}\n{}", rendered(&lines))
}
