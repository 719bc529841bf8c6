//! Owns `group delete` and `group remove-member`. Neither asks for confirmation: the cluster refuses what would hurt a
//! group that runs, and an expelled process joins again.

use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::super::output::or_dash;
use super::{EXIT_CODES, Exit, Failure, about, finished};
use crate::admin::MembersToRemove;
use crate::error::FailureCode;

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct DeleteArguments {
    /// Groups by name; each must be without members
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// A group that does not exist is fine
    #[arg(long)]
    if_exists: bool,
    /// Tell whether they could be deleted, change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Deleted {
    group: String,
    /// It was there.
    changed: bool,
    dry_run: bool,
}

pub(super) async fn delete(
    arguments: DeleteArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let DeleteArguments { groups, if_exists, dry_run } = arguments;
    let admin = context.global.connect().await?.admin();
    let outcomes = admin.delete_groups(groups.iter().cloned(), dry_run).await?;
    let mut failure = None;
    for (group, outcome) in groups.into_iter().zip(outcomes) {
        let changed = match outcome {
            Ok(()) => true,
            Err(error) if if_exists && error.is(FailureCode::GroupNotFound) => false,
            Err(error) => {
                failure.get_or_insert_with(|| about(&group, &error));
                continue;
            }
        };
        context.out.either(&Deleted { group, changed, dry_run }, |told| {
            match (told.changed, told.dry_run) {
                (true, false) => format!("deleted group {}", told.group),
                (true, true) => format!("group {} can be deleted", told.group),
                (false, _) => format!("group {} does not exist", told.group),
            }
        })?;
    }
    finished(failure, context)
}

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct RemoveMemberArguments {
    /// The group's name
    #[arg(value_name = "GROUP")]
    group: String,
    /// A member by its member id
    #[arg(long, value_name = "ID", required_unless_present_any = ["instance", "all"])]
    member: Vec<String>,
    /// A member by its group.instance.id
    #[arg(long, value_name = "ID")]
    instance: Vec<String>,
    /// Every member
    #[arg(long, conflicts_with_all = ["member", "instance"])]
    all: bool,
    /// Why; kept in the group's events [default: empty]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

#[derive(Debug, Serialize)]
struct Removed {
    group: String,
    member: Option<String>,
    instance: Option<String>,
}

pub(super) async fn remove(
    arguments: RemoveMemberArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let RemoveMemberArguments { group, member, instance, all, note } = arguments;
    let admin = context.global.connect().await?.admin();
    let members = MembersToRemove { member_ids: member, instance_ids: instance, all, note };
    let removals = admin.remove_group_members(&group, members).await;
    let mut failure = None;
    for removal in removals.map_err(|error| about(&group, &error))? {
        if let Err(error) = &removal.outcome {
            failure.get_or_insert_with(|| about(&group, error));
            continue;
        }
        let told = Removed {
            group: group.clone(),
            member: removal.member_id,
            instance: removal.instance_id,
        };
        context.out.either(&told, |told| {
            let who = told.instance.as_ref().or(told.member.as_ref());
            format!("expelled {} from group {}", or_dash(who), told.group)
        })?;
    }
    finished(failure, context)
}
