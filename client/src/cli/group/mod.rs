//! Owns `group …`: consumer groups on the command line. What may be done to a group is the cluster's to say.
//!
//! - `list`, `describe`, `members`, `lag`, `watch` show; `explain` and `history` tell what was
//! - `moves` moves offsets (`reset`, `seek`, `undo`), with places from `place` and files from `file`
//! - `removal` deletes groups and expels members
//! - `rows` holds the rows of partitions that several of them print

mod describe;
mod explain;
mod file;
mod history;
mod lag;
mod list;
mod members;
mod moves;
mod place;
mod removal;
mod rows;
mod watch;

use clap::Subcommand;
use regex::Regex;

use super::Context;
use super::exit::{EXIT_CODES, Exit, Failure};
use crate::admin::{Admin, GroupFilter};
use crate::error::{Error, FailureCode};

/// The commands about consumer groups.
#[derive(Debug, Clone, Subcommand)]
pub enum GroupCommand {
    /// List groups with their state and members
    List(list::ListArguments),
    /// Show where a group reads: each partition's owner, offsets and lag
    Describe(describe::DescribeArguments),
    /// Show the members of a group: who they are, what they own, whether they are well
    Members(members::MembersArguments),
    /// Show how far groups are behind, in records and in time
    Lag(lag::LagArguments),
    /// Move committed offsets, of a running group too
    Reset(moves::ResetArguments),
    /// Put committed offsets back to where they stood at a time
    Undo(moves::UndoArguments),
    /// Tell what happened to a group, why, and what to do
    Explain(explain::ExplainArguments),
    /// Show every commit, reset and expiry that moved an offset
    History(history::HistoryArguments),
    /// Delete groups without members, with their offsets and history
    Delete(removal::DeleteArguments),
    /// Move committed offsets: reset, in rpk's words
    Seek(moves::SeekArguments),
    /// Expel members; one whose process still runs joins again
    RemoveMember(removal::RemoveMemberArguments),
    /// Watch groups, or the partitions of one, until Ctrl-C
    Watch(watch::WatchArguments),
}

pub(super) async fn run(command: GroupCommand, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match command {
        GroupCommand::List(arguments) => list::run(&arguments, context).await,
        GroupCommand::Describe(arguments) => describe::run(&arguments, context).await,
        GroupCommand::Members(arguments) => members::run(&arguments, context).await,
        GroupCommand::Lag(arguments) => lag::run(&arguments, context).await,
        GroupCommand::Reset(arguments) => Box::pin(moves::reset(arguments, context)).await,
        GroupCommand::Undo(arguments) => moves::undo(arguments, context).await,
        GroupCommand::Explain(arguments) => explain::run(&arguments, context).await,
        GroupCommand::History(arguments) => history::run(arguments, context).await,
        GroupCommand::Delete(arguments) => removal::delete(arguments, context).await,
        GroupCommand::Seek(arguments) => Box::pin(moves::seek(arguments, context)).await,
        GroupCommand::RemoveMember(arguments) => removal::remove(arguments, context).await,
        GroupCommand::Watch(arguments) => Box::pin(watch::run(&arguments, context)).await,
    }
}

/// The groups that were named, and those whose names match.
async fn chosen(
    admin: &Admin,
    named: &[String],
    pattern: Option<&Regex>,
) -> Result<Vec<String>, Failure> {
    let mut chosen = named.to_vec();
    if let Some(pattern) = pattern {
        let filter = GroupFilter { pattern: pattern.as_str().to_owned(), ..GroupFilter::default() };
        let found = admin.list_groups(&filter).await?;
        let new = found.groups.into_iter().map(|group| group.group);
        chosen.extend(new.filter(|group| !named.contains(group)));
    }
    Ok(chosen)
}

/// An error of a call about a group.
fn about(group: &str, error: &Error) -> Failure {
    let advice = match error.code() {
        Some(FailureCode::GroupNotFound) => {
            format!("group {group:?} does not exist; list groups with: waymark group list")
        }
        Some(FailureCode::GroupNotEmpty) => format!(
            "group {group:?} has members; stop their processes first (see them with: waymark group members {group}), \
             then expel what is left with: waymark group remove-member {group} --all"
        ),
        _ => return Failure::from(error),
    };
    Failure::new(Exit::Refused, advice)
}

/// Several groups are several outcomes: those that went well have been printed, the first that did not is the error.
fn finished(failure: Option<Failure>, context: &mut Context<'_>) -> Result<Exit, Failure> {
    context.out.flush()?;
    failure.map_or(Ok(Exit::Done), Err)
}
