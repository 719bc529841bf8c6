//! Owns `group members`.

use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::super::output::{or_dash, rendered, table, time};
use super::{EXIT_CODES, Exit, Failure, about};
use crate::admin::GroupMember;
use crate::admin::words::{millis, partitions, span};

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct MembersArguments {
    /// The group's name
    #[arg(value_name = "GROUP")]
    group: String,
}

#[derive(Debug, Serialize)]
struct ToldMembers {
    group: String,
    state: &'static str,
    members: Vec<ToldMember>,
}

#[derive(Debug, Serialize)]
struct ToldMember {
    member: String,
    instance: Option<String>,
    client_id: String,
    address: String,
    rack: String,
    topics: Vec<String>,
    pattern: String,
    joined_time_ms: i64,
    connected: bool,
    away: bool,
    silent_ms: Option<i64>,
    working_ms: Option<i64>,
    session_timeout_ms: i64,
    processing_timeout_ms: i64,
    drain_timeout_ms: i64,
    assigned: Vec<ToldAssigned>,
    revoking: Vec<ToldRevoking>,
    #[serde(skip)]
    owns: String,
}

#[derive(Debug, Serialize)]
struct ToldAssigned {
    topic: String,
    partition: i32,
    fencing_epoch: i64,
}

#[derive(Debug, Serialize)]
struct ToldRevoking {
    topic: String,
    partition: i32,
    left_ms: i64,
    reason: String,
}

pub(super) async fn run(
    arguments: &MembersArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let admin = context.global.connect().await?.admin();
    let group = admin.describe_group(arguments.group.as_str()).await;
    let group = group.map_err(|error| about(&arguments.group, &error))?;
    let told = ToldMembers {
        state: group.state.as_str(),
        group: group.group,
        members: group.members.into_iter().map(told).collect(),
    };
    context.out.either(&told, text)?;
    Ok(Exit::Done)
}

fn told(member: GroupMember) -> ToldMember {
    let owned: Vec<_> = member.assigned.iter().map(|owned| owned.at.clone()).collect();
    let assigned = member.assigned.iter().map(|owned| ToldAssigned {
        topic: owned.at.topic.to_string(),
        partition: owned.at.partition,
        fencing_epoch: owned.fencing_epoch,
    });
    let revoking = member.revoking.iter().map(|revoking| ToldRevoking {
        topic: revoking.at.topic.to_string(),
        partition: revoking.at.partition,
        left_ms: millis(revoking.left),
        reason: revoking.reason.clone(),
    });
    ToldMember {
        owns: partitions(&owned),
        assigned: assigned.collect(),
        revoking: revoking.collect(),
        member: member.member_id,
        instance: member.instance_id,
        client_id: member.client_id,
        address: member.address,
        rack: member.rack,
        topics: member.topics,
        pattern: member.pattern,
        joined_time_ms: member.joined_time_ms,
        connected: member.connected,
        away: member.away,
        silent_ms: member.silent.map(millis),
        working_ms: member.working.map(millis),
        session_timeout_ms: millis(member.session_timeout),
        processing_timeout_ms: millis(member.processing_timeout),
        drain_timeout_ms: millis(member.drain_timeout),
    }
}

fn text(told: &ToldMembers) -> String {
    let head =
        format!("group {}  state {}  members {}", told.group, told.state, told.members.len());
    if told.members.is_empty() {
        return head;
    }
    let mut lines = table([
        "member", "instance", "client", "address", "state", "silent", "working", "joined", "owns",
    ]);
    for member in &told.members {
        lines.add_row([
            member.member.clone(),
            or_dash(member.instance.as_ref()),
            member.client_id.clone(),
            member.address.clone(),
            state(member),
            of(member.silent_ms, member.session_timeout_ms),
            of(member.working_ms, member.processing_timeout_ms),
            time(member.joined_time_ms),
            or_dash(Some(&member.owns).filter(|owns| !owns.is_empty())),
        ]);
    }
    format!("{head}\n{}", rendered(&lines))
}

fn state(member: &ToldMember) -> String {
    if member.away {
        return "away".to_owned();
    }
    let left = member.revoking.iter().map(|revoking| revoking.left_ms).min();
    match left {
        Some(left) => format!("gives up {} in {}", member.revoking.len(), span(left)),
        None if member.connected => "connected".to_owned(),
        None => "NOT connected".to_owned(),
    }
}

/// How much of what is allowed is spent.
fn of(spent: Option<i64>, allowed: i64) -> String {
    or_dash(spent.map(|spent| format!("{} of {}", span(spent), span(allowed))))
}
