//! Owns `group reset`, `group seek` and `group undo`: what they are given, and how what moved is told.

use clap::{ArgGroup, Args};
use serde::Serialize;

use super::super::Context;
use super::super::output::{or_dash, rendered, table};
use super::super::spot::Moment;
use super::file::{self, FILES};
use super::place::{PLACES, Place, SeekPlace, Selection, partitions_of, scopes};
use super::{EXIT_CODES, Exit, Failure, about};
use crate::admin::words::count;
use crate::admin::{GroupReset, OffsetMove, OffsetMoves, ResetScope, ResetTo};
use crate::client::Client;

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES, group = ArgGroup::new("where").required(true).args(["to", "shift", "from_file"]))]
pub struct ResetArguments {
    /// The group's name; it may be running
    #[arg(value_name = "GROUP")]
    group: String,
    /// Only this topic, or these partitions of it [default: all that the group has committed or owns]
    #[arg(long, value_name = "TOPIC[:P,P]", conflicts_with = "from_file")]
    topic: Vec<Selection>,
    #[arg(long, value_name = "WHERE", help = format!("The next offset to read: {PLACES}"))]
    to: Option<Place>,
    /// As many records on from what is committed; negative goes back
    #[arg(long, value_name = "RECORDS", allow_negative_numbers = true)]
    shift: Option<i64>,
    #[arg(long, value_name = "FILE", help = format!("Offsets from a file: {FILES}"))]
    from_file: Option<std::path::PathBuf>,
    /// Tell what would happen, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Why; kept in the ledger [default: empty]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES, group = ArgGroup::new("where").required(true).args(["to", "to_group", "to_file"]))]
pub struct SeekArguments {
    /// The group's name; it may be running
    #[arg(value_name = "GROUP")]
    group: String,
    /// Only these topics [default: all that the group has committed or owns]
    #[arg(long, value_name = "TOPIC,…", value_delimiter = ',', conflicts_with_all = ["to_group", "to_file"])]
    topics: Vec<String>,
    /// start, end, or a time: Unix seconds, milliseconds or nanoseconds (10, 13 or 19 digits), RFC 3339, or a duration ago
    #[arg(long, value_name = "WHERE")]
    to: Option<SeekPlace>,
    /// Where another group has committed
    #[arg(long, value_name = "GROUP")]
    to_group: Option<String>,
    #[arg(long, value_name = "FILE", help = format!("Offsets from a file: {FILES}"))]
    to_file: Option<std::path::PathBuf>,
    /// Tell what would happen, change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct UndoArguments {
    /// The group's name; it may be running
    #[arg(value_name = "GROUP")]
    group: String,
    /// Back to what was committed then: RFC 3339, Unix ms, or a duration ago such as 90m
    #[arg(long, value_name = "TIME")]
    to: Moment,
    /// Only this topic, or these partitions of it [default: all that the ledger tells of]
    #[arg(long, value_name = "TOPIC[:P,P]")]
    topic: Vec<Selection>,
    /// Tell what would happen, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Why; kept in the ledger [default: empty]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

pub(super) async fn reset(
    arguments: ResetArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let ResetArguments { group, topic, to, shift, from_file, dry_run, note } = arguments;
    // A file that cannot be used needs no cluster.
    let from_file = from_file.as_deref().map(read).transpose()?;
    let client = context.global.connect().await?;
    let to = to.map(|to| to.target(client.config().clock.now_ms()));
    let to = to.or(shift.map(ResetTo::Shift));
    let everywhere = |to| scopes(&topic).into_iter().map(|scope| (scope, to)).collect();
    let targets = from_file.or_else(|| to.map(everywhere)).unwrap_or_default();
    perform(&client, &group, GroupReset { targets, dry_run, note }, context).await
}

pub(super) async fn seek(
    arguments: SeekArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let SeekArguments { group, topics, to, to_group, to_file, dry_run } = arguments;
    let from_file = to_file.as_deref().map(read).transpose()?;
    let client = context.global.connect().await?;
    let targets = if let Some(targets) = from_file {
        targets
    } else if let Some(other) = to_group {
        of_group(&client, &other).await?
    } else {
        let selections: Vec<_> = topics.iter().map(|topic| Selection::topic(topic)).collect();
        let to = to.map(|SeekPlace(place)| place.target(client.config().clock.now_ms()));
        let pair = |scope| Some((scope, to?));
        scopes(&selections).into_iter().filter_map(pair).collect()
    };
    let reset = GroupReset { targets, dry_run, note: String::new() };
    perform(&client, &group, reset, context).await
}

fn read(path: &std::path::Path) -> Result<Vec<(ResetScope, ResetTo)>, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::unusable(format!("cannot read {name}: {error}")))?;
    file::targets(&text).map_err(|why| Failure::unusable(format!("{name}: {why}")))
}

async fn of_group(client: &Client, other: &str) -> Result<Vec<(ResetScope, ResetTo)>, Failure> {
    let committed = client.admin().list_group_offsets(other).await;
    let committed = committed.map_err(|error| about(other, &error))?;
    if committed.is_empty() {
        let advice = format!("group {other:?} has committed nothing to go to");
        return Err(Failure::new(Exit::Refused, advice));
    }
    let target = |offset: crate::GroupOffset| {
        (ResetScope::Partition(offset.at), ResetTo::Offset(offset.position.offset))
    };
    Ok(committed.into_iter().map(target).collect())
}

async fn perform(
    client: &Client,
    group: &str,
    reset: GroupReset,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let moved = client.admin().reset_group_offsets(group, &reset).await;
    let moved = moved.map_err(|error| about(group, &error))?;
    tell(group, &moved, reset.dry_run, context)
}

pub(super) async fn undo(
    arguments: UndoArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let UndoArguments { group, to, topic, dry_run, note } = arguments;
    let client = context.global.connect().await?;
    let to_ms = to.unix_ms(client.config().clock.now_ms());
    let partitions = partitions_of(&client, &topic).await?;
    let moved =
        client.admin().undo_group_offsets(&group, to_ms, &partitions, (dry_run, &note)).await;
    tell(&group, &moved.map_err(|error| about(&group, &error))?, dry_run, context)
}

#[derive(Debug, Serialize)]
struct ToldMoves {
    group: String,
    dry_run: bool,
    generation: Option<i32>,
    members: i32,
    replayed: i64,
    skipped: i64,
    moves: Vec<ToldMove>,
}

#[derive(Debug, Serialize)]
struct ToldMove {
    topic: String,
    partition: i32,
    before: Option<i64>,
    after: Option<i64>,
    replayed: i64,
    skipped: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjusted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn tell(
    group: &str,
    moved: &OffsetMoves,
    dry_run: bool,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let failure = moved.moves.iter().find_map(|one| one.outcome.as_ref().err());
    let failure = failure.map(|error| about(group, error));
    let done = || moved.moves.iter().filter(|one| one.outcome.is_ok());
    let told = ToldMoves {
        group: group.to_owned(),
        dry_run,
        generation: moved.generation,
        members: moved.members,
        replayed: done().map(|one| one.replayed).sum(),
        skipped: done().map(|one| one.skipped).sum(),
        moves: moved.moves.iter().map(told).collect(),
    };
    context.out.either(&told, text)?;
    super::finished(failure, context)
}

fn told(one: &OffsetMove) -> ToldMove {
    ToldMove {
        topic: one.at.topic.to_string(),
        partition: one.at.partition,
        before: one.before,
        after: one.after,
        replayed: one.replayed,
        skipped: one.skipped,
        adjusted: one.adjusted.clone(),
        error: one.outcome.as_ref().err().map(ToString::to_string),
    }
}

fn text(told: &ToldMoves) -> String {
    if told.moves.is_empty() {
        return format!("group {}: there is no offset to move", told.group);
    }
    let mut lines =
        table(["topic", "partition", "before", "after", "to replay", "to skip", "note"]);
    for one in &told.moves {
        let refused = one.error.as_ref().map(|error| format!("NOT moved: {error}"));
        let note = refused.or_else(|| one.adjusted.clone()).unwrap_or_default();
        lines.add_row([
            one.topic.clone(),
            one.partition.to_string(),
            or_dash(one.before),
            or_dash(one.after),
            one.replayed.to_string(),
            one.skipped.to_string(),
            note,
        ]);
    }
    format!("{}\n{}", rendered(&lines), summary(told))
}

fn summary(told: &ToldMoves) -> String {
    let records = format!(
        "{} to replay, {} to skip",
        count(told.replayed, "record"),
        count(told.skipped, "record")
    );
    let members = match (told.members, told.dry_run) {
        (0, _) => String::new(),
        (some, true) => format!("; {} would go on from there", count(some, "member")),
        (1, false) => "; 1 member goes on from there".to_owned(),
        (some, false) => format!("; {some} members go on from there"),
    };
    match told.generation {
        _ if told.dry_run => format!("dry run, nothing changed: {records}{members}"),
        Some(generation) => {
            format!("group {} moved, generation {generation}: {records}{members}", told.group)
        }
        None => format!("group {} moved: {records}{members}", told.group),
    }
}
